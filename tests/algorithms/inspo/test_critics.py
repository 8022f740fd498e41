"""The critics against exact evaluation in small games with known policies and a known behavior."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from inspo_core.algorithms.inspo.critics import Critics, JointCritic, LocalCritics, Pool, Temperatures, joint_log_probs
from inspo_core.algorithms.seed_batching import fit_alone
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from inspo_core.envs.matrix import MNE, XOR
from inspo_core.rng import Streams
from tests.algorithms.games import Arrays, arrays, config_of, dataset_of, some_agents

GAMMA = 0.6
FAST = {"gamma": GAMMA, "hidden": [32], "learning_rate": 0.005, "batch_size": 512, "target_rate": 0.1}


def whole_pool(whole: Arrays, **others: Any) -> Pool:
    """All transitions of the data, and what ``others`` says of them."""
    return Pool(
        rows=whole.rows,
        states=whole.states[whole.rows],
        next_states=whole.states[whole.rows + 1],
        observations=whole.observations[:, whole.rows],
        actions=whole.actions,
        rewards=whole.rewards,
        continues=whole.continues,
        **others,
    )


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
        dataset = dataset_of(np.eye(len(self.mu))[states], played[:, 1:], self.rewards[at], [1] * len(played), ends, self.mu.shape[1])
        return ResidentTransitions(dataset, "cpu")

    def pool(self, data: Transitions, temperatures: Temperatures) -> tuple[Pool, torch.Tensor]:
        """The whole data with exact behavior probabilities, and log pi (N, P, A)."""
        whole = arrays(data)
        state, successor = (whole.states[rows].argmax(1).numpy() for rows in (whole.rows, whole.rows + 1))
        one, two = whole.actions.numpy()
        local = np.stack([self.mu.sum(2), self.mu.sum(1)])  # (2, S, A)
        joint = self.mu[state, one, two]
        others = np.stack([joint / local[0][state, one], joint / local[1][state, two]])
        everything = torch.ones(2, len(data), self.mu.shape[1], dtype=torch.bool)
        every_joint = torch.ones(len(data), self.mu[0].size, dtype=torch.bool)
        pool = whole_pool(
            whole,
            available=everything,
            log_mu=logarithm(local[:, state]),
            counted=everything,
            log_mu_others=logarithm(others),
            next_log_pi=logarithm(self.pi[:, successor]),
            next_regulariser=torch.as_tensor(self.regulariser(temperatures)[successor], dtype=torch.float32),
            value_limit=100.0,
            joint_supported=every_joint,
            next_joint_supported=every_joint,
        )
        return pool, logarithm(self.pi[:, state])

    def joint_pi(self) -> np.ndarray:
        return np.einsum("si,sj->sij", *self.pi)

    def regulariser(self, temperatures: Temperatures) -> np.ndarray:
        """-alpha KL(pi(.|s) || mu(.|s)) + beta H(pi(.|s)), of joint actions: (S,)."""
        pi = self.joint_pi()
        kl, entropy = (pi * np.log(pi / self.mu)).sum((1, 2)), -(pi * np.log(pi)).sum((1, 2))
        return -temperatures.alpha * kl + temperatures.value_beta * entropy

    def exact_joint(self, temperatures: Temperatures) -> np.ndarray:
        """Q(s, a) by iterating V(s) = E_pi[Q - alpha log(pi/mu) - beta log pi] over joint actions: (S, A, A)."""
        pi, q = self.joint_pi(), np.zeros_like(self.rewards)
        for _ in range(200):
            terms = q - temperatures.alpha * np.log(pi / self.mu) - temperatures.value_beta * np.log(pi)
            q = self.rewards + GAMMA * ~self.terminal * (pi * terms).sum((1, 2))[self.successors]
        return q

    def exact_local(self, agent: int, temperatures: Temperatures) -> np.ndarray:
        """Q^i(s, a^i) = E_{a^-i ~ pi^-i}[Q(s, a)]: (S, A)."""
        others = np.expand_dims(self.pi[1 - agent], 1 + agent)
        return (others * self.exact_joint(temperatures)).sum(2 - agent)

    def under_behavior(self, agent: int) -> np.ndarray:
        """What a one-step game pays on average with a^i in the data: (S, A)."""
        return (self.mu * self.rewards).sum(2 - agent) / self.mu.sum(2 - agent)


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
    pi = np.array([[[0.15, 0.85], [0.8, 0.2]], [[0.85, 0.15], [0.75, 0.25]]])
    return Game(rewards, successors, terminal, mu, pi)


def critics_of(kind: type, data: Transitions, **changes: Any) -> Critics:
    return kind(data, config_of("inspo", **{**FAST, **changes}), Streams(0, ["initial", "batches"], "cpu"), fit_alone)


def trained(kind: type, game: Game, temperatures: Temperatures, steps: int, **changes: Any) -> tuple[Critics, Pool, torch.Tensor]:
    data = game.data()
    pool, log_pi = game.pool(data, temperatures)
    critics = critics_of(kind, data, critic_steps=steps, **changes)
    critics.evaluate(pool, log_pi)
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
        exact, under_mu = game.exact_local(agent, PLAIN)[0], game.under_behavior(agent)[0]
        assert np.abs(exact - under_mu).max() > 0.25
        assert np.abs(found - (under_mu if importance == "none" else exact)).max() < 0.12


REGULARISED = [PLAIN, Temperatures(0.8, 1.0, 0.0), Temperatures(0.8, 1.0, 1.0)]


@pytest.mark.parametrize("importance", ["resample", "reweight"])
@pytest.mark.parametrize("temperatures", REGULARISED, ids=["no regulariser", "beta outside V", "beta in V"])
def test_local_q_in_a_markov_game(temperatures, importance):
    game = two_states()
    critics, pool, log_pi = trained(LocalCritics, game, temperatures, 600, importance=importance)
    for agent in (0, 1):
        found = by_state(pool, critics.table(agent, pool, log_pi))
        assert np.abs(found - game.exact_local(agent, temperatures)).max() < 0.12


def test_the_regularisers_can_be_told_apart():
    """So that no case can pass for another, nor the joint KL for that to the product of the marginals or for the agent's own."""
    game = two_states()
    values = [game.exact_local(0, temperatures) for temperatures in REGULARISED]
    own = game.mu.sum(2)
    for other in (game.mu.sum(1), game.pi[1]):
        values.append(replace(game, mu=np.einsum("si,sj->sij", own, other)).exact_local(0, REGULARISED[1]))
    assert min(np.abs(one - two).max() for one in values for two in values if one is not two) > 0.2


