"""The sections of ``params.yaml``."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from inspo_core.algorithms.configs import BehaviorConfig, ValueConfig
from inspo_core.errors import InspoError, quoted
from inspo_core.section import Name, NonNegative, Positive, Section, Seed, close_or_known

Device = Literal["auto", "cpu", "cuda"]


class ExperimentConfig(Section):
    name: Name
    datasets: list[Name] = Field(min_length=1)
    algorithms: list[str] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)

    @field_validator("datasets", "algorithms", "seeds")
    @classmethod
    def _distinct(cls, values: list[Any]) -> list[Any]:
        if repeated := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"{quoted(repeated[0])} is listed more than once")
        return values


class SourceConfig(Section):
    """Where a dataset comes from: its format, the game it was collected in, and what the format's reader must be told."""

    format: str
    env: str
    options: dict[str, Any] = {}  # the reader's own, for those that have any


class IngestConfig(Section):
    sources: dict[Name, SourceConfig]


class BehaviorSection(BehaviorConfig):
    device: Device


class LoopConfig(Section):
    """What every training needs of the loop."""

    device: Device
    iterations: int = Positive
    evaluate_every: int = NonNegative
    evaluate_episodes: int = Positive


class TrainConfig(LoopConfig, ValueConfig):
    """The section ``train``: what all algorithms share, and a block an algorithm, which :mod:`inspo_core.config.learners` reads."""

    model_config = ConfigDict(extra="allow")

    @property
    def blocks(self) -> dict[str, Any]:
        """What is no key that algorithms share."""
        return self.model_extra or {}


class VariantConfig(Section):
    """An algorithm, and the ``train`` parameters, shared ones or its own, in which the variant differs from it."""

    model_config = ConfigDict(extra="allow")
    algorithm: str

    @property
    def changes(self) -> dict[str, Any]:
        return self.model_extra or {}


class EvaluateConfig(Section):
    episodes: int = Positive
    seed: Seed


class ReportConfig(Section):
    confidence: float = Field(gt=0, lt=1)
    bootstrap: int = Positive
    figures: list[str]


class Params(Section):
    """The whole file."""

    experiment: ExperimentConfig
    ingest: IngestConfig
    behavior: BehaviorSection
    train: TrainConfig
    variants: dict[str, VariantConfig]
    evaluate: EvaluateConfig
    report: ReportConfig


def source_of(dataset: str, sources: Mapping[str, SourceConfig]) -> SourceConfig:
    """Where ``dataset`` comes from; InspoError if ``ingest.sources`` does not say."""
    if dataset not in sources:
        known = close_or_known(dataset, sources)
        raise InspoError(f"parameter ingest.sources has no dataset {quoted(dataset)}{known}; add it there or use one of those")
    return sources[dataset]
