"""Evaluating a policy whose returns are known, on a real game."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from inspo_core.algorithms.networks import StackedMLP, Standardizer
from inspo_core.algorithms.policy import Policy
from inspo_core.config.reading import load_params
from inspo_core.config.sections import EvaluateConfig, ReportConfig
from inspo_core.envs.table import GAMES
from inspo_core.errors import InspoError
from inspo_core.evaluations import METRICS, summarise
from inspo_core.files import read_json, write_json
from inspo_core.records import write_record
from inspo_core.stages.artifacts import save_policy
from inspo_core.stages.evaluate import EvaluateJob, evaluate_stage, identity
from inspo_core.stages.seeded import Call
from tests.lab import ROOT, contents, seal

LABELS = {"dataset": "xor_c", "algorithm": "bc", "variant": "default"}
TRAINED = {"stage": "train", "fingerprint": "0123456789abcdef", "config": {}, "inputs": {"data": "d"}}
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
    save_policy(Policy(network, Standardizer(torch.zeros(2, 1, 1), torch.ones(2, 1, 1))), directory)
    write_record(directory, LABELS | TRAINED | {"seed": 3})
    return directory


def evaluation(trained: Path, out: Path, config: EvaluateConfig = CONFIG, seed: int = 3) -> EvaluateJob:
    return EvaluateJob(
        seed=seed,
        identity=identity(config, GAMES["xor"], {"train": TRAINED["fingerprint"]}),
        labels=LABELS,
        out=out,
        model=TRAINED["fingerprint"],
        policy=trained,
        env_name="xor",
        config=config,
    )


def test_greedy_and_sampled_returns_are_the_known_ones(trained, tmp_path):
    evaluation(trained, tmp_path / "out").run()
    metrics = read_json(tmp_path / "out/metrics.json")
    assert metrics["return_greedy"] == metrics["success_greedy"] == 1.0  # (A, B)
    share_of_one, share_of_both_b = 0.8 * 0.8 + 0.2 * 0.2, 0.2 * 0.8
    error = 4 * math.sqrt(1.5 / CONFIG.episodes)  # four standard errors
    assert metrics["return_sampled"] == pytest.approx(share_of_one - 2 * share_of_both_b, abs=error)
    assert metrics["success_sampled"] == pytest.approx(share_of_one, abs=error)
    assert metrics["length_greedy"] == metrics["length_sampled"] == 1.0


def test_files_agree_and_carry_the_lineage(trained, tmp_path):
    job = evaluation(trained, tmp_path / "out")
    job.run()
    metrics = read_json(tmp_path / "out/metrics.json")
    assert set(metrics) == set(METRICS)
    with open(tmp_path / "out/episodes.csv", newline="") as file:
        episodes = list(csv.DictReader(file))
    assert len(episodes) == 2 * CONFIG.episodes
    for mode in ("greedy", "sampled"):
        played = [row for row in episodes if row["mode"] == mode]
        assert [int(row["episode"]) for row in played] == list(range(CONFIG.episodes))
        assert np.mean([float(row["return"]) for row in played]) == metrics[f"return_{mode}"]
        assert np.mean([int(row["success"]) for row in played]) == metrics[f"success_{mode}"]
    run = read_json(tmp_path / "out/run.json")
    assert run == run | LABELS | {"seed": 3, "stage": "evaluate", "env": "xor", "train_fingerprint": TRAINED["fingerprint"]}
    assert run["fingerprint"] == job.fingerprint and job.is_done()
    assert run["config"] == {"episodes": CONFIG.episodes, "seed": CONFIG.seed}


def test_same_bytes_again_and_other_episodes_for_another_seed(trained, tmp_path):
    def episodes(place: str, config: EvaluateConfig = CONFIG, seed: int = 3) -> bytes:
        evaluation(trained, tmp_path / place, config, seed).run()
        return (tmp_path / place / "episodes.csv").read_bytes()

    first = episodes("one")
    assert episodes("two") == first and contents(tmp_path / "one") == contents(tmp_path / "two")
    assert episodes("three", EvaluateConfig(episodes=CONFIG.episodes, seed=5)) != first
    assert episodes("four", seed=4) != first


class Told(Exception):
    """The stage has said which runs it is about to make."""


def evaluate(trained: Path, out: Path, dataset: str = "xor_c", name: str = "bc", seed: int = 3, **overrides: object) -> str:
    """The fingerprint of the run that the stage would make."""

    def note(fingerprints: list[str]) -> None:
        raise Told(*fingerprints)

    params = load_params(ROOT / "params.yaml", [f"{key.replace('__', '.')}={value}" for key, value in overrides.items()])
    with pytest.raises(Told) as told:
        evaluate_stage(params, dataset, name, trained.parent, [seed], out, Call(note=note))
    (fingerprint,) = told.value.args
    return fingerprint


def test_fingerprint_follows_everything_that_changes_the_result(trained, tmp_path):
    out = tmp_path / "out"
    name = evaluate(trained, out)
    assert evaluate(trained, out, report__bootstrap=7, train__inspo__alpha=3) == name
    assert evaluate(trained, out, ingest__sources__xor_c__env="mne") != name
    assert evaluate(trained, out, evaluate__episodes=5) != name
    assert evaluate(trained, out, evaluate__seed=5) != name
    (trained / "metrics.jsonl").write_text("{}")
    assert evaluate(trained, out) == name
    for file, content in (("policy.safetensors", b" "), ("policy.json", b" "), ("run.json", None)):
        whole = (trained / file).read_bytes()
        (trained / file).write_bytes(whole + content if content else whole.replace(b"0123456789abcdef", b"another"))
        seal(trained)
        assert evaluate(trained, out) != name
        (trained / file).write_bytes(whole)
        seal(trained, fingerprint=TRAINED["fingerprint"])
    assert evaluate(trained, out) == name


@pytest.mark.parametrize(
    "said, dataset, name",
    [("dataset", "xor_a", "bc"), ("algorithm", "xor_c", "icq"), ("variant", "xor_c", "mine"), ("seed", "xor_c", "bc")],
)
def test_the_policy_of_another_run_is_refused(trained, tmp_path, said, dataset, name):
    if said == "seed":
        seal(trained, seed=4)
    with pytest.raises(InspoError, match=f"seed_3/run.json says {said} .* is to be evaluated; give the folder of that training"):
        evaluate(trained, tmp_path / "out", dataset, name, variants__mine="{algorithm: bc}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["run.json", "policy.json", "policy.safetensors"])
def test_a_missing_file_is_named_and_the_earlier_evaluation_stays(trained, tmp_path, name):
    evaluation(trained, tmp_path / "out/seed_3").run()
    before = contents(tmp_path / "out")
    (trained / name).unlink()
    with pytest.raises(InspoError, match=f"{name} is missing; run the train stage again"):
        evaluation(trained, tmp_path / "out/seed_3").run()
    assert contents(tmp_path / "out") == before


def test_a_damaged_policy_leaves_the_earlier_evaluation(trained, tmp_path):
    job = evaluation(trained, tmp_path / "out/seed_3")
    job.run()
    before = contents(tmp_path / "out")
    (trained / "policy.safetensors").write_bytes(b"damaged")
    with pytest.raises(InspoError, match="seed_3/policy.safetensors is not what was written there, .*; run the train stage again"):
        job.run()
    assert contents(tmp_path / "out") == before


def test_summary_over_seeds(tmp_path):
    returns = [1.0, 1.0, 0.5, 1.0, -3.0]
    for seed, value in enumerate([*returns, 99.0]):
        write_json(tmp_path / f"seed_{seed}" / "metrics.json", dict.fromkeys(METRICS, value))
    summary = summarise(tmp_path, [0, 1, 2, 3, 4], ReportConfig(confidence=0.95, bootstrap=2000, figures=[]))
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
        summarise(tmp_path, [0], ReportConfig(confidence=0.95, bootstrap=100, figures=[]))
    with pytest.raises(InspoError, match=r"seed_1/metrics.json"):
        summarise(tmp_path, [1], ReportConfig(confidence=0.95, bootstrap=100, figures=[]))
