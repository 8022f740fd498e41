"""Runs that failed and are to be reported as failed, from a file that whoever ran them wrote."""

from pathlib import Path
from typing import Any

from inspo_core.config.sections import ExperimentConfig
from inspo_core.errors import InspoError, quoted
from inspo_core.files import read_json

FIELDS = {"dataset": str, "algorithm": str, "seed": int, "reason": str}

Failures = dict[tuple[str, str, int], str]  # (dataset, algorithm or variant, seed) -> reason


def read_failures(path: Path, experiment: ExperimentConfig) -> Failures:
    """Read ``[{"dataset", "algorithm", "seed", "reason"}, ...]``; ``algorithm`` may be a variant. Of a run listed twice the last counts.

    Raises InspoError: a file that is not such a list, or an entry that is not of ``experiment``.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InspoError(f"{path} holds {type(entries).__name__}, expected a list of objects with {', '.join(FIELDS)}")
    allowed: dict[str, list[Any]] = {"dataset": experiment.datasets, "algorithm": experiment.algorithms, "seed": experiment.seeds}
    found = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or entry.keys() != FIELDS.keys():
            raise InspoError(f"{path}, entry {number}: found {quoted(entry)}, expected an object with {', '.join(FIELDS)}")
        for field, kind in FIELDS.items():
            if type(entry[field]) is not kind:
                raise InspoError(f"{path}, entry {number}: {field} is {quoted(entry[field])}, expected {kind.__name__}")
        for field, values in allowed.items():
            if entry[field] not in values:
                what = f"{field} {quoted(entry[field])} is not in the experiment"
                raise InspoError(f"{path}, entry {number}: {what}, expected one of {quoted(values)}")
        found[entry["dataset"], entry["algorithm"], entry["seed"]] = " ".join(entry["reason"].split()) or "no reason given"
    return found
