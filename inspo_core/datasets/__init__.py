"""What the data is: one on-disk episode format, its writer and validator, a reader a foreign format, cards."""

from inspo_core.datasets.episodes import EpisodeDataset
from inspo_core.datasets.format import SCHEMA_VERSION, content_hash, read_dataset
from inspo_core.datasets.validation import validate
from inspo_core.datasets.writer import episode_writer, write_dataset

__all__ = ["SCHEMA_VERSION", "EpisodeDataset", "content_hash", "episode_writer", "read_dataset", "validate", "write_dataset"]
