"""Bridge with partial observation: an agent sees its own place, and the cells around it or not even those; the rest it can only remember.

Our own variations of ``bridge.py``, whose moves, rewards, limit and state they keep. docs/adding-a-game.md says where memory matters.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from inspo_core.envs import bridge
from inspo_core.envs.base import Observation
from inspo_core.envs.spec import EnvSpec

VIEW = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]  # the 3 x 3 cells seen, row by row, the own one in the middle


def _walls() -> np.ndarray:
    walls = np.ones((bridge.ROWS * bridge.COLUMNS, len(VIEW)), dtype=bool)
    for cell in range(len(walls)):
        for index, (down, right) in enumerate(VIEW):
            row, column = cell // bridge.COLUMNS + down, cell % bridge.COLUMNS + right
            walls[cell, index] = not (0 <= row < bridge.ROWS and 0 <= column < bridge.COLUMNS) or (row, column) in bridge.BLOCKED
    return walls


WALLS = _walls()  # (cells, 9): blocked or outside the grid


def views(cells: np.ndarray) -> np.ndarray:
    """What two agents at ``cells`` (E, 2) see: (E, 2, 20) float32.

    The own row and column; then for the 3 x 3 cells around, row by row, whether each is blocked or outside the grid; then for the same
    cells whether the teammate is there. An agent at its goal is out of the game: its teammate does not see it, while it still sees its
    teammate. The own goal is left out, because it never changes and every agent has a network of its own.
    """
    rows, columns = np.divmod(cells, bridge.COLUMNS)
    down, right = rows[:, ::-1] - rows, columns[:, ::-1] - columns  # (E, 2): where the teammate is from here
    home = (cells == bridge.GOALS)[:, ::-1]
    teammate = ~home[:, :, None] & np.stack([(down == row) & (right == column) for row, column in VIEW], axis=2)  # (E, 2, 9)
    return np.concatenate([rows[:, :, None], columns[:, :, None], WALLS[cells], teammate], axis=2).astype(np.float32)


def places(cells: np.ndarray) -> np.ndarray:
    """The own row and column of two agents at ``cells`` (E, 2), and nothing else: (E, 2, 2) float32."""
    return np.stack(np.divmod(cells, bridge.COLUMNS), axis=2).astype(np.float32)


class PartialBridge(bridge.Bridge):
    """Bridge in which each agent observes ``see`` of the cells, (E, 2) -> (E, 2, O); the state is that of Bridge."""

    def __init__(self, spec: EnvSpec, see: Callable[[np.ndarray], np.ndarray]):
        super().__init__(spec)
        self._see = see

    def _observe(self) -> Observation:
        return replace(super()._observe(), observations=self._see(self._cells))


def seen_around(spec: EnvSpec) -> PartialBridge:
    return PartialBridge(spec, views)


def own_place(spec: EnvSpec) -> PartialBridge:
    return PartialBridge(spec, places)
