"""Raw data that are in the project's own format already."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from inspo_core.datasets.episodes import EpisodeDataset
from inspo_core.datasets.format import check_hashes, read_dataset
from inspo_core.section import Section


def read(raw: Path, name: str, game: str, options: Section) -> Iterator[EpisodeDataset]:
    """The episodes of the dataset at ``raw`` under the name ``name``, as views of its files; of which game it is, it says itself.

    Raises InspoError for files that are missing, damaged or not in the format.
    """
    dataset = replace(read_dataset(raw), name=name)
    check_hashes(raw)
    yield from dataset.blocks()
