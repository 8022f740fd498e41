"""InSPO's parts against the formulas of its module, computed another way."""

import copy
import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from inspo_core.algorithms.critics import Pool, Temperatures
from inspo_core.algorithms.inspo import InSPO
from inspo_core.algorithms.networks import masked_log_softmax
from inspo_core.algorithms.transitions import Transitions
from tests.algorithms.games import TINY, conditional, estimated_sample, joint_table, learner, ragged_data, random_models, sample_data


@pytest.fixture(scope="module")
def three_agents() -> Transitions:
    return Transitions.from_dataset(ragged_data(40), "cpu")


@pytest.fixture(scope="module")
def two_agents() -> Transitions:
    """Two of the three agents: their masks and contexts, and two states to tell apart."""
    dataset = ragged_data(40)
    observations, available = (getattr(dataset, name)[:, ::2] for name in ("observations", "available_actions"))
    pair = replace(dataset, observations=observations, available_actions=available, actions=dataset.actions[:, ::2])
    return Transitions.from_dataset(pair, "cpu")


def row_of(data: Transitions, pool: Pool, place: int) -> int:
    """A row of the data with the state of a place in the pool."""
    return int((data.states == pool.states[place]).all(1).nonzero()[0])


def policies_for(pool: Pool) -> torch.Tensor:
    """log pi (N, P, A), uneven and different everywhere."""
    return masked_log_softmax(1.5 * torch.randn(pool.available.shape, generator=torch.Generator().manual_seed(8)), pool.available)


