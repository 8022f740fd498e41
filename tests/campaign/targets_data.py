"""Mutated raw data: the native format and AlberDICE's folders, through ingest."""

import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from components.ingest.__main__ import main
from inspo_core.datasets import EpisodeDataset, write_dataset
from inspo_core.datasets.build import SETS
from tests.campaign.inputs import Case, Target
from tests.campaign.mutations import array_changed, dumped_json, json_changed
from tests.campaign.reading import dvc_reads
from tests.campaign.sentences import ways_to_say
from tests.campaign.targets_config import ROOT, dumped

DATASET, RAW = "set", "data/set"
EPISODES = 6


def small_set() -> EpisodeDataset:
    """Some episodes of Bridge: with states, masks and episodes of unlike lengths."""
    some = SETS["bridge_mixed"]().episodes(497, 497 + EPISODES)
    return replace(some, available_actions=np.ones((*some.observations.shape[:2], some.n_actions), bool))


def alberdice_arrays(dataset: EpisodeDataset) -> dict[str, np.ndarray]:
    """The episodes as AlberDICE's padded batch."""
    lengths = dataset.episode_lengths()
    filled = np.arange(lengths.max() + 1) <= lengths[:, None]
    played = np.arange(lengths.max() + 1) < lengths[:, None]
    last = np.arange(lengths.max() + 1) == lengths[:, None] - 1

    def padded(where: np.ndarray, values: np.ndarray, dtype: Any) -> np.ndarray:
        array = np.zeros((*where.shape, *values.shape[1:]), dtype)
        array[where] = values
        return array

    return {
        "obs": padded(filled, dataset.observations, np.float32),
        "state": padded(filled, dataset.states, np.float32),
        "actions": padded(played, dataset.actions[..., None], np.int64),
        "avail_actions": padded(filled, dataset.available_actions, np.int32),
        "reward": padded(played, dataset.rewards[:, None], np.float32),
        "terminated": last[..., None].astype(np.uint8),
        "filled": filled[..., None].astype(np.int64),
    }


class _Ingest(Target):
    arguments = ("--dataset", DATASET, "--raw", RAW, "--out", "out")
    source: dict[str, Any]

    def prepare(self, place: Path) -> None:
        params = dvc_reads(ROOT / "params.yaml")
        params["experiment"] |= {"datasets": [DATASET]}
        params["ingest"]["sources"] = {DATASET: self.source}
        (place / "params.yaml").write_bytes(dumped(params))

    def call(self, case: Case) -> None:
        main()

    def written(self, place: Path) -> dict[str, np.ndarray]:
        return {path.stem: np.load(path) for path in (place / "out").glob("*.npy")}


