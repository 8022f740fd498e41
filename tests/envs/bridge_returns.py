"""Returns of Bridge by dynamic programming, for tests."""

from collections.abc import Callable

import numpy as np

from inspo_core.envs import bridge
from inspo_core.envs.bridge import JOINT_ACTIONS


def action_values(steps: int) -> np.ndarray:
    """(cells, cells, 25): undiscounted best return after each joint action when at most ``steps`` steps may bring both home, else -inf."""
    return _backward(steps, np.max, unfinished=-np.inf)


def random_values(steps: int) -> np.ndarray:
    """(cells, cells, 25): expected undiscounted return of ``steps`` steps after each joint action, the others uniform."""
    return _backward(steps, np.mean, unfinished=0.0)


def _backward(steps: int, over_actions: Callable[..., np.ndarray], unfinished: float) -> np.ndarray:
    cells = np.arange(bridge.ROWS * bridge.COLUMNS)
    pairs = np.stack(np.meshgrid(cells, cells, indexing="ij"), axis=-1).reshape(-1, 2)  # (C * C, 2)
    before, played = np.repeat(pairs, len(JOINT_ACTIONS), axis=0), np.tile(JOINT_ACTIONS, (len(pairs), 1))
    after = bridge.move(before, played)
    home = (after == bridge.GOALS).all(axis=1)
    rewards = np.where(home, 0.0, bridge.rewards_of(before, after)).reshape(len(pairs), -1)
    index = (after @ [len(cells), 1]).reshape(len(pairs), -1)
    goal = bridge.GOALS @ [len(cells), 1]
    values = np.full(len(pairs), unfinished)
    values[goal] = 0.0
    for _ in range(steps):
        returns = rewards + values[index]
        values = over_actions(returns, axis=1)
        values[goal] = 0.0
    return returns.reshape(len(cells), len(cells), -1)
