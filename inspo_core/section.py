"""What a section of a YAML file is: exact types, no unknown keys, no defaults; and what is said of one that is wrong."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from inspo_core.errors import InspoError, quoted, shortened

Positive = Field(gt=0)
NonNegative = Field(ge=0)
Probability = Field(ge=0, le=1)
Widths = Annotated[list[Annotated[int, Positive]], Field(min_length=1)]
LARGEST_SEED = 2**53 - 1  # Kubeflow's parameters are doubles: beyond it they are no longer whole numbers one by one
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]

# Names become parts of paths, of addresses, of commands in dvc.yaml and of the names of files that are written aside.
LONGEST_NAME = 100
NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{LONGEST_NAME - 1}}}")
NAME_MEANS = f"a name of letters, digits, _ and -, at most {LONGEST_NAME}, that does not begin with - and is no device's (con, nul)"
DEVICES = ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)))  # of Windows


def is_name(text: str) -> bool:
    """Whether ``text`` can be the name of a dataset, a variant, an experiment or a task: see :data:`NAME_MEANS`."""
    return bool(NAME.fullmatch(text)) and text.lower() not in DEVICES


def check_name(text: str, place: str) -> str:
    """``text``, which was given as ``place``. Raises InspoError if it can be no name."""
    if not is_name(text):
        raise InspoError(f"{place} is {quoted(text)}, expected {NAME_MEANS}")
    return text


def _named(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"expected {NAME_MEANS}")
    return text


Name = Annotated[str, AfterValidator(_named)]


class Section(BaseModel):
    """Keys and values of a file: exact types, no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def neighbours(name: str, known: Iterable[str]) -> str:
    """`` ; did you mean ...?`` if some of the ``known`` names are close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def close_or_known(name: str, known: Iterable[str]) -> str:
    """:func:`neighbours`, or all that is known where none is close."""
    known = list(dict.fromkeys(known))
    return neighbours(name, known) or (f"; known: {', '.join(known)}" if known else "; there is none")


def sentences(
    error: ValidationError,
    noun: str,
    known: Callable[[tuple[int | str, ...]], Iterable[str]],
    place: Callable[[tuple[int | str, ...]], str] = lambda location: ".".join(map(str, location)),
    is_secret: Callable[[tuple[int | str, ...]], bool] = lambda location: False,
) -> str:
    """What pydantic found wrong, key by key.

    ``noun`` is what a key is called; ``known`` gives the keys of the section at a location, ``place`` a location's name; what was
    found at a location that ``is_secret`` is not repeated.
    """
    found = []
    for one in error.errors():
        location, value, message = one["loc"], one["input"], one["msg"].removeprefix("Value error, ")
        if location and location[-1] == "[key]":  # what is wrong is the name of the key itself
            location = location[:-1]
        name = shortened(place(location))
        if one["type"] == "extra_forbidden":
            found.append(f"unknown {noun} {name}{close_or_known(str(location[-1]), known(location[:-1]))}")
        elif one["type"] == "missing":
            found.append(f"{noun} {name} is missing")
        elif not name:
            found.append(message)
        elif is_secret(location) or isinstance(value, BaseModel) or (isinstance(value, dict) and one["type"] == "value_error"):
            found.append(f"{noun} {name}: {message}")
        else:
            what = "a mapping" if isinstance(value, dict) else quoted(value)
            found.append(f"{noun} {name} is {what}: {message[:1].lower()}{message[1:]}")
    return "; ".join(found)
