"""``python -m pipelines.local``: a whole experiment, what it skips, what it keeps when something fails, and where its runs come from."""

import json
import os
import platform
import shutil
from pathlib import Path

import pytest

from inspo_core.config.learners import learner_of
from inspo_core.config.reading import load_params
from inspo_core.provenance import processor
from tests.code_copies import copy_code
from tests.lab import Done, Lab, contents, identities, wait_until

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for path in (ROOT / "experiments").glob("*.yaml") if path.name != "dvc.yaml")
SMALL = """
base: params.yaml
experiment: {name: small, datasets: [xor_b, bridge_optimal], algorithms: [bc, quick], seeds: [0, 1]}
train: {iterations: 4, evaluate_every: 2}
variants: {quick: {algorithm: inspo, policy_steps: 2}}
"""


@pytest.fixture
def experiment(lab) -> Path:
    """The folder that the experiment ``small.yaml`` in the lab writes."""
    (lab.place / "small.yaml").write_text(SMALL)
    os.symlink(lab.shared / "data", lab.place / "data")
    return lab.place / "runs/small"


def run(lab: Lab, *arguments: object, **environment: str):
    return lab.run("pipelines.local", "small.yaml", *arguments, **environment)


def test_an_experiment_runs_once_as_its_stages_do(lab, experiment):
    done = run(lab).succeeded()
    assert "Tables and figures: runs/small/report" in done.stdout
    assert (experiment / "report/table.md").read_text().count("| bridge_optimal |") == 8
    assert {path.name for path in (experiment / "train/xor_b").iterdir()} == {"bc", "quick"}
    assert json.loads((experiment / "train/xor_b/quick/seed_1/run.json").read_text())["variant"] == "quick"
    stage = ["--params", "small.yaml", "--dataset", "xor_b", "--algorithm", "quick", "--data", experiment / "ingest/xor_b"]
    lab.run("components.train", *stage, "--behavior", experiment / "behavior/xor_b", "--out", "alone").succeeded()
    assert contents(lab.place / "alone") == contents(experiment / "train/xor_b/quick")

    before, report = identities(experiment), contents(experiment / "report")
    again = run(lab).succeeded()
    assert again.stdout.count("2 of 2 seeds are done already") == 2 * (1 + 2 + 2) and again.stdout.count("done already") == 2 * 6
    written = {name for name, identity in identities(experiment).items() if before[name] != identity}
    assert not [name for name in written if not name.startswith("report/") and not name.endswith("/summary.json")]
    assert contents(experiment / "report") == report


@pytest.mark.slow
def test_a_failure_is_told_at_the_end_and_loses_nothing_else(lab, experiment):
    (lab.place / "data").unlink()
    (lab.place / "data").mkdir()
    os.symlink(lab.shared / "data/bridge_optimal", lab.place / "data/bridge_optimal")
    failed = run(lab)
    assert failed.code == 2 and "Traceback" not in failed.stderr
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("error: runs/small is not complete: ingest xor_b: data/xor_b is missing; ")
    assert "| bridge_optimal |" in (experiment / "report/table.md").read_text()

    os.symlink(lab.shared / "data/xor_b", lab.place / "data/xor_b")
    in_the_way = experiment / "train/bridge_optimal/quick"
    shutil.rmtree(in_the_way)
    in_the_way.touch()
    failed = run(lab, "--set", "train.iterations=6", INSPO_CHECKPOINT_EVERY="6")
    last = failed.stderr.splitlines()[-1]
    assert failed.code == 2 and last.startswith("error: runs/small is not complete: train bridge_optimal quick")
    assert "train/bridge_optimal/quick" in last and "cannot write" in last
    table = (experiment / "report/table.md").read_text()
    assert "| xor_b |" in table and "| bridge_optimal |" not in table


@pytest.mark.slow
def test_a_stopped_experiment_goes_on(lab, experiment):
    process = lab.start("pipelines.local", "small.yaml")
    wait_until(lambda: (experiment / "behavior/xor_b/seed_0").exists() or process.poll() is not None)
    process.terminate()
    stopped = Done.of(process)
    assert stopped.code == 143 and "Traceback" not in stopped.stderr and not (experiment / "report").exists()
    run(lab).succeeded()
    assert (experiment / "report/table.md").exists()


