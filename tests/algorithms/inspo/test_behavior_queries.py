"""What InSPO asks of the behavior policy, against the tables of the models it is made of."""

import itertools
import math

import numpy as np
import pytest
import torch

from inspo_core.algorithms.behavior_models import BehaviorModels
from inspo_core.algorithms.inspo.behavior_queries import JointMu, Mu, ProductMu
from inspo_core.algorithms.networks import masked_log_softmax
from inspo_core.algorithms.transitions import Transitions
from tests.algorithms.games import (
    arrays,
    conditional,
    config_of,
    estimated_sample,
    joint_table,
    random_models,
    some_agents,
    uneven_policies,
)

KINDS = ["joint", "product"]


@pytest.fixture(scope="module", params=[(0, 2), (0, 1, 2)], ids=["two agents", "three agents"])
def data(request) -> Transitions:
    return some_agents(*request.param)


def mu_of(kind: str, data: Transitions, models: BehaviorModels, **changes: object) -> Mu:
    config = config_of("inspo", **{"support_threshold": 0.2, "teammate_samples": 9, **changes})
    if kind == "product":
        return ProductMu(models, data, config)
    return JointMu(models, data, config, torch.Generator().manual_seed(3))


def one_row_a_context(data: Transitions) -> list[int]:
    """In the second agent 0 may not play action 2."""
    whole = arrays(data)
    return [int(whole.rows[whole.available[0, whole.rows, 2] == allowed][0]) for allowed in (True, False)]


def table_of(kind: str, mu: Mu, models: BehaviorModels, data: Transitions, row: int, order: list[int]) -> np.ndarray:
    """mu(a|s), one axis of A actions an agent; the joint model is asked in ``order``."""
    if kind == "joint":
        return joint_table(models.joint, data, row, order)
    table = np.ones(())
    for log_mu in mu.local[:, row]:
        table = np.multiply.outer(table, log_mu.exp().double().numpy())
    return table


def product_table(log_pi: torch.Tensor) -> np.ndarray:
    """Policies (N, A) at one place -> probabilities of the joint actions, one axis an agent."""
    table = np.ones(())
    for one in log_pi:
        table = np.multiply.outer(table, one.exp().double().numpy())
    return table


