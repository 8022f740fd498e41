"""Scores: returns on one scale for all games. 0 is what uniformly random play gets, 1 the best return there is."""

from dataclasses import dataclass

import numpy as np

from inspo_core.envs.table import GAMES


@dataclass(frozen=True)
class Reference:
    """The two returns between which a game's scores lie, None where they are not known."""

    random: float | None
    best: float | None

    def score(self, returns: np.ndarray) -> np.ndarray | None:
        """The scores of ``returns``, below 0 where they are worse than random play; None unless both references are known."""
        if self.random is None or self.best is None:
            return None
        return np.asarray((returns - self.random) / (self.best - self.random))


def reference_of(game: str) -> Reference:
    """What the table of games says; nothing of a game that is not in it."""
    entry = GAMES.get(game)
    return Reference(entry.random, entry.best) if entry else Reference(None, None)