class TestWeights:
    @pytest.mark.parametrize("behavior", ["joint", "product"])
    @pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.0), (0.5, 0.7), (0.05, 1.0)])
    @pytest.mark.parametrize("q", ["local", "joint"])
    def test_equal_the_closed_form(self, two_agents, behavior, alpha, beta, q):
        """pi^i prop. to exp(E_{a^-i ~ pi^-i}[Q(s, a) + alpha log mu(a|s)] / (alpha + beta)), and w = pi^i / mu^i."""
        data = two_agents
        models = random_models(data)
        algorithm = learner("inspo", data, models, **TINY, behavior=behavior, q=q, support_threshold=0.05)
        pool = algorithm._draw_pool()
        log_pi = policies_for(pool)
        assert not pool.supported.all() and pool.supported.any(-1).all()
        for agent, other in ((0, 1), (1, 0)):
            q_table = algorithm._critics.table(agent, pool, log_pi).double().numpy()
            weights = algorithm._weights(agent, pool, log_pi, Temperatures(alpha, beta, 0.0))
            for place in range(0, pool.states.shape[0], 5):
                row = row_of(data, pool, place)
                own = pool.log_mu[agent, place].double().numpy()
                pi_other = log_pi[other, place].exp().double().numpy()
                exponent = np.zeros(3)
                for action in range(3):
                    if behavior == "joint":
                        actions = torch.tensor([[action], [action]])
                        given = conditional(models.joint, data, row, actions, [agent], other)[0].double().numpy()
                    else:
                        given = pool.log_mu[other, place].double().numpy()
                    expected_log_mu = own[action] + (pi_other * np.where(pi_other > 0, given, 0)).sum()
                    exponent[action] = (q_table[place, action] + alpha * expected_log_mu) / (alpha + beta)
                # Normalised over the supported actions, and so for the others too: rare ones, which the data nevertheless have.
                target = np.exp(exponent) / np.exp(exponent)[pool.supported[agent, place].numpy()].sum()
                played = int(pool.actions[agent, place])
                assert weights[place].item() == pytest.approx(target[played] / np.exp(own[played]), rel=2e-3)

    @pytest.mark.parametrize("beta", [0.0, 0.5])
    def test_have_mean_one_under_the_supported_part_of_the_clone(self, two_agents, beta):
        algorithm = learner("inspo", two_agents, random_models(two_agents), **TINY, support_threshold=0.05)
        pool = algorithm._draw_pool()
        log_pi = policies_for(pool)
        weights = []
        for action in range(3):
            played = replace(pool, actions=torch.full_like(pool.actions, action))
            weights.append(algorithm._weights(0, played, log_pi, Temperatures(0.3, beta, 0.0)))
        supported = pool.supported[0]
        assert supported.any(-1).all()
        shares = torch.where(supported, pool.log_mu[0].exp() * torch.stack(weights, 1), 0.0)
        assert torch.allclose(shares.sum(1), torch.ones(len(shares)), atol=1e-4) and shares[supported].min() > 0

    def test_extreme_values_end_in_finite_steps(self, two_agents):
        algorithm = learner("inspo", two_agents, random_models(two_agents, sharpness=30), **TINY)
        algorithm._critics.network.parameters.mul_(1000)
        pool = algorithm._draw_pool()
        log_pi = policies_for(pool)
        for temperatures in (Temperatures(1e-3, 0.0, 0.0), Temperatures(1e-3, 10.0, 0.0), Temperatures(100.0, 0.0, 0.0)):
            for agent in (0, 1):
                weights = algorithm._weights(agent, pool, log_pi, temperatures)
                assert not weights.isnan().any() and (weights >= 0).all()
                assert all(math.isfinite(value) for value in algorithm._improve(agent, pool, weights).values())
        assert algorithm.policy().network.parameters.isfinite().all()

    def test_cloning_with_them_reaches_the_closed_form(self):
        """All four joint actions of XOR in equal shares, a critic with known values: pi^0 becomes their soft maximum."""
        data, models = estimated_sample("xor_d")
        algorithm = learner("inspo", data, models, behavior="product", policy_steps=300, batch_size=480, weight_clip=1000)
        pool = algorithm._draw_pool()
        algorithm._critics.network.parameters.zero_()
        algorithm._critics.network.rows[0][-1].data.copy_(torch.tensor([[0.3, 0.7]]))
        log_pi = algorithm._log_pi(pool)
        other = log_pi[1].clone()
        metrics = algorithm._improve(0, pool, algorithm._weights(0, pool, log_pi, Temperatures(0.2, 0.1, 0.0)))
        share = 1 / (1 + math.exp(-0.4 / 0.3))  # mu is uniform
        assert algorithm._log_pi(pool)[0].exp()[0, 1].item() == pytest.approx(share, abs=0.03)
        assert torch.equal(algorithm._log_pi(pool)[1], other)
        assert metrics["weight_clipped"] == 0
        assert metrics["effective_sample_share"] == pytest.approx(0.5 / (share**2 + (1 - share) ** 2), abs=0.03)

    def test_clip_is_applied_and_counted(self):
        data, models = estimated_sample("xor_d")
        algorithm = learner("inspo", data, models, policy_steps=200, batch_size=480, weight_clip=1.0)
        pool = algorithm._draw_pool()
        weights = torch.where(pool.actions[0] == 1, 9.0, 0.25)
        metrics = algorithm._improve(0, pool, weights)
        assert metrics["weight_clipped"] == pytest.approx(0.5)
        assert algorithm._log_pi(pool)[0].exp()[0, 1].item() == pytest.approx(1 / 1.25, abs=0.03)
        assert metrics["effective_sample_share"] == pytest.approx(0.625**2 / ((1 + 0.0625) / 2), abs=1e-4)


