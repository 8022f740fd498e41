"""Fingerprints of tasks that have not run: what changes them, and what does not."""

import pytest

import inspo_core.fingerprint
from inspo_core.config import load_params
from inspo_core.errors import InspoError
from pipelines.plan import benchmark_plan, experiment_keys
from tests.pipelines.compiled import ROOT

STAGES = ["ingest", "behavior", "train", "evaluate", "report"]
RUN = {"dataset": "xor_b", "algorithm": "inspo", "seeds": [0, 1], "data_hash": "aa.dir", "image": "inspo@sha256:1"}


def keys(*overrides: str, **other) -> dict[str, str]:
    return experiment_keys(load_params(ROOT / "params.yaml", list(overrides)), **(RUN | other))


def changed(*overrides: str, **other) -> list[str]:
    before, after = keys(), keys(*overrides, **other)
    return [stage for stage in STAGES if before[stage] != after[stage]]


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("ingest.sources.xor_b.env=mne", "ingest"),
        ("behavior.steps=100", "behavior"),
        ("train.device=cpu", "behavior"),
        ("train.alpha=0.3", "train"),
        ("train.iterations=5", "train"),
        ("evaluate.episodes=5", "evaluate"),
    ],
)
def test_a_parameter_changes_its_stage_and_those_after_it(override, first):
    assert changed(override) == STAGES[STAGES.index(first) :]


@pytest.mark.parametrize(
    "override",
    [
        "train.omiga_alpha=3",  # another algorithm's
        "ingest.sources.xor_a.env=mne",  # another dataset's
        "experiment.seeds=[5]",  # the seeds are handed in
        "experiment.name=other",
        "variants.mine={algorithm: inspo, alpha: 3}",
    ],
)
def test_what_a_run_does_not_use_changes_nothing(override):
    assert changed(override) == []


@pytest.mark.parametrize(
    ("other", "first"),
    [
        ({"data_hash": "bb.dir"}, "ingest"),
        ({"image": "inspo@sha256:2"}, "ingest"),
        ({"dataset": "xor_c"}, "ingest"),
        ({"seeds": [0]}, "behavior"),
        ({"algorithm": "bc"}, "train"),
        ({"algorithm": "inspo_product"}, "train"),
    ],
)
def test_data_image_and_what_is_run_change_it(other, first):
    assert changed(**other) == STAGES[STAGES.index(first) :]


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("inspo_core/datasets/build.py", "ingest"),
        ("inspo_core/behavior.py", "behavior"),
        ("inspo_core/algorithms/inspo.py", "train"),
        ("inspo_core/evaluation.py", "evaluate"),
        ("inspo_core/report/tables.py", "report"),
        ("inspo_core/algorithms/omiga.py", None),
        ("inspo_core/tracking/runs.py", None),
    ],
)
def test_code_changes_the_stages_that_run_it(file, first, monkeypatch):
    before, read = keys(), inspo_core.fingerprint._read

    def edited(path):
        source = read(path)
        return inspo_core.fingerprint._Source("edited", source.imports) if path == ROOT / file else source

    monkeypatch.setattr(inspo_core.fingerprint, "_read", edited)
    expected = STAGES[STAGES.index(first) :] if first else []
    assert [stage for stage, key in keys().items() if before[stage] != key] == expected


def test_a_benchmark_names_every_task_once():
    overrides = ["experiment.datasets=[xor_a, xor_b]", "experiment.algorithms=[inspo, bc]", "experiment.seeds=[0, 1, 2]"]
    params = load_params(ROOT / "params.yaml", overrides)
    plan = benchmark_plan(params, {"xor_a": "a", "xor_b": "aa.dir"}, RUN["image"], seeds_per_task=2)
    assert [of_dataset["dataset"] for of_dataset in plan] == ["xor_a", "xor_b"]
    runs = [(run["algorithm"], run["seeds"]) for run in plan[1]["runs"]]
    assert runs == [("inspo", [0, 1]), ("inspo", [2]), ("bc", [0, 1]), ("bc", [2])]
    names = [of_dataset[stage] for of_dataset in plan for stage in ("ingest", "behavior")]
    names += [run[stage] for of_dataset in plan for run in of_dataset["runs"] for stage in ("train", "evaluate")]
    assert len(set(names)) == len(names) == 2 * 2 + 2 * 4 * 2
    assert plan[1]["ingest"] == keys()["ingest"]
    with pytest.raises(InspoError, match="chess"):
        benchmark_plan(load_params(ROOT / "params.yaml", ["experiment.datasets=[chess]"]), {"chess": "a"}, "i")
