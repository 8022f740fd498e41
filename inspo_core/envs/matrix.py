"""One-step matrix games: every agent picks an action at once and the payoff matrix gives the team's reward.

XOR is the coordination game of AlberDICE's public repository. M-NE (multiple Nash equilibria) is named after the InSPO paper's
game; the paper's matrix is not public, so this one is ours.
"""

import numpy as np

from inspo_core.envs.base import Env, EnvSpec, Observation

XOR = np.array([[0.0, 1.0], [1.0, -2.0]])
MNE = np.array([[5.0, -20.0, -20.0], [-20.0, 10.0, -20.0], [-20.0, -20.0, 20.0]])


class MatrixGame(Env):
    """A game of one step. ``payoff`` has one axis of A actions an agent; the best payoff counts as success.

    Observation and state are the constant [1.0]: there is nothing to see.
    """

    def __init__(self, name: str, payoff: np.ndarray):
        super().__init__(EnvSpec(name, payoff.ndim, len(payoff), observation_size=1, state_size=1, time_limit=1))
        self.payoff = payoff
        self._episodes = 0

    def _begin(self, seeds: np.ndarray) -> None:
        self._episodes = len(seeds)

    def _advance(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rewards = self.payoff[tuple(actions.T)]
        return rewards, np.ones_like(running), rewards == self.payoff.max()

    def _observe(self) -> Observation:
        spec = self.spec
        return Observation(
            np.ones((self._episodes, spec.n_agents, 1), dtype=np.float32),
            np.ones((self._episodes, 1), dtype=np.float32),
            np.ones((self._episodes, spec.n_agents, spec.n_actions), dtype=bool),
        )
