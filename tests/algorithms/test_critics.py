"""The critics against exact evaluation in small games with known policies and a known behavior."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from inspo_core.algorithms.critics import Critics, JointCritic, LocalCritics, Pool, Temperatures, in_support, joint_log_probs
from inspo_core.algorithms.networks import masked_log_softmax
from inspo_core.algorithms.streams import Streams
from inspo_core.algorithms.transitions import Transitions
from inspo_core.envs.matrix import MNE, XOR
from tests.algorithms.games import dataset_of, inspo_config, ragged_data

GAMMA = 0.6
FAST = {"gamma": GAMMA, "hidden": [32], "learning_rate": 0.005, "batch_size": 512, "target_rate": 0.1, "support_threshold": 0.0}


@dataclass(frozen=True)
class Game:
    """Two agents; every transition is an episode of its own, truncated or terminated, and occurs as often as mu says."""

    rewards: np.ndarray  # (S, A, A)
    successors: np.ndarray  # (S, A, A) states
    terminal: np.ndarray  # (S, A, A) bool
    mu: np.ndarray  # (S, A, A)
    pi: np.ndarray  # (2, S, A), the policies to evaluate

    def data(self, count: int = 400) -> Transitions:
        cells = np.argwhere(self.mu > 0)
        played = np.repeat(cells, np.rint(count * self.mu[tuple(cells.T)]).astype(int), axis=0)
        at = tuple(played.T)
        states = np.stack([played[:, 0], self.successors[at]], axis=1).ravel()
        ends = self.terminal[at]
        dataset = dataset_of(
            np.eye(len(self.mu))[states], played[:, 1:], self.rewards[at], [1] * len(played), ends, self.mu.shape[1]
        )
        return Transitions.from_dataset(dataset, "cpu")

    def pool(self, data: Transitions) -> tuple[Pool, torch.Tensor]:
        """The whole data with exact behavior probabilities, and log pi (N, P, A)."""
        state, successor = (data.states[rows].argmax(1).numpy() for rows in (data.rows, data.rows + 1))
        one, two = data.actions.numpy()
        local = np.stack([self.mu.sum(2), self.mu.sum(1)])  # (2, S, A)
        joint = self.mu[state, one, two]
        others = np.stack([joint / local[0][state, one], joint / local[1][state, two]])
        log_mu, next_log_mu = logarithm(local[:, state]), logarithm(local[:, successor])
        shape = (len(data), -1)
        pool = Pool(
            states=data.states[data.rows],
            next_states=data.states[data.rows + 1],
            observations=data.observations[:, data.rows],
            actions=data.actions,
            rewards=data.rewards,
            continues=data.continues,
            available=torch.ones_like(log_mu, dtype=torch.bool),
            log_mu=log_mu,
            supported=torch.ones_like(log_mu, dtype=torch.bool),
            next_log_mu=next_log_mu,
            next_log_pi=logarithm(self.pi[:, successor]),
            log_mu_others=logarithm(others),
            log_joint_mu=logarithm(self.mu[state].reshape(shape)),
            next_log_joint_mu=logarithm(self.mu[successor].reshape(shape)),
        )
        return pool, logarithm(self.pi[:, state])

    def joint_pi(self) -> np.ndarray:
        return np.einsum("si,sj->sij", *self.pi)

    def exact_joint(self, alpha: float, value_beta: float) -> np.ndarray:
        """Q(s, a) by iterating the soft Bellman equation: (S, A, A)."""
        pi, q = self.joint_pi(), np.zeros_like(self.rewards)
        bonus = -(pi * (alpha * np.log(pi / self.mu) + value_beta * np.log(pi))).sum((1, 2))
        for _ in range(200):
            value = (pi * q).sum((1, 2)) + bonus
            q = self.rewards + GAMMA * ~self.terminal * value[self.successors]
        return q

    def exact_local(self, agent: int, alpha: float, value_beta: float, others: np.ndarray | None = None) -> np.ndarray:
        """Q^i(s, a^i) by iterating its soft Bellman equation: (S, A).

        ``others`` (S, A, A) is how the teammate's actions are distributed given a^i (its axis is summed); by default pi^-i.
        """
        pi, mu = self.pi[agent], self.mu.sum(2 - agent)
        if others is None:
            others = np.broadcast_to(np.expand_dims(self.pi[1 - agent], 1 + agent), self.rewards.shape)
        q = np.zeros_like(pi)
        bonus = -(pi * (alpha * np.log(pi / mu) + value_beta * np.log(pi))).sum(1)
        for _ in range(200):
            value = (pi * q).sum(1) + bonus
            q = (others * (self.rewards + GAMMA * ~self.terminal * value[self.successors])).sum(2 - agent)
        return q


def logarithm(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.log(values), dtype=torch.float32)


def matrix_game(payoff: np.ndarray, pi: list[list[float]]) -> Game:
    size = len(payoff)
    shape = (1, size, size)
    return Game(
        payoff.reshape(shape), np.zeros(shape, dtype=int), np.ones(shape, dtype=bool), np.full(shape, 1 / size**2), np.array(pi)[:, None]
    )


def two_states() -> Game:
    """Unequal actions go on to the other state; both 1 in state 1 ends the game. The behavior is correlated."""
    rewards = np.array([[[0.5, -0.4], [0.1, 0.8]], [[-0.6, 0.3], [1.0, -0.2]]])
    successors = np.array([[[0, 1], [1, 0]], [[1, 0], [0, 1]]])
    terminal = np.zeros((2, 2, 2), dtype=bool)
    terminal[1, 1, 1] = True
    mu = np.array([[[0.5, 0.1], [0.1, 0.3]], [[0.1, 0.5], [0.25, 0.15]]])
    pi = np.array([[[0.15, 0.85], [0.8, 0.2]], [[0.35, 0.65], [0.25, 0.75]]])
    return Game(rewards, successors, terminal, mu, pi)


def critics_of(kind: type, data: Transitions, best_reward: float = 1.0, **changes: Any) -> Critics:
    config = inspo_config(**{**FAST, **changes})
    return kind(data, config, best_reward, Streams(0, ["initial", "batches"], "cpu"))


def trained(kind: type, game: Game, temperatures: Temperatures, steps: int, **changes: Any) -> tuple[Critics, Pool, torch.Tensor]:
    data = game.data()
    pool, log_pi = game.pool(data)
    critics = critics_of(kind, data, float(data.rewards.max()), critic_steps=steps, **changes)
    critics.evaluate(pool, log_pi, temperatures)
    return critics, pool, log_pi


def by_state(pool: Pool, values: torch.Tensor) -> np.ndarray:
    """Values (P, ...) of a pool, one for each state (they do not differ within a state)."""
    states = pool.states.argmax(1)
    return np.stack([values[states == state][0].numpy() for state in range(pool.states.shape[1])])


PLAIN = Temperatures(alpha=0.0, beta=0.0, value_beta=0.0)


@pytest.mark.parametrize("importance", ["resample", "reweight", "none"])
@pytest.mark.parametrize(
    ("payoff", "pi"), [(XOR, [[0.7, 0.3], [0.9, 0.1]]), (MNE / 20, [[0.1, 0.3, 0.6], [0.6, 0.3, 0.1]])], ids=["xor_d", "mne_balanced"]
)
def test_local_q_averages_over_the_teammates_policy_not_over_the_data(payoff, pi, importance):
    game = matrix_game(payoff, pi)
    critics, pool, log_pi = trained(LocalCritics, game, PLAIN, 400, importance=importance)
    for agent in (0, 1):
        found = by_state(pool, critics.table(agent, pool, log_pi))[0]
        exact = game.exact_local(agent, 0, 0)[0]
        under_mu = game.exact_local(agent, 0, 0, game.mu / game.mu.sum(2 - agent, keepdims=True))[0]
        assert np.abs(exact - under_mu).max() > 0.25
        assert np.abs(found - (under_mu if importance == "none" else exact)).max() < 0.12


@pytest.mark.parametrize("importance", ["resample", "reweight"])
@pytest.mark.parametrize(
    "temperatures",
    [PLAIN, Temperatures(0.8, 1.0, 0.0), Temperatures(0.8, 1.0, 1.0)],
    ids=["no regulariser", "beta outside V", "beta in V"],
)
def test_local_q_in_a_markov_game(temperatures, importance):
    game = two_states()
    critics, pool, log_pi = trained(LocalCritics, game, temperatures, 800, importance=importance)
    for agent in (0, 1):
        found = by_state(pool, critics.table(agent, pool, log_pi))
        assert np.abs(found - game.exact_local(agent, temperatures.alpha, temperatures.value_beta)).max() < 0.12
    # Each of the cases is another function, so none can pass for another.
    variants = [game.exact_local(0, alpha, beta) for alpha, beta in ((0, 0), (0.8, 0), (0.8, 1))]
    assert min(np.abs(one - two).max() for one in variants for two in variants if one is not two) > 0.2


@pytest.mark.parametrize("temperatures", [PLAIN, Temperatures(0.8, 1.0, 0.0), Temperatures(0.8, 1.0, 1.0)])
def test_joint_q_and_its_marginal_in_a_markov_game(temperatures):
    game = two_states()
    critics, pool, log_pi = trained(JointCritic, game, temperatures, 800)
    exact = game.exact_joint(temperatures.alpha, temperatures.value_beta)
    with torch.no_grad():
        found = by_state(pool, critics.network.one(0, pool.states)).reshape(exact.shape)
    assert np.abs(found - exact).max() < 0.1
    for agent in (0, 1):
        weights = np.expand_dims(game.pi[1 - agent], 1 + agent)
        assert np.abs(by_state(pool, critics.table(agent, pool, log_pi)) - (weights * exact).sum(2 - agent)).max() < 0.1


@pytest.mark.parametrize("kind", [LocalCritics, JointCritic])
def test_a_truncated_episode_goes_on_and_a_terminated_one_does_not(kind):
    """Two steps of reward 1 in one action; the second is the end of the data, of one kind or the other."""
    values = {}
    for terminated in (True, False):
        dataset = dataset_of(np.eye(3), np.zeros((2, 2), dtype=int), np.ones(2), [2], [terminated], 1)
        data = Transitions.from_dataset(dataset, "cpu")
        zeros = torch.zeros(2, 2, 1)
        pool = Pool(
            states=data.states[data.rows],
            next_states=data.states[data.rows + 1],
            observations=data.observations[:, data.rows],
            actions=data.actions,
            rewards=data.rewards,
            continues=data.continues,
            available=zeros == 0,
            log_mu=zeros,
            supported=zeros == 0,
            next_log_mu=zeros,
            next_log_pi=zeros,
            log_mu_others=zeros[..., 0],
            log_joint_mu=zeros[0],
            next_log_joint_mu=zeros[0],
        )
        critics = critics_of(kind, data, critic_steps=200)
        critics.evaluate(pool, zeros, PLAIN)
        with torch.no_grad():
            last = float(critics.network.one(0, data.states[2:]))  # a row that no transition starts from
        values[terminated] = (critics.table(0, pool, zeros)[:, 0].numpy(), last)
    assert np.allclose(values[True][0], [1 + GAMMA, 1], atol=0.05)
    found, last = values[False]
    assert found[1] == pytest.approx(1 + GAMMA * last, abs=0.05) and found[0] == pytest.approx(1 + GAMMA * found[1], abs=0.05)
    assert abs(last) > 0.05  # or the two kinds could not be told apart


def test_the_bound_on_values_lets_full_entropy_and_best_rewards_through():
    """Reward 1 for ever and uniform policies: the value is the very bound."""
    shape = (1, 2, 2)
    half = np.full((2, 1, 2), 0.5)
    game = Game(np.ones(shape), np.zeros(shape, dtype=int), np.zeros(shape, dtype=bool), np.full(shape, 0.25), half)
    temperatures = Temperatures(0.1, 0.5, 0.5)
    critics, pool, log_pi = trained(LocalCritics, game, temperatures, 600)
    expected = 1 + GAMMA * (1 + 0.5 * np.log(2)) / (1 - GAMMA)
    assert game.exact_local(0, 0.1, 0.5)[0] == pytest.approx(expected)
    assert by_state(pool, critics.table(0, pool, log_pi))[0] == pytest.approx(expected, rel=0.05)


def test_values_cannot_grow_beyond_the_bound():
    """Targets that start far too high come down to it at once."""
    game = two_states()
    data = game.data()
    pool, log_pi = game.pool(data)
    critics = critics_of(LocalCritics, data, 1.0, critic_steps=300, learning_rate=0.02)
    critics.target.rows[0][-1].data.fill_(1e4)
    critics.target.rows[1][-1].data.fill_(1e4)
    critics.config = critics.config.model_copy(update={"target_rate": 1e-6})
    critics.evaluate(pool, log_pi, PLAIN)
    assert critics.table(0, pool, log_pi).max() < 1.2 * (1 + GAMMA / (1 - GAMMA))


def test_refit_moves_one_agents_critic_to_the_new_teammates():
    game = matrix_game(XOR, [[0.7, 0.3], [0.9, 0.1]])
    critics, pool, log_pi = trained(LocalCritics, game, PLAIN, 400, refit_steps=200)
    before = critics.table(1, pool, log_pi), critics.target.parameters.clone()
    moved = matrix_game(XOR, [[0.7, 0.3], [0.2, 0.8]])
    log_pi = log_pi.clone()
    log_pi[1] = torch.as_tensor(np.log([0.2, 0.8]))
    critics.refit(0, pool, log_pi, PLAIN)
    assert np.abs(by_state(pool, critics.table(0, pool, log_pi))[0] - moved.exact_local(0, 0, 0)[0]).max() < 0.1
    assert np.abs(moved.exact_local(0, 0, 0) - game.exact_local(0, 0, 0)).max() > 0.5
    assert torch.equal(critics.table(1, pool, log_pi), before[0]) and torch.equal(critics.target.parameters, before[1])


def test_refit_keeps_the_next_states_value():
    """With the teammates as they were, the regularised Q of a Markov game stays what it is."""
    game, temperatures = two_states(), Temperatures(0.8, 1.0, 1.0)
    critics, pool, log_pi = trained(LocalCritics, game, temperatures, 800, refit_steps=200)
    critics.refit(1, pool, log_pi, temperatures)
    assert np.abs(by_state(pool, critics.table(1, pool, log_pi)) - game.exact_local(1, 0.8, 1.0)).max() < 0.12


def test_ratios_are_clipped_and_counted():
    game = matrix_game(XOR, [[0.7, 0.3], [0.9, 0.1]])
    data = game.data()
    pool, log_pi = game.pool(data)
    ratios = critics_of(LocalCritics, data)._ratios(pool, log_pi)
    one, two = data.actions
    assert torch.allclose(ratios[0], log_pi[1, 0].exp()[two] / 0.5, atol=1e-5)
    assert torch.allclose(ratios[1], log_pi[0, 0].exp()[one] / 0.5, atol=1e-5)
    clipped = critics_of(LocalCritics, data, ratio_clip=1.0, critic_steps=1)
    assert clipped._ratios(pool, log_pi).max() == 1.0
    assert clipped.evaluate(pool, log_pi, PLAIN)["ratio_clipped"] == pytest.approx(0.5)  # 1.8 of agent 0's, 1.4 of agent 1's


def test_reweighting_draws_evenly_and_resampling_by_the_ratio():
    data = two_states().data()
    ratios = torch.tensor([[1.0, 3.0, 0.0, 4.0]])
    for importance, shares, weights in (("resample", [1 / 8, 3 / 8, 0, 1 / 2], [1, 1, 1, 1]), ("reweight", [0.25] * 4, [0.5, 1.5, 0, 2])):
        critics = critics_of(LocalCritics, data, importance=importance)
        batch, weight = critics._draw(ratios, 40)
        assert batch.shape == weight.shape == (40, 1, 512)
        assert np.allclose(np.bincount(batch.flatten(), minlength=4) / batch.numel(), shares, atol=0.02)
        assert torch.equal(weight, torch.tensor(weights, dtype=torch.float32)[batch])


def test_joint_log_probs_put_agent_0_first():
    probabilities = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    joint = joint_log_probs(probabilities).exp().view(5, 4, 4, 4)
    assert torch.allclose(joint, torch.einsum("pi,pj,pk->pijk", *probabilities.exp()), atol=1e-6)


def test_joint_table_sums_over_supported_joint_actions_only():
    """Three agents, random critic and policies, some joint actions outside the data: against plain loops."""
    data = Transitions.from_dataset(ragged_data(30), "cpu")
    generator = torch.Generator().manual_seed(1)
    size, a = 6, 3
    log_pi = torch.randn(3, size, a, generator=generator).mul(1.5).log_softmax(-1)
    log_joint_mu = torch.randn(size, a**3, generator=generator).log_softmax(-1)
    critics = critics_of(JointCritic, data, support_threshold=0.01)
    game_pool = two_states().pool(two_states().data())[0]
    pool = replace(game_pool, states=torch.randn(size, 2, generator=generator), log_joint_mu=log_joint_mu)
    with torch.no_grad():
        q = critics.network.one(0, pool.states).view(size, a, a, a).double().numpy()
    mu = log_joint_mu.exp().view(size, a, a, a).double().numpy()
    pi = log_pi.exp().double().numpy()
    assert 0.1 < (mu < 0.01).mean() < 0.6
    for agent in range(3):
        found = critics.table(agent, pool, log_pi).numpy()
        for place in range(size):
            total, mass = np.zeros(a), np.zeros(a)
            for joint in np.ndindex(a, a, a):
                if mu[(place, *joint)] > 0.01:
                    others = np.prod([pi[other, place, joint[other]] for other in range(3) if other != agent])
                    total[joint[agent]] += others * q[(place, *joint)]
                    mass[joint[agent]] += others
            assert np.allclose(found[place][mass > 0], (total / mass)[mass > 0], atol=1e-4)


def test_support_is_what_the_behavior_does_often_enough():
    log_mu = torch.tensor([0.5, 0.3, 0.1999, 0.0001]).log()
    assert in_support(log_mu, inspo_config(support_threshold=0.2)).tolist() == [True, True, False, False]
    masked = masked_log_softmax(torch.zeros(3), torch.tensor([True, True, False]))
    assert in_support(masked, inspo_config(support_threshold=0.0)).tolist() == [True, True, False]
