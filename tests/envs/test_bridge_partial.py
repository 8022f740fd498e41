"""What the agents of the partially observed Bridge see, and when they must remember."""

import numpy as np
import pytest

from inspo_core.envs import GAMES, bridge, make_env
from inspo_core.envs.bridge_partial import places, views
from tests.envs.bridge_returns import JOINT_ACTIONS, action_values

STAY, UP, DOWN, RIGHT, LEFT = range(5)


def seen(one: tuple, two: tuple, agent: int) -> list:
    """What an agent sees with the agents at ``one`` and ``two``: own place, walls and teammate as nine characters each."""
    view = views(np.array([[row * bridge.COLUMNS + column for row, column in (one, two)]]))[0, agent]
    return [tuple(view[:2].tolist()), *("".join(".x"[int(cell)] for cell in plane) for plane in (view[2:11], view[11:]))]


@pytest.mark.parametrize(
    ("what", "one", "two", "agent", "expected"),
    [
        ("agent 1 at the start", (1, 2), (1, 3), 0, [(1, 2), ".xx....xx", ".....x..."]),
        ("agent 2 at the start", (1, 2), (1, 3), 1, [(1, 3), "xx....xx.", "...x....."]),
        ("outside the grid", (0, 0), (1, 1), 0, [(0, 0), "xxxx..x..", "........x"]),
        ("diagonally, through a blocked corner", (1, 1), (1, 3), 0, [(1, 1), "..x.....x", "........."]),
        ("two cells away", (0, 4), (2, 4), 1, [(2, 4), "...x..xxx", "........."]),
        ("cells that are neighbours as numbers, not in the grid", (0, 5), (1, 0), 0, [(0, 5), "xxx..x..x", "........."]),
        ("a done agent is not seen", (2, 5), (2, 4), 1, [(2, 4), "...x..xxx", "........."]),
        ("a done agent sees", (2, 5), (2, 4), 0, [(2, 5), "..x..xxxx", "...x....."]),
        ("a done agent sees who passes it", (0, 0), (0, 0), 1, [(0, 0), "xxxx..x..", "....x...."]),
        ("who passes a done agent does not see it", (0, 0), (0, 0), 0, [(0, 0), "xxxx..x..", "........."]),
    ],
)
def test_what_an_agent_sees(what, one, two, agent, expected):
    assert seen(one, two, agent) == expected, what


@pytest.mark.parametrize(("game", "see"), [("bridge_partial", views), ("bridge_blind", places)])
def test_all_but_the_observation_is_bridge(game, see):
    whole, partial = make_env("bridge"), make_env(game)
    generator = np.random.default_rng(0)
    one, two = whole.reset(np.arange(100)), partial.reset(np.arange(100))
    assert np.array_equal(one.states, two.states)
    ended = np.zeros(100, dtype=bool)
    for _ in range(whole.spec.time_limit):
        actions = generator.integers(0, 5, (100, 2))
        one, two = whole.step(actions), partial.step(actions)
        for field in ("rewards", "terminated", "truncated", "success"):
            assert np.array_equal(getattr(one, field), getattr(two, field)), field
        assert np.array_equal(one.observation.states, two.observation.states)
        assert np.array_equal(two.observation.observations, see(bridge.cells_of(two.observation.states)))
        ended |= two.terminated
    assert ended.any() and two.truncated.any()


def played(plan: list[tuple]) -> tuple[np.ndarray, np.ndarray, float]:
    """The observations (L + 1, 2, 20) and the last cells (2,) of an episode, and its return."""
    env = make_env("bridge_partial")
    observations, total = [env.reset(np.arange(1))], 0.0
    for actions in plan:
        step = env.step(np.array([actions]))
        observations.append(step.observation)
        total += step.rewards[0]
    return np.stack([each.observations[0] for each in observations]), bridge.cells_of(observations[-1].states)[0], total


def test_the_same_view_asks_for_different_actions_after_different_histories():
    """Agent 1 at the left end of the bridge sees nobody. Is its teammate on the bridge, or did it make way?

    Of the joint actions with the best return, agent 1's are down to make way itself in the first case, and right in the second.
    Its own observations before tell the two apart: it left the teammate behind, or saw it leave.
    """
    on_the_bridge, made_way = [(LEFT, STAY)], [(STAY, RIGHT), (LEFT, UP)]
    values = action_values(GAMES["bridge"].time_limit - 1)
    last, before, best = [], [], []
    for plan in (on_the_bridge, made_way):
        observations, cells, _ = played(plan)
        last.append(observations[-1, 0])
        before.append(observations[-2, 0])
        returns = values[tuple(cells)]
        best.append(set(JOINT_ACTIONS[np.isclose(returns, returns.max(), atol=1e-9), 0].tolist()))
    assert np.array_equal(last[0], last[1]) and not np.array_equal(before[0], before[1])
    assert best == [{DOWN}, {RIGHT}]


def test_from_the_start_the_best_return_needs_no_memory():
    """On this best path no observation of an agent asks for two actions: the teammate is in view wherever it matters."""
    plan = list(zip([LEFT, DOWN, UP, RIGHT, RIGHT, RIGHT, RIGHT, DOWN], [LEFT, LEFT, UP, LEFT] + [STAY] * 4, strict=True))
    observations, cells, total = played(plan)
    assert cells.tolist() == bridge.GOALS.tolist() and total == pytest.approx(-1.23545, abs=5e-6)
    for agent in range(2):
        chosen: dict[bytes, int] = {}
        for observation, actions in zip(observations, plan):
            assert chosen.setdefault(observation[agent].tobytes(), actions[agent]) == actions[agent]


def test_places_alone_never_let_both_agents_home():
    """Whatever each agent does in each place, always the same: of all such pairs of policies none finishes.

    Only the places that an agent passes on its way matter, so the pairs are followed, not listed: where an agent is for the first time,
    its action is chosen, and kept.
    """
    home = tuple(bridge.GOALS)

    def finishes(cells: tuple, chosen: tuple[dict, dict], seen: frozenset) -> bool:
        if cells == home:
            return True
        if cells in seen:  # the same places again: it goes on in a circle
            return False
        options = [[chosen[agent][cells[agent]]] if cells[agent] in chosen[agent] else range(5) for agent in range(2)]
        for one in options[0]:
            for two in options[1]:
                after = bridge.move(np.array([cells]), np.array([[one, two]]))[0]
                kept = ({**chosen[0], cells[0]: one}, {**chosen[1], cells[1]: two})
                if finishes(tuple(after.tolist()), kept, seen | {cells}):
                    return True
        return False

    assert not finishes(tuple(bridge.STARTS), ({}, {}), frozenset())
