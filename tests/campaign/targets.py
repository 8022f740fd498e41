"""All targets by name, and trying one."""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.campaign.inputs import Case, Outcome, Tally, Target, try_inputs
from tests.campaign.targets_config import ExperimentsTarget, OverridesTarget, ParametersTarget, PlacementsTarget
from tests.campaign.targets_data import AlberDICETarget, NativeTarget
from tests.campaign.targets_records import EnvironmentTarget, OutboxTarget, PlanTarget, TaskRecordsTarget
from tests.campaign.targets_runs import CheckpointsTarget, ResultsTarget, ResumedRecordsTarget, TrainingRecordsTarget

TARGETS: dict[str, type[Target]] = {
    kind.name: kind
    for kind in (
        ParametersTarget,
        ExperimentsTarget,
        OverridesTarget,
        PlacementsTarget,
        NativeTarget,
        AlberDICETarget,
        CheckpointsTarget,
        TrainingRecordsTarget,
        ResumedRecordsTarget,
        ResultsTarget,
        OutboxTarget,
        PlanTarget,
        TaskRecordsTarget,
        EnvironmentTarget,
    )
}


def try_target(name: str, seed: int, count: int, out: Path) -> tuple[Tally, list[dict[str, Any]]]:
    """The tally of a target, and what was accepted."""
    target, base, accepted = TARGETS[name](), out / "bases" / name.replace(" ", "-"), []
    for place in (base, base.with_name(f"{base.name}-store")):
        shutil.rmtree(place, ignore_errors=True)
    base.mkdir(parents=True)
    with contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
        target.prepare(base)

    def heard(number: int, case: Case, outcome: Outcome) -> None:
        if outcome.kind == "accepted":
            accepted.append({"target": name, "number": number, "what": case.what, "said": outcome.said[-200:]})

    with tempfile.TemporaryDirectory() as scratch:
        return try_inputs(target, base, Path(scratch) / "try", seed, count, heard), accepted
