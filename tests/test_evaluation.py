"""Evaluating a policy whose returns are known, on a real game."""

import csv
import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from inspo_core.algorithms.networks import StackedMLP, Standardizer
from inspo_core.algorithms.policy import Policy
from inspo_core.config import EvaluateConfig, ReportConfig
from inspo_core.errors import InspoError
from inspo_core.evaluation import METRICS, evaluate_seed, evaluation_fingerprint, summarise
from inspo_core.files import read_json, write_json

RUN = {"dataset": "xor_c", "algorithm": "bc", "variant": "default", "seed": 3}
CONFIG = EvaluateConfig(episodes=4000, seed=1000003)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A policy for XOR: agent 1 plays A and agent 2 plays B, each with probability 0.8."""
    network = StackedMLP(2, [1, 2], torch.Generator().manual_seed(0), "cpu")
    for row, probabilities in zip(network.rows, ([0.8, 0.2], [0.2, 0.8])):
        with torch.no_grad():
            row[0].zero_()
            row[1].copy_(torch.tensor(probabilities).log())
    directory = tmp_path / "train" / "seed_3"
    directory.mkdir(parents=True)
    Policy(network, Standardizer(torch.zeros(2, 1, 1), torch.ones(2, 1, 1))).save(directory)
    write_json(directory / "run.json", {**RUN, "stage": "train", "fingerprint": "0123456789abcdef", "config": {}})
    return directory


def evaluate(trained: Path, out: Path, config: EvaluateConfig = CONFIG, **changes) -> dict[str, float]:
    return evaluate_seed("xor", trained, **{**RUN, **changes}, config=config, out=out)


def hashes(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def test_greedy_and_sampled_returns_are_the_known_ones(trained, tmp_path):
    metrics = evaluate(trained, tmp_path / "out")
    assert metrics["return_greedy"] == metrics["success_greedy"] == 1.0  # (A, B)
    share_of_one, share_of_both_b = 0.8 * 0.8 + 0.2 * 0.2, 0.2 * 0.8
    error = 4 * math.sqrt(1.5 / CONFIG.episodes)  # four standard errors
    assert metrics["return_sampled"] == pytest.approx(share_of_one - 2 * share_of_both_b, abs=error)
    assert metrics["success_sampled"] == pytest.approx(share_of_one, abs=error)
    assert metrics["length_greedy"] == metrics["length_sampled"] == 1.0


def test_files_agree_and_carry_the_lineage(trained, tmp_path):
    metrics = evaluate(trained, tmp_path / "out")
    assert read_json(tmp_path / "out" / "metrics.json") == metrics
    assert set(metrics) == set(METRICS)
    with open(tmp_path / "out" / "episodes.csv", newline="") as file:
        episodes = list(csv.DictReader(file))
    assert len(episodes) == 2 * CONFIG.episodes
    for mode in ("greedy", "sampled"):
        played = [row for row in episodes if row["mode"] == mode]
        assert [int(row["episode"]) for row in played] == list(range(CONFIG.episodes))
        assert np.mean([float(row["return"]) for row in played]) == metrics[f"return_{mode}"]
        assert np.mean([int(row["success"]) for row in played]) == metrics[f"success_{mode}"]
    run = read_json(tmp_path / "out" / "run.json")
    assert {field: run[field] for field in RUN} == RUN
    assert run["train_fingerprint"] == "0123456789abcdef"
    assert run["fingerprint"] == evaluation_fingerprint("xor", trained, CONFIG)
    assert run["config"] == {"episodes": CONFIG.episodes, "seed": CONFIG.seed}


def test_same_bytes_again_and_other_episodes_for_another_seed(trained, tmp_path):
    evaluate(trained, tmp_path / "one")
    evaluate(trained, tmp_path / "two")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    evaluate(trained, tmp_path / "three", EvaluateConfig(episodes=CONFIG.episodes, seed=5))
    assert hashes(tmp_path / "three")["episodes.csv"] != hashes(tmp_path / "one")["episodes.csv"]
    write_json(trained / "run.json", {**RUN, "seed": 4, "fingerprint": "0123456789abcdef"})
    evaluate(trained, tmp_path / "four", seed=4)
    assert hashes(tmp_path / "four")["episodes.csv"] != hashes(tmp_path / "one")["episodes.csv"]


def test_fingerprint_follows_everything_that_changes_the_result(trained):
    name = evaluation_fingerprint("xor", trained, CONFIG)
    assert evaluation_fingerprint("mne", trained, CONFIG) != name
    assert evaluation_fingerprint("xor", trained, EvaluateConfig(episodes=5, seed=CONFIG.seed)) != name
    weights = trained / "policy.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content + b" ")
    assert evaluation_fingerprint("xor", trained, CONFIG) != name
    weights.write_bytes(content)
    write_json(trained / "run.json", {**RUN, "fingerprint": "another"})
    assert evaluation_fingerprint("xor", trained, CONFIG) != name


@pytest.mark.parametrize("change", [{"dataset": "xor_a"}, {"algorithm": "inspo"}, {"variant": "product"}, {"seed": 0}])
def test_the_policy_of_another_run_is_refused(trained, tmp_path, change):
    with pytest.raises(InspoError, match=f"says {next(iter(change))} "):
        evaluate(trained, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["run.json", "policy.json", "policy.safetensors"])
def test_a_missing_file_is_named_and_the_earlier_evaluation_stays(trained, tmp_path, name):
    evaluate(trained, tmp_path / "out")
    before = hashes(tmp_path / "out")
    (trained / name).unlink()
    with pytest.raises(InspoError, match=name):
        evaluate(trained, tmp_path / "out")
    assert hashes(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_summary_over_seeds(tmp_path):
    returns = [1.0, 1.0, 0.5, 1.0, -3.0]
    for seed, value in enumerate([*returns, 99.0]):
        write_json(tmp_path / f"seed_{seed}" / "metrics.json", dict.fromkeys(METRICS, value))
    summary = summarise(tmp_path, [0, 1, 2, 3, 4], ReportConfig(confidence=0.95, bootstrap=2000))
    assert read_json(tmp_path / "summary.json") == summary
    assert set(summary) == set(METRICS)
    found = summary["return_sampled"]
    assert found["mean"] == pytest.approx(0.1)
    assert found["iqm"] == pytest.approx(2.5 / 3)  # of 0.5, 1, 1
    assert found["std"] == pytest.approx(np.std(returns, ddof=1))
    assert -3.0 <= found["low"] < found["iqm"] <= found["high"] == 1.0
    assert found["seeds"] == 5


@pytest.mark.parametrize("bad", [None, "1", True, [1.0]])
def test_a_bad_metric_is_named(tmp_path, bad):
    write_json(tmp_path / "seed_0" / "metrics.json", {**dict.fromkeys(METRICS, 1.0), "success_sampled": bad})
    with pytest.raises(InspoError, match=r"seed_0/metrics.json: success_sampled is "):
        summarise(tmp_path, [0], ReportConfig(confidence=0.95, bootstrap=100))
    with pytest.raises(InspoError, match=r"seed_1/metrics.json"):
        summarise(tmp_path, [1], ReportConfig(confidence=0.95, bootstrap=100))