def log_of(table: np.ndarray) -> np.ndarray:
    """0 where the probability is 0: what no policy plays has no weight in a mean."""
    return np.log(np.where(table > 0, table, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_log_mu_of_the_others(data, kind):
    models = random_models(data)
    mu = mu_of(kind, data, models)
    found = mu.others()
    for transition in range(0, len(data), 9):
        row, played = int(arrays(data).rows[transition]), tuple(arrays(data).actions[:, transition].tolist())
        for agent in range(data.n_agents):
            others = [other for other in range(data.n_agents) if other != agent]
            table = table_of(kind, mu, models, data, row, [agent, *others])
            expected = np.log(table[played] / table.sum(tuple(others))[played[agent]])
            assert found[agent, transition].item() == pytest.approx(expected, abs=1e-3)


class TestExpected:
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_the_part_of_log_mu_that_an_agent_can_change(self, data, kind):
        """E[log mu(a|s)] - E[log mu(a^-i|s)] over the teammates' policies, all their joint actions summed in a loop."""
        models = random_models(data)
        mu, rows = mu_of(kind, data, models), one_row_a_context(data)
        log_pi = uneven_policies(arrays(data).available[:, rows])
        for agent in range(data.n_agents):
            others = [other for other in range(data.n_agents) if other != agent]
            found = mu.expected(agent, torch.tensor(rows), log_pi)
            assert found.shape == (2, 3)
            for place, row in enumerate(rows):
                table = table_of(kind, mu, models, data, row, [*others, agent])
                teammates = product_table(log_pi[others, place])
                for action in range(3):
                    if not arrays(data).available[agent, row, action]:
                        assert found[place, action] < -1e8
                        continue
                    weighted = teammates * (log_of(table.take(action, agent)) - log_of(table.sum(agent)))
                    assert found[place, action].item() == pytest.approx(weighted.sum(), abs=2e-3)

    def test_of_an_agent_alone_is_log_mu(self):
        data = some_agents(2)
        models, rows = random_models(data), one_row_a_context(some_agents(0))
        found = mu_of("joint", data, models).expected(0, torch.tensor(rows), uneven_policies(arrays(data).available[:, rows]))
        for place, row in enumerate(rows):
            alone = conditional(models.joint, data, row, torch.zeros(1, 1, dtype=torch.int64), [], 0)[0]
            assert torch.allclose(found[place], alone, atol=1e-5)

    def test_is_sampled_without_bias_where_the_teammates_joint_actions_are_too_many(self, three_agents):
        data, repeats = three_agents, 3000
        models = random_models(data)
        row = one_row_a_context(data)[1]  # where masks bind
        log_pi, rows = uneven_policies(arrays(data).available[:, [row]]), torch.full((repeats,), row)
        exact, sampled = (mu_of("joint", data, models, teammate_samples=count) for count in (9, 8))
        for agent in range(3):
            allowed = arrays(data).available[agent, row]
            expected = exact.expected(agent, rows[:1], log_pi)[0, allowed]
            draws = sampled.expected(agent, rows, log_pi.expand(-1, repeats, -1))[:, allowed]
            error = draws.std(0) / math.sqrt(repeats)
            assert error.max() > 1e-3 and ((draws.mean(0) - expected).abs() < 5 * error).all()

    def test_draws_are_the_same_for_all_actions_of_the_agent(self, three_agents):
        """With a single draw every result is log mu(.|s, a^-i) of one joint action of the teammates that their policies play."""
        data, repeats = three_agents, 60
        models, row = random_models(data), one_row_a_context(data)[1]
        log_pi = uneven_policies(arrays(data).available[:, [row]])
        mu = mu_of("joint", data, models, teammate_samples=1)
        found = mu.expected(1, torch.full((repeats,), row), log_pi.expand(-1, repeats, -1))
        possible = {}
        for first, third in itertools.product(range(3), repeat=2):
            if arrays(data).available[0, row, first] and arrays(data).available[2, row, third]:
                possible[first, third] = conditional(models.joint, data, row, torch.tensor([[first], [0], [third]]), [0, 2], 1)[0]
        hits = [[pair for pair, log_mu in possible.items() if torch.allclose(log_mu, one, atol=1e-4)] for one in found]
        assert len(possible) == 4 and all(len(pairs) == 1 for pairs in hits)
        assert len({pairs[0] for pairs in hits}) > 2


class TestChain:
    @pytest.mark.parametrize("kind", KINDS)
    def test_means_are_those_of_the_joint_table(self, data, kind):
        """E_pi[log mu(a|s)], and pi's probability of joint actions of which every conditional is supported."""
        models, repeats = random_models(data), 3000
        mu = mu_of(kind, data, models)
        rows = one_row_a_context(data)
        log_pi = uneven_policies(arrays(data).available[:, rows])
        masses = []
        for place, row in enumerate(rows):
            pi = product_table(log_pi[:, place])
            table = table_of(kind, mu, models, data, row, list(range(data.n_agents)))
            supported = supported_by_conditionals(kind, mu, models, data, row)
            expected = [(pi * log_of(table)).sum(), pi[supported].sum()]
            masses.append(expected[1])
            found = mu.chain(torch.full((repeats,), row), log_pi[:, [place]].expand(-1, repeats, -1))
            for draws, value in zip(found, expected):
                assert draws.shape == (repeats,)
                error = draws.std().item() / math.sqrt(repeats)
                assert draws.mean().item() == pytest.approx(value, abs=5 * error + 1e-4)
        assert any(0.05 < mass < 0.95 for mass in masses)  # or a wrong support would not show

    def test_half_of_what_independent_clones_do_on_xor_b_is_in_no_data(self):
        data, models = estimated_sample("xor_b")
        rows = arrays(data).rows[:200]
        log_pi = torch.full((2, 200, 2), math.log(0.5))
        inside = {kind: mu_of(kind, data, models, support_threshold=0.01).chain(rows, log_pi)[1].mean().item() for kind in KINDS}
        assert inside == pytest.approx({"joint": 0.5, "product": 1.0}, abs=1e-6)


class TestSupport:
    def test_is_what_the_behavior_does_often_enough(self):
        data = some_agents(0, 2)
        log_mu = torch.tensor([0.5, 0.3, 0.11, 0.0899, 0.0001]).log()  # a fifth of the likeliest is 0.1
        assert mu_of("product", data, random_models(data)).is_supported(log_mu).tolist() == [True, True, True, False, False]
        masked = masked_log_softmax(torch.zeros(3), torch.tensor([True, True, False]))
        everything = mu_of("product", data, random_models(data), support_threshold=0.0)
        assert everything.is_supported(masked).tolist() == [True, True, False]

    def test_holds_the_likeliest_action_in_any_case(self):
        data = some_agents(0, 2)
        mu = mu_of("product", data, random_models(data), support_threshold=0.99)
        probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.1, 0.7], [0.45, 0.45, 0.1]])
        assert mu.is_supported(probabilities.log()).tolist() == [[True, False, False], [False, False, True], [True, True, False]]

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_joint_actions_is_decided_action_by_action(self, data, kind):
        models = random_models(data)
        mu, rows = mu_of(kind, data, models), one_row_a_context(data)
        found = mu.joint_supported(torch.tensor(rows)).view(2, *[3] * data.n_agents).numpy()
        for place, row in enumerate(rows):
            assert (found[place] == supported_by_conditionals(kind, mu, models, data, row)).all()
            assert 0 < found[place].sum() < found[place].size
            assert not found[place][2].any() or arrays(data).available[0, row, 2]

    def test_holds_joint_actions_that_are_rare_as_a_whole(self):
        """Both agents play M-NE's best action in 5 % of the data, hence together in 0.25 %, below the threshold of 1 %."""
        data, models = estimated_sample("mne_imbalanced")
        assert joint_table(models.joint, data, 0, (0, 1))[2, 2] < 0.01
        for kind in KINDS:
            assert mu_of(kind, data, models, support_threshold=0.01).joint_supported(arrays(data).rows[:1]).all()


def supported_by_conditionals(kind: str, mu: Mu, models: BehaviorModels, data: Transitions, row: int) -> np.ndarray:
    """Which joint actions have each action at least a fifth as probable as the likeliest given those of the agents before.

    One axis an agent.
    """
    supported = np.zeros((3,) * data.n_agents, dtype=bool)
    for joint in np.ndindex(*supported.shape):
        each = []
        for agent, action in enumerate(joint):
            if kind == "joint":
                log_mu = conditional(models.joint, data, row, torch.tensor(joint).unsqueeze(1), list(range(agent)), agent)[0]
            else:
                log_mu = mu.local[agent, row]
            each.append(log_mu[action].exp() >= 0.2 * log_mu.exp().max())
        supported[joint] = all(each)
    return supported
