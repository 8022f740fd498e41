"""The figures of docs/exact.md: what exact sweeps reach on the project's datasets, and on AlberDICE's Bridge data if they lie beside."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from inspo_core.datasets.build import SETS
from inspo_core.datasets.formats.alberdice import read
from inspo_core.datasets.formats.table import AlberDICEOptions
from inspo_core.datasets.recording import concatenate, record
from inspo_core.envs import make_env
from inspo_core.exact.behavior import Behavior, behavior_of
from inspo_core.exact.games import MarkovGame, make_game
from inspo_core.exact.policies import expected_return, greedy, random_policies
from inspo_core.exact.solver import Settings, Solution, solve
from inspo_core.rng import numpy_stream

ALBERDICE = Path(__file__).resolve().parents[3] / "shared/data/alberdice/bridge_from_start/buffer_optimal"
AS_LEARNED = {"behavior_model": "product", "importance": "ratio"}  # what local Q with product behavior learns from data
ANNEALED = {"alpha": 0.1, "alpha_schedule": "annealed", "alpha_final": 0.02}


@cache
def setting(name: str) -> tuple[MarkovGame, Behavior]:
    dataset = alberdice_mixed() if name == "alberdice" else SETS[name]()
    game = make_game(dataset.env)
    return game, behavior_of(game, dataset)


def alberdice_mixed():
    """AlberDICE's 500 optimal episodes and, instead of its random ones, 500 that are played here by uniform random agents."""
    generator = numpy_stream(0, "test/noise")

    def choose(seen):
        return np.floor(5 * generator.random((len(seen.states), 2))).astype(int)

    read_blocks = read(ALBERDICE, "bridge_optimal", "bridge", AlberDICEOptions(timeout_at=50))
    optimal = [replace(block, available_actions=None) for block in read_blocks]
    return concatenate("mixed", [*optimal, record("noise", make_env("bridge"), choose, 500, {})], {})


def from_random(name: str, start: int, settings: Settings) -> Solution:
    game, behavior = setting(name)
    return solve(game, behavior, settings, random_policies(game, numpy_stream(start, "exact/start")), start)


def payoffs(name: str, starts: int, **settings) -> np.ndarray:
    """(starts,): what the last policies are paid on average in a game of one step, from random starts."""
    solutions = [from_random(name, start, Settings(**{"sweeps": 60, "alpha": 0.1, **settings})) for start in range(starts)]
    return np.array([expected_return(setting(name)[0], solution.policies, 1) for solution in solutions])


@pytest.mark.parametrize("name", ["xor_a", "xor_b", "xor_c", "xor_d"])
@pytest.mark.parametrize("importance", ["none", "ratio"])
def test_a_joint_behavior_in_sequence_solves_every_xor(name, importance):
    assert payoffs(name, 20, importance=importance) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("name", "expected"), [("xor_a", 1.0), ("xor_b", 0.0), ("xor_c", -0.049), ("xor_d", 1.0)])
def test_a_product_behavior_with_ratios_in_q_does_not(name, expected):
    assert payoffs(name, 20, **AS_LEARNED) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["xor_c", "xor_d"])
def test_simultaneous_xor_swings_between_two_of_the_worst_joint_actions(name):
    """At a small alpha an agent answers A if its teammate plays B with more than 1/4 and B otherwise; a start plays B with a uniform p.

    Both above (9/16): AA, BB, AA, ... Both below (1/16): BB, AA, BB, ... One each (6/16): AB or BA for good.
    On c the missing BB costs alpha log mu in addition, which moves the 1/4 by less than 0.01.
    """
    even = payoffs(name, 400, alpha=0.01, update="simultaneous", sweeps=4)
    odd = payoffs(name, 400, alpha=0.01, update="simultaneous", sweeps=5)
    for found, mean in ((even, 6 / 16 - 2 * 9 / 16), (odd, 6 / 16 - 2 * 1 / 16)):
        assert abs(found.mean() - mean) < 3.5 * found.std() / np.sqrt(len(found))
    assert even.std() > 1.3


@pytest.mark.parametrize(("name", "expected"), [("xor_a", -0.5), ("xor_b", -0.4), ("xor_c", -1.1), ("xor_d", -0.8)])
def test_simultaneous_xor_from_twenty_starts(name, expected):
    found = payoffs(name, 20, update="simultaneous")
    assert found.mean() == pytest.approx(expected, abs=2e-3)
    assert found.std() > 1.3


def test_three_and_more_agents_need_the_joint_behavior():
    for name in ("xor3", "xor8", "permutation3", "permutation4"):
        assert payoffs(name, 10, sweeps=20) == pytest.approx(1.0, abs=1e-3)
    assert payoffs("permutation4", 10, sweeps=20, **AS_LEARNED) == pytest.approx(24 / 256, abs=1e-3)
    assert payoffs("permutation4", 10, sweeps=20, behavior_model="product").mean() < 0.7


@pytest.mark.parametrize("behavior", ["joint", "product"])
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [({}, 5.0), ({"beta": 5.0, "beta_schedule": "constant"}, 3.777), ({"beta": 20.0, "beta_schedule": "annealed"}, 20.0)],
    ids=["no entropy", "constant entropy", "annealed entropy"],
)
def test_annealed_entropy_leaves_the_worst_equilibrium(behavior, schedule, expected):
    game, mu = setting("mne_imbalanced")
    for seed in range(3):
        solution = solve(game, mu, Settings(100, 1.0, behavior_model=behavior, **schedule), seed=seed)
        assert expected_return(game, solution.policies, 1) == pytest.approx(expected, abs=2e-3)


