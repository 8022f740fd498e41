"""InSPO's parts against the formulas of its module, computed another way."""

import functools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from inspo_core.algorithms.inspo.critics import Temperatures
from inspo_core.algorithms.inspo.sweep import _improvement
from inspo_core.algorithms.transitions import ResidentTransitions
from tests.algorithms.games import (
    TINY,
    arrays,
    conditional,
    data_of,
    estimated_sample,
    joint_table,
    learner,
    random_models,
    some_agents,
    uneven_policies,
)

WARM = Temperatures(alpha=0.5, beta=0.0, value_beta=0.0)


def probabilities(log_probs: torch.Tensor) -> np.ndarray:
    return log_probs.exp().double().numpy()


class TestWeights:
    @pytest.mark.parametrize("behavior", ["joint", "product"])
    @pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.0), (0.5, 0.7), (0.05, 1.0)])
    @pytest.mark.parametrize("q", ["local", "joint"])
    @pytest.mark.parametrize("agents", [2, 3])
    def test_equal_the_closed_form(self, two_agents, three_agents, agents, behavior, alpha, beta, q):
        """pi^i prop. to exp(E_{a^-i ~ pi^-i}[Q(s, a) + alpha log mu(a|s)] / (alpha + beta)), and w = pi^i / mu^i."""
        data = {2: two_agents, 3: three_agents}[agents]
        models = random_models(data)
        algorithm = learner("inspo", data, models, **TINY, behavior_model=behavior, q=q, support_threshold=0.2, teammate_samples=9)
        temperatures = Temperatures(alpha, beta, 0.0)
        pool = algorithm._draw_pool(temperatures)
        log_pi = uneven_policies(pool.available)
        kinds = Counter()
        for agent in range(agents):
            others = [other for other in range(agents) if other != agent]
            q_table = algorithm._critics.table(agent, pool, log_pi).double().numpy()
            weights = algorithm._weights(agent, pool, algorithm._gains(agent, pool, log_pi, temperatures), temperatures)
            for place in range(0, len(pool.rows), 5):
                own, played = probabilities(pool.log_mu[agent, place]), int(pool.actions[agent, place])
                if behavior == "joint":
                    mu = joint_table(models.joint, data, int(pool.rows[place]), [*others, agent])
                else:
                    mu = functools.reduce(np.multiply.outer, probabilities(pool.log_mu[:, place]))
                teammates = functools.reduce(np.multiply.outer, probabilities(log_pi[others, place]))
                log_mu = np.log(np.where(mu > 0, mu, 1))
                target = np.zeros(3)
                for action in range(3):
                    # Rare actions count only where the data play them; what is not available never does.
                    if own[action] >= 0.2 * own.max() or action == played:
                        expected_log_mu = (teammates * log_mu.take(action, agent)).sum()
                        target[action] = np.exp((q_table[place, action] + alpha * expected_log_mu) / (alpha + beta))
                target /= target.sum()
                kinds["rare and played" if own[played] < 0.2 * own.max() else "usual"] += 1
                assert weights[place].item() == pytest.approx(target[played] / own[played], rel=3e-3)
        assert min(kinds["rare and played"], kinds["usual"]) >= 5

    @pytest.mark.parametrize("beta", [0.0, 0.5])
    def test_have_mean_one_under_the_counted_part_of_the_clone(self, two_agents, beta):
        algorithm = learner("inspo", two_agents, random_models(two_agents), **TINY, support_threshold=0.2)
        temperatures = Temperatures(0.3, beta, 0.0)
        pool = algorithm._draw_pool(temperatures)
        gains = algorithm._gains(0, pool, uneven_policies(pool.available), temperatures)
        weights = []
        for action in range(3):
            played = replace(pool, actions=torch.full_like(pool.actions, action))
            weights.append(algorithm._weights(0, played, gains, temperatures))
        counted = pool.counted[0]
        assert (counted.sum(-1) < pool.available[0].sum(-1)).any()
        shares = torch.where(counted, pool.log_mu[0].exp() * torch.stack(weights, 1), 0.0)
        assert torch.allclose(shares.sum(1), torch.ones(len(shares)), atol=1e-4) and shares[counted].min() > 0

    def test_of_a_rare_action_are_bounded_however_good_it_seems(self, two_agents):
        """w mu^i is the share that the closed form gives the action, so it is at most 1."""
        algorithm = learner("inspo", two_agents, random_models(two_agents), **TINY, support_threshold=0.2)
        pool = algorithm._draw_pool(WARM)
        own = pool.log_mu[0].gather(1, pool.actions[0].unsqueeze(1)).squeeze(1)
        gains = torch.zeros_like(pool.log_mu[0]).scatter(1, pool.actions[0].unsqueeze(1), 100.0)
        weights = algorithm._weights(0, pool, gains, WARM)
        assert own.exp().min() < 0.05 and weights.max() > 20
        assert torch.allclose(own.exp() * weights, torch.ones_like(own), atol=1e-4)

    def test_of_an_action_that_the_data_lack_take_nothing_from_the_others(self, two_agents):
        algorithm = learner("inspo", two_agents, random_models(two_agents), **TINY, support_threshold=0.2)
        pool = algorithm._draw_pool(WARM)
        gains = algorithm._gains(0, pool, uneven_policies(pool.available), WARM)
        tempting = torch.where(pool.counted[0], gains, 1e4)
        assert not pool.counted[0].all()
        assert torch.equal(algorithm._weights(0, pool, tempting, WARM), algorithm._weights(0, pool, gains, WARM))

    def test_extreme_values_end_in_finite_steps(self, two_agents):
        algorithm = learner("inspo", two_agents, random_models(two_agents, sharpness=30), **TINY)
        algorithm._critics.network.parameters.mul_(1000)
        for temperatures in (Temperatures(1e-3, 0.0, 0.0), Temperatures(1e-3, 10.0, 0.0), Temperatures(100.0, 0.0, 0.0)):
            pool = algorithm._draw_pool(temperatures)
            log_pi = uneven_policies(pool.available)
            for agent in (0, 1):
                weights = algorithm._weights(agent, pool, algorithm._gains(agent, pool, log_pi, temperatures), temperatures)
                assert not weights.isnan().any() and (weights >= 0).all()
                assert all(math.isfinite(value) for value in algorithm._improve(agent, pool, weights).values())
        assert algorithm.policy().network.parameters.isfinite().all()

    def test_cloning_with_them_reaches_the_closed_form(self):
        """All four joint actions of XOR in equal shares, a critic with known values: pi^0 becomes their soft maximum."""
        data, models = estimated_sample("xor_d")
        algorithm = learner("inspo", data, models, behavior_model="product", policy_steps=300, batch_size=480, weight_clip=1000)
        temperatures = Temperatures(0.2, 0.1, 0.0)
        pool = algorithm._draw_pool(temperatures)
        algorithm._critics.network.parameters.zero_()
        algorithm._critics.network.rows[0][-1].data.copy_(torch.tensor([[0.3, 0.7]]))
        log_pi = algorithm._log_pi(pool)
        other = log_pi[1].clone()
        weights = algorithm._weights(0, pool, algorithm._gains(0, pool, log_pi, temperatures), temperatures)
        metrics = algorithm._improve(0, pool, weights)
        share = 1 / (1 + math.exp(-0.4 / 0.3))  # mu is uniform
        assert algorithm._log_pi(pool)[0].exp()[0, 1].item() == pytest.approx(share, abs=0.03)
        assert torch.equal(algorithm._log_pi(pool)[1], other)
        assert metrics["weight_clipped"] == 0
        assert metrics["effective_sample_share"] == pytest.approx(0.5 / (share**2 + (1 - share) ** 2), abs=0.03)

    def test_clip_is_applied_and_counted(self):
        data, models = estimated_sample("xor_d")
        algorithm = learner("inspo", data, models, policy_steps=200, batch_size=480, weight_clip=1.0)
        pool = algorithm._draw_pool(WARM)
        weights = torch.where(pool.actions[0] == 1, 9.0, 0.25)
        metrics = algorithm._improve(0, pool, weights)
        assert metrics["weight_clipped"] == pytest.approx(0.5)
        assert algorithm._log_pi(pool)[0].exp()[0, 1].item() == pytest.approx(1 / 1.25, abs=0.03)
        assert metrics["effective_sample_share"] == pytest.approx(0.625**2 / ((1 + 0.0625) / 2), abs=1e-4)


