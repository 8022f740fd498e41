"""What the data is: one on-disk episode format, its validator, a reader a foreign format, cards."""

from inspo_core.datasets.format import SCHEMA_VERSION, EpisodeDataset, content_hash, read_dataset, write_dataset
from inspo_core.datasets.validation import validate

__all__ = ["SCHEMA_VERSION", "EpisodeDataset", "content_hash", "read_dataset", "validate", "write_dataset"]