@pytest.mark.parametrize("temperatures", REGULARISED, ids=["no regulariser", "beta outside V", "beta in V"])
def test_joint_q_and_its_marginal_in_a_markov_game(temperatures):
    game = two_states()
    critics, pool, log_pi = trained(JointCritic, game, temperatures, 600)
    exact = game.exact_joint(temperatures)
    with torch.no_grad():
        found = by_state(pool, critics.network.one(0, pool.states)).reshape(exact.shape)
    assert np.abs(found - exact).max() < 0.1
    for agent in (0, 1):
        assert np.abs(by_state(pool, critics.table(agent, pool, log_pi)) - game.exact_local(agent, temperatures)).max() < 0.1


@pytest.mark.parametrize("kind", [LocalCritics, JointCritic])
def test_a_truncated_episode_goes_on_and_a_terminated_one_does_not(kind):
    """Two steps of reward 1 in one action; the second is the end of the data, of one kind or the other."""
    values = {}
    for terminated in (True, False):
        dataset = dataset_of(np.eye(3), np.zeros((2, 2), dtype=int), np.ones(2), [2], [terminated], 1)
        data = ResidentTransitions(dataset, "cpu")
        whole = arrays(data)
        zeros = torch.zeros(2, 2, 1)
        pool = whole_pool(
            whole,
            available=zeros == 0,
            log_mu=zeros,
            counted=zeros == 0,
            log_mu_others=zeros[..., 0],
            next_log_pi=zeros,
            next_regulariser=zeros[0, :, 0],
            value_limit=100.0,
            joint_supported=zeros[0] == 0,
            next_joint_supported=zeros[0] == 0,
        )
        critics = critics_of(kind, data, critic_steps=200)
        critics.evaluate(pool, zeros)
        with torch.no_grad():
            last = float(critics.network.one(0, whole.states[2:]))  # a row that no transition starts from
        values[terminated] = (critics.table(0, pool, zeros)[:, 0].numpy(), last)
    assert np.allclose(values[True][0], [1 + GAMMA, 1], atol=0.05)
    found, last = values[False]
    assert found[1] == pytest.approx(1 + GAMMA * last, abs=0.05) and found[0] == pytest.approx(1 + GAMMA * found[1], abs=0.05)
    assert abs(last) > 0.05  # or the two kinds could not be told apart


