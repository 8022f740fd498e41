"""What machines share: finished runs, checkpoints of unfinished ones, and how tasks ended.

``INSPO_STORE`` names the place: a directory, such as a mounted volume, or ``s3://bucket/prefix`` with credentials and endpoint
from AWS's environment variables or files. Below it:

    <stage>/<fingerprint>/       the folder of a finished run; run.json is written last and says that the rest is there
    checkpoints/<fingerprint>/   checkpoint.pt and metrics.jsonl of an unfinished one
    tasks/<key>.json             how the seeds of a task of a pipeline ended
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from inspo_core.errors import InspoError
from inspo_core.files import atomic_directory, atomic_file, canonical_json, read_json, write_json
from inspo_core.parsing import parse_json

T = TypeVar("T")

LAST = "run.json"
CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"


class SharedStore:
    """The store at ``uri``; every method raises InspoError when it cannot be used, those of checkpoints apart."""

    def __init__(self, uri: str):
        self._uri = uri
        try:
            self._fs, self._root = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as error:
            raise InspoError(f"INSPO_STORE is {uri!r}, expected a directory or s3://bucket/prefix ({error})") from error
        self._kept: dict[str, int] = {}  # fingerprint -> time of the checkpoint that was kept last
        self._warned = False

    @classmethod
    def from_environment(cls) -> "SharedStore | None":
        """The store that ``INSPO_STORE`` names, if it names one. Raises InspoError if nothing can be written there."""
        uri = os.environ.get("INSPO_STORE")
        if not uri:
            return None
        store = cls(uri)
        store._write("writable", b"")
        return store

    def holds(self, stage: str, fingerprint: str) -> bool:
        """Whether the finished run is there."""
        return LAST in self._names(f"{stage}/{fingerprint}")

    def fetch(self, stage: str, fingerprint: str, out: Path, labels: Mapping[str, str | None]) -> bool:
        """Put the finished run at ``out``; False if there is none.

        Its ``run.json`` gets ``labels``: the names of a dataset or a variant are in no fingerprint, and another may have shared the run.
        """
        names = self._names(f"{stage}/{fingerprint}")
        if LAST not in names:
            return False
        with atomic_directory(out) as place:
            for name in names:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(self._read(f"{stage}/{fingerprint}/{name}"))
            write_json(place / LAST, read_json(place / LAST) | labels)
        return True

    def keep(self, stage: str, fingerprint: str, folder: Path) -> None:
        """Share the finished run in ``folder``; its checkpoint is no longer needed."""
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        for name in sorted(names, key=lambda name: name == LAST):
            self._write(f"{stage}/{fingerprint}/{name}", (folder / name).read_bytes())
        for name in self._found(f"checkpoints/{fingerprint}"):
            self._use(lambda: self._fs.rm_file(f"{self._root}/checkpoints/{fingerprint}/{name}"))

    def fetch_checkpoint(self, fingerprint: str, work: Path) -> None:
        """Put the checkpoint of an unfinished run into ``work``, if there is one and ``work`` has none of its own.

        Where that fails the run starts anew, with a warning.
        """
        if (work / CHECKPOINT).exists():
            return
        try:
            if CHECKPOINT not in self._names(f"checkpoints/{fingerprint}"):
                return
            for name in (METRICS, CHECKPOINT):
                with atomic_file(work / name) as aside:
                    aside.write_bytes(self._read(f"checkpoints/{fingerprint}/{name}"))
            self._kept[fingerprint] = (work / CHECKPOINT).stat().st_mtime_ns
        except InspoError as error:
            print(f"warning: the run in {work} starts anew, without a shared checkpoint; {error}", file=sys.stderr, flush=True)

    def keep_checkpoint(self, fingerprint: str, work: Path) -> None:
        """Share the checkpoint in ``work``, if there is a new one. Where that fails the run goes on, with one warning."""
        try:
            made = (work / CHECKPOINT).stat().st_mtime_ns
            if made == self._kept.get(fingerprint):
                return
            # A checkpoint needs the metrics that were written before it; more of them do no harm.
            checkpoint, metrics = (work / CHECKPOINT).read_bytes(), (work / METRICS).read_bytes()
        except FileNotFoundError:
            return  # none yet, or the run has just ended
        self._kept[fingerprint] = made
        try:
            self._write(f"checkpoints/{fingerprint}/{METRICS}", metrics)
            self._write(f"checkpoints/{fingerprint}/{CHECKPOINT}", checkpoint)
        except InspoError as error:
            if not self._warned:
                self._warned = True
                print(f"warning: checkpoints are kept on this machine only; {error}", file=sys.stderr, flush=True)

    def read_record(self, key: str) -> Any:
        """What :meth:`write_record` has written under ``key``; None if nothing was."""
        name = f"{key}.json"
        return parse_json(self._read(f"tasks/{name}"), f"{self._uri}/tasks/{name}") if name in self._names("tasks") else None

    def write_record(self, key: str, value: Any) -> None:
        self._write(f"tasks/{key}.json", canonical_json(value).encode())

    def _names(self, folder: str) -> list[str]:
        """The whole files below ``folder``, as paths relative to it."""
        return [name for name in self._found(folder) if ".new-" not in name]  # what a killed process was writing

    def _found(self, folder: str) -> list[str]:
        place = f"{self._root}/{folder}"

        def find() -> list[str]:
            self._fs.invalidate_cache()
            return self._fs.find(place)

        return [found.removeprefix(f"{place}/") for found in self._use(find)]

    def _read(self, name: str) -> bytes:
        return self._use(lambda: self._fs.cat_file(f"{self._root}/{name}"))

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all."""
        if isinstance(self._fs, LocalFileSystem):
            with atomic_file(Path(self._root) / name) as aside:
                aside.write_bytes(content)
        else:
            self._use(lambda: self._fs.pipe_file(f"{self._root}/{name}", content))

    def _use(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # each kind of store fails with errors of its own
            raise InspoError(f"the store {self._uri} (INSPO_STORE) cannot be used: {type(error).__name__}: {error}") from error