class TestConditionalKL:
    def test_of_two_agents_is_that_of_the_trained_joint_table(self):
        data, models = estimated_sample("xor_c")  # AA, AB, BA
        algorithm = learner("inspo", data, models, **TINY)
        pool = algorithm._draw_pool()
        log_pi = torch.tensor([[0.4, 0.6], [0.7, 0.3]]).log().unsqueeze(1).expand(-1, len(pool.states), -1)
        table = joint_table(models.joint, data, 0, (0, 1))
        assert table[0, 0] > 0.2 and table[1, 1] < 0.01
        for agent, other in ((0, 1), (1, 0)):
            found = algorithm._conditional_kl(agent, pool, log_pi)
            rows = table if agent == 0 else table.T
            pi = log_pi[other, 0].exp().double().numpy()
            expected = [(pi * np.log(pi / (row / row.sum()))).sum() for row in rows]
            # Agent 0's conditional is that of the table itself, agent 1's that of the other order, learned apart.
            assert found[0].numpy() == pytest.approx(expected, **({"rel": 1e-3} if agent == 0 else {"rel": 0.2, "abs": 0.1}))
            assert expected[1] > expected[0] + 1

    def test_of_three_agents_is_unbiased(self, three_agents):
        data = three_agents
        models = random_models(data)
        algorithm = learner("inspo", data, models, **TINY)
        pool = algorithm._draw_pool()
        log_pi = policies_for(pool)
        place = int((~pool.available[0, :, 2]).nonzero()[0])  # where masks bind
        row, repeats = row_of(data, pool, place), 4000
        many = replace(pool, states=pool.states[[place]].expand(repeats, -1), available=pool.available[:, [place]].expand(-1, repeats, -1))
        deviations = []
        for agent in range(3):
            first, second = (other for other in range(3) if other != agent)
            samples = algorithm._conditional_kl(agent, many, log_pi[:, [place]].expand(-1, repeats, -1))
            table = joint_table(models.joint, data, row, (agent, first, second))
            pi = [log_pi[other, place].exp().double().numpy() for other in (first, second)]
            teammates = np.multiply.outer(*pi)
            for action in range(3):
                if not pool.available[agent, place, action]:
                    continue
                given = np.take(table, action, agent) / np.take(table, action, agent).sum()
                used = teammates > 0
                expected = (teammates[used] * np.log(teammates[used] / given[used])).sum()
                error = samples[:, action].std().item() / math.sqrt(repeats)
                deviations.append(samples[:, action].std().item())
                assert samples[:, action].mean().item() == pytest.approx(expected, abs=5 * error + 1e-3)
        assert max(deviations) > 0.02  # they are sampled estimates

    def test_of_independent_behavior_is_zero(self, three_agents):
        algorithm = learner("inspo", three_agents, random_models(three_agents), **TINY, behavior="product")
        pool = algorithm._draw_pool()
        assert (algorithm._conditional_kl(1, pool, algorithm._log_pi(pool)) == 0).all()


class TestBehaviorTerms:
    @pytest.mark.parametrize("behavior", ["joint", "product"])
    def test_log_joint_mu_is_the_chain(self, three_agents, behavior):
        data = three_agents
        models = random_models(data)
        algorithm = learner("inspo", data, models, **TINY, behavior=behavior)
        rows = torch.tensor([0, 3, 11, 30])
        found = algorithm._log_joint_mu(rows).exp().double().numpy().reshape(-1, 3, 3, 3)
        for table, row in zip(found, rows.tolist()):
            if behavior == "joint":
                expected = joint_table(models.joint, data, row, (0, 1, 2))
            else:
                expected = np.einsum("i,j,k->ijk", *algorithm._log_mu[:, row].exp().double().numpy())
            assert table.sum() == pytest.approx(1, abs=1e-4)
            assert np.allclose(table, expected, atol=1e-5)

    @pytest.mark.parametrize("behavior", ["joint", "product"])
    def test_log_mu_of_the_others(self, three_agents, behavior):
        data = three_agents
        models = random_models(data)
        algorithm = learner("inspo", data, models, **TINY, behavior=behavior)
        for transition in range(0, len(data), 9):
            row, played = int(data.rows[transition]), data.actions[:, transition]
            for agent in range(3):
                others = [other for other in range(3) if other != agent]
                if behavior == "product":
                    expected = sum(algorithm._log_mu[other, row, played[other]].item() for other in others)
                else:
                    actions, known = played.unsqueeze(1), [agent]
                    expected = 0.0
                    for other in others:
                        expected += conditional(models.joint, data, row, actions, known, other)[0, played[other]].item()
                        known = [*known, other]
                assert algorithm._log_mu_others[agent, transition].item() == pytest.approx(expected, abs=1e-4)


