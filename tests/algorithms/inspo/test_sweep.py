"""InSPO's sweep: who sees what and when, its pool, its schedules, its switches."""

import copy
import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from inspo_core.algorithms.inspo.critics import Temperatures
from inspo_core.algorithms.inspo.sweep import DUAL_BOUNDS, InSPO
from inspo_core.algorithms.seed_batching import Fit, fit_alone
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from tests.algorithms.games import TINY, data_of, estimated_sample, learner, random_models, sample_data

WARM = Temperatures(alpha=0.5, beta=0.0, value_beta=0.0)


def turns(data: Transitions, left_out: int | None = None, **changes: object) -> list[tuple[int | None, torch.Tensor]]:
    """Who learns in the turns of one sweep (None: all at once), and with which weights; the turn ``left_out`` teaches nothing."""
    taken = []

    def fit(asked: Fit) -> list[torch.Tensor]:
        if asked.optimizers.network is algorithm.policy().network:
            taken.append((asked.agent, asked.columns[-1]))
            if len(taken) - 1 == left_out:
                return [torch.zeros(20)]
        return fit_alone(asked)

    algorithm = learner("inspo", data, random_models(data), fit=fit, **{**TINY, "policy_steps": 20, "refit_steps": 0}, **changes)
    algorithm.iterate()
    return taken


class TestSweep:
    def test_sequential_agents_see_the_teammates_already_updated(self, three_agents):
        """What a turn teaches changes the weights of every turn after it, and of none before."""
        whole = turns(three_agents, update="sequential")
        assert sorted(agent for agent, _ in whole) == [0, 1, 2]
        for left_out in range(3):
            other = turns(three_agents, left_out, update="sequential")
            same = [torch.equal(weights, others) for (_, weights), (_, others) in zip(whole, other, strict=True)]
            assert same == [turn <= left_out for turn in range(3)]

    def test_simultaneous_agents_all_learn_at_once(self, three_agents):
        ((agent, weights),) = turns(three_agents, update="simultaneous")
        assert agent is None and len(weights) == 3

    def test_sequential_refits_before_every_turn_but_the_first(self, three_agents):
        order = []

        def fit(asked: Fit) -> list[torch.Tensor]:
            order.append(("policy" if asked.optimizers.network is algorithm.policy().network else "critics", asked.agent))
            return fit_alone(asked)

        algorithm = learner("inspo", three_agents, random_models(three_agents), fit=fit, **TINY)
        algorithm.iterate()
        first, second, third = (agent for network, agent in order if network == "policy")
        later = [(network, agent) for agent in (second, third) for network in ("critics", "policy")]
        assert order == [("critics", None), ("policy", first), *later]

    def test_random_order_takes_every_permutation_and_fixed_one(self, three_agents):
        algorithm = learner("inspo", three_agents, random_models(three_agents), **TINY, order="random")
        counts = Counter(tuple(algorithm._order()) for _ in range(600))
        assert set(counts) == set(itertools.permutations(range(3))) and min(counts.values()) > 60
        fixed = learner("inspo", three_agents, random_models(three_agents), **TINY, order="fixed")
        assert {tuple(fixed._order()) for _ in range(20)} == {(0, 1, 2)}

    def test_pool_is_a_sample_without_repetition(self):
        dataset = data_of(0, 2)
        numbered = replace(dataset, rewards=np.arange(dataset.n_transitions, dtype=np.float32))
        data = ResidentTransitions(numbered, "cpu")
        algorithm = learner("inspo", data, random_models(data), **{**TINY, "pool_size": 30}, reward_scale="none")
        pools = [algorithm._draw_pool(WARM) for _ in range(2)]
        numbers = [pool.rewards.to(torch.int64) for pool in pools]
        assert [len(set(drawn.tolist())) for drawn in numbers] == [30, 30] and not torch.equal(*numbers)
        pool, rows = pools[0], data.rows(numbers[0])
        assert torch.equal(pool.rows, rows) and torch.equal(pool.states, data.states(rows))
        assert torch.equal(pool.actions, data.actions(numbers[0])) and torch.equal(pool.next_states, data.states(rows + 1))
        assert torch.equal(pool.observations, data.observations(rows)) and torch.equal(pool.available, data.available(rows))
        assert torch.equal(pool.log_mu, algorithm._mu.local[:, rows])
        assert torch.equal(pool.log_mu_others, algorithm._mu.others()[:, numbers[0]])

    def test_rewards_are_scaled_by_the_largest(self):
        data = sample_data("mne_balanced")
        for scale, largest in (("max_abs", 1.0), ("none", 20.0)):
            pool = learner("inspo", data, random_models(data), **TINY, reward_scale=scale)._draw_pool(WARM)
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
        changes = {**TINY, "policy_steps": 30, "alpha_schedule": "tuned", "beta_schedule": "none", "target_kl": target, "alpha": 0.2}
        algorithm = learner("inspo", data, models, **changes)
        metrics = [algorithm.iterate() for _ in range(4)]
        alphas = [values["alpha"] for values in metrics]
        assert alphas[0] == 0.2
        assert alphas == sorted(alphas, reverse=not rises) and abs(math.log(alphas[-1] / alphas[0])) > 1e-3
        for before, after in itertools.pairwise(metrics):  # log alpha moves by a tenth of the distance
            assert math.log(after["alpha"] / before["alpha"]) == pytest.approx(0.1 * (before["kl_to_behavior"] - target))

    @pytest.mark.parametrize(("start", "target", "end"), [(1.001 * DUAL_BOUNDS[0], 100.0, DUAL_BOUNDS[0]), (9.99, 1e-9, DUAL_BOUNDS[1])])
    def test_tuned_alpha_stays_within_its_bounds(self, two_agents, start, target, end):
        models = random_models(two_agents)
        algorithm = learner("inspo", two_agents, models, **TINY, alpha_schedule="tuned", target_kl=target, alpha=start)
        for _ in range(2):
            algorithm.iterate()
        assert algorithm._temperatures().alpha == end

    @pytest.mark.parametrize(("fraction", "expected"), [(0.5, [1, 1, 1, 0.5, 0.1, 0]), (1.0, [1, 1, 1, 1, 1, 1])])
    def test_learning_rates_fall_to_0_once_the_temperatures_are_final(self, two_agents, fraction, expected):
        models = random_models(two_agents)
        algorithm = learner("inspo", two_agents, models, iterations=20, **TINY, anneal_fraction=fraction, learning_rate=0.01)
        for sweep, share in zip((0, 3, 10, 15, 19, 20), expected):
            algorithm._sweep = sweep
            algorithm.iterate()
            for optimizers in (algorithm._optimizers, algorithm._critics.optimizers):
                assert optimizers.learning_rate == pytest.approx(0.01 * share)

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
    "behavior_model": ["joint", "product"],
    "importance": ["resample", "reweight", "none"],
    "q": ["local", "joint"],
}
SCHEDULES = list(itertools.product(["fixed", "annealed", "tuned"], ["none", "constant", "annealed"], [True, False]))


COMBINATIONS = [dict(zip(SWITCHES, values)) for values in itertools.product(*SWITCHES.values())]


@pytest.mark.parametrize("switches", COMBINATIONS, ids=lambda switches: "-".join(switches.values()))
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
