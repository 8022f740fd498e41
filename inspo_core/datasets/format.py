"""The project's one on-disk format of episodes: flat arrays over transitions, offsets of the episodes, one JSON file.

A dataset is a directory with one ``.npy`` file a field and ``meta.json``; docs/datasets.md lists every field. Letters: E episodes,
T transitions, R = T + E rows (every episode keeps the observation after its last transition), N agents, A actions,
O observation size, S state size.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from inspo_core.datasets.validation import validate
from inspo_core.errors import InspoError
from inspo_core.files import atomic_directory, canonical_json, read_json, write_json
from inspo_core.fingerprint import file_hash

SCHEMA_VERSION = 1
META = "meta.json"

# The fields on disk. Actions are stored small and read as int64.
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


@dataclass(frozen=True)
class EpisodeDataset:
    """Episodes of a cooperative game, one after the other. Arrays may be read-only views of files."""

    name: str
    env: str  # the game's name in inspo_core.envs
    n_actions: int
    observations: np.ndarray  # (R, N, O) float32
    states: np.ndarray | None  # (R, S) float32
    available_actions: np.ndarray | None  # (R, N, A) bool; None: everything is available
    actions: np.ndarray  # (T, N) int64
    rewards: np.ndarray  # (T,) float32, the team's
    terminations: np.ndarray  # (T,) bool, the game ended here
    truncations: np.ndarray  # (T,) bool, a time limit cut the episode off here
    behavior_log_probs: np.ndarray | None  # (T, N) float32, natural logarithm
    episode_offsets: np.ndarray  # (E + 1,) int64, first transition of every episode, then T
    provenance: Mapping[str, Any] = field(default_factory=dict)  # JSON: where the data comes from

    @property
    def n_agents(self) -> int:
        return self.actions.shape[1]

    @property
    def n_transitions(self) -> int:
        return len(self.actions)

    @property
    def n_episodes(self) -> int:
        return len(self.episode_offsets) - 1

    @cached_property
    def rows(self) -> np.ndarray:
        """(T,) int64: the row of each transition's observation, state and mask; ``rows + 1`` are those after it."""
        episodes = np.repeat(np.arange(self.n_episodes), self.episode_lengths())
        return np.arange(self.n_transitions) + episodes

    def episode_lengths(self) -> np.ndarray:
        """(E,) int64: transitions of each episode."""
        return np.diff(self.episode_offsets)

    def episode_returns(self) -> np.ndarray:
        """(E,) float64: undiscounted sum of each episode's rewards."""
        return np.add.reduceat(np.asarray(self.rewards, dtype=np.float64), self.episode_offsets[:-1])

    def distinct_episodes(self) -> np.ndarray:
        """(E,) int64: for each episode the first episode that equals it exactly in all fields but the behavior log-probabilities."""
        first: dict[bytes, int] = {}
        return np.array([first.setdefault(self._digest(episode), episode) for episode in range(self.n_episodes)], dtype=np.int64)

    def _digest(self, episode: int) -> bytes:
        start, stop = self.episode_offsets[episode : episode + 2]
        digest = hashlib.sha256()
        for array in (self.actions, self.rewards, self.terminations, self.truncations):
            digest.update(array[start:stop].tobytes())
        for array in (self.observations, self.states, self.available_actions):
            if array is not None:
                digest.update(array[start + episode : stop + episode + 1].tobytes())
        return digest.digest()


def write_dataset(dataset: EpisodeDataset, directory: Path) -> None:
    """Validate ``dataset`` and put it at ``directory``, whole or not at all. The same dataset gives the same bytes.

    Raises InspoError for a dataset that breaks the format and for a place that cannot be written.
    """
    validate(dataset, f"dataset {dataset.name}")
    with atomic_directory(directory) as place:
        files = {}
        for name, dtype in DTYPES.items():
            values = getattr(dataset, name)
            if values is None:
                continue
            path = place / f"{name}.npy"
            np.save(path, np.ascontiguousarray(values, dtype=dtype), allow_pickle=False)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        meta = {
            "schema_version": SCHEMA_VERSION,
            "name": dataset.name,
            "env": dataset.env,
            "n_agents": dataset.n_agents,
            "n_actions": dataset.n_actions,
            "n_episodes": dataset.n_episodes,
            "n_transitions": dataset.n_transitions,
            "files": files,
            "provenance": dict(dataset.provenance),
        }
        write_json(place / META, meta)