class TestSweep:
    def recorded(self, data: Transitions, **changes: object) -> tuple[InSPO, Pool, list[tuple[int, torch.Tensor]]]:
        """One sweep, its pool, and who was weighed against which policies (N, P, A)."""
        algorithm = learner("inspo", data, random_models(data), **{**TINY, "policy_steps": 20}, **changes)
        seen, pools = [], []
        real = algorithm._weights

        def weights(agent: int, pool: Pool, log_pi: torch.Tensor, temperatures: Temperatures) -> torch.Tensor:
            seen.append((agent, log_pi.clone()))
            pools.append(pool)
            return real(agent, pool, log_pi, temperatures)

        algorithm._weights = weights
        algorithm.iterate()
        return algorithm, pools[0], seen

    def test_sequential_agents_see_the_teammates_already_updated(self, three_agents):
        algorithm, pool, seen = self.recorded(three_agents, update="sequential")
        assert sorted(agent for agent, _ in seen) == [0, 1, 2]
        start = seen[0][1]
        updated: list[int] = []
        for agent, log_pi in seen:
            for other in range(3):
                changed = (log_pi[other] - start[other]).abs().max().item()
                assert changed > 1e-3 if other in updated else changed == 0
            updated.append(agent)
        last, log_pi = seen[-1]
        others = [other for other in range(3) if other != last]
        assert torch.allclose(algorithm._log_pi(pool)[others], log_pi[others], atol=1e-5)

    def test_simultaneous_agents_all_see_the_old_ones(self, three_agents):
        _, _, seen = self.recorded(three_agents, update="simultaneous")
        assert [agent for agent, _ in seen] == [0, 1, 2]  # each once
        assert all(torch.equal(log_pi, seen[0][1]) for _, log_pi in seen)

    def test_sequential_refits_before_every_turn_but_the_first(self, three_agents):
        algorithm = learner("inspo", three_agents, random_models(three_agents), **TINY)
        refits = []
        algorithm._critics.refit = lambda agent, *_: refits.append(agent)
        orders = []
        real = algorithm._order
        algorithm._order = lambda: orders.append(real()) or orders[-1]
        algorithm.iterate()
        assert refits == orders[0][1:]

    def test_random_order_takes_every_permutation_and_fixed_one(self, three_agents):
        algorithm = learner("inspo", three_agents, random_models(three_agents), **TINY, order="random")
        counts = Counter(tuple(algorithm._order()) for _ in range(600))
        assert set(counts) == set(itertools.permutations(range(3))) and min(counts.values()) > 60
        fixed = learner("inspo", three_agents, random_models(three_agents), **TINY, order="fixed")
        assert {tuple(fixed._order()) for _ in range(20)} == {(0, 1, 2)}

    def test_pool_is_a_sample_without_repetition(self, two_agents):
        data = replace(two_agents, rewards=torch.arange(len(two_agents), dtype=torch.float32))
        algorithm = learner("inspo", data, random_models(data), **{**TINY, "pool_size": 30}, reward_scale="none")
        pools = [algorithm._draw_pool() for _ in range(2)]
        numbers = [pool.rewards.to(torch.int64) for pool in pools]
        assert [len(set(drawn.tolist())) for drawn in numbers] == [30, 30] and not torch.equal(*numbers)
        pool, rows = pools[0], data.rows[numbers[0]]
        assert torch.equal(pool.actions, data.actions[:, numbers[0]]) and torch.equal(pool.next_states, data.states[rows + 1])
        assert torch.equal(pool.observations, data.observations[:, rows]) and torch.equal(pool.available, data.available[:, rows])
        assert torch.equal(pool.log_mu, algorithm._log_mu[:, rows]) and torch.equal(pool.next_log_mu, algorithm._log_mu[:, rows + 1])

    def test_rewards_are_scaled_by_the_largest(self):
        data = sample_data("mne_balanced")
        for scale, largest in (("max_abs", 1.0), ("none", 20.0)):
            pool = learner("inspo", data, random_models(data), **TINY, reward_scale=scale)._draw_pool()
            assert pool.rewards.abs().max().item() == largest


