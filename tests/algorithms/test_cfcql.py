"""CFCQL: counterfactual totals and the loss by loops, the agents' weights, and what monotone mixing can and cannot."""

import itertools

import pytest
import torch
from torch import Tensor

from inspo_core.algorithms.base import Algorithm
from inspo_core.algorithms.behavior_models import local_log_probs
from inspo_core.algorithms.cfcql import agent_weights
from inspo_core.algorithms.mixing import TwoLayerMixing
from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.envs.matrix import XOR
from tests.algorithms.games import expected_payoff, learner, ragged_data, random_models, sample_data

N, B, A, S, E = 3, 40, 3, 2, 4


@pytest.fixture
def algorithm() -> Algorithm:
    data = ResidentTransitions(ragged_data(40), "cpu")
    changes = {"alpha": 0.7, "temperature": 2.0, "mixing_width": E}
    made = learner("cfcql", data, random_models(data), hidden=[8], batch_size=B, critic_steps=1, **changes)
    generator = torch.Generator().manual_seed(0)
    for name in ("policy", "mixer", "policy target", "mixer target"):
        made._networks[name].parameters.normal_(std=0.5, generator=generator)
    return made


def mixed(algorithm: Algorithm, which: str, states: Tensor, values: Tensor) -> Tensor:
    """Q_tot by the definition of QMIX: states (B, S), values (N, B) -> (B,)."""
    raw = algorithm._networks[which](states.unsqueeze(0))[0].detach()
    totals = []
    for numbers, local in zip(raw, values.T):
        first, first_bias, second, bias = numbers.split([N * E, E, E, 1])
        hidden = torch.nn.functional.elu(local @ first.abs().reshape(N, E) + first_bias)
        totals.append(hidden @ second.abs() + bias[0])
    return torch.stack(totals)


def test_a_step_s_loss_is_the_formula(algorithm, monkeypatch):
    descended: dict[str, Tensor] = {}
    monkeypatch.setattr(algorithm, "descend", lambda *shared, **losses: descended.update(losses, shared=shared))
    batch = algorithm._draw().one(0)
    with torch.no_grad():
        values, following = (algorithm._networks["policy"](seen) for seen in (batch.observations, batch.next_observations))
        worth = algorithm._networks["policy target"](batch.next_observations)
    best = following.masked_fill(~batch.next_available, -torch.inf).argmax(2, keepdim=True)
    y = batch.rewards + batch.discounts * mixed(algorithm, "mixer target", batch.next_states, worth.gather(2, best).squeeze(2))
    total = mixed(algorithm, "mixer", batch.states, values.gather(2, batch.actions).squeeze(2))
    soft, divergence = torch.zeros(N, B), torch.zeros(N, B)
    log_mu = local_log_probs(random_models(algorithm.data).local, algorithm.data)[:, batch.rows]
    for agent in range(N):
        totals = torch.full((B, A), -torch.inf)
        for action in range(A):
            actions = batch.actions.clone()
            actions[agent] = action
            totals[:, action] = mixed(algorithm, "mixer", batch.states, values.gather(2, actions).squeeze(2))
        for b in range(B):
            allowed = batch.available[agent, b]
            soft[agent, b] = totals[b, allowed].logsumexp(0)
            log_p = totals[b, allowed].log_softmax(0)
            divergence[agent, b] = (log_p.exp() * (log_p - log_mu[agent, b, allowed])).sum()
    weights = (2.0 * divergence).softmax(0)
    expected = (0.5 * (total - y).square() + 0.7 * ((weights * soft).sum(0) - total)).mean()
    algorithm.step(batch)
    assert descended["shared"] == ("mixer",) and torch.allclose(descended["policy"], expected, rtol=1e-4)
    assert weights.amax(0).mean() > 0.5 and not batch.available.all()


def test_agents_whose_greedier_policy_is_far_from_the_data_weigh_more():
    totals = torch.tensor([[[2.0, 0.0]], [[2.0, 0.0]]])  # two agents, both prefer their first action
    log_mu = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]]).log()
    available = torch.ones(2, 1, 2, dtype=torch.bool)
    near, far = agent_weights(totals, available, log_mu, 1.0).flatten().tolist()
    assert near + far == pytest.approx(1) and far > 0.8
    assert agent_weights(totals, available, log_mu, 0.0).flatten().tolist() == [0.5, 0.5]


def test_what_is_best_for_every_agent_is_best_for_all(algorithm):
    values, states = torch.randn(N, B, A), torch.randn(B, S)
    mixing = TwoLayerMixing.at(algorithm._networks["mixer"], states, E)
    greedy = mixing.total(values.amax(2))
    totals = [mixing.total(torch.stack([values[i, :, a] for i, a in enumerate(joint)])) for joint in itertools.product(range(A), repeat=N)]
    assert torch.allclose(greedy, torch.stack(totals).amax(0))


@pytest.mark.parametrize("name, payoff", [("xor_a", 1), ("xor_d", 0)])
def test_it_keeps_to_one_kind_of_data_and_cannot_represent_xor(name, payoff):
    """On all four joint actions no monotone mixing has its maximum at AB and at BA without BB."""
    data = sample_data(name)
    algorithm = learner("cfcql", data, random_models(data), hidden=[16], batch_size=64, learning_rate=0.01)
    for _ in range(3):
        algorithm.iterate()
    assert expected_payoff(algorithm.policy(), XOR) == payoff
