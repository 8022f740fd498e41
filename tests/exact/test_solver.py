"""The solver's formulas, each against a calculation that does not use them."""

import itertools

import numpy as np
import pytest

from inspo_core.datasets.build import SETS
from inspo_core.envs.matrix import XOR
from inspo_core.errors import InspoError
from inspo_core.exact.behavior import Behavior, behavior_of
from inspo_core.exact.games import MarkovGame, make_game, matrix_game, random_distributions, random_game
from inspo_core.exact.policies import joint_probabilities, random_policies
from inspo_core.exact.solver import Settings, action_scores, evaluate, solve, sweep
from inspo_core.rng import numpy_stream

ALPHA, BETA = 0.3, 0.2


def random_behavior(game: MarkovGame, generator: np.random.Generator) -> Behavior:
    mu = random_distributions(generator, game.rewards.shape)
    return Behavior(mu, mu)


def layered_game(generator: np.random.Generator) -> MarkovGame:
    """Three layers of two states; every step leads to the next layer and the third one ends the game."""
    transitions = np.zeros((6, 4, 6))
    for layer in (0, 2):
        transitions[layer : layer + 2, :, layer + 2 : layer + 4] = random_distributions(generator, (2, 4, 2))
    start = np.array([0.3, 0.7, 0, 0, 0, 0])
    return MarkovGame("layers", 2, 2, generator.random((6, 4)), transitions, start, 0.9)


