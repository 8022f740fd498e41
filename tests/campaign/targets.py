"""All targets by name."""

from tests.campaign.inputs import Target
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
