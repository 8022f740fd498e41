"""Playing episodes with a policy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspo_core.envs import Env
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
    return np.where(available, scores, -np.inf).argmax(-1)


def rollout(env: Env, policy: "Policy", episodes: int, seed: int, greedy: bool) -> Rollouts:
    """Play ``episodes`` whole episodes side by side.

    ``seed`` fixes both the games' own randomness and the sampled actions.
    """
    import torch

    generator = None if greedy else numpy_stream(seed, "actions")
    observation = env.reset(numpy_stream(seed, "episodes").integers(2**63, size=episodes))
    returns, lengths = np.zeros(episodes), np.zeros(episodes, dtype=np.int64)
    done = np.zeros(episodes, dtype=bool)
    success = np.zeros(episodes, dtype=bool)
    device, memory = policy.network.parameters.device, policy.network.memory
    seen = []
    while not done.all():
        seen = [*seen, observation.observations][-max(1, memory) :]
        observations = torch.as_tensor(np.stack(seen, 1) if memory else seen[0], device=device)
        log_probs = policy.log_probs(observations, torch.as_tensor(observation.available_actions, device=device))
        step = env.step(choose_actions(log_probs.cpu().numpy(), observation.available_actions, generator))
        returns += step.rewards
        lengths += ~done
        done, success, observation = step.terminated | step.truncated, step.success, step.observation
    return Rollouts(returns, lengths, success & done)
