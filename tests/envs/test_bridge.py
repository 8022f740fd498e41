"""Known answers of Bridge and a replay of the data that AlberDICE ships."""

from pathlib import Path

import numpy as np
import pytest

from inspo_core.envs import GAMES, bridge, make_env
from tests.envs.bridge_returns import action_values

STAY, UP, DOWN, RIGHT, LEFT = range(5)
ALBERDICE = Path(__file__).resolve().parents[3] / "shared/data/alberdice/bridge_from_start/buffer_optimal"


def cell(row: int, column: int) -> int:
    return row * bridge.COLUMNS + column


def moved(one: tuple, two: tuple, actions: tuple) -> list[tuple]:
    after = bridge.move(np.array([[cell(*one), cell(*two)]]), np.array([actions]))[0]
    return [divmod(int(place), bridge.COLUMNS) for place in after]


def test_first_reward_if_nobody_moves():
    env = make_env("bridge")
    env.reset(np.arange(2))
    assert env.step(np.zeros((2, 2), dtype=int)).rewards == pytest.approx(-0.3162, abs=5e-5)


def test_observation_is_both_agents_place_and_goal():
    seen = make_env("bridge").reset(np.arange(1))
    expected = [1, 2, 2, 5, 1, 3, 0, 0]
    assert seen.states.tolist() == [expected] and seen.observations.tolist() == [[expected, expected]]


def test_optimum_by_dynamic_programming():
    """Undiscounted value iteration over all pairs of cells and joint actions."""
    paid = GAMES["bridge"].time_limit - 1  # the step at the limit pays nothing
    found = {steps: action_values(steps)[tuple(bridge.STARTS)].max() for steps in (7, 8, paid)}
    assert np.isinf(found[7])
    assert found[8] == pytest.approx(-1.23545, abs=5e-6)
    assert found[paid] == found[8]


def test_time_limit_truncates_and_its_step_pays_nothing():
    env = make_env("bridge")
    env.reset(np.arange(1))
    steps = [env.step(np.zeros((1, 2), dtype=int)) for _ in range(50)]
    assert steps[48].rewards[0] < 0 and not steps[48].truncated[0]
    assert steps[49].rewards[0] == 0 and steps[49].truncated[0] and not steps[49].terminated[0] and not steps[49].success[0]


def test_both_home_terminates_with_success():
    env = make_env("bridge")
    env.reset(np.arange(1))
    plan = zip([LEFT, DOWN, UP, RIGHT, RIGHT, RIGHT, RIGHT, DOWN], [LEFT, LEFT, UP, LEFT] + [STAY] * 4, strict=True)
    steps = [env.step(np.array([actions])) for actions in plan]
    assert not steps[-2].terminated[0] and not steps[-2].success[0]
    assert steps[-1].terminated[0] and steps[-1].success[0] and not steps[-1].truncated[0] and steps[-1].rewards[0] == 0
    assert sum(step.rewards[0] for step in steps) == pytest.approx(-1.23545, abs=5e-6)


@pytest.mark.parametrize(
    ("what", "one", "two", "actions", "after"),
    [
        ("out of the grid", (0, 1), (2, 4), (UP, DOWN), [(0, 1), (2, 4)]),
        ("into a blocked cell", (1, 2), (1, 3), (UP, DOWN), [(1, 2), (1, 3)]),
        ("onto a teammate that stays", (1, 2), (1, 3), (RIGHT, STAY), [(1, 2), (1, 3)]),
        ("onto a teammate that bumps into a wall", (1, 2), (1, 3), (RIGHT, UP), [(1, 2), (1, 3)]),
        ("swap", (1, 2), (1, 3), (RIGHT, LEFT), [(1, 2), (1, 3)]),
        ("into a cell that is being left", (1, 2), (1, 3), (RIGHT, RIGHT), [(1, 3), (1, 4)]),
        ("into a cell that agent 1 is leaving", (1, 2), (1, 3), (LEFT, LEFT), [(1, 1), (1, 2)]),
        ("into a cell that agent 1 fails to leave", (1, 2), (1, 3), (UP, LEFT), [(1, 2), (1, 3)]),
        ("both onto one free cell: agent 1 gets it", (1, 1), (1, 3), (RIGHT, LEFT), [(1, 2), (1, 3)]),
        ("both onto agent 2's goal: agent 1 gets it", (1, 0), (0, 1), (UP, LEFT), [(0, 0), (0, 1)]),
        ("onto the own goal, where the teammate stands", (0, 0), (0, 1), (STAY, LEFT), [(0, 0), (0, 0)]),
        ("agent 1 home by a swap, which lets agent 2 pass too", (2, 4), (2, 5), (RIGHT, LEFT), [(2, 5), (2, 4)]),
        ("agent 2 home by a swap fails, agent 1 is resolved first", (0, 0), (0, 1), (RIGHT, LEFT), [(0, 0), (0, 1)]),
        ("a done agent stays", (2, 5), (1, 3), (LEFT, LEFT), [(2, 5), (1, 2)]),
        ("a done agent is no obstacle", (2, 5), (2, 4), (STAY, RIGHT), [(2, 5), (2, 5)]),
        ("a done agent 2 is no obstacle", (0, 1), (0, 0), (LEFT, STAY), [(0, 0), (0, 0)]),
    ],
)
def test_how_moves_are_resolved(what, one, two, actions, after):
    assert moved(one, two, actions) == after, what


def test_an_agent_that_was_done_costs_nothing_any_more():
    before = np.array([[cell(2, 5), cell(1, 3)]])
    after = np.array([[cell(2, 5), cell(1, 2)]])
    assert bridge.rewards_of(before, after)[0] == pytest.approx(-0.1 * np.hypot(1, 2) / 2)


@pytest.mark.skipif(not ALBERDICE.is_dir(), reason="AlberDICE's data are not beside the checkout")
def test_replay_of_all_transitions_of_alberdice_optimal():
    raw = {key: np.load(ALBERDICE / f"{key}.npy") for key in ("actions", "obs", "state", "reward", "terminated", "filled")}
    lengths = raw["filled"].sum(axis=1)[:, 0] - 1
    env = make_env("bridge")
    seen = env.reset(np.arange(len(lengths)))
    compared = 0
    for time in range(lengths.max()):
        running = time < lengths
        assert np.array_equal(seen.observations[running], raw["obs"][running, time])
        assert np.array_equal(seen.states[running], raw["state"][running, time])
        step = env.step(raw["actions"][:, time, :, 0])
        np.testing.assert_allclose(step.rewards[running], raw["reward"][running, time, 0], atol=1e-6)
        assert np.array_equal(step.terminated[running], raw["terminated"][running, time, 0] == 1)
        seen = step.observation
        compared += running.sum()
    assert compared == 4000
