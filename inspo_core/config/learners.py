"""What learns: an algorithm as the section ``train`` has it, or a variant of it."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from inspo_core.algorithms.configs import LearnerConfig
from inspo_core.algorithms.table import ALGORITHMS, AlgorithmEntry
from inspo_core.config.sections import LoopConfig, Params, TrainConfig
from inspo_core.datasets.formats.table import FORMATS
from inspo_core.errors import InspoError, quoted, shortened
from inspo_core.section import NAME_MEANS, close_or_known, is_name, neighbours, sentences

DEFAULT = "default"  # the variant of an algorithm that is run as ``train`` says
SHARED = tuple(TrainConfig.model_fields)  # the keys of ``train`` that are no algorithm's own


@dataclass(frozen=True)
class Learner:
    """An algorithm with the parameters of the ``train`` section (variant ``default``) or a variant of it."""

    algorithm: str
    variant: str
    loop: LoopConfig
    config: LearnerConfig

    @property
    def label(self) -> str:
        return label(self.algorithm, self.variant)

    @property
    def entry(self) -> AlgorithmEntry:
        return ALGORITHMS[self.algorithm]


def label(algorithm: str, variant: str) -> str:
    """The name under which an algorithm or a variant of it is run and shown."""
    return algorithm if variant == DEFAULT else variant


def own_keys(algorithm: str) -> list[str]:
    """The keys of the algorithm's block."""
    return [key for key in ALGORITHMS[algorithm].config.model_fields if key not in SHARED]


def checked(params: Params) -> Params:
    """``params`` with the blocks' values in the types of their algorithms, in which 1 is 1.0 where a number may be a fraction.

    Raises InspoError unless every format is known, every block and every variant fits its algorithm, and ``experiment`` lists nothing else.
    """
    for dataset, source in params.ingest.sources.items():
        FORMATS.entry(source.format, f"parameter ingest.sources.{dataset}.format")
    blocks = {}
    for name in params.train.blocks:
        blocks[name] = _learner(params, name, DEFAULT, {}).config.model_dump(include=set(own_keys(name)))
    for name in params.variants:
        if name in ALGORITHMS or name == DEFAULT or not is_name(name):
            raise InspoError(f"variants.{shortened(name)}: expected {NAME_MEANS}, and that is no algorithm's and not {DEFAULT!r}")
    for name in [*params.variants, *params.experiment.algorithms]:
        learner_of(name, params)
    return params.model_copy(update={"train": params.train.model_copy(update=blocks)})


def learner_of(name: str, params: Params) -> Learner:
    """The algorithm or variant ``name``. Raises InspoError: there is none, or the variant does not fit its algorithm."""
    if name in ALGORITHMS:
        return _learner(params, name, DEFAULT, {})
    if name not in params.variants:
        raise InspoError(f"there is no algorithm or variant {quoted(name)}{close_or_known(name, [*ALGORITHMS, *params.variants])}")
    algorithm, changes, place = params.variants[name].algorithm, params.variants[name].changes, f"variants.{name}"
    ALGORITHMS.entry(algorithm, f"parameter {place}.algorithm")
    read = [*own_keys(algorithm), *(key for key in SHARED if key in ALGORITHMS[algorithm].config.model_fields), *LoopConfig.model_fields]
    for key in changes:
        if key not in read:
            close = neighbours(key, read) or "; known here: " + ", ".join(dict.fromkeys(read))
            raise InspoError(f"{algorithm} has no parameter {place}.{shortened(key)}{close}")
    return _learner(params, algorithm, name, changes)


def _learner(params: Params, algorithm: str, variant: str, changes: dict[str, Any]) -> Learner:
    own, block = own_keys(algorithm), params.train.blocks.get(algorithm)
    if own and not isinstance(block, dict):
        raise InspoError(f"parameter train.{algorithm} is {quoted(block)}: expected the block of {algorithm}, with {', '.join(own)}")
    if unknown := [key for key in block or {} if key not in own]:
        raise InspoError(f"unknown parameter train.{algorithm}.{shortened(unknown[0])}{close_or_known(unknown[0], own)}")
    values = params.train.model_dump(include=set(SHARED)) | (block or {}) | changes

    def place(location: tuple[int | str, ...]) -> str:
        key = location[0]
        section = f"variants.{variant}" if key in changes else f"train.{algorithm}" if key in own else "train"
        return ".".join([section, *map(str, location)])

    try:
        config = ALGORITHMS[algorithm].config
        return Learner(
            algorithm,
            variant,
            LoopConfig.model_validate({key: values[key] for key in LoopConfig.model_fields}),
            config.model_validate({key: values[key] for key in config.model_fields if key in values}),
        )
    except ValidationError as error:
        raise InspoError(sentences(error, "parameter", lambda _: own, place)) from error
