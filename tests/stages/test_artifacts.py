"""Policies and behavior models on disk: read as they were written, and one sentence if damaged."""

import json

import pytest
import torch

from inspo_core.algorithms.networks import Standardizer
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.recurrent import stacked
from inspo_core.errors import InspoError
from inspo_core.stages.artifacts import load_behavior, load_policy, save_behavior, save_policy
from tests.algorithms.games import random_models, some_agents

N, SIZES = 3, [5, 7, 6, 4]


@pytest.fixture(params=[0, 3], ids=["no memory", "memory"])
def policy(request) -> Policy:
    values = torch.randn(N, 50, SIZES[0], generator=torch.Generator().manual_seed(3)) * 4 + 2
    network = stacked(N, SIZES, request.param, torch.Generator().manual_seed(0), "cpu")
    return Policy(network, Standardizer.fit(values), sharpness=3.0)


def test_a_policy_is_read_as_it_was_written(policy, tmp_path):
    save_policy(policy, tmp_path)
    shape = (9, 7, N, SIZES[0]) if policy.network.memory else (9, N, SIZES[0])
    observations = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * 4 + 2
    available = torch.rand(9, N, SIZES[-1], generator=torch.Generator().manual_seed(5)) < 0.6
    back = load_policy(tmp_path)
    assert torch.equal(back.log_probs(observations, available), policy.log_probs(observations, available))
    assert back.network.memory == policy.network.memory


def test_the_same_policy_is_the_same_bytes(policy, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_policy(policy, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(
    "change",
    [{"sharpness": []}, {"sharpness": 10**400}, {"sharpness": "1"}, {"sizes": 5}, {"sizes": [1.5, 2]}, {"sizes": [10**15, 10**15]}]
    + [{"n_agents": 0}, {"n_agents": True}, {"memory": -1}, {"more": "x" * 100_000}],
    ids=range(10),
)
def test_an_architecture_that_is_none_is_one_sentence(policy, tmp_path, change):
    save_policy(policy, tmp_path)
    architecture = tmp_path / "policy.json"
    architecture.write_text(json.dumps(json.loads(architecture.read_text()) | change), encoding="utf-8")
    with pytest.raises(InspoError, match="holds no readable policy .*; run the train stage again") as caught:
        load_policy(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("damage", ["cut", "garbled", "missing", "no json", "bad json", "another shape"])
def test_a_damaged_policy_is_one_sentence(policy, tmp_path, damage):
    save_policy(policy, tmp_path)
    weights, architecture = tmp_path / "policy.safetensors", tmp_path / "policy.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "garbled":
        weights.write_bytes(b"\xff" * 64)
    elif damage == "missing":
        weights.unlink()
    elif damage == "no json":
        architecture.unlink()
    elif damage == "bad json":
        architecture.write_text("{")
    else:
        architecture.write_text(json.dumps(json.loads(architecture.read_text()) | {"sizes": [5, 8, 6, 4]}))
    with pytest.raises(InspoError) as caught:
        load_policy(tmp_path)
    assert str(tmp_path) in str(caught.value) and "train stage" in str(caught.value)


def test_behavior_models_are_read_as_they_were_written_but_not_as_those_of_other_data(tmp_path):
    data = some_agents(0, 2)
    models = random_models(data)
    save_behavior(models, tmp_path)
    back = load_behavior(tmp_path, data)
    assert torch.equal(back.local.parameters, models.local.parameters)
    assert torch.equal(back.joint.network.parameters, models.joint.network.parameters)
    with pytest.raises(InspoError, match=f"{tmp_path} holds no usable behavior models .*; run the behavior stage again"):
        load_behavior(tmp_path, some_agents(0, 1, 2))
