"""``python -m components.report``, as it is run."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from inspo_core.report.results import read_results
from inspo_core.stages.report import write_report

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ["curves_greedy", "curves_sampled", "improvement", "profiles", "returns", "scores"]
TABLES = ["curves", "differences", "improvement", "profiles", "references", "results", "summary"]
FILES = sorted(
    [f"figures/{name}.{suffix}" for name in FIGURES for suffix in ("pdf", "png", "svg")]
    + [f"{name}.csv" for name in TABLES]
    + ["marl_eval.json", "metrics.json", "report.html", "results.json", "table.md"]
)


def report(tree, *more: object, **environment: str) -> subprocess.CompletedProcess:
    overrides = {**{f"experiment.{key}": value for key, value in tree.experiment.items()}, "report.bootstrap": 500}
    return subprocess.run(
        [sys.executable, "-m", "components.report", "--evaluations", tree.evaluations, "--trainings", tree.trainings, "--out", tree.out]
        + ["--params", ROOT / "params.yaml", "--set", json.dumps(overrides), *more],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tree.root}/mlflow.db", **environment},
        cwd=tree.root,
        capture_output=True,
        text=True,
        check=False,
    )


def hashes(directory: Path) -> dict[str, str]:
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.rglob("*") if p.is_file()}


def test_report_is_whole_and_the_same_in_every_process(tree):
    done = report(tree, PYTHONHASHSEED="1", COLUMNS="20")
    assert done.returncode == 0, done.stderr
    assert "20.000 [20.000, 20.000]" in done.stdout
    assert "mlflow ui --backend-store-uri" in done.stdout
    first = hashes(tree.out)
    assert sorted(first) == FILES
    with closing(sqlite3.connect(tree.root / "mlflow.db")) as store:
        assert store.execute("select status from runs where name = 'report'").fetchall() == [("FINISHED",)]
        metrics = dict(store.execute("select key, value from metrics").fetchall())
        compared = "select name, status, value from runs join metrics using (run_uuid) where key = 'return_greedy/mne_imbalanced'"
        (best, status, value), _ = sorted(store.execute(compared).fetchall(), reverse=True)  # a run an algorithm
    assert metrics["final/mne_imbalanced/inspo/return_greedy_iqm"] == 20.0
    assert (best.split()[0], status, value) == ("inspo", "FINISHED", 20.0)
    assert list(tree.root.rglob("mlartifacts/**/table.md"))
    shutil.rmtree(tree.out)
    assert report(tree, PYTHONHASHSEED="2").returncode == 0
    assert hashes(tree.out) == first


def test_runs_that_failed_are_left_out_and_told(tree):
    shutil.rmtree(tree.evaluations / "xor_c" / "bc" / "seed_3")
    entry = {"dataset": "xor_c", "algorithm": "bc", "seed": 3, "reason": "out of memory"}
    (tree.root / "failures.json").write_text(json.dumps([entry]))
    done = report(tree, "--failures", tree.root / "failures.json")
    assert done.returncode == 0, done.stderr
    assert "failed: xor_c bc seed 3: out of memory\n" in done.stdout and "bc (4 of 5 seeds)" in done.stdout
    assert sorted(hashes(tree.out)) == sorted([*FILES, "failures.csv"])
    with closing(sqlite3.connect(tree.root / "mlflow.db")) as store:
        failed = store.execute("select name, value from runs join metrics using (run_uuid) where key = 'failed_runs'").fetchall()
    assert {name.split()[0]: value for name, value in failed} == {"inspo": 0.0, "bc": 1.0}


def test_missing_evaluation_ends_in_one_sentence_and_keeps_the_earlier_report(tree):
    tree.out.mkdir()
    (tree.out / "table.md").write_text("earlier")
    before = hashes(tree.out)
    shutil.rmtree(tree.evaluations / "xor_c" / "bc" / "seed_3")
    done = report(tree)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "dataset xor_c, algorithm bc, seed 3" in done.stderr
    assert hashes(tree.out) == before


def test_a_folder_of_something_else_is_not_replaced(tree):
    done = report(tree, "--out", tree.root)  # where evaluations and trainings lie
    assert (
        done.returncode == 2
        and f"error: {tree.root} would be replaced as a whole, but is something else, since it holds no table.md" in done.stderr
    )
    assert (tree.evaluations / "xor_c").exists() and (tree.trainings / "xor_c").exists()


def test_a_failure_while_writing_keeps_the_earlier_report(tree, monkeypatch):
    results = read_results(tree.evaluations, tree.trainings, tree.params(datasets=["xor_c"]))
    tree.out.mkdir()
    (tree.out / "stale.txt").write_text("of an earlier version")
    before = hashes(tree.out)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inspo_core.report.figures.write_figures", full)
    with pytest.raises(Exception, match="No space left on device"):
        write_report(results, tree.out, FIGURES)
    assert hashes(tree.out) == before
    monkeypatch.undo()
    write_report(results, tree.out, FIGURES)
    assert sorted(hashes(tree.out)) == FILES
    assert [path.name for path in tree.root.iterdir() if path.name.startswith(".")] == []


def test_a_report_is_the_same_in_a_locale_without_letters(tree):
    for seed in (0, 1):
        shutil.rmtree(tree.evaluations / f"xor_c/bc/seed_{seed}")
    failures = [{"dataset": "xor_c", "algorithm": "bc", "seed": seed, "reason": "détruit \N{GRINNING FACE}"} for seed in (0, 1)]
    (tree.root / "failures.json").write_text(json.dumps(failures, ensure_ascii=False), encoding="utf-8")
    told = ["--failures", tree.root / "failures.json"]
    done = report(tree, *told)
    assert done.returncode == 0, done.stderr
    first = hashes(tree.out)
    shutil.rmtree(tree.out)
    done = report(tree, *told, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
    assert hashes(tree.out) == first
    assert "détruit \N{GRINNING FACE}" in (tree.out / "table.md").read_text(encoding="utf-8")