def test_without_entropy_the_start_decides_among_the_equilibria():
    found = payoffs("mne_imbalanced", 10, alpha=1.0)
    assert set(found.round(1)) == {5.0, 10.0, 20.0}


def on_bridge(name: str, start: int | None, alpha: dict, **settings) -> tuple[Solution, float, float]:
    """The solution after 120 sweeps, its return and that of its greedy policies, both within 20 steps; start None: the clones."""
    game, behavior = setting(name)
    settings = Settings(120, **alpha, **settings)
    solution = solve(game, behavior, settings) if start is None else from_random(name, start, settings)
    return solution, expected_return(game, solution.policies, 20), expected_return(game, greedy(solution.policies), 20)


def test_bridge_from_the_clones():
    """In sequence J climbs and the agents cross; at once they swing between two answers to each other and stay in each other's way."""
    solution, sampled, best = on_bridge("bridge_mixed", None, {"alpha": 0.1})
    assert min(one.after.objective - one.before for one in solution.history) > -1e-9
    assert (sampled, best) == (pytest.approx(-1.279, abs=1e-3), pytest.approx(-1.2591, abs=1e-4))
    assert solution.residual < 1e-3
    solution, sampled, best = on_bridge("bridge_mixed", None, {"alpha": 0.1}, update="simultaneous")
    assert (sampled, best) == (pytest.approx(-4.557, abs=1e-3), pytest.approx(-4.874, abs=1e-3))
    assert solution.residual > 0.9


needs_alberdice = pytest.mark.skipif(not ALBERDICE.is_dir(), reason="AlberDICE's data are not beside the checkout")
both_sets = pytest.mark.parametrize("name", ["bridge_mixed", pytest.param("alberdice", marks=needs_alberdice)])
# alpha and behavior -> the sampled returns of docs/exact.md, means over four random starts
SEQUENTIAL = {
    "bridge_mixed": {"joint": [-1.727, -1.373, -1.278, -1.244], "product": [-2.723, -1.520, -1.296, -1.244]},
    "alberdice": {"joint": [-1.824, -1.371, -1.274, -1.242], "product": [-2.882, -1.525, -1.294, -1.242]},
}
SIMULTANEOUS = {  # from the clones
    "bridge_mixed": {"joint": [-9.657, -4.461, -4.557, -4.428], "product": [-9.592, -4.495, -4.529, -4.400]},
    "alberdice": {"joint": [-8.952, -4.235, -4.473, -4.366], "product": [-9.384, -4.353, -4.495, -4.377]},
}
ALPHAS = [{"alpha": 1.0}, {"alpha": 0.3}, {"alpha": 0.1}, ANNEALED]


@pytest.mark.slow
@both_sets
@pytest.mark.parametrize("behavior", ["joint", "product"])
@pytest.mark.parametrize("row", range(len(ALPHAS)))
def test_bridge_in_sequence_from_random_starts(name, behavior, row):
    runs = [on_bridge(name, start, ALPHAS[row], behavior_model=behavior) for start in range(4)]
    assert np.mean([sampled for _, sampled, _ in runs]) == pytest.approx(SEQUENTIAL[name][behavior][row], abs=2e-3)
    assert min(best for *_, best in runs) > -1.2905  # one of the three ways that the optimal episodes back off
    if ALPHAS[row] == ANNEALED:
        assert min(best for *_, best in runs) == pytest.approx(-1.23545, abs=1e-5)
    for solution, _, _ in runs:
        assert min(one.after.objective - one.before for one in solution.history) > -1e-9


@pytest.mark.slow
@both_sets
@pytest.mark.parametrize("behavior", ["joint", "product"])
@pytest.mark.parametrize("row", range(len(ALPHAS)))
def test_bridge_at_once_from_the_clones(name, behavior, row):
    _, sampled, best = on_bridge(name, None, ALPHAS[row], behavior_model=behavior, update="simultaneous")
    assert sampled == pytest.approx(SIMULTANEOUS[name][behavior][row], abs=2e-3)
    assert best < -3.8


@pytest.mark.slow
@both_sets
def test_bridge_at_once_escapes_with_a_joint_behavior_and_annealed_entropy(name):
    entropy = {"beta": 0.3, "beta_schedule": "annealed", "update": "simultaneous"}
    _, sampled, best = on_bridge(name, None, {"alpha": 0.1}, **entropy)
    assert sampled > -1.29 and best > -1.26
    _, sampled, _ = on_bridge(name, None, {"alpha": 0.1}, behavior_model="product", **entropy)
    assert sampled < -6.5


@pytest.mark.slow
@both_sets
def test_bridge_at_once_from_random_starts_is_a_matter_of_luck(name):
    """Random policies break the symmetry in most states, so that more than half of the runs cross; in sequence all do."""
    crossed = [on_bridge(name, start, {"alpha": 0.1}, update="simultaneous")[1] > -1.3 for start in range(20)]
    assert sum(crossed) == {"bridge_mixed": 12, "alberdice": 13}[name]
    assert all(on_bridge(name, start, {"alpha": 0.1})[1] > -1.3 for start in range(20))
