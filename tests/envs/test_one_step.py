"""Known answers of the N-agent one-step games."""

import itertools
import math

import numpy as np
import pytest

from inspo_core.envs import make_env
from inspo_core.envs.matrix import XOR
from inspo_core.envs.one_step import OneStepGame, xor_payoffs

XOR3 = {(0, 0, 0): 0, (1, 0, 0): 1, (0, 1, 0): 1, (0, 0, 1): 1, (1, 1, 0): -2, (1, 0, 1): -2, (0, 1, 1): -2, (1, 1, 1): -3}
PERMUTATION2 = {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 0}
PERMUTATION3 = {joint: int(len(set(joint)) == 3) for joint in itertools.product(range(3), repeat=3)}


def expected_reward(game: OneStepGame, probabilities: np.ndarray) -> float:
    """What independent agents earn that each play with ``probabilities`` (A,): a sum over all A^N joint actions."""
    joint = np.array(list(itertools.product(range(game.spec.n_actions), repeat=game.spec.n_agents)))
    return float((probabilities[joint].prod(axis=1) * game.payoffs(joint)).sum())


@pytest.mark.parametrize(("name", "payoffs"), [("xor3", XOR3), ("permutation2", PERMUTATION2), ("permutation3", PERMUTATION3)])
def test_payoffs(name, payoffs):
    env = make_env(name)
    env.reset(np.arange(len(payoffs)))
    step = env.step(np.array(list(payoffs)))
    assert step.rewards.tolist() == list(payoffs.values())
    assert step.success.tolist() == [reward == 1 for reward in payoffs.values()]
    assert step.terminated.all() and not step.truncated.any()
    assert (step.observation.observations == 1).all() and (step.observation.states == 1).all()


def test_many_agents():
    env = make_env("xor8")
    env.reset(np.arange(3))
    step = env.step(np.array([[0] * 8, [0] * 7 + [1], [1] * 8]))
    assert step.rewards.tolist() == [0, 1, -8] and step.success.tolist() == [False, True, False]
    env = make_env("permutation8")
    env.reset(np.arange(3))
    step = env.step(np.array([range(8), [3, 1, 4, 0, 5, 7, 2, 6], [3, 1, 4, 0, 5, 7, 2, 3]]))
    assert step.rewards.tolist() == [1, 1, 0] and step.success.tolist() == [True, True, False]


def test_names_give_the_number_of_agents():
    for n in range(3, 9):
        assert (make_env(f"xor{n}").spec.n_agents, make_env(f"xor{n}").spec.n_actions) == (n, 2)
    for n in range(2, 9):
        assert make_env(f"permutation{n}").spec.n_agents == make_env(f"permutation{n}").spec.n_actions == n


def test_the_two_agent_game_is_xor():
    joint = np.array(list(itertools.product(range(2), repeat=2)))
    assert np.array_equal(xor_payoffs(joint), XOR.ravel())


@pytest.mark.parametrize("n", range(3, 9))
def test_independent_agents_lose_in_xor(n):
    """Exactly one B of N agents has marginals P(B) = 1/N; the number of Bs of their product is binomial."""
    reward = {0: 0, 1: 1} | {k: -k for k in range(2, n + 1)}
    binomial = sum(math.comb(n, k) * (1 / n) ** k * (1 - 1 / n) ** (n - k) * reward[k] for k in range(n + 1))
    assert expected_reward(make_env(f"xor{n}"), np.array([1 - 1 / n, 1 / n])) == pytest.approx(binomial, abs=1e-12)
    assert binomial == pytest.approx(2 * (1 - 1 / n) ** (n - 1) - 1, abs=1e-12) and binomial < 0


@pytest.mark.parametrize("n", range(2, 6))
def test_independent_agents_seldom_form_a_permutation(n):
    assert expected_reward(make_env(f"permutation{n}"), np.full(n, 1 / n)) == pytest.approx(math.factorial(n) / n**n, abs=1e-12)
