"""Reading ``params.yaml``, or a file that is based on it, with what the command line overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.config.learners import SHARED, checked, own_keys
from inspo_core.config.sections import Params, SourceConfig
from inspo_core.errors import InspoError, quoted, shortened
from inspo_core.parsing import parse_json, parse_yaml
from inspo_core.section import close_or_known, neighbours, sentences

# Keys of earlier versions whose successors are not called `train.<algorithm>.<key>`: in `train`, and in a variant.
_MACHINE = "the environment variable INSPO_CHECKPOINT_EVERY, a setting of the machine"
MOVED = {
    "checkpoint_every": _MACHINE,
    "behavior": "train.inspo.behavior_model",
    "policy_steps": "train.inspo.policy_steps and train.bc.policy_steps",
}
MOVED_IN_VARIANTS = {"checkpoint_every": _MACHINE, "behavior": "{variant}.behavior_model"}


def load_params(path: Path, overrides: Sequence[str] = ()) -> Params:
    """Read ``params.yaml``, or a file with the key ``base`` and what differs from that file, and apply overrides.

    ``base`` is relative to the file that names it. Sections and their keys replace those of the base one by one, lists as a whole.
    An override is ``section.key=value`` (the value is YAML) or a JSON object ``{"section.key": value, ...}``,
    which is how Kubeflow hands over a dictionary.

    Raises InspoError: unreadable file, bad YAML, a key twice, unknown key, value of the wrong type or out of range, a base that leads back.
    """
    values = _read_values(path, ())
    for key, value in _parse_overrides(overrides):
        _set(values, key, whole(value), path)
    try:
        _refuse_moved(values)
        _refuse_unknown(values.get("train"))
        return checked(Params.model_validate(values))
    except ValidationError as error:
        raise InspoError(f"{path}: {sentences(error, 'parameter', _known_keys)}") from error
    except InspoError as error:
        raise InspoError(f"{path}: {error}") from error


def _read_values(path: Path, led_here: tuple[Path, ...]) -> dict[str, Any]:
    """What the file ``path`` says, on top of what its base says; ``led_here`` are the files that have it as their base."""
    try:
        values = parse_yaml(path.read_bytes(), str(path))
    except OSError as error:
        named = f", the base of {led_here[-1]}" if led_here else ""
        raise InspoError(f"cannot read the parameters {path}{named}: {error.strerror}; expected a file of YAML") from error
    if not isinstance(values, dict):
        raise InspoError(f"{path} must hold one mapping with the sections {', '.join(Params.model_fields)}")
    if "base" not in values:
        return values
    base = values.pop("base")
    if not isinstance(base, str):
        raise InspoError(f"{path}: base is {quoted(base)}, expected the name of a parameter file")
    place = path.parent / base
    if place.resolve() in [file.resolve() for file in (*led_here, path)]:
        raise InspoError(f"{path}: base is {shortened(base)}, which leads back to itself; name a file that stands on its own")
    merged: dict[str, Any] = merge(_read_values(place, (*led_here, path)), values)
    return merged


def merge(base: Any, over: Any) -> Any:
    """``over`` on top of ``base``: mappings key by key, all else replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: merge(base.get(key), value) for key, value in over.items()}


def _parse_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for override in overrides:
        place = f"--set {quoted(override)}"
        if override.lstrip().startswith("{"):
            pairs += parse_json(override, place).items()
        else:
            key, equals, value = override.partition("=")
            if not equals:
                raise InspoError(f"{place} is not section.key=value nor a JSON object: there is no '='")
            pairs.append((key.strip(), parse_yaml(value, place)))
    return pairs


def whole(value: Any) -> Any:
    """Whole numbers as integers, at any depth: Kubeflow hands 3 over as 3.0."""
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _set(values: dict[str, Any], dotted: str, value: Any, path: Path) -> None:
    named = shortened(dotted)
    if successor := _successor(dotted):
        raise InspoError(f"--set {named}: this parameter is now {successor}")
    names = dotted.split(".")
    place: Any = values
    for depth, name in enumerate(names):
        of_a_variant = names[0] == "variants" and depth == len(names) - 1  # it names only what differs, so any key may be new
        if not isinstance(place, dict) or (name not in place and not of_a_variant):
            close = neighbours(name, map(str, place)) if isinstance(place, dict) else ""
            raise InspoError(f"--set {named}: there is no such parameter in {path}{close}")
        parent, place = place, place.get(name)
    parent[names[-1]] = value


def _refuse_moved(values: dict[str, Any]) -> None:
    """Raise InspoError for a key that an earlier version had, with the name that it has now."""
    keys = [f"train.{key}" for key in _mapping(values.get("train"))]
    variants = _mapping(values.get("variants"))
    keys += [f"variants.{name}.{key}" for name, changes in variants.items() for key in _mapping(changes)]
    for key in keys:
        if successor := _successor(key):
            raise InspoError(f"parameter {key} is now {successor}")


def _refuse_unknown(train: Any) -> None:
    """Raise InspoError for a key of ``train`` that is neither shared nor an algorithm: it may be another one's misspelling."""
    for name in _mapping(train):
        if name not in SHARED and name not in ALGORITHMS:
            raise InspoError(f"unknown parameter train.{shortened(name)}{close_or_known(name, [*SHARED, *ALGORITHMS])}")


def _mapping(values: Any) -> dict[str, Any]:
    """``values``, or nothing of what is no mapping and is refused later."""
    return values if isinstance(values, dict) else {}


def _successor(dotted: str) -> str | None:
    """What the key ``dotted`` of an earlier version is called now; None for one that is no such key."""
    place, _, key = dotted.rpartition(".")
    algorithm, _, own = key.partition("_")
    prefixed = algorithm in ALGORITHMS and own in own_keys(algorithm)
    if place == "train":
        if key in MOVED:
            return MOVED[key]
        if prefixed:
            return f"train.{algorithm}.{own}"
        return f"train.inspo.{key}" if key in own_keys("inspo") else None
    if place.startswith("variants."):
        if key in MOVED_IN_VARIANTS:
            return MOVED_IN_VARIANTS[key].format(variant=place)
        return f"{place}.{own}" if prefixed else None
    return None


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    section: Any = Params
    for part in location:
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        section = field.annotation if field else SourceConfig  # the keys of ingest.sources are the user's own
    return list(getattr(section, "model_fields", {}))