@pytest.mark.parametrize("kind", [LocalCritics, JointCritic])
def test_values_cannot_grow_beyond_the_bound(kind):
    """Targets that start far too high come down to it at once; so do those of a refit."""
    game = two_states()
    data = game.data()
    pool, log_pi = game.pool(data, PLAIN)
    pool = replace(pool, value_limit=2.0)
    critics = critics_of(kind, data, critic_steps=300, refit_steps=300, learning_rate=0.02, target_rate=1e-6)
    for row in critics.target.rows:
        row[-1].data.fill_(1e4)
    critics.evaluate(pool, log_pi)
    expected = game.rewards + GAMMA * ~game.terminal * 2
    for refitted in (False, True):
        for agent in (0, 1):
            if refitted:
                critics.refit(agent, pool, log_pi)
            others = np.expand_dims(game.pi[1 - agent], 1 + agent)
            found = by_state(pool, critics.table(agent, pool, log_pi))
            assert np.abs(found - (others * expected).sum(2 - agent)).max() < 0.12


def test_refit_moves_one_agents_critic_to_the_new_teammates():
    game = matrix_game(XOR, [[0.7, 0.3], [0.9, 0.1]])
    critics, pool, log_pi = trained(LocalCritics, game, PLAIN, 400, refit_steps=200)
    before = critics.table(1, pool, log_pi), critics.target.parameters.clone()
    moved = matrix_game(XOR, [[0.7, 0.3], [0.2, 0.8]])
    log_pi = log_pi.clone()
    log_pi[1] = torch.as_tensor(np.log([0.2, 0.8]))
    critics.refit(0, pool, log_pi)
    assert np.abs(by_state(pool, critics.table(0, pool, log_pi))[0] - moved.exact_local(0, PLAIN)[0]).max() < 0.1
    assert np.abs(moved.exact_local(0, PLAIN) - game.exact_local(0, PLAIN)).max() > 0.5
    assert torch.equal(critics.table(1, pool, log_pi), before[0]) and torch.equal(critics.target.parameters, before[1])


def test_refit_keeps_the_next_states_value():
    """With the teammates as they were, the regularised Q of a Markov game stays what it is."""
    game, temperatures = two_states(), Temperatures(0.8, 1.0, 1.0)
    critics, pool, log_pi = trained(LocalCritics, game, temperatures, 600, refit_steps=200)
    critics.refit(1, pool, log_pi)
    assert np.abs(by_state(pool, critics.table(1, pool, log_pi)) - game.exact_local(1, temperatures)).max() < 0.12