def test_the_ledger_tells_which_command_made_which_run(lab, experiment):
    only = ["--set", "experiment.datasets=[xor_b]", "--set", "experiment.algorithms=[bc]"]
    run(lab, *only, "--set", "experiment.seeds=[0]", INSPO_GIT_COMMIT="a" * 40).succeeded()
    run(lab, *only, INSPO_GIT_COMMIT="b" * 40).succeeded()
    ledger = json.loads((experiment / "provenance.json").read_text())
    assert [origin["git_commit"][0] for origin in ledger["origins"]] == ["a", "b"]
    assert ledger["origins"][1]["command"].startswith("python -m pipelines.local small.yaml --set 'experiment.datasets=[xor_b]'")
    for stage in ("behavior/xor_b", "train/xor_b/bc", "evaluate/xor_b/bc"):
        for seed in (0, 1):
            record = json.loads((experiment / stage / f"seed_{seed}" / "run.json").read_text())
            assert ledger["runs"][record["fingerprint"]] == seed  # the second command made seed 1 alone
            assert "a" * 40 not in json.dumps(record) and "b" * 40 not in json.dumps(record)

    page = lab.run("inspo_core.publish.page", "runs/small", "--out", "docs/results.md").succeeded()
    assert page.stdout == "wrote docs/results.md\n"
    text = (lab.place / "docs/results.md").read_text()
    assert "They were not all made with the same state of the code, but with 2." in text
    assert "| 3 | aaaaaaaaaaaa | `python -m pipelines.local small.yaml" in text and "| 3 | bbbbbbbbbbbb |" in text


def test_code_that_changes_under_way_ends_the_experiment(lab, experiment):
    """The process would go on with the code that it has imported, under the fingerprints of the new one."""
    project = copy_code(lab.place / "project")
    process = lab.start("pipelines.local", "small.yaml", PYTHONPATH=str(project))
    wait_until(lambda: (experiment / "ingest/xor_b").exists() or process.poll() is not None)
    changed = project / "inspo_core/algorithms/bc.py"
    before = changed.read_text()
    changed.write_text(before.replace("losses.mean(1)", "(2 * losses.mean(1))"))
    assert changed.read_text() != before
    done = Done.of(process)
    done.refused("the code was changed while runs/small was made; run the same command again, finished runs are kept")
    assert (experiment / "ingest/xor_b/run.json").exists() and not (experiment / "evaluate/bridge_optimal").exists()


def test_the_processor_is_named(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Abacus 3: the fast one\nprocessor\t: 1\nmodel name\t: other\n")
    assert processor(tmp_path / "cpuinfo") == "Abacus 3: the fast one"
    assert processor(tmp_path / "nothing") == platform.machine()


def test_a_name_that_is_a_stages_is_refused(lab, experiment):
    run(lab, "--set", "experiment.name=train").refused("small.yaml: experiment.name is 'train', expected a name that is no stage's")
    assert not (lab.place / "runs").exists()


def test_elsewhere_than_in_the_projects_folder_it_says_where_to_run(lab, experiment):
    project, lab.place = lab.place, lab.place / "docs/notes"
    lab.place.mkdir(parents=True)
    advice = f"run the command in the project's folder, {project}"
    lab.run("pipelines.local", "../../small.yaml").refused(f"{lab.place} has no data/", advice)
    assert not list(lab.place.iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_experiments_are_what_they_are_called(path):
    params = load_params(path)
    assert params.experiment.name == path.stem and params.experiment.seeds == list(range(10 if path.stem == "ablations" else 20))
    assert set(params.experiment.datasets) <= set(params.ingest.sources)
    algorithms = {learner_of(name, params).algorithm for name in params.experiment.algorithms}
    assert params.experiment.algorithms[0] == "inspo" and (path.stem != "ablations" or algorithms == {"inspo"})


def test_the_ablations_are_all_variants():
    params = load_params(ROOT / "experiments/ablations.yaml")
    assert params.experiment.algorithms == ["inspo", *(name for name, variant in params.variants.items() if variant.algorithm == "inspo")]
