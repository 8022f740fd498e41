"""Playing whole episodes of a game; here and nowhere else.

Letters: E episodes, N agents, A actions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from inspo_core.envs.base import Env, Observation, Step
from inspo_core.rng import numpy_stream

RANDOM_EPISODES = 50_000  # of a reference that cannot be had exactly


@dataclass(frozen=True)
class Played:
    """One step of E episodes side by side."""

    observation: Observation  # before the step
    actions: np.ndarray  # (E, N)
    step: Step
    running: np.ndarray  # (E,) bool: the episodes that had not ended before the step


def play(env: Env, choose: Callable[[Observation], np.ndarray], seeds: np.ndarray) -> Iterator[Played]:
    """Play one episode a seed, (E,) integers, to their ends; ``choose`` maps an observation to joint actions (E, N)."""
    observation, done = env.reset(seeds), np.zeros(len(seeds), dtype=bool)
    while not done.all():
        actions = choose(observation)
        step = env.step(actions)
        yield Played(observation, actions, step, ~done)
        done, observation = step.terminated | step.truncated, step.observation


def random_return(env: Env, episodes: int = RANDOM_EPISODES) -> float:
    """Mean return of ``episodes`` in which every agent plays uniformly among its available actions: about what a score of 0 is."""
    rng = numpy_stream(0, "random play")
    seeds = rng.integers(2**63, size=episodes)

    def choose(observation: Observation) -> np.ndarray:
        available = observation.available_actions
        return np.where(available, rng.random(available.shape), -1.0).argmax(axis=-1)

    returns = np.zeros(episodes)
    for played in play(env, choose, seeds):
        returns += played.step.rewards
    return float(returns.mean())
