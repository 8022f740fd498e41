"""Writing files so that nothing half-written is ever seen: write aside, then rename."""

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from inspo_core.errors import InspoError
from inspo_core.parsing import parse_json

DAY = 86_400.0


def canonical_json(value: Any) -> str:
    """JSON whose bytes depend on the value alone: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_of(value: Any) -> str:
    """SHA-256 of a JSON value's canonical form, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hash(path: Path) -> str:
    """One hash of a file, or of a directory's relative file names and their contents.

    Raises InspoError if there is nothing at ``path``.
    """
    if path.is_file():
        return file_hash(path)
    if not path.is_dir():
        raise InspoError(f"{path} is missing; run the stage that makes it first")
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return hash_of({str(file.relative_to(path)): file_hash(file) for file in files})


@contextmanager
def atomic_file(path: Path, before: Path | None = None) -> Iterator[Path]:
    """Yield a path beside ``path``; rename it to ``path`` when the block ends well, remove it otherwise.

    An earlier ``path`` is renamed to ``before``, if that is given.
    """
    with _aside(path) as aside:
        yield aside
        with open(aside, "rb") as written:
            os.fsync(written.fileno())
        if before and path.exists():
            os.replace(path, before)
        os.replace(aside, path)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory beside ``path``; put it in the place of ``path`` when the block ends well.

    An earlier ``path`` stays untouched until then.
    """
    with _aside(path) as aside:
        aside.mkdir()
        yield aside
        retired = _beside(path, "old")
        if path.exists():
            os.replace(path, retired)
        os.replace(aside, path)
        shutil.rmtree(retired, ignore_errors=True)
        remove_abandoned(path.parent, f".{path.name}.old-")


def remove_abandoned(folder: Path, prefix: str = ".") -> None:
    """Remove what processes that were killed have left aside in ``folder``, of names that begin with ``prefix``.

    The processes of this machine are asked after; what another one left (a container, this one before it was started anew) goes when
    nothing in it has changed for a day.
    """
    for path in list(folder.iterdir()):
        if path.name.startswith(prefix) and (named := _ASIDE.match(path.name)) and _is_abandoned(path, named[1], int(named[2])):
            with suppress(OSError):  # another one's, and in nobody's way
                remove(path)


_ASIDE = re.compile(r"^\..+\.(?:new|old)-(?:([0-9a-f]{8})-)?(\d+)-[0-9a-f]{8}$")


def _beside(path: Path, kind: str) -> Path:
    # Process ids tell the writers of one machine apart, but not containers that share a volume.
    return path.with_name(f".{path.name}.{kind}-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}")


@cache
def _machine() -> str:
    """What numbers processes here: a start of a kernel, and a container in it."""
    return hash_of([Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"), os.readlink("/proc/self/ns/pid")])[:8]


def _is_abandoned(path: Path, machine: str | None, process: int) -> bool:
    if machine == _machine():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it is another user's
            pass
        return False
    try:
        return time.time() - max(file.lstat().st_mtime for file in [path, *path.rglob("*")]) > DAY
    except FileNotFoundError:  # its writer is at work
        return False


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    aside = _beside(path, "new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent, f".{path.name}.new-")
        yield aside
    except OSError as error:
        raise InspoError(
            f"cannot write {path}: {error.strerror or error}; free space there, make it writable, or choose another place"
        ) from error
    finally:
        with suppress(OSError):  # the place is not writable, which has been said
            remove(aside)


def check_writable(path: Path) -> None:
    """Raise InspoError unless something can be written at ``path``, which is better known before hours of work than after."""
    with _aside(path) as aside:
        aside.mkdir()


def check_replaceable(folder: Path, *marks: str) -> None:
    """Raise InspoError if ``folder``, which is to be replaced as a whole, holds files, but none of those by which one knows one's own."""
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / mark).exists() for mark in marks):
        raise InspoError(
            f"{folder} would be replaced as a whole, but is something else, since it holds no {' or '.join(marks)}; name another folder"
        )


def remove(path: Path) -> None:
    """Remove a file or a directory tree; a path that is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, whole or not at all."""
    with atomic_file(path) as aside:
        aside.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is an :class:`InspoError` that names it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InspoError(f"cannot read {path}: {error.strerror}; run the stage that makes it first") from error
    try:
        return parse_json(content, str(path))
    except InspoError as error:
        raise InspoError(f"{error}; make it anew with the stage that writes it") from error