class TestTemperatures:
    def at(self, sweep: int, data: Transitions, **changes: object) -> Temperatures:
        algorithm = learner("inspo", data, random_models(data), iterations=20, **TINY, **changes)
        algorithm._sweep = sweep
        return algorithm._temperatures()

    def test_annealed_alpha_is_geometric_between_its_ends(self, two_agents):
        changes = {"alpha": 0.4, "alpha_final": 0.1, "alpha_schedule": "annealed", "anneal_fraction": 0.5}
        alphas = [self.at(sweep, two_agents, **changes).alpha for sweep in (0, 5, 10, 19)]
        assert alphas == pytest.approx([0.4, 0.2, 0.1, 0.1])

    def test_fixed_alpha_is_fixed(self, two_agents):
        assert {self.at(sweep, two_agents, alpha=0.4, alpha_schedule="fixed").alpha for sweep in (0, 7, 19)} == {0.4}

    @pytest.mark.parametrize(("schedule", "expected"), [("none", [0, 0, 0]), ("constant", [2, 2, 2]), ("annealed", [2, 1, 0])])
    @pytest.mark.parametrize("in_value", [True, False])
    def test_beta(self, two_agents, schedule, expected, in_value):
        changes = {"beta": 2.0, "beta_schedule": schedule, "entropy_in_value": in_value, "anneal_fraction": 0.5}
        found = [self.at(sweep, two_agents, **changes) for sweep in (0, 5, 19)]
        assert [temperatures.beta for temperatures in found] == pytest.approx(expected)
        assert [temperatures.value_beta for temperatures in found] == pytest.approx(expected if in_value else [0, 0, 0])

    @pytest.mark.parametrize(("target", "rises"), [(1e-3, True), (5.0, False)])
    def test_tuned_alpha_rises_when_policies_stray_and_falls_when_they_cling(self, target, rises):
        data, models = estimated_sample("xor_d")
        algorithm = learner("inspo", data, models, **{**TINY, "policy_steps": 30}, alpha_schedule="tuned", beta_schedule="none", target_kl=target, alpha=0.2)
        metrics = [algorithm.iterate() for _ in range(4)]
        alphas = [values["alpha"] for values in metrics]
        assert alphas[0] == 0.2
        assert alphas == sorted(alphas, reverse=not rises) and abs(math.log(alphas[-1] / alphas[0])) > 1e-3
        for before, after in itertools.pairwise(metrics):  # log alpha moves by a tenth of the distance
            assert math.log(after["alpha"] / before["alpha"]) == pytest.approx(0.1 * (before["kl_to_behavior"] - target))

    def test_a_resumed_run_goes_on_with_its_alpha(self, two_agents):
        def make() -> InSPO:
            return learner("inspo", two_agents, random_models(two_agents), **TINY, alpha_schedule="tuned")

        whole, resumed = make(), make()
        for _ in range(3):
            whole.iterate()
        resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
        assert resumed.iterate() == whole.iterate()
        assert resumed._temperatures() == whole._temperatures()


SWITCHES = {
    "update": ["sequential", "simultaneous"],
    "order": ["random", "fixed"],
    "behavior": ["joint", "product"],
    "importance": ["resample", "reweight", "none"],
    "q": ["local", "joint"],
}
SCHEDULES = list(itertools.product(["fixed", "annealed", "tuned"], ["none", "constant", "annealed"], [True, False]))


@pytest.mark.parametrize("switches", [dict(zip(SWITCHES, values)) for values in itertools.product(*SWITCHES.values())], ids=lambda s: "-".join(s.values()))
def test_every_combination_of_switches_runs_on_three_masked_agents(switches, three_agents):
    """Each structural combination with two of the eighteen combinations of schedules, which rotate."""
    number = sum(SWITCHES[key].index(value) * 7**place for place, (key, value) in enumerate(switches.items()))
    for alpha_schedule, beta_schedule, entropy_in_value in (SCHEDULES[number % 18], SCHEDULES[(number + 5) % 18]):
        schedules = {"alpha_schedule": alpha_schedule, "beta_schedule": beta_schedule, "entropy_in_value": entropy_in_value}
        algorithm = learner("inspo", three_agents, random_models(three_agents), iterations=2, **TINY, **switches, **schedules)
        before = algorithm.policy().network.parameters.clone()
        for _ in range(2):
            metrics = algorithm.iterate()
            assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values()), metrics
        after = algorithm.policy().network
        assert after.parameters.isfinite().all()
        assert all((new != old).any() for new, old in zip(after._blocks(after.parameters)[0], after._blocks(before)[0]))
