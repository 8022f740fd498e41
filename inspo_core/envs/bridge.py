"""Bridge: two agents must cross a one-lane bridge in opposite directions, so one of them has to back off.

The game is that of AlberDICE's public repository (map, starts, rewards, order in which moves are resolved), written anew and
checked in tests/envs against the transitions of its data:

    . . # # . .      row 0, goal of agent 2 at its left end
    . . 1 2 . .      row 1, the starts
    . . # # . .      row 2, goal of agent 1 at its right end

A cell is one number, ``row * COLUMNS + column``; a position is a pair of cells, (E, 2) for E episodes.
"""

import numpy as np

from inspo_core.envs.base import Env, Observation
from inspo_core.envs.spec import EnvSpec

ROWS, COLUMNS = 3, 6
BLOCKED = [(0, 2), (0, 3), (2, 2), (2, 3)]
STARTS = np.array([1 * COLUMNS + 2, 1 * COLUMNS + 3])
GOALS = np.array([2 * COLUMNS + 5, 0 * COLUMNS + 0])
MOVES = [(0, 0), (-1, 0), (1, 0), (0, 1), (0, -1)]  # stay, up, down, right, left
JOINT_ACTIONS = np.stack(np.divmod(np.arange(len(MOVES) ** 2), len(MOVES)), axis=1)  # (25, 2)


def _targets() -> np.ndarray:
    targets = np.empty((ROWS * COLUMNS, len(MOVES)), dtype=np.int64)
    for cell in range(ROWS * COLUMNS):
        for action, (down, right) in enumerate(MOVES):
            row, column = cell // COLUMNS + down, cell % COLUMNS + right
            free = 0 <= row < ROWS and 0 <= column < COLUMNS and (row, column) not in BLOCKED
            targets[cell, action] = row * COLUMNS + column if free else cell
    return targets


def _distances() -> np.ndarray:
    cells = np.stack(np.divmod(np.arange(ROWS * COLUMNS), COLUMNS), axis=1)
    goals = np.stack(np.divmod(GOALS, COLUMNS), axis=1)
    return np.linalg.norm(cells[:, None] - goals[None], axis=2)


TARGETS = _targets()  # (cells, actions): where a move leads on an empty board; against a wall it leads nowhere
DISTANCES = _distances()  # (cells, 2): Euclidean distance to each agent's goal


def move(cells: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Where two agents at ``cells`` (E, 2) end up when they play ``actions`` (E, 2). Returns (E, 2).

    Agent 1 is resolved first. An agent at its goal is done: it stays and is no obstacle. A move onto the own goal succeeds, unless
    agent 1 takes that cell in the same step; a move onto a teammate that does not move fails; of two moves onto one free
    cell agent 1's succeeds; a swap fails for both; a move into a cell that is being left succeeds if the other's move does.
    """
    one, two = cells[:, 0], cells[:, 1]
    done_one, done_two = one == GOALS[0], two == GOALS[1]
    to_one = np.where(done_one, one, TARGETS[one, actions[:, 0]])
    to_two = np.where(done_two, two, TARGETS[two, actions[:, 1]])
    # Agent 1 heeds agent 2 unless agent 2 is out of the game or agent 1 steps home.
    heeds = ~done_two & (to_one != one) & (to_one != GOALS[0])
    two_moves = to_two != two
    run_into = ~two_moves & (to_one == two)
    swap = two_moves & (to_one == two) & (to_two == one)
    taken = heeds & two_moves & (to_one == to_two)
    new_one = np.where(heeds & (run_into | swap), one, to_one)
    # Agent 2 sees where agent 1 has come to rest.
    obstructed = ~done_one & (to_two != GOALS[1]) & (to_two == new_one)
    new_two = np.where(obstructed | taken | (heeds & swap), two, to_two)
    return np.stack([new_one, new_two], axis=1)


def cells_of(states: np.ndarray) -> np.ndarray:
    """The agents' cells (R, 2) in ``states`` (R, 8)."""
    return (states[:, [0, 4]] * COLUMNS + states[:, [1, 5]]).astype(np.int64)


def rewards_of(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The team's reward (E,) of a step from ``before`` to ``after``, both (E, 2).

    The mean over the agents of -0.1 x distance to the own goal after the step; an agent that was done before it adds 0.
    """
    distances = np.stack([DISTANCES[after[:, 0], 0], DISTANCES[after[:, 1], 1]], axis=1)
    return np.where(before == GOALS, 0.0, -0.1 * distances).mean(axis=1)


def states_of(cells: np.ndarray) -> np.ndarray:
    """The state (E, 8) float32 of two agents at ``cells`` (E, 2): row, column, goal row, goal column of agent 1, then of agent 2."""
    rows, columns = np.divmod(cells, COLUMNS)
    goal_rows, goal_columns = np.broadcast_arrays(*np.divmod(GOALS, COLUMNS), rows)[:2]
    return np.stack([rows, columns, goal_rows, goal_columns], axis=2).reshape(-1, 8).astype(np.float32)


class Bridge(Env):
    """The game as an environment.

    Observation and state are the same 8 numbers for both agents: row, column, goal row, goal column of agent 1, then of agent 2.
    The episode terminates when both agents are at their goals, which is success. The step that ends an episode pays 0,
    at the time limit too, as in AlberDICE's data.
    """

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__(spec)
        self._cells = np.empty((0, 2), dtype=np.int64)

    def _begin(self, seeds: np.ndarray) -> None:
        self._cells = np.tile(STARTS, (len(seeds), 1))

    def _advance(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        before = self._cells
        self._cells = np.where(running[:, None], move(before, actions), before)
        home = (self._cells == GOALS).all(axis=1)
        ends = home | (self.elapsed >= self.spec.time_limit)
        return np.where(ends, 0.0, rewards_of(before, self._cells)), home, home

    def _observe(self) -> Observation:
        states = states_of(self._cells)
        observations = np.repeat(states[:, None], 2, axis=1)
        return Observation(observations, states, np.ones((len(states), 2, len(MOVES)), dtype=bool))
