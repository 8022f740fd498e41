"""The stage ``ingest``: raw files in, a validated dataset in the native format and its card out."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from inspo_core.config import Params, SourceConfig, source_of
from inspo_core.datasets.alberdice import read_alberdice
from inspo_core.datasets.card import describe, write_card
from inspo_core.datasets.format import EpisodeDataset, content_hash, read_dataset, write_dataset
from inspo_core.envs import make_env
from inspo_core.errors import InspoError
from inspo_core.files import atomic_directory, read_json, write_json
from inspo_core.fingerprint import fingerprint, tree_hash
from inspo_core.tracking import StageTracker


def _native(raw: Path, name: str, source: SourceConfig) -> EpisodeDataset:
    if source.timeout_at is not None:
        raise InspoError(f"ingest.sources.{name}.timeout_at is {source.timeout_at}, but native data tell truncations apart; remove it")
    return replace(read_dataset(raw), name=name)


def _alberdice(raw: Path, name: str, source: SourceConfig) -> EpisodeDataset:
    return read_alberdice(raw, name, source.env, source.timeout_at)


READERS: dict[str, Callable[[Path, str, SourceConfig], EpisodeDataset]] = {"native": _native, "alberdice": _alberdice}


def run_ingest(name: str, params: Params, raw: Path, out: Path, origin: dict[str, str] | None = None) -> EpisodeDataset:
    """The stage: :func:`ingest` with the parameters' sources, recorded as a run in MLflow. Returns the dataset.

    ``origin``: where ``raw`` was fetched from, as tags of the run; nothing of it enters fingerprint or outputs.

    Raises InspoError as :func:`ingest` does.
    """
    section, inputs = identity_of(name, params.ingest.sources, raw)
    tracker = StageTracker(
        "ingest",
        params.experiment.name,
        name,
        None,
        None,
        section,
        inputs,
        fingerprint("ingest", section, inputs),
        data={"source": str(raw), "digest": inputs["raw"]} | ({"source": origin["data_repo"]} | origin if origin else {}),
        pipeline=params.model_dump(mode="json"),
        tags=origin,
    )
    with tracker:
        dataset = ingest(name, params.ingest.sources, raw, out)
        card = read_json(out / "card" / "card.json")
        counts = ("n_episodes", "n_transitions", "terminated_episodes", "truncated_episodes", "distinct_episodes", "duplicate_rate")
        returns = {f"return_{key}": card["returns"][key] for key in ("mean", "std", "min", "max")}
        tracker.log_final({key: card[key] for key in counts} | returns)
        tracker.log_artifacts([out / "card"])
    return dataset


def ingest(name: str, sources: Mapping[str, SourceConfig], raw: Path, out: Path) -> EpisodeDataset:
    """Read the raw files ``raw`` of the dataset ``name`` as ``sources[name]`` says and write them to ``out``.

    ``out`` becomes a native dataset with ``card/`` (card.json, card.md, returns.png) and ``run.json``; the same input gives the same
    bytes. Returns the dataset as it was read.

    Raises InspoError: the name is not among the sources, the raw files are damaged, or they do not fit the game.
    """
    section, inputs = identity_of(name, sources, raw)
    source = sources[name]
    dataset = READERS[source.format](raw, name, source)
    check_game(dataset, source.env, raw)
    run = {
        "stage": "ingest",
        "dataset": name,
        "algorithm": None,
        "variant": None,
        "seed": None,
        "config": section,
        "fingerprint": fingerprint("ingest", section, inputs),
    }
    with atomic_directory(out) as place:
        write_dataset(dataset, place)
        write_card(describe(dataset, content_hash(place)), place / "card")
        write_json(place / "run.json", run)
    return dataset


def identity_of(name: str, sources: Mapping[str, SourceConfig], raw: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The stage's resolved parameters and the content hashes of its inputs."""
    source = source_of(name, sources)
    if not raw.is_dir():
        raise InspoError(f"{raw} is missing; get the project's raw data with `dvc pull data.dvc`, or put the files of {name} there")
    return {"dataset": name, **source.model_dump()}, {"raw": tree_hash(raw)}


def check_game(dataset: EpisodeDataset, env: str, place: Path) -> None:
    """Raise InspoError unless ``dataset``, which lies at ``place``, has the sizes of the game ``env``."""
    spec = make_env(env).spec
    if dataset.env != env:
        raise InspoError(f"{place} was collected in the game {dataset.env!r}, but params.yaml says {env!r}; correct ingest.sources.*.env")
    found = {
        "n_agents": (dataset.n_agents, spec.n_agents),
        "n_actions": (dataset.n_actions, spec.n_actions),
        "observation size": (dataset.observations.shape[2], spec.observation_size),
    }
    if dataset.states is not None:
        found["state size"] = (dataset.states.shape[1], spec.state_size)
    for what, (size, expected) in found.items():
        if size != expected:
            raise InspoError(f"{place}: {what} is {size}, but the game {env} has {expected}; these data come from another game")