def test_q_is_the_expectation_over_all_trajectories():
    """Every trajectory of three steps is written out with its probability."""
    generator = numpy_stream(0, "test/trajectories")
    game = layered_game(generator)
    behavior, policies = random_behavior(game, generator), random_policies(game, generator)
    found = evaluate(game, behavior, policies, ALPHA, BETA)

    def step(state: int, joint: int) -> tuple[float, float]:
        """Probability of the joint action and reward with its regularisers."""
        one, two = policies[state, 0, joint // 2], policies[state, 1, joint % 2]
        bonus = -ALPHA * np.log(one * two / behavior.mu[state, joint]) - BETA * np.log(one * two)
        return one * two, game.rewards[state, joint] + bonus

    for state, joint in itertools.product((0, 1), range(4)):
        total = 0.0
        for second, third, a, b in itertools.product((2, 3), (4, 5), range(4), range(4)):
            (p, r), (q, s) = step(second, a), step(third, b)
            path = game.transitions[state, joint, second] * p * game.transitions[second, a, third] * q
            total += path * (game.rewards[state, joint] + 0.9 * r + 0.81 * s)
        assert found.q[state, joint] == pytest.approx(total, abs=1e-12)
    plain = [(state, joint, *step(state, joint)) for state, joint in itertools.product((0, 1), range(4))]
    total = sum(game.start[state] * p * (r - game.rewards[state, joint] + found.q[state, joint]) for state, joint, p, r in plain)
    assert found.objective == pytest.approx(total, abs=1e-12)


def test_the_closed_form_is_the_maximum_over_a_fine_grid():
    """Of J itself, over one agent's three actions, in a game of one step: the form is within a cell of the best point of the grid."""
    generator = numpy_stream(0, "test/grid")
    game = random_game(generator, n_agents=2, n_actions=3, n_states=1, gamma=0.0)
    behavior, policies = random_behavior(game, generator), random_policies(game, generator)
    cells = 100
    points = np.array([(a, b, cells - a - b) for a in range(cells + 1) for b in range(cells + 1 - a)]) / cells
    for agent in (0, 1):
        updated, gains = sweep(game, behavior, policies, game.rewards, ALPHA, BETA, np.array([agent]))
        objectives = []
        for point in points:
            trial = policies.copy()
            trial[0, agent] = point
            objectives.append(evaluate(game, behavior, trial, ALPHA, BETA).objective)
        assert np.abs(points[np.argmax(objectives)] - updated[0, agent]).max() < 1 / cells
        best = evaluate(game, behavior, updated, ALPHA, BETA).objective
        assert max(objectives) <= best < max(objectives) + 1e-3
        before = evaluate(game, behavior, policies, ALPHA, BETA).objective
        assert gains[0, agent] == pytest.approx(best - before, abs=1e-12)


def test_teammates_of_three_agents_are_averaged_out():
    generator = numpy_stream(0, "test/three")
    game = random_game(generator, n_agents=3, n_actions=2, n_states=2, gamma=0.5)
    behavior, policies = random_behavior(game, generator), random_policies(game, generator)
    q = generator.random((2, 8))
    scores = action_scores(game, behavior, policies, q, ALPHA, agent=1)
    for state, own in itertools.product(range(2), range(2)):
        expected = sum(
            policies[state, 0, one] * policies[state, 2, three] * (q[state, joint] + ALPHA * np.log(behavior.mu[state, joint]))
            for one, three in itertools.product(range(2), range(2))
            for joint in [4 * one + 2 * own + three]
        )
        assert scores[state, own] == pytest.approx(expected)
    assert joint_probabilities(policies)[1, 6] == pytest.approx(policies[1, 0, 1] * policies[1, 1, 1] * policies[1, 2, 0])


def test_ratios_average_over_the_actions_of_the_data():
    """XOR c has no BB: with a^0 = B only BA remains, whatever agent 1 does; with A, AB weighs twice as much as under exact ratios."""
    game = make_game("xor")
    behavior = behavior_of(game, SETS["xor_c"]()).product(game)
    policies = np.array([[[0.5, 0.5], [0.4, 0.6]]])
    scores = action_scores(game, behavior, policies, game.rewards, ALPHA, agent=0, importance="ratio")
    prior = ALPHA * (np.log([2 / 3, 1 / 3]) + 0.4 * np.log(2 / 3) + 0.6 * np.log(1 / 3))
    weights = np.array([0.4 / (2 / 3), 0.6 / (1 / 3)]) / 2
    assert scores[0] - prior == pytest.approx([weights[1] / weights.sum(), 1.0], abs=1e-5)


def test_simultaneous_turns_see_the_old_teammates():
    game = matrix_game("xor", XOR)
    mu = np.full((1, 4), 0.25)
    half = np.full((1, 2, 2), 0.5)
    together, _ = sweep(game, Behavior(mu, mu), half, game.rewards, 0.01, 0.0, np.array([1, 0]), update="simultaneous")
    in_turn, _ = sweep(game, Behavior(mu, mu), half, game.rewards, 0.01, 0.0, np.array([1, 0]))
    assert together[0] == pytest.approx(np.array([[1, 0], [1, 0]]))  # A is each one's best answer to a half
    assert in_turn[0] == pytest.approx(np.array([[0, 1], [1, 0]]))  # agent 1 has answered before agent 0


def test_temperatures_follow_their_schedules():
    settings = Settings(100, 0.1, alpha_schedule="annealed", alpha_final=0.001, beta=2.0, beta_schedule="annealed", anneal_fraction=0.5)
    assert [settings.temperatures(sweep) for sweep in (0, 25, 50, 99)] == [
        pytest.approx(pair) for pair in ((0.1, 2.0), (0.01, 1.0), (0.001, 0.0), (0.001, 0.0))
    ]
    assert Settings(10, 0.1, beta=2.0, beta_schedule="constant").temperatures(9) == (0.1, 2.0)
    assert Settings(10, 0.1, beta=2.0).temperatures(0) == (0.1, 0.0)


def test_diagnostics_of_a_known_policy():
    """XOR b, both agents even: KL = log(1/4) - mean log mu, entropy 2 log 2, half of the mass on AA and BB."""
    game = make_game("xor")
    behavior = behavior_of(game, SETS["xor_b"]())
    found = evaluate(game, behavior, np.full((1, 2, 2), 0.5), ALPHA, BETA)
    assert found.kl == pytest.approx(np.log(0.25) - np.log(behavior.mu).mean())
    assert found.entropy == pytest.approx(2 * np.log(2))
    assert found.outside == pytest.approx(0.5)
    assert found.objective == pytest.approx(0 - ALPHA * found.kl + BETA * found.entropy)


def test_settings_without_meaning_are_refused():
    for values, words in [
        ({"update": "parallel"}, "update is 'parallel', expected sequential or simultaneous"),
        ({"alpha": 0.0}, "alpha is 0.0, expected more than 0"),
        ({"beta": -1.0}, "beta is -1.0, expected at least 0"),
        ({"anneal_fraction": 1.5}, "anneal_fraction is 1.5, expected more than 0 and at most 1"),
        ({"sweeps": 0}, "sweeps is 0, expected at least 1"),
    ]:
        with pytest.raises(InspoError, match=words):
            Settings(**{"sweeps": 1, "alpha": 0.1, **values})


def test_solve_begins_at_the_clones_and_stops_when_nothing_moves():
    game = make_game("mne")
    behavior = behavior_of(game, SETS["mne_imbalanced"]())
    solution = solve(game, behavior, Settings(50, 1.0, tolerance=1e-9))
    first = solution.history[0]
    clones = np.array([[[0.80, 0.15, 0.05]] * 2])
    assert first.before == pytest.approx(evaluate(game, behavior, clones, 1.0, 0.0).objective, abs=1e-4)
    assert len(solution.history) < 10 and solution.history[-1].change < 1e-9
    assert solution.residual < 1e-9


def test_who_goes_first_decides_between_equals():
    """From even policies the first agent answers A to a half, and the second one B."""
    game, mu = matrix_game("xor", XOR), np.full((1, 4), 0.25)
    even = np.full((1, 2, 2), 0.5)
    first = {}
    for order in ("fixed", "random"):
        settings = Settings(1, 0.01, order=order)
        ends = [solve(game, Behavior(mu, mu), settings, even, seed).policies for seed in range(10)]
        first[order] = {int(policies[0, :, 0].argmax()) for policies in ends}  # the one that plays A
    assert first == {"fixed": {0}, "random": {0, 1}}


def test_entropy_outside_the_value_counts_in_the_update_only():
    """In a game of one step the policies are the same, and J lacks beta times the entropy."""
    game = make_game("mne")
    behavior = behavior_of(game, SETS["mne_balanced"]())
    inside, outside = (
        solve(game, behavior, Settings(5, 1.0, beta=5.0, beta_schedule="constant", entropy_in_value=value)) for value in (True, False)
    )
    assert np.array_equal(inside.policies, outside.policies)
    last = inside.history[-1].after
    assert outside.history[-1].after.objective == pytest.approx(last.objective - 5.0 * last.entropy)
    assert last.entropy > 0.01
