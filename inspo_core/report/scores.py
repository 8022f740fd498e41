"""Scores: returns on one scale for all games. 0 is what uniformly random play gets, 1 the best return there is."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from inspo_core.envs import make_env
from inspo_core.errors import InspoError
from inspo_core.rng import numpy_stream

EPISODES = 50_000  # of random play


@dataclass(frozen=True)
class Reference:
    """The two returns between which a game's scores lie; a policy that is worse than random play scores below 0."""

    random: float
    best: float

    def score(self, returns: np.ndarray) -> np.ndarray:
        return (returns - self.random) / (self.best - self.random)


@cache
def reference_of(env_name: str) -> Reference:
    """Best return and mean return of :data:`EPISODES` random episodes of a game.

    Raises InspoError for a game whose best return is not known.
    """
    env = make_env(env_name)
    if env.best is None:
        raise InspoError(f"the game {env_name!r} has no `best`; give its class in inspo_core/envs the best return that is known of it")
    rng = numpy_stream(0, "random play")
    observation = env.reset(rng.integers(2**63, size=EPISODES))
    returns, done = np.zeros(EPISODES), np.zeros(EPISODES, dtype=bool)
    while not done.all():
        available = observation.available_actions
        step = env.step(np.where(available, rng.random(available.shape), -1.0).argmax(axis=-1))
        returns += step.rewards
        done, observation = step.terminated | step.truncated, step.observation
    return Reference(float(returns.mean()), float(env.best))
