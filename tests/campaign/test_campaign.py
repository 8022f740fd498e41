"""The campaign itself, and small forms of it: docs/reliability.md says how the whole of it is run."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.campaign.inputs import Case, Target, attempt, load_case, save_case, try_inputs
from tests.campaign.kills import KINDS, Plan, run_kills
from tests.campaign.records import differences
from tests.campaign.resources import CHECKS, Place
from tests.campaign.sentences import faults_of
from tests.campaign.targets import TARGETS

QUICK = ("params", "experiments", "overrides", "native data", "AlberDICE data", "plan")


@pytest.mark.parametrize(
    ("said", "status", "faults"),
    [
        ("error: a.yaml: parameter x.y is 7, expected at most 5\n", 2, []),
        ("warning: MLflow is away\nerror: a.yaml: parameter x.y is 7, expected at most 5\n", 2, []),
        ("error: a.yaml: parameter x.y is 7, expected at most 5\n", 1, ["exit status 1, not 2"]),
        ("a note\nerror: a.yaml: x.y is 7, expected 5\n", 2, ["more lines, such as 'a note'"]),
        ("error: x.y is 7, expected at most 5\n", 2, ["names neither the file nor the option"]),
        ("error: a.yaml is wrong in 7 places, expected none\n", 2, ["does not name the field"]),
        ("error: a.yaml: y is wrong, expected at most 5\n", 2, ["does not say what was found"]),
        ("error: a.yaml: y became 7\n", 2, ["does not say what was expected"]),
        (f"error: a.yaml: y is 7{'7' * 600}, expected 5\n", 2, ["longer than 600 characters"]),
        ("error: a.yaml: y is 7\0, expected 5\n", 2, ["not printable"]),
        ("Traceback (most recent call last):\n", 1, ["exit status 1, not 2", "0 lines begin with 'error: '"]),
    ],
)
def test_the_checker_finds_what_a_sentence_lacks(said, status, faults):
    assert faults_of(said, status, ["a.yaml"], ["x.y", "y"], ["7"]) == faults


def test_a_try_is_made_of_its_number_alone():
    plans = [Plan.of(3, number) for number in range(60)]
    assert plans == [Plan.of(3, number) for number in range(60)] != [Plan.of(4, number) for number in range(60)]
    assert {plan.kind for plan in plans} == {"nothing", *KINDS}
    assert {len(plan.moments) for plan in plans} == {0, 1, 2} and {plan.store for plan in plans} == {False, True}


def test_points_that_are_lost_or_doubled_are_differences():
    expected = {"seed 0": {"status": "FINISHED", "points": Counter({"loss 1 0.5": 1, "loss 2 0.4": 1})}, "seed 1": {}}
    found = {"seed 0": {"status": "KILLED", "points": Counter({"loss 1 0.5": 2})}}
    assert differences(expected, expected) == []
    assert differences(expected, found) == [
        "seed 1: missing",
        "seed 0: status is KILLED, expected FINISHED",
        "seed 0: 1 of 2 points lost, such as loss 2 0.4",
        "seed 0: 1 points too many, such as loss 1 0.5",
    ]


def prepared(name: str, place: Path) -> tuple[Target, Path]:
    target, base = TARGETS[name](), place / "base"
    base.mkdir()
    target.prepare(base)
    return target, base


@pytest.mark.parametrize("name", QUICK)
def test_inputs_of_both_ends_are_drawn_the_same_ones_for_a_seed(name, tmp_path):
    target, base = prepared(name, tmp_path)
    drawn: list[list[tuple[str, str]]] = [[], []]
    for ends in drawn:
        try_inputs(target, base, tmp_path / "try", 1, 20, lambda number, case, outcome: ends.append((case.what, outcome.kind)))
    assert drawn[0] == drawn[1] and len(drawn[0]) == 20 and len(set(drawn[0])) > 12
    assert {"accepted", "refused"} <= {kind for _, kind in drawn[0]}


class BrokenTarget(Target):
    """A command with every fault that the campaign looks for."""

    name = "broken"

    def prepare(self, place: Path) -> None:
        (place / "kept").write_text("as it was")

    def cases(self, place: Path):
        raise NotImplementedError

    def call(self, case: Case) -> None:
        if case.what == "exception":
            raise KeyError("x")
        if case.what == "half-written":
            Path("kept").write_text("changed")
            raise SystemExit(2)
        if case.what == "left over":
            Path(".kept.new-1-2").write_text("")
        if case.what == "outside":
            Path("../escaped").write_text("")
        if case.what == "inconsistent":
            Path("out").write_text("")

    def check(self, case: Case, place: Path, said: str) -> str | None:
        return "there is something" if (place / "out").exists() else None


@pytest.mark.parametrize("fault", ["exception", "half-written", "left over", "outside", "inconsistent"])
def test_every_kind_of_fault_is_found_and_its_input_kept(fault, tmp_path):
    target = BrokenTarget()
    (tmp_path / "base").mkdir()
    target.prepare(tmp_path / "base")
    assert attempt(target, Case("nothing"), tmp_path / "base", tmp_path / "try").faults == []
    case = Case(fault, {"a": b"\xff", "b": None}, ["x"], {"INSPO_WORKERS": "1"}, ("a",), ("b",), ("c",))
    outcome = attempt(target, case, tmp_path / "base", tmp_path / "try")
    assert outcome.kind == "fault" and any(found.startswith(fault) for found in outcome.faults), outcome.faults
    assert load_case(save_case("broken", 3, case, outcome, tmp_path / "faults")) == ("broken", case)


@pytest.mark.campaign
@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_end_well(name, tmp_path):
    target, base = prepared(name, tmp_path)
    tally = try_inputs(target, base, tmp_path / "try", 1, 60)
    assert not tally.kinds, {kind: case.what for kind, (_, case, _) in tally.first.items()}


@pytest.mark.campaign
def test_killed_commands_go_on_to_the_same_end(tmp_path):
    assert run_kills(1, 4, tmp_path, []) == 0


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["disk full: train", "32 file descriptors: train", "MLflow's database: locked", "two clones, one store"])
def test_resources_that_fail(name, tmp_path):
    (check,) = [check for check in CHECKS if check.name == name]
    assert check.run(Place(tmp_path), random.Random(1)) == []
