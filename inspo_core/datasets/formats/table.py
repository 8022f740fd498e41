"""The formats of raw data by name."""

from dataclasses import dataclass

from inspo_core.section import Positive, Section
from inspo_core.tables import Entry, Table


class NoOptions(Section):
    """A format that says everything by itself."""


class AlberDICEOptions(Section):
    """``timeout_at``: an episode of exactly that many steps ran into the time limit, though it says terminated; null: flags are right."""

    timeout_at: int | None = Positive


@dataclass(frozen=True, kw_only=True)
class Format(Entry):
    """``target`` is a reader: ``read(raw, name, game, options) -> Iterator[EpisodeDataset]``.

    It gets the raw folder, the dataset's name, the game's name and an instance of ``options``, and yields all episodes in order, in blocks
    of some thousand transitions (``episodes.BLOCK``) or of one longer episode, so that no more than a block is in memory. It checks what
    is the raw format's own; whoever appends the blocks to an ``EpisodeWriter`` validates them.
    """

    options: type[Section] = NoOptions


FORMATS: Table[Format] = Table(
    "format",
    "inspo.formats",
    Format,
    {
        "native": Format(target="inspo_core.datasets.formats.native:read"),
        "alberdice": Format(target="inspo_core.datasets.formats.alberdice:read", options=AlberDICEOptions),
    },
)
