"""What to run: ``params.yaml``, typed. One section a stage, no defaults in code, an unknown key is an error."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from inspo_core.algorithm_configs import ALGORITHM_CONFIGS, LoopConfig, NonNegative, Positive, Section, TrainConfig, Widths
from inspo_core.errors import InspoError


class ExperimentConfig(Section):
    name: str = Field(min_length=1)
    datasets: list[str] = Field(min_length=1)
    algorithms: list[str] = Field(min_length=1)
    seeds: list[Annotated[int, NonNegative]] = Field(min_length=1)

    @field_validator("datasets", "algorithms", "seeds")
    @classmethod
    def _distinct(cls, values: list) -> list:
        if repeated := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"{repeated[0]!r} is listed more than once")
        return values


class SourceConfig(Section):
    """Where a dataset comes from: its foreign format, the game it was collected in, and the format's quirks."""

    format: Literal["native", "alberdice"]
    env: str
    timeout_at: int | None = Field(default=None, gt=0)


class IngestConfig(Section):
    sources: dict[str, SourceConfig]


class BehaviorConfig(Section):
    hidden: Widths
    memory: int = NonNegative
    learning_rate: float = Positive
    batch_size: int = Positive
    steps: int = Positive
    check_every: int = Positive
    held_out: float = Field(gt=0, lt=1)

    @field_validator("check_every")
    @classmethod
    def _divides_steps(cls, value: int, others: ValidationInfo) -> int:
        if others.data.get("steps", value) % value:
            raise ValueError(f"expected a divisor of behavior.steps, {others.data['steps']}")
        return value


class VariantConfig(Section):
    """An algorithm, and the ``train`` parameters in which the variant differs from it."""

    model_config = ConfigDict(extra="allow")
    algorithm: str

    @property
    def changes(self) -> dict[str, Any]:
        return self.model_extra


class EvaluateConfig(Section):
    episodes: int = Positive
    seed: int = NonNegative


class ReportConfig(Section):
    confidence: float = Field(gt=0, lt=1)
    bootstrap: int = Positive


class Params(Section):
    experiment: ExperimentConfig
    ingest: IngestConfig
    behavior: BehaviorConfig
    train: TrainConfig
    variants: dict[str, VariantConfig]
    evaluate: EvaluateConfig
    report: ReportConfig

    @model_validator(mode="after")
    def _every_learner_is_one(self) -> "Params":
        for name in self.variants:
            if name in ALGORITHM_CONFIGS or name == DEFAULT or not re.fullmatch(r"[\w-]+", name):
                raise InspoError(f"variants.{name}: expected a name of letters, digits, _ and - that is no algorithm's and not {DEFAULT!r}")
        for name in [*self.variants, *self.experiment.algorithms]:
            learner_of(name, self)
        return self


DEFAULT = "default"  # the variant of an algorithm that is run as ``train`` says


def algorithm_config(algorithm: str, train: TrainConfig) -> Section:
    """The part of the ``train`` section that ``algorithm`` reads."""
    return _narrow(train, ALGORITHM_CONFIGS[algorithm])


def loop_config(train: TrainConfig) -> LoopConfig:
    """The part of the ``train`` section that the loop reads, whatever the algorithm."""
    return _narrow(train, LoopConfig)


def label(algorithm: str, variant: str) -> str:
    """The name under which an algorithm or a variant of it is run and shown."""
    return algorithm if variant == DEFAULT else variant


@dataclass(frozen=True)
class Learner:
    """What learns: an algorithm with the parameters of the ``train`` section (variant ``default``) or a variant of it."""

    algorithm: str
    variant: str
    loop: LoopConfig
    config: Section


def learner_of(name: str, params: Params) -> Learner:
    """The algorithm or variant ``name``. Raises InspoError: there is none, or the variant does not fit its algorithm."""
    if name in ALGORITHM_CONFIGS:
        return Learner(name, DEFAULT, loop_config(params.train), algorithm_config(name, params.train))
    if name not in params.variants:
        known = [*ALGORITHM_CONFIGS, *params.variants]
        raise InspoError(f"there is no algorithm or variant {name!r}{_neighbour(name, dict.fromkeys(known)) or '; known: ' + ', '.join(known)}")
    variant, place = params.variants[name], f"variants.{name}"
    algorithm = variant.algorithm
    if algorithm not in ALGORITHM_CONFIGS:
        raise InspoError(f"parameter {place}.algorithm is {algorithm!r}: expected one of {', '.join(ALGORITHM_CONFIGS)}")
    read = dict.fromkeys([*ALGORITHM_CONFIGS[algorithm].model_fields, *LoopConfig.model_fields])
    for key in variant.changes:
        if key not in read:
            close = _neighbour(key, read) or "; known here: " + ", ".join(read)
            raise InspoError(f"{algorithm} has no parameter {place}.{key}{close}")
    try:
        train = TrainConfig.model_validate(params.train.model_dump() | variant.changes)
    except ValidationError as error:
        raise InspoError(_sentences(error, place)) from error
    return Learner(algorithm, name, loop_config(train), algorithm_config(algorithm, train))


