"""What a section of a YAML file is: exact types, no unknown keys, no defaults; and what is said of one that is wrong."""

import difflib
from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Positive = Field(gt=0)
NonNegative = Field(ge=0)
Probability = Field(ge=0, le=1)
Widths = Annotated[list[Annotated[int, Positive]], Field(min_length=1)]


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
        location, message = one["loc"], one["msg"].removeprefix("Value error, ")
        name = place(location)
        if one["type"] == "extra_forbidden":
            found.append(f"unknown {noun} {name}{close_or_known(str(location[-1]), known(location[:-1]))}")
        elif one["type"] == "missing":
            found.append(f"{noun} {name} is missing")
        elif not name:
            found.append(message)
        elif is_secret(location) or isinstance(one["input"], dict | BaseModel):
            found.append(f"{noun} {name}: {message}")
        else:
            found.append(f"{noun} {name} is {one['input']!r}: {message[:1].lower()}{message[1:]}")
    return "; ".join(found)
