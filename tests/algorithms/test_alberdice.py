"""AlberDICE's best responses against closed forms, and the coordination that other weighted cloning cannot reach."""

import numpy as np
import pytest
import torch

from inspo_core.algorithms.alberdice import AlberDICE, dual_loss
from inspo_core.algorithms.learner import ValueLearner
from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.envs.matrix import XOR
from tests.algorithms.games import (
    action_probabilities,
    empirical_joint,
    estimated,
    estimated_sample,
    expected_payoff,
    joint_table,
    learner,
    matrix_data,
    permutation_data,
    random_models,
)

FAST = {"hidden": [32], "learning_rate": 0.01, "critic_steps": 50}
PAYOFF = np.array([[0.2, 1.0], [0.6, -0.5]])


def test_the_dual_s_first_term_counts_absorbed_steps_as_advantage_0():
    ratios, advantages = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([0.3, -0.1, 0.0])
    samples = [rho * np.exp(a / 0.2) for rho, a in zip(ratios.tolist(), advantages.tolist())] + [1.0]  # a quarter is absorbed
    assert dual_loss(ratios, advantages, 0.2, 0.25).item() == pytest.approx(0.2 * np.log(np.mean(samples)), abs=1e-6)
    data = ResidentTransitions(matrix_data(PAYOFF, np.zeros((6, 2), dtype=int)), "cpu")
    assert data.absorbed_share(0.9) == pytest.approx(10 / 11)


def test_ratios_and_divergences_of_three_agents_are_those_of_the_joint_model():
    data = ResidentTransitions(permutation_data(), "cpu")
    algorithm = learner("alberdice", data, random_models(data), batch_size=20000, hidden=[8], critic_steps=1, ratio_clip=1e6)
    algorithm._agent, batch = 1, algorithm._draw().one(0)
    ratios, divergences = algorithm._teammates(batch)
    mu = joint_table(algorithm._joint, data, 0, [1, 0, 2])
    pi = action_probabilities(algorithm.policy())
    for own in range(3):
        given = mu[:, own] / mu[:, own].sum()  # mu(a^0, a^2 | s, a^1)
        product = np.outer(pi[0], pi[2])
        mine = batch.actions[1, :, 0] == own
        assert divergences[mine].mean().item() == pytest.approx((product * np.log(product / given)).sum(), abs=0.02)
        for first, _, third in {tuple(joint) for joint in batch.actions[:, mine, 0].T.tolist()}:
            chosen = mine & (batch.actions[0, :, 0] == first) & (batch.actions[2, :, 0] == third)
            assert ratios[chosen].numpy() == pytest.approx(product[first, third] / given[first, third], rel=1e-3)


def test_a_turn_ends_at_the_closed_form_of_the_best_response():
    """pi^0 is mu^0 exp((E[r] - alpha KL(pi^1 || mu(.|a^0))) / alpha), up to its sum; teammate 1 stays as it was."""
    rng = np.random.default_rng(0)
    codes = rng.choice(4, 4000, p=[0.15, 0.35, 0.3, 0.2])
    data = ResidentTransitions(matrix_data(PAYOFF, np.stack([codes // 2, codes % 2], 1)), "cpu")
    algorithm = learner("alberdice", data, estimated(data, 400), alpha=0.5, **FAST)
    assert isinstance(algorithm, AlberDICE)
    before = action_probabilities(algorithm.policy())
    for _ in range(12):
        ValueLearner.one_pass(algorithm)  # agent 0 only
    after = action_probabilities(algorithm.policy())
    mu = empirical_joint(data, 0)
    given = mu / mu.sum(1, keepdims=True)
    gains = PAYOFF @ before[1] - 0.5 * (before[1] * np.log(before[1] / given)).sum(1)
    wanted = mu.sum(1) * np.exp(gains / 0.5)
    assert np.abs(after[0] - wanted / wanted.sum()).max() < 0.04
    assert np.abs(before[0] - wanted / wanted.sum()).max() > 0.1
    assert (after[1] == before[1]).all()


@pytest.mark.parametrize("name", ["xor_b", "xor_c"])
def test_it_coordinates_where_the_marginals_of_the_data_do_not(name):
    algorithm = learner("alberdice", *estimated_sample(name), iterations=10, **FAST)
    for _ in range(10):
        algorithm.iterate()
    assert expected_payoff(algorithm.policy(), XOR) > 0.95
