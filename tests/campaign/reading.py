"""Readers that are not the project's own, to compare it with."""

import json
import math
from pathlib import Path
from typing import Any

from dvc.utils.serialize import parse_yaml


def dvc_reads(path: Path, text: str | None = None) -> Any:
    """What DVC reads in a YAML file, which is YAML 1.2. Raises what DVC raises."""
    return parse_yaml(path.read_text(encoding="utf-8") if text is None else text, str(path))


def merged(path: Path) -> Any:
    """A parameter file on top of its bases, as docs/dvc.md describes it."""
    values = dvc_reads(path)
    if isinstance(values, dict) and "base" in values:
        base = values.pop("base")
        return over(merged(path.parent / base), values)
    return values


def over(below: Any, above: Any) -> Any:
    """``above`` on top of ``below``: mappings key by key, all else replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: over(below[key], value) if key in below else value for key, value in above.items()}}


def first_difference(written: Any, read: Any, ignored: tuple[str, ...] = (), at: str = "") -> str | None:
    """Where ``read`` is not what was ``written``: a number may have become a float of the same value, and nothing else may differ.

    Keys that are only in ``read`` are defaults, and must be ``ignored``.
    """
    if isinstance(written, dict) and isinstance(read, dict):
        for key in written:
            if key not in read:
                return f"{at}{key} is not there"
            if found := first_difference(written[key], read[key], ignored, f"{at}{key}."):
                return found
        more = [str(key) for key in read if key not in written and key not in ignored]
        return f"{at}{more[0]} was never written" if more else None
    if isinstance(written, list | tuple) and isinstance(read, list | tuple):
        if len(written) != len(read):
            return f"{at[:-1]} has {len(read)} items, not {len(written)}"
        return next((found for pair in zip(written, read) if (found := first_difference(*pair, ignored, at))), None)
    numbers = [value for value in (written, read) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == 2:
        same = written == read or math.isnan(written) and math.isnan(read)
    else:
        same = type(written) is type(read) and written == read
    return None if same else f"{at[:-1]} is {str(read)[:60]!r}, written as {str(written)[:60]!r}"


def json_lines(path: Path) -> list[Any]:
    """The values of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
