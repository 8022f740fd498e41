"""What happened in a run, on disk before it is sent anywhere. Standard library only.

A run has a folder ``outbox/<name>/``:

- ``journal.jsonl`` grows an operation a line (``begin``, ``points``, ``artifact``, ``model``, ``final``, ``register``, ``end``);
- ``files/`` holds copies of artifacts and policies, since their originals may be replaced before they are delivered;
- ``state.json`` says how far the journal has been delivered, to which store, as which run.

The process that writes a journal, or delivers it, holds a lock on it, which the system releases when the process ends, however
it ends: a journal without ``end`` that nobody holds is that of a run whose process is gone.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from inspo_core.files import write_json

JOURNAL, STATE, LOCK, FILES = "journal.jsonl", "state.json", ".lock", "files"

# POSIX locks belong to the process and are lost when it closes any handle of the file, so one process opens a journal once.
_held: set[Path] = set()


class Journal:
    """One run's folder in the outbox, held by this process until :meth:`close`. OSError where the disk does not play along."""

    def __init__(self, folder: Path, lock: int):
        self.folder = folder
        self._lock: int | None = lock
        self._path = folder / JOURNAL
        self._unwritten = b""
        self._drop_torn_line()

    @classmethod
    def open(cls, folder: Path, *, create: bool = True) -> "Journal | None":
        """The journal in ``folder``; None if somebody else holds it, or if it is not there and must not be created."""
        folder = folder.absolute()
        if folder in _held:
            return None
        while True:
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            except (FileNotFoundError, NotADirectoryError):
                if create:
                    continue  # its deliverer has just removed it
                return None
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.stat(folder / LOCK)):
                    journal = cls(folder, lock)
                    _held.add(folder)
                    return journal
            except BlockingIOError:
                os.close(lock)
                return None
            except FileNotFoundError:
                pass  # locked, but removed in between
            except OSError:
                os.close(lock)
                raise
            os.close(lock)

    def close(self) -> None:
        """Let others have it. Closing twice is fine."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            _held.discard(self.folder)

    def remove(self) -> None:
        """Remove the folder, and let go."""
        retired = self.folder.with_name(f".{self.folder.name}.done-{os.getpid()}")
        os.replace(self.folder, retired)
        self.close()
        shutil.rmtree(retired, ignore_errors=True)

    def append(self, *operations: dict[str, Any]) -> None:
        """Add operations at the end; NaN and infinity are kept. What the disk does not take waits in memory for :meth:`flush`."""
        self._unwritten += "".join(json.dumps(operation, separators=(",", ":")) + "\n" for operation in operations).encode()
        with suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Write what the disk has not taken yet. After an OSError a later call tries it again."""
        if self._unwritten:
            size = self.size()
            try:
                with open(self._path, "ab") as file:
                    file.write(self._unwritten)
            except OSError:
                os.truncate(self._path, size)  # a full disk takes a part
                raise
            self._unwritten = b""

    def keep(self, path: Path, name: str) -> str:
        """Copy a file or a directory into the outbox as ``name``; returns the name under which it lies there."""
        target = self.folder / FILES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, target)
        return name

    def kept(self, name: str) -> Path:
        """Where :meth:`keep` has put it."""
        return self.folder / FILES / name

    def operations(self, position: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Operations from a byte position on, each with the position after it."""
        with open(self._path, "rb") as file:
            file.seek(position)
            for line in file:
                position += len(line)
                yield json.loads(line), position

    def size(self) -> int:
        """Bytes written so far."""
        return self._path.stat().st_size

    def last(self) -> dict[str, Any] | None:
        """The last operation."""
        last = None
        for operation, _ in self.operations():
            last = operation
        return last

    @property
    def state(self) -> dict[str, Any]:
        """How far it has been delivered: ``{"store", "run_id", "position", ...}``, or empty."""
        try:
            return json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        write_json(self.folder / STATE, state)

    def _drop_torn_line(self) -> None:
        with open(self._path, "a+b") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)


class Tail:
    """Reads the lines that are appended to a JSON-lines file of metrics, which need not exist yet."""

    def __init__(self, path: Path):
        self.path = path
        self._position = 0
        self._inode: int | None = None

    def read(self) -> list[dict[str, Any]]:
        """The whole lines since the last call; a file that was replaced or cut is read from its start again."""
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._position:
                    self._position, self._inode = 0, status.st_ino
                file.seek(self._position)
                whole = file.read()
        except OSError:
            return []
        whole = whole[: whole.rfind(b"\n") + 1]
        self._position += len(whole)
        return [line for line in map(_parse, whole.splitlines()) if line is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
