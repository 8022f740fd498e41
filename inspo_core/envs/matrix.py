"""One-step games whose payoffs are an array.

XOR is the coordination game of AlberDICE's public repository. M-NE (multiple Nash equilibria) is named after the InSPO paper's
game; the paper's matrix is not public, so this one is ours.
"""

import numpy as np

from inspo_core.envs.one_step import OneStepGame
from inspo_core.envs.spec import EnvSpec

XOR = np.array([[0.0, 1.0], [1.0, -2.0]])
MNE = np.array([[5.0, -20.0, -20.0], [-20.0, 10.0, -20.0], [-20.0, -20.0, 20.0]])


class MatrixGame(OneStepGame):
    """``payoff`` has one axis of A actions an agent; the best payoff counts as success."""

    def __init__(self, spec: EnvSpec, payoff: np.ndarray):
        super().__init__(spec, lambda actions: payoff[tuple(actions.T)], payoff.max())
        self.payoff = payoff


def xor(spec: EnvSpec) -> MatrixGame:
    return MatrixGame(spec, XOR)


def mne(spec: EnvSpec) -> MatrixGame:
    return MatrixGame(spec, MNE)
