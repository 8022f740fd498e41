"""Writing datasets in the project's format, episode by episode, in memory that does not grow with them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from inspo_core.datasets.episodes import PER_ROW, EpisodeDataset
from inspo_core.datasets.format import DTYPES, META, SCHEMA_VERSION
from inspo_core.datasets.validation import Position, validate, validate_sizes
from inspo_core.errors import InspoError
from inspo_core.files import atomic_directory, file_hash, write_json


class EpisodeWriter:
    """Appends blocks of whole episodes to the files of one dataset; :func:`episode_writer` makes one.

    The files are those that ``np.save`` would write of the whole arrays, byte for byte: a header of ``.npy`` keeps room for a longer first
    axis, so it can be written first and again, at the same length, when the length is known.
    """

    def __init__(self, place: Path, source: Path | str, files: ExitStack):
        self._place, self._source, self._stack = place, source, files
        self._files: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}  # of each field's values, without the first axis
        self._first: EpisodeDataset | None = None
        self._end = Position()

    def append(self, block: EpisodeDataset) -> None:
        """Check ``block`` and write it after all others.

        Raises InspoError for a block that breaks the format, or whose name, game, fields or sizes are not those of the first; positions
        are named as in the whole dataset.
        """
        validate(block, self._source, self._end)
        if self._first is None:
            self._begin(block)
        self._check_alike(block)
        for name, file in self._files.items():
            values = getattr(block, name)
            if name == "episode_offsets":
                values = values[1 if self._end.episodes else 0 :] + self._end.transitions
            file.write(np.ascontiguousarray(values, dtype=DTYPES[name]).data)
        self._end = self._end.after(block)

    def finish(self) -> None:
        """Complete the headers, write ``meta.json``. Raises InspoError if no block was appended."""
        if self._first is None:
            raise InspoError(f"{self._source} holds no episode, expected at least one")
        files = {}
        for name, file in self._files.items():
            file.seek(0)
            self._write_header(name)
            file.close()
            path = self._place / f"{name}.npy"
            files[path.name] = {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        meta = {
            "schema_version": SCHEMA_VERSION,
            "name": self._first.name,
            "env": self._first.env,
            "n_agents": self._first.n_agents,
            "n_actions": self._first.n_actions,
            "n_episodes": self._end.episodes,
            "n_transitions": self._end.transitions,
            "files": files,
            "provenance": dict(self._first.provenance),
        }
        write_json(self._place / META, meta)

    def _begin(self, block: EpisodeDataset) -> None:
        self._first = block.episodes(0, 1)
        for name in DTYPES:
            if (values := getattr(block, name)) is not None:
                self._shapes[name] = values.shape[1:]
                self._files[name] = self._stack.enter_context(open(self._place / f"{name}.npy", "wb"))
                self._write_header(name)

    def _check_alike(self, block: EpisodeDataset) -> None:
        place = f"{self._source}: the block from episode {self._end.episodes}"
        for name in ("name", "env", "n_actions"):
            found, expected = getattr(block, name), getattr(self._first, name)
            if found != expected:
                raise InspoError(f"{place} has {name} {found!r}, expected {expected!r} as before it")
        for name in DTYPES:
            values = getattr(block, name)
            found, expected = None if values is None else values.shape[1:], self._shapes.get(name)
            if found != expected:
                words = ["none" if shape is None else f"values of shape {shape}" for shape in (found, expected)]
                raise InspoError(f"{place} has {name}: {words[0]}, expected {words[1]} as before it")

    def _write_header(self, name: str) -> None:
        per_episode = {"episode_offsets": self._end.episodes + 1}
        per_row = dict.fromkeys(PER_ROW, self._end.transitions + self._end.episodes)
        length = (per_episode | per_row).get(name, self._end.transitions)
        header = {"descr": npy.dtype_to_descr(DTYPES[name]), "fortran_order": False, "shape": (length, *self._shapes[name])}
        npy.write_array_header_1_0(self._files[name], header)


@contextmanager
def episode_writer(directory: Path, source: Path | str) -> Iterator[EpisodeWriter]:
    """A writer whose dataset is put at ``directory`` when the block ends well; nothing is left there otherwise.

    ``source``: where the episodes come from, for messages. Raises InspoError for a place that cannot be written.
    """
    with atomic_directory(directory) as place, ExitStack() as files:
        writer = EpisodeWriter(place, source, files)
        yield writer
        writer.finish()


def write_dataset(dataset: EpisodeDataset, directory: Path) -> None:
    """Put ``dataset`` at ``directory``, whole or not at all. The same dataset gives the same bytes.

    Raises InspoError for a dataset that breaks the format and for a place that cannot be written.
    """
    source = f"dataset {dataset.name}"
    validate_sizes(dataset, source)
    with episode_writer(directory, source) as writer:
        for block in dataset.blocks():
            writer.append(block)
