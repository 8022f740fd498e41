"""The project's one on-disk format of episodes: flat arrays over transitions, offsets of the episodes, one JSON file.

A dataset is a directory with one ``.npy`` file a field and ``meta.json``; docs/datasets.md lists every field. Letters: E episodes,
T transitions, R = T + E rows (every episode keeps the observation after its last transition), N agents, A actions,
O observation size, S state size.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from inspo_core.datasets.episodes import EpisodeDataset
from inspo_core.datasets.npy import open_array
from inspo_core.datasets.validation import validate, validate_sizes
from inspo_core.errors import InspoError, quoted
from inspo_core.files import file_hash, hash_of, read_json

SCHEMA_VERSION = 1
META = "meta.json"
SHA256 = re.compile(r"[0-9a-f]{64}")

# The fields on disk.
DTYPES = {
    "observations": np.dtype("<f4"),
    "states": np.dtype("<f4"),
    "available_actions": np.dtype("?"),
    "actions": np.dtype("<i2"),
    "rewards": np.dtype("<f4"),
    "terminations": np.dtype("?"),
    "truncations": np.dtype("?"),
    "behavior_log_probs": np.dtype("<f4"),
    "episode_offsets": np.dtype("<i8"),
}
OPTIONAL = ("states", "available_actions", "behavior_log_probs")


def read_dataset(directory: Path, *, verify: bool = False) -> EpisodeDataset:
    """Open the dataset at ``directory``; all but the offsets stays on disk (memory-mapped, read-only).

    The contents are trusted, which the stage ``ingest`` has verified: only the files' sizes, types and shapes are checked, so that
    something missing or cut off is found. With ``verify`` every file is compared with its recorded hash and all values are validated.

    Raises InspoError naming the file and the field for whatever is missing, damaged or against the format.
    """
    meta_path = directory / META
    if not directory.is_dir():
        raise InspoError(f"{directory} is missing; get it with `dvc pull data.dvc` (raw data) or run the stage that makes it")
    meta = read_json(meta_path)
    _check_meta(meta, meta_path)
    arrays: dict[str, Any] = {name: _read_field(directory, name, meta["files"]) for name in DTYPES}
    dataset = EpisodeDataset(name=meta["name"], env=meta["env"], n_actions=meta["n_actions"], provenance=meta["provenance"], **arrays)
    validate_sizes(dataset, directory)
    for key in ("n_agents", "n_episodes", "n_transitions"):
        if meta[key] != getattr(dataset, key):
            raise InspoError(f"{meta_path}: {key} is {quoted(meta[key])}, the arrays hold {getattr(dataset, key)}; write the dataset anew")
    if verify:
        check_hashes(directory)
        validate(dataset, directory)
    return dataset


def check_hashes(directory: Path) -> None:
    """Raise InspoError that names the file unless every file of the dataset at ``directory`` has its recorded hash."""
    files = read_json(directory / META)["files"]
    for path in (directory / f"{name}.npy" for name in DTYPES if f"{name}.npy" in files):
        found, recorded = file_hash(path), files[path.name]["sha256"]
        if found != recorded:
            raise InspoError(
                f"{path} is damaged or changed: its SHA-256 begins {found[:12]}, {META} says {recorded[:12]}; get the dataset anew"
            )


def content_hash(directory: Path) -> str:
    """The hash of what the dataset at ``directory`` holds, whatever its name and provenance; made of the recorded file hashes."""
    meta_path = directory / META
    meta = read_json(meta_path)
    _check_meta(meta, meta_path)
    return hash_of({key: meta[key] for key in ("env", "n_actions", "files")})


def game_of(directory: Path) -> str:
    """The name of the game in which the dataset at ``directory`` was collected."""
    meta = read_json(directory / META)
    _check_meta(meta, directory / META)
    return str(meta["env"])


def _check_meta(meta: Any, path: Path) -> None:
    if not isinstance(meta, dict) or "schema_version" not in meta:
        raise InspoError(f"{path} has no schema_version, so this is not a dataset in the project's format; see docs/datasets.md")
    if type(meta["schema_version"]) is not int or meta["schema_version"] != SCHEMA_VERSION:
        raise InspoError(
            f"{path}: schema_version is {quoted(meta['schema_version'])}, this version reads {SCHEMA_VERSION}; write the dataset anew"
        )
    types = {"name": str, "env": str, "n_agents": int, "n_actions": int, "n_episodes": int, "n_transitions": int}
    for key, kind in {**types, "files": dict, "provenance": dict}.items():
        if type(meta.get(key)) is not kind:  # True is an int elsewhere
            raise InspoError(f"{path}: {key} is {quoted(meta.get(key))}, expected a JSON {kind.__name__}; write the dataset anew")
    for name, entry in meta["files"].items():
        if name.removesuffix(".npy") not in DTYPES or not name.endswith(".npy"):
            raise InspoError(f"{path}: files has an entry for {quoted(name)}, expected {', '.join(f'{field}.npy' for field in DTYPES)}")
        if not isinstance(entry, dict) or type(entry.get("bytes")) is not int or not SHA256.fullmatch(str(entry.get("sha256"))):
            raise InspoError(f"{path}: files.{name} is {quoted(entry)}, expected its bytes and sha256; write the dataset anew")


def _read_field(directory: Path, name: str, files: dict) -> np.ndarray | None:
    path = directory / f"{name}.npy"
    if path.name not in files:
        if name in OPTIONAL:
            return None
        raise InspoError(f"{directory / META}: files has no entry for {path.name}, which every dataset needs; write the dataset anew")
    if not path.is_file():
        raise InspoError(f"{path} is missing though {META} lists it; get the dataset anew (`dvc checkout` or the stage that makes it)")
    size = path.stat().st_size
    if size != (recorded := files[path.name]["bytes"]):
        raise InspoError(f"{path} holds {size} bytes, {META} says {quoted(recorded)}: it was cut off or changed; get the dataset anew")
    array = open_array(path, "get the dataset anew")
    if array.dtype != DTYPES[name]:
        raise InspoError(f"{path}: {name} are stored as {array.dtype}, expected {DTYPES[name]}; write the dataset anew")
    return np.array(array) if name == "episode_offsets" else array