S = TypeVar("S", bound=Section)


def source_of(dataset: str, sources: Mapping[str, SourceConfig]) -> SourceConfig:
    """Where ``dataset`` comes from; InspoError if ``ingest.sources`` does not say."""
    if dataset not in sources:
        raise InspoError(f"params.yaml: ingest.sources has no dataset {dataset!r}; add it there, or use one of {', '.join(sources)}")
    return sources[dataset]


def _narrow(train: TrainConfig, section: type[S]) -> S:
    return section(**{name: getattr(train, name) for name in section.model_fields})


def load_params(path: Path, overrides: Sequence[str] = ()) -> Params:
    """Read ``params.yaml``, or a file with the key ``base`` and what differs from that file, and apply overrides.

    ``base`` is relative to the file that names it. Sections and their keys replace those of the base one by one, lists as a whole.
    An override is ``section.key=value`` (the value is YAML) or a JSON object ``{"section.key": value, ...}``,
    which is how Kubeflow hands over a dictionary.

    Raises InspoError: unreadable file, bad YAML, unknown key, value of the wrong type or out of range, a base that leads back.
    """
    values = _read_values(path, ())
    for key, value in _parse_overrides(overrides):
        _set(values, key, _whole(value), path)
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise InspoError(f"{path}: {_sentences(error)}") from error
    except InspoError as error:
        raise InspoError(f"{path}: {error}") from error


def _read_values(path: Path, led_here: tuple[Path, ...]) -> dict:
    """What the file ``path`` says, on top of what its base says; ``led_here`` are the files that have it as their base."""
    try:
        values = _read_yaml(path.read_text())
    except OSError as error:
        named = f", the base of {led_here[-1]}" if led_here else ""
        raise InspoError(f"cannot read the parameters {path}{named}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InspoError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InspoError(f"{path} must hold one mapping with the sections {', '.join(Params.model_fields)}")
    if "base" not in values:
        return values
    base = values.pop("base")
    if not isinstance(base, str):
        raise InspoError(f"{path}: base is {base!r}, expected the name of a parameter file")
    place = path.parent / base
    if place.resolve() in [file.resolve() for file in (*led_here, path)]:
        raise InspoError(f"{path}: base is {base}, which leads back to itself; name a file that stands on its own")
    return _merged(_read_values(place, (*led_here, path)), values)


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: _merged(base.get(key), value) for key, value in over.items()}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the numbers of YAML 1.2: ``1e-05``, as DVC writes it, is one."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


def _read_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def _parse_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for override in overrides:
        try:
            if override.lstrip().startswith("{"):
                pairs += json.loads(override).items()
            else:
                key, equals, value = override.partition("=")
                if not equals:
                    raise ValueError("there is no '='")
                pairs.append((key.strip(), _read_yaml(value)))
        except (ValueError, yaml.YAMLError) as error:
            raise InspoError(f"--set {override!r} is not section.key=value nor a JSON object: {' '.join(str(error).split())}") from error
    return pairs


def _whole(value: Any) -> Any:
    """Whole numbers as integers: Kubeflow hands 3 over as 3.0."""
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _set(values: dict, dotted: str, value: Any, path: Path) -> None:
    names = dotted.split(".")
    place = values
    for depth, name in enumerate(names):
        of_a_variant = names[0] == "variants" and depth == len(names) - 1  # it names only what differs, so any key may be new
        if not isinstance(place, dict) or (name not in place and not of_a_variant):
            raise InspoError(f"--set {dotted}: there is no such parameter in {path}{_neighbour(name, place)}")
        parent, place = place, place.get(name)
    parent[names[-1]] = value


def _neighbour(name: str, place: Any) -> str:
    close = difflib.get_close_matches(name, [str(key) for key in place], n=3) if isinstance(place, dict) else []
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _sentences(error: ValidationError, place: str = "") -> str:
    """What is wrong, parameter by parameter; ``place`` is where the values stand, if not at the top of a file."""
    sentences = []
    for found in error.errors():
        name = ".".join(str(part) for part in ([place] if place else []) + list(found["loc"]))
        if found["type"] == "extra_forbidden":
            known = _known_keys(found["loc"][:-1])
            close = _neighbour(str(found["loc"][-1]), dict.fromkeys(known))
            sentences.append(f"unknown parameter {name}{close or '; known here: ' + ', '.join(known)}")
        elif found["type"] == "missing":
            sentences.append(f"parameter {name} is missing")
        else:
            sentences.append(f"parameter {name} is {found['input']!r}: {_lower(found['msg'].removeprefix('Value error, '))}")
    return "; ".join(sentences)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _known_keys(location: tuple) -> list[str]:
    section: Any = Params
    for part in location:
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        section = field.annotation if field else SourceConfig  # the keys of ingest.sources are the user's own
    return list(getattr(section, "model_fields", {}))