class TestImprovement:
    @pytest.mark.parametrize("beta", [0.0, 0.3])
    def test_is_what_the_objective_of_one_step_gains(self, two_agents, beta):
        """E_s[sum_a pi (G - (alpha + beta) log pi)] after less before, over the counted actions, in a loop."""
        algorithm = learner("inspo", two_agents, random_models(two_agents), **TINY, support_threshold=0.2)
        temperatures = Temperatures(0.5, beta, 0.0)
        pool = algorithm._draw_pool(temperatures)
        before = uneven_policies(pool.available)
        gains, after = algorithm._gains(0, pool, before, temperatures), before.flip(1)
        values = []
        for log_pi in (after[0], before[0]):
            total = 0.0
            for place, counted in enumerate(pool.counted[0]):
                pi = probabilities(log_pi[place][counted])
                pi /= pi.sum()
                total += (pi * (gains[place][counted].double().numpy() - (0.5 + beta) * np.log(np.maximum(pi, 1e-300)))).sum()
            values.append(total / len(pool.rows))
        found = _improvement(gains, before[0], after[0], pool.counted[0], temperatures)
        assert abs(values[0] - values[1]) > 0.01 and found == pytest.approx(values[0] - values[1], abs=1e-4)

    def test_of_the_closed_form_is_the_distance_to_it(self, two_agents):
        """No policy gains more than p* prop. to exp(G / c), which gains c KL(p || p*)."""
        algorithm = learner("inspo", two_agents, random_models(two_agents), **TINY, support_threshold=0.2)
        pool = algorithm._draw_pool(WARM)
        log_pi = uneven_policies(pool.available)
        gains, counted = algorithm._gains(0, pool, log_pi, WARM), pool.counted[0]
        before, best = (torch.where(counted, table, -1e9).log_softmax(-1) for table in (log_pi[0], gains / WARM.alpha))
        gap = WARM.alpha * (before.exp() * (before - best)).sum(-1).mean().item()
        assert gap > 0.01 and _improvement(gains, before, best, counted, WARM) == pytest.approx(gap, abs=1e-4)
        assert _improvement(gains, before, before, counted, WARM) == 0
        assert _improvement(gains, best, log_pi.roll(1, 1)[0], counted, WARM) < 0

    @pytest.mark.parametrize("update", ["sequential", "simultaneous"])
    def test_adds_up_to_the_gain_of_the_joint_objective_if_agents_take_turns(self, three_agents, update):
        """F(pi) = E_{a ~ pi}[Q_k - alpha log(pi / mu) - beta log pi], summed over all joint actions, with the critic of the sweep."""
        data = three_agents
        changes = {"behavior_model": "product", "q": "joint", "support_threshold": 0.0, "policy_steps": 40, "hidden": [16]}
        algorithm = learner("inspo", data, random_models(data), **{**TINY, **changes}, update=update, alpha=0.5, beta=0.2)
        pools = []
        draw = algorithm._draw_pool
        algorithm._draw_pool = lambda temperatures: pools.append(draw(temperatures)) or pools[-1]
        start = algorithm._network.parameters.clone()
        metrics = algorithm.iterate()
        (pool,), values = pools, []
        with torch.no_grad():
            q = algorithm._critics.network.one(0, pool.states).double().numpy().reshape(-1, 3, 3, 3)
        after = algorithm._network.parameters.clone()
        for parameters in (after, start):
            algorithm._network.parameters.copy_(parameters)
            pi, mu = (probabilities(log_probs) for log_probs in (algorithm._log_pi(pool), pool.log_mu))
            joint, joint_mu = (np.einsum("bi,bj,bk->bijk", *table) for table in (pi, mu))
            log_pi, log_mu = (np.log(np.where(table > 0, table, 1)) for table in (joint, joint_mu))
            values.append((joint * (q - 0.7 * log_pi + 0.5 * log_mu)).sum((1, 2, 3)).mean())
        gained, by_turns = values[0] - values[1], sum(metrics[f"improvement/agent_{agent}"] for agent in range(3))
        assert abs(gained) > 0.01
        if update == "sequential":
            assert by_turns == pytest.approx(gained, abs=1e-4)
        else:
            assert abs(by_turns - gained) > 1e-3  # each gain was counted against teammates that are gone

    def test_is_not_negative_where_cloning_is_exact_enough(self):
        data, models = estimated_sample("xor_c")
        changes = {"policy_steps": 100, "critic_steps": 10, "batch_size": 240, "hidden": [32], "learning_rate": 0.01}
        algorithm = learner("inspo", data, models, iterations=4, **changes, alpha=0.2, alpha_schedule="fixed", beta_schedule="none")
        gains = [metrics[f"improvement/agent_{agent}"] for metrics in (algorithm.iterate() for _ in range(4)) for agent in (0, 1)]
        assert min(gains) > -0.01 and max(gains) > 0.1


