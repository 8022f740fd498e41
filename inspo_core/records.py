"""What a run leaves: a folder whose ``run.json`` says what the run is and holds the hash of every file there.

The hash that it holds of itself is of all that it says, this one hash apart. Files that a run did not write are nobody's concern.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from inspo_core.errors import InspoError, quoted
from inspo_core.files import canonical_json, file_hash, hash_of, read_json, write_json

RECORD = "run.json"
HASHES = "hashes"


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json`` beside the files of ``folder``, which all belong to the run."""
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / RECORD]
    hashes = {path.relative_to(folder).as_posix(): file_hash(path) for path in files}
    write_json(folder / RECORD, {**record, HASHES: {**hashes, RECORD: _own_hash(record, hashes)}})


def read_record(folder: Path, stage: str, **fields: type) -> dict[str, Any]:
    """What ``run.json`` says, with at least ``fields``, each of its type; the files beside it are not looked at.

    Raises InspoError if it is not there or not what was written: run ``stage`` again, which writes it.
    """
    return _advised(_record, folder, stage, fields)


def check_run(folder: Path, stage: str, **fields: type) -> dict[str, Any]:
    """What ``run.json`` says, after every file of the run was compared with it. Raises InspoError as :func:`read_record` does."""
    return _advised(_whole, folder, stage, fields)


def content_of(record: Mapping[str, Any]) -> str:
    """One hash of the files of the run that ``record`` describes, whatever it says of itself."""
    return hash_of({name: value for name, value in record[HASHES].items() if name != RECORD})


def relabel(folder: Path, labels: Mapping[str, Any]) -> None:
    """Change what the record of the whole run in ``folder`` says under the names ``labels``."""
    record = _record(folder)
    del record[HASHES]
    write_record(folder, {**record, **labels})


def holds_run(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the folder holds, unchanged, the run that ``record`` describes."""
    try:
        found = _whole(folder)
    except InspoError:
        return False
    del found[HASHES]
    return bool(found == json.loads(canonical_json(record)))


def damage(folder: Path) -> str | None:
    """What is missing or changed in the folder of a run, in words; None if nothing is."""
    try:
        _whole(folder)
    except InspoError as error:
        return str(error)
    return None


def _advised(read: Callable[[Path], dict[str, Any]], folder: Path, stage: str, fields: Mapping[str, type]) -> dict[str, Any]:
    """What ``read`` finds, with ``fields``; what is wrong is said with the stage to run."""
    try:
        record = read(folder)
        for field, kind in fields.items():
            if type(record.get(field)) is not kind:
                what = f"is {quoted(record[field])}, expected {kind.__name__}" if field in record else "is missing"
                raise InspoError(f"{folder / RECORD}: {field} {what}")
    except InspoError as error:
        raise InspoError(f"{error}; run the {stage} stage again") from error
    return record


def _whole(folder: Path) -> dict[str, Any]:
    """What :func:`_record` reads, after every file of the run was compared with it. Raises InspoError, without advice."""
    record = _record(folder)
    for name in sorted(record[HASHES].keys() - {RECORD}):
        path = folder / name
        if not path.is_file():
            raise InspoError(f"{path} is missing")
        if file_hash(path) != record[HASHES][name]:
            raise InspoError(f"{path} is not what was written there, but damaged or changed")
    return record


def _record(folder: Path) -> dict[str, Any]:
    """Raises InspoError, without advice."""
    path = folder / RECORD
    if not path.is_file():
        raise InspoError(f"{path} is missing")
    try:
        record = read_json(path)
        hashes = {name: value for name, value in record[HASHES].items() if name != RECORD}
        is_whole = record[HASHES][RECORD] == _own_hash({key: record[key] for key in record if key != HASHES}, hashes)
    except KeyError as error:
        raise InspoError(f"{path} has not the hashes of the run's files, which every version after 0.1 writes") from error
    except (InspoError, AttributeError, TypeError, ValueError):  # no JSON, or JSON of another form
        is_whole = False
    if not is_whole:
        raise InspoError(f"{path} is not what was written there, but damaged or changed")
    return dict(record)


def _own_hash(record: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    return hash_of({**record, HASHES: dict(hashes)})
