"""One-step games: every agent picks an action at once, and the team's reward is a function of the joint action.

The N-agent games here are ours. In both, agents that each follow their own marginal of good data fail: which of the
good joint actions is meant must be agreed upon.
"""

from collections.abc import Callable

import numpy as np

from inspo_core.envs.base import Env, Observation
from inspo_core.envs.spec import EnvSpec


class OneStepGame(Env):
    """A game of one step. ``payoffs`` maps joint actions (E, N) to rewards (E,) float64; a reward of ``best`` counts as success.

    Observation and state are the constant [1.0]: there is nothing to see.
    """

    def __init__(self, spec: EnvSpec, payoffs: Callable[[np.ndarray], np.ndarray], best: float):
        super().__init__(spec)
        self.payoffs = payoffs
        self.best = best
        self._episodes = 0

    def _begin(self, seeds: np.ndarray) -> None:
        self._episodes = len(seeds)

    def _advance(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rewards = self.payoffs(actions)
        return rewards, np.ones_like(running), rewards == self.best

    def _observe(self) -> Observation:
        spec = self.spec
        return Observation(
            np.ones((self._episodes, spec.n_agents, 1), dtype=np.float32),
            np.ones((self._episodes, 1), dtype=np.float32),
            np.ones((self._episodes, spec.n_agents, spec.n_actions), dtype=bool),
        )


def xor_game(spec: EnvSpec) -> OneStepGame:
    """XOR for N agents with actions A (0) and B (1): exactly one B pays 1, none pays 0, k >= 2 pay -k."""
    return OneStepGame(spec, xor_payoffs, best=1.0)


def permutation_game(spec: EnvSpec) -> OneStepGame:
    """N agents with N actions: 1 if all actions differ, else 0."""
    return OneStepGame(spec, permutation_payoffs, best=1.0)


def xor_payoffs(actions: np.ndarray) -> np.ndarray:
    """Joint actions (E, N) -> rewards (E,). For two agents these are the payoffs of ``matrix.XOR``."""
    chosen = actions.sum(axis=1)
    payoffs: np.ndarray = np.where(chosen <= 1, chosen, -chosen)
    return payoffs.astype(np.float64)


def permutation_payoffs(actions: np.ndarray) -> np.ndarray:
    """Joint actions (E, N) -> rewards (E,)."""
    differ = np.diff(np.sort(actions, axis=1), axis=1) > 0
    return np.all(differ, axis=1).astype(np.float64)