class TestNextStates:
    @pytest.mark.parametrize("behavior", ["joint", "product"])
    @pytest.mark.parametrize("agents", [(0, 2), (0, 1, 2)], ids=["two agents", "three agents"])
    @pytest.mark.parametrize("value_beta", [0.0, 0.4])
    def test_regulariser_is_that_of_the_joint_policy(self, agents, behavior, value_beta):
        """-alpha KL(pi || mu) + beta H(pi) over all joint actions; the joint model's is right on average over equal states."""
        data = some_agents(*agents, episodes=600)
        models = random_models(data)
        algorithm = learner("inspo", data, models, **{**TINY, "pool_size": 8192}, behavior_model=behavior, support_threshold=0.05)
        algorithm._network.parameters.mul_(2)
        pool = algorithm._draw_pool(Temperatures(0.3, 9.0, value_beta))
        next_log_mu = algorithm._mu.local[:, pool.rows + 1]
        next_mu = next_log_mu.exp()
        assert ((next_mu >= 0.05 * next_mu.amax(-1, keepdim=True)) == (pool.next_log_pi > -1e8)).all()
        terms = []
        for allowed in (True, False):  # the two contexts
            alike = (arrays(data).available[0, pool.rows + 1, 2] == allowed).nonzero().squeeze(1)
            pi = probabilities(pool.next_log_pi[:, alike[0]])
            joint = functools.reduce(np.multiply.outer, pi)
            if behavior == "joint":
                mu = joint_table(models.joint, data, int(pool.rows[alike[0]]) + 1, list(range(len(agents))))
            else:
                mu = functools.reduce(np.multiply.outer, probabilities(next_log_mu[:, alike[0]]))
            played = joint > 0
            kl = (joint[played] * np.log(joint[played] / mu[played])).sum()
            entropy = -(joint[played] * np.log(joint[played])).sum()
            found = pool.next_regulariser[alike]
            error = found.std().item() / math.sqrt(len(alike))
            terms.append((len(alike) / 300, kl, entropy))
            assert found.mean().item() == pytest.approx(-0.3 * kl + value_beta * entropy, abs=5 * error + 1e-3)
        assert np.min(terms, 0)[0] > 1 and np.max(terms, 0).min() > 0.2

    @pytest.mark.parametrize(("best", "value_beta", "limit"), [(2.0, 0.0, 20), (2.0, 0.5, 20 + 10 * math.log(3)), (-2.0, 0.0, 0)])
    def test_values_are_bounded_by_the_best_reward_for_ever(self, best, value_beta, limit):
        """And by full entropy, 2 agents' log 3 a step, where it counts."""
        dataset = data_of(0, 2)
        rewards = np.minimum(dataset.rewards, -3)
        rewards[4] = best
        data = ResidentTransitions(replace(dataset, rewards=rewards), "cpu")
        algorithm = learner("inspo", data, random_models(data), **TINY, gamma=0.9, reward_scale="none")
        assert algorithm._draw_pool(Temperatures(0.1, 5.0, value_beta)).value_limit == pytest.approx(limit)


