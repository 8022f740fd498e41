"""A task of a pipeline's plan runs the code that it was planned with, or nothing."""

import json

import pytest

from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.datasets.formats.table import FORMATS
from inspo_core.envs.table import GAMES
from inspo_core.identity import Code, code_of, planned_key
from inspo_core.report.figure_table import FIGURES

ONE = json.dumps({"experiment.datasets": ["xor_b"], "experiment.algorithms": ["bc"], "experiment.seeds": [0]})
OTHER = Code("of another commit", {"torch": "1.0"})


@pytest.fixture
def tasks(lab) -> dict[str, tuple[Code, list]]:
    """The code and the arguments of a command for each stage, in their order."""
    of_run = ["--dataset", "xor_b", "--seeds", "0"]
    return {
        "ingest": (code_of("ingest", FORMATS["native"]), ["--dataset", "xor_b", "--raw", lab.data("xor_b"), "--out", "data"]),
        "behavior": (code_of("behavior"), [*of_run, "--data", "data", "--out", "behavior"]),
        "train": (
            code_of("train", ALGORITHMS["bc"], GAMES["xor"]),
            [*of_run, "--algorithm", "bc", "--data", "data", "--behavior", "behavior", "--out", "train/xor_b/bc"],
        ),
        "evaluate": (
            code_of("evaluate", GAMES["xor"]),
            [*of_run, "--algorithm", "bc", "--train", "train/xor_b/bc", "--out", "evaluate/xor_b/bc"],
        ),
        "report": (
            code_of("report", *FIGURES.values()),
            ["--evaluations", "evaluate", "--trainings", "train", "--out", "report", "--set", ONE],
        ),
    }


def test_every_stage_refuses_other_code_and_runs_with_its_own(lab, tasks):
    for stage, (code, arguments) in tasks.items():
        before = lab.outputs()
        lab.run(f"components.{stage}", *arguments, "--planned", planned_key("this", OTHER)).refused(
            f"this step was planned with code {OTHER.name}, and what is installed here is another (code {code.name}, numpy ",
            "build the image from the commit that submits",
        )
        assert lab.outputs() == before
        lab.run(f"components.{stage}", *arguments, "--planned", planned_key("this", code)).succeeded()
    assert (lab.place / "report/table.md").exists()


def test_a_finished_run_is_no_excuse(lab, tasks):
    """What is done already was made by the code that is here, not by the planned one."""
    _, arguments = tasks["ingest"]
    lab.run("components.ingest", *arguments).succeeded()
    lab.run("components.ingest", *arguments, "--planned", planned_key("this", OTHER)).refused("this step was planned with code")