def test_ratios_are_clipped_and_counted():
    game = matrix_game(XOR, [[0.7, 0.3], [0.9, 0.1]])
    data = game.data()
    pool, log_pi = game.pool(data, PLAIN)
    ratios = critics_of(LocalCritics, data)._ratios(pool, log_pi)
    one, two = arrays(data).actions
    assert torch.allclose(ratios[0], log_pi[1, 0].exp()[two] / 0.5, atol=1e-5)
    assert torch.allclose(ratios[1], log_pi[0, 0].exp()[one] / 0.5, atol=1e-5)
    clipped = critics_of(LocalCritics, data, ratio_clip=1.0, critic_steps=1)
    assert clipped._ratios(pool, log_pi).max() == 1.0
    assert clipped.evaluate(pool, log_pi)["ratio_clipped"] == pytest.approx(0.5)  # 1.8 of agent 0's, 1.4 of agent 1's


def test_reweighting_draws_evenly_and_resampling_by_the_ratio():
    data = two_states().data()
    ratios = torch.tensor([[1.0, 3.0, 0.0, 4.0]])
    for importance, shares, weights in (("resample", [1 / 8, 3 / 8, 0, 1 / 2], [1, 1, 1, 1]), ("reweight", [0.25] * 4, [0.5, 1.5, 0, 2])):
        critics = critics_of(LocalCritics, data, importance=importance)
        batch, weight = critics._draw(ratios, 40)
        assert batch.shape == weight.shape == (1, 40 * 512)
        assert np.allclose(np.bincount(batch.flatten(), minlength=4) / batch.numel(), shares, atol=0.02)
        assert torch.equal(weight, torch.tensor(weights, dtype=torch.float32)[batch])


def test_joint_log_probs_put_agent_0_first():
    probabilities = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    joint = joint_log_probs(probabilities).exp().view(5, 4, 4, 4)
    assert torch.allclose(joint, torch.einsum("pi,pj,pk->pijk", *probabilities.exp()), atol=1e-6)


def test_joint_q_counts_supported_joint_actions_only():
    """Three agents, random critic and policies, some joint actions outside the data: Qbar and the next policy against plain loops."""
    data = some_agents(0, 1, 2)
    generator = torch.Generator().manual_seed(1)
    size, a = 6, 3
    log_pi, next_log_pi = torch.randn(2, 3, size, a, generator=generator).mul(1.5).log_softmax(-1)
    supported, next_supported = torch.rand(2, size, a**3, generator=generator) < 0.6
    critics = critics_of(JointCritic, data)
    pool = replace(
        two_states().pool(two_states().data(), PLAIN)[0],
        states=torch.randn(size, 2, generator=generator),
        actions=torch.tensor([[2, 0, 1, 0, 0, 1], [0, 1, 2, 0, 0, 1], [0, 0, 1, 1, 2, 1]]),
        next_log_pi=next_log_pi,
        joint_supported=supported,
        next_joint_supported=next_supported,
    )
    with torch.no_grad():
        q = critics.network.one(0, pool.states).view(size, a, a, a).double().numpy()
    pi, next_pi = log_pi.exp().double().numpy(), next_log_pi.exp().double().numpy()
    allowed, next_allowed = (table.view(size, a, a, a).numpy() for table in (supported, next_supported))
    for agent in range(3):
        found = critics.table(agent, pool, log_pi).numpy()
        for place in range(size):
            total, mass = np.zeros(a), np.zeros(a)
            for joint in np.ndindex(a, a, a):
                if allowed[(place, *joint)]:
                    others = np.prod([pi[other, place, joint[other]] for other in range(3) if other != agent])
                    total[joint[agent]] += others * q[(place, *joint)]
                    mass[joint[agent]] += others
            assert (mass > 0).all() and np.allclose(found[place], total / mass, atol=1e-4)
    chosen, ratios, next_joint = critics._evaluation(pool, log_pi)
    assert chosen.tolist() == [[18, 3, 16, 1, 2, 13]] and (ratios == 1).all()
    expected = np.einsum("pi,pj,pk->pijk", *next_pi) * next_allowed
    expected /= expected.sum((1, 2, 3), keepdims=True)
    assert np.allclose(next_joint[0].view(size, a, a, a), expected, atol=1e-5)
