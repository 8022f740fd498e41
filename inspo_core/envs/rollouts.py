"""Episodes of a policy, greedy or sampled."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspo_core.envs.base import Env, Observation
from inspo_core.envs.play import play
from inspo_core.rng import numpy_stream

if TYPE_CHECKING:
    from inspo_core.algorithms.policy import Policy


@dataclass(frozen=True)
class Rollouts:
    """E finished episodes."""

    returns: np.ndarray  # (E,) undiscounted sum of rewards
    lengths: np.ndarray  # (E,) steps
    success: np.ndarray  # (E,) bool


def choose_actions(log_probs: np.ndarray, available: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
    """Pick actions (E, N) from log-probabilities (E, N, A): the most likely, or a sample if there is a generator.

    Only available (E, N, A) actions are picked.
    """
    scores = log_probs.astype(np.float64)
    if generator is not None:
        scores = scores + generator.gumbel(size=scores.shape)
    chosen: np.ndarray = np.where(available, scores, -np.inf).argmax(-1)
    return chosen


def rollout(env: Env, policy: "Policy", episodes: int, seed: int, greedy: bool, at_once: int | None = None) -> Rollouts:
    """Play ``episodes`` whole episodes, ``at_once`` of them side by side (None: all), wave after wave.

    ``seed`` fixes both the games' own randomness and the sampled actions. How many are played at once decides which draw goes to which
    episode, so it is the game's (``Game.episodes_at_once``) and no setting of a machine.
    """
    generator = None if greedy else numpy_stream(seed, "actions")
    seeds = numpy_stream(seed, "episodes").integers(2**63, size=episodes)
    width = at_once or episodes
    waves = [_wave(env, policy, seeds[start : start + width], generator) for start in range(0, episodes, width)]
    return Rollouts(*(np.concatenate([getattr(wave, field) for wave in waves]) for field in ("returns", "lengths", "success")))


def _wave(env: Env, policy: "Policy", seeds: np.ndarray, generator: np.random.Generator | None) -> Rollouts:
    import torch

    device, memory = policy.network.parameters.device, policy.network.memory
    seen: list[np.ndarray] = []

    def choose(observation: Observation) -> np.ndarray:
        seen[:] = [*seen, observation.observations][-max(1, memory) :]
        observations = torch.as_tensor(np.stack(seen, 1) if memory else seen[0], device=device)
        log_probs = policy.log_probs(observations, torch.as_tensor(observation.available_actions, device=device))
        return choose_actions(log_probs.cpu().numpy(), observation.available_actions, generator)

    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), dtype=np.int64)
    success = np.zeros(len(seeds), dtype=bool)
    for played in play(env, choose, seeds):
        returns += played.step.rewards
        lengths += played.running
        success = played.step.success
    return Rollouts(returns, lengths, success)