def read_dataset(directory: Path, *, verify: bool = True) -> EpisodeDataset:
    """Open the dataset at ``directory``; all but the actions and offsets stay on disk (memory-mapped, read-only).

    ``verify`` compares every file with its recorded hash and then validates all values.
    Raises InspoError naming the file and the field for whatever is missing, damaged or against the format.
    """
    meta_path = directory / META
    if not directory.is_dir():
        raise InspoError(f"{directory} is missing; get it with `dvc pull data.dvc` (raw data) or run the stage that makes it")
    meta = read_json(meta_path)
    _check_meta(meta, meta_path)
    arrays = {name: _read_field(directory, name, meta["files"], verify) for name in DTYPES}
    dataset = EpisodeDataset(name=meta["name"], env=meta["env"], n_actions=meta["n_actions"], provenance=meta["provenance"], **arrays)
    if verify:
        validate(dataset, directory)
        for key in ("n_agents", "n_episodes", "n_transitions"):
            if meta[key] != getattr(dataset, key):
                raise InspoError(f"{meta_path}: {key} is {meta[key]}, the arrays hold {getattr(dataset, key)}; write the dataset anew")
    return dataset


def content_hash(directory: Path) -> str:
    """The hash of what the dataset at ``directory`` holds, whatever its name and provenance; made of the recorded file hashes."""
    meta_path = directory / META
    meta = read_json(meta_path)
    _check_meta(meta, meta_path)
    return hashlib.sha256(canonical_json({key: meta[key] for key in ("env", "n_actions", "files")}).encode()).hexdigest()


def _check_meta(meta: Any, path: Path) -> None:
    if not isinstance(meta, dict) or "schema_version" not in meta:
        raise InspoError(f"{path} has no schema_version, so this is not a dataset in the project's format; see docs/datasets.md")
    if meta["schema_version"] != SCHEMA_VERSION:
        raise InspoError(
            f"{path}: schema_version is {meta['schema_version']!r}, this version reads {SCHEMA_VERSION}; write the dataset anew with it"
        )
    types = {"name": str, "env": str, "n_agents": int, "n_actions": int, "n_episodes": int, "n_transitions": int}
    for key, kind in {**types, "files": dict, "provenance": dict}.items():
        if not isinstance(meta.get(key), kind):
            raise InspoError(f"{path}: {key} is {meta.get(key)!r}, expected a JSON {kind.__name__}; write the dataset anew")


def _read_field(directory: Path, name: str, files: dict, verify: bool) -> np.ndarray | None:
    path = directory / f"{name}.npy"
    if path.name not in files:
        if name in OPTIONAL:
            return None
        raise InspoError(f"{directory / META}: files has no entry for {path.name}, which every dataset needs; write the dataset anew")
    entry = files[path.name]
    if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int) or not isinstance(entry.get("sha256"), str):
        raise InspoError(f"{directory / META}: files.{path.name} is {entry!r}, expected its bytes and sha256; write the dataset anew")
    if not path.is_file():
        raise InspoError(f"{path} is missing though {META} lists it; get the dataset anew (`dvc checkout` or the stage that makes it)")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise InspoError(f"{path} holds {size} bytes, {META} says {entry['bytes']}: it was cut off or changed; get the dataset anew")
    if verify and (found := file_hash(path)) != entry["sha256"]:
        raise InspoError(
            f"{path} is damaged or changed: its SHA-256 begins {found[:12]}, {META} says {entry['sha256'][:12]}; get the dataset anew"
        )
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InspoError(f"{path} is not a readable .npy file ({error}); get the dataset anew") from error
    if array.dtype != DTYPES[name]:
        raise InspoError(f"{path}: {name} are stored as {array.dtype}, expected {DTYPES[name]}; write the dataset anew")
    if name in ("actions", "episode_offsets"):
        return np.array(array, dtype=np.int64)
    return array