@pytest.mark.parametrize("behavior", ["joint", "product"])
def test_logged_distances_to_the_data(behavior):
    """In the two contexts of the data the tables are those of the models, asked in a loop; the pool's shares of them weigh."""
    data = some_agents(0, 2, episodes=600)
    models = random_models(data)
    algorithm = learner("inspo", data, models, **{**TINY, "pool_size": 8192}, behavior_model=behavior, support_threshold=0.2)
    pool = algorithm._draw_pool(WARM)
    log_pi = torch.where(pool.available, uneven_policies(pool.available[:, :1]), -1e9).log_softmax(-1)
    expected = np.zeros(4)
    for allowed in (True, False):
        alike = pool.available[0, :, 2] == allowed
        place = int(alike.nonzero()[0])
        pi, mu = probabilities(log_pi[:, place]), probabilities(pool.log_mu[:, place])
        log_ratio = np.log(np.where(pi > 0, pi, 1) / np.where(pi > 0, mu, 1))
        entropy = -(pi * np.log(np.where(pi > 0, pi, 1))).sum() / 2
        expected[:3] += alike.float().mean().item() * np.array([*(pi * log_ratio).sum(1), entropy])
        for joint in np.ndindex(3, 3):
            given = mu
            if behavior == "joint":
                at, actions = int(pool.rows[place]), torch.tensor(joint).unsqueeze(1)
                given = [probabilities(conditional(models.joint, data, at, actions, list(range(agent)), agent)[0]) for agent in (0, 1)]
            if any(given[agent][joint[agent]] < 0.2 * given[agent].max() for agent in (0, 1)):
                expected[3] += alike[:1024].float().mean().item() * pi[0, joint[0]] * pi[1, joint[1]]
    found = algorithm._distances(pool, log_pi)
    assert expected.min() > 0.1 and expected[3] < 0.9
    assert [found[f"kl_to_behavior/agent_{agent}"] for agent in (0, 1)] == pytest.approx(list(expected[:2]), abs=1e-3)
    assert found["kl_to_behavior"] == pytest.approx(expected[:2].mean(), abs=1e-3)
    assert found["entropy"] == pytest.approx(expected[2], abs=1e-4)
    assert found["mass_outside_data"] == pytest.approx(expected[3], abs=0.05 if behavior == "joint" else 1e-4)