class NativeTarget(_Ingest):
    """``meta.json`` or an array is changed; in three of four the recorded hashes and sizes are made to fit again."""

    name = "native data"
    source = {"format": "native", "env": "bridge"}

    def prepare(self, place: Path) -> None:
        super().prepare(place)
        write_dataset(small_set(), place / RAW)

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        files = {path.name: path.read_bytes() for path in sorted((place / RAW).iterdir())}
        meta = json.loads(files["meta.json"])

        def of_array(found: tuple[str, tuple[bytes, str], int]) -> Case:
            name, (content, what), mended = found
            changed = {f"{RAW}/{name}": content}
            if mended:
                fitting = json.loads(files["meta.json"])
                fitting["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                changed[f"{RAW}/meta.json"] = dumped_json(fitting)
            elif content != files[name]:
                what += ", hash not mended"
            return Case(
                f"{name}: {what}", changed, named=(name, RAW), fields=(name.removesuffix(".npy"), *AKIN.get(name.removesuffix(".npy"), ()))
            )

        arrays = st.sampled_from([name for name in files if name.endswith(".npy")]).flatmap(
            lambda name: st.tuples(st.just(name), array_changed(files[name]), st.sampled_from([0, 1, 1, 1])).map(of_array)
        )
        metas = json_changed(dumped_json(meta)).map(
            lambda found: Case(f"meta.json: {found[1]}", {f"{RAW}/meta.json": found[0]}, named=("meta.json", RAW), fields=found[2],
                               found=sum(map(ways_to_say, found[3]), ()))
        )  # fmt: skip
        missing = st.sampled_from(sorted(files)).map(lambda name: Case(f"{name} is missing", {f"{RAW}/{name}": None}, named=(name,)))
        return st.one_of(arrays, arrays, arrays, metas, missing)

    def check(self, case: Case, place: Path, said: str) -> str | None:
        meta, written = json.loads((place / RAW / "meta.json").read_text()), self.written(place)
        for name, entry in meta["files"].items():
            if not re.fullmatch(r"\w+\.npy", name) or name.removesuffix(".npy") not in written:
                return f"{name}, which meta.json lists, was left out"
            content = (place / RAW / name).read_bytes()
            if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
                return f"{name} is not what meta.json says"
            if wrong := _unlike(_whole(content), written[name.removesuffix(".npy")]):
                return f"{name}: {wrong}"
        return None


class AlberDICETarget(_Ingest):
    """Any of the arrays is changed; the folder carries no hashes."""

    name = "AlberDICE data"
    source = {"format": "alberdice", "env": "bridge", "options": {"timeout_at": 50}}

    def prepare(self, place: Path) -> None:
        super().prepare(place)
        (place / RAW).mkdir(parents=True)
        for key, array in alberdice_arrays(small_set()).items():
            np.save(place / RAW / f"{key}.npy", array)

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        files = {path.name: path.read_bytes() for path in sorted((place / RAW).iterdir())}

        def case(found: tuple[str, tuple[bytes, str]]) -> Case:
            name, (content, what) = found
            stem = name.removesuffix(".npy")
            return Case(f"{name}: {what}", {f"{RAW}/{name}": content}, named=(name, RAW), fields=(stem, *AKIN.get(stem, ())))

        arrays = st.sampled_from(sorted(files)).flatmap(lambda name: st.tuples(st.just(name), array_changed(files[name])).map(case))
        missing = st.sampled_from(sorted(files)).map(lambda name: Case(f"{name} is missing", {f"{RAW}/{name}": None}, named=(name,)))
        return st.one_of(*[arrays] * 6, missing)

    def check(self, case: Case, place: Path, said: str) -> str | None:
        raw, written = {path.stem: _whole(path.read_bytes()) for path in (place / RAW).glob("*.npy")}, self.written(place)
        lengths = (raw["filled"][..., 0] != 0).sum(axis=1) - 1
        rows: dict[str, list] = {"observations": [], "states": [], "available_actions": []}
        steps: dict[str, list] = {"actions": [], "rewards": []}
        for episode, length in enumerate(lengths):
            rows["observations"].append(raw["obs"][episode, : length + 1])
            rows["states"].append(raw["state"][episode, : length + 1])
            rows["available_actions"].append(raw["avail_actions"][episode, : length + 1])
            steps["actions"].append(raw["actions"][episode, :length, :, 0])
            steps["rewards"].append(raw["reward"][episode, :length, 0])
        for name, parts in (rows | steps).items():
            if wrong := _unlike(np.concatenate(parts), written[name]):
                return f"{name}: {wrong}"
        if not np.array_equal(written["episode_offsets"], np.concatenate([[0], np.cumsum(lengths)])):
            return "episode_offsets are not those of filled.npy"
        flags = [raw[key] for key in ("filled", "terminated")]
        return None if all(np.isin(array, (0, 1)).all() for array in flags) else "flags other than 0 and 1 were taken"


# What else a sentence about a field may speak of: fields whose sizes or values must fit it.
ENDS = ("terminated", "terminations", "truncations", "termination", "truncation", "ends", "ended", "episode")
MASKS = ("n_actions", "available", "available_actions", "action", "actions")
AKIN: dict[str, tuple[str, ...]] = {
    "obs": ("observation", "observations", "n_agents", "filled"),
    "observations": ("observation", "n_agents", "rows"),
    "state": ("states",),
    "states": ("state",),
    "actions": ("action", "n_agents", *MASKS),
    "avail_actions": MASKS,
    "available_actions": MASKS,
    "reward": ("rewards",),
    "rewards": ("reward",),
    "terminated": ENDS,
    "terminations": ENDS,
    "truncations": ENDS,
    "filled": ("terminated", "steps", "episode"),
    "episode_offsets": ("offsets", "rows", "transitions", "episodes", "n_episodes"),
}


def _whole(content: bytes) -> np.ndarray:
    """The array of a ``.npy`` file, of which nothing is left over. Raises ValueError otherwise."""
    buffer = io.BytesIO(content)
    array = np.load(buffer, allow_pickle=False)
    if buffer.read(1):
        raise ValueError("the file holds more than its header says")
    return array


def _unlike(raw: np.ndarray, written: np.ndarray) -> str | None:
    """Where what was written is not the same values: casts that lose something count."""
    if raw.dtype.kind not in "?biuf":
        return f"values of type {raw.dtype} were taken"
    if raw.shape != written.shape:
        return f"shape {raw.shape} became {written.shape}"
    wide = raw.astype(np.float64)
    if written.dtype == np.bool_ and not np.isin(wide, (0, 1)).all():
        return "values other than 0 and 1 became flags"
    if written.dtype.kind == "f":
        with np.errstate(over="ignore"):
            wide = wide.astype(written.dtype)
    return None if np.array_equal(wide, written) else "values were changed"
