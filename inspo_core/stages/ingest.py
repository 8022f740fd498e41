"""The stage ``ingest``: raw files in, a validated dataset in the native format and its card out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from inspo_core.config.sections import Params, SourceConfig, source_of
from inspo_core.datasets.card import describe, write_card
from inspo_core.datasets.episodes import EpisodeDataset
from inspo_core.datasets.format import META, content_hash, read_dataset
from inspo_core.datasets.formats.table import FORMATS, Format
from inspo_core.datasets.writer import episode_writer
from inspo_core.envs.table import GAMES
from inspo_core.errors import InspoError, quoted, warn
from inspo_core.files import atomic_directory, check_replaceable, read_json, tree_hash
from inspo_core.identity import Identity, check_planned, code_of
from inspo_core.records import RECORD, damage, holds_run, write_record
from inspo_core.section import Section, sentences
from inspo_core.tracking.description import StageRun
from inspo_core.tracking.tracker import StageTracker


def identity(dataset: str, source: SourceConfig, inputs: Mapping[str, str]) -> Identity:
    """What an ingested dataset is. ``inputs``: a hash of ``raw``. Raises InspoError if there is no such format."""
    return Identity("ingest", {"dataset": dataset, **source.model_dump()}, inputs, code_of("ingest", _format_of(dataset, source)))


def ingest_stage(
    params: Params, dataset: str, raw: Path, out: Path, origin: Mapping[str, str] | None = None, planned: str = ""
) -> dict[str, Any]:
    """Read the raw files ``raw`` as the parameters' sources say and write them to ``out``, unless that is done already. Returns the card.

    ``out`` becomes a native dataset with ``card/`` (card.json, card.md, returns.png) and ``run.json``; the same input gives the same
    bytes. ``planned``: the key of the task, whose code must be the one here. ``origin``: where ``raw`` was fetched from, as tags of the
    run; nothing of it enters fingerprint or outputs.

    Raises InspoError: the dataset is not among the sources, the raw files are damaged or do not fit the game, or ``out`` holds something
    else than a dataset.
    """
    source = source_of(dataset, params.ingest.sources)
    if not raw.is_dir():
        raise InspoError(f"{raw} is missing; get the project's raw data with `dvc pull data.dvc`, or put the files of {dataset} there")
    made = identity(dataset, source, {"raw": tree_hash(raw)})
    check_planned(planned, made.code)
    record = {"stage": "ingest", "dataset": dataset, "algorithm": None, "variant": None, "seed": None, "config": dict(made.section)}
    record |= {"fingerprint": made.fingerprint}
    done = holds_run(out, record)
    if not done:
        check_replaceable(out, RECORD, META)
    if not done and out.is_dir() and any(out.iterdir()) and (damaged := damage(out)):
        warn(f"{damaged}; the dataset is made anew")
    described = StageRun(
        stage="ingest",
        experiment=params.experiment.name,
        dataset=dataset,
        params=made.section,
        inputs=made.inputs,
        fingerprint=made.fingerprint,
        data={"source": str(raw), "digest": made.inputs["raw"], **({"source": origin["data_repo"], **origin} if origin else {})},
        pipeline=params.model_dump(mode="json"),
        tags=origin or {},
    )
    tracker = StageTracker(described)
    if done and not tracker.was_cut_off:
        tracker.catch_up()
        print(f"ingest {dataset}: done already")
        return _card(out)
    with tracker:
        if not done:
            with atomic_directory(out) as place:
                convert(dataset, source, raw, place)
                write_record(place, record)
        card = _card(out)
        for remark in card["remarks"]:
            warn(f"{dataset}: {remark}")
        counts = ("n_episodes", "n_transitions", "terminated_episodes", "truncated_episodes", "distinct_episodes", "duplicate_rate")
        returns = {f"return_{key}": card["returns"][key] for key in ("mean", "std", "min", "max")}
        tracker.log_final({key: card[key] for key in counts} | returns)
        tracker.log_artifacts([out / "card"])
    return card


def convert(dataset: str, source: SourceConfig, raw: Path, place: Path) -> None:
    """Write the dataset and its card to the folder ``place``. Raises InspoError as :func:`ingest_stage` does."""
    read = _format_of(dataset, source).load()
    with episode_writer(place, raw) as writer:
        for block in read(raw, dataset, source.env, _options_of(dataset, source)):
            check_game(block, dataset, source.env, raw)
            writer.append(block)
    write_card(describe(read_dataset(place), content_hash(place)), place / "card")


def check_game(episodes: EpisodeDataset, dataset: str, env: str, place: Path) -> None:
    """Raise InspoError unless ``episodes``, which lie at ``place``, have the sizes of the game ``env``."""
    game = GAMES.entry(env, f"parameter ingest.sources.{dataset}.env")
    if episodes.env != env:
        raise InspoError(
            f"{place} was collected in the game {quoted(episodes.env)}, but the parameters say {env!r}; "
            f"correct ingest.sources.{dataset}.env"
        )
    found = {
        "n_agents": (episodes.n_agents, game.n_agents),
        "n_actions": (episodes.n_actions, game.n_actions),
        "observation size": (episodes.observations.shape[2], game.observation_size),
    }
    if episodes.states is not None:
        found["state size"] = (episodes.states.shape[1], game.state_size)
    for what, (size, expected) in found.items():
        if size != expected:
            raise InspoError(f"{place}: {what} is {size}, but the game {env} has {expected}; these data come from another game")


def _format_of(dataset: str, source: SourceConfig) -> Format:
    return FORMATS.entry(source.format, f"parameter ingest.sources.{dataset}.format")


def _options_of(dataset: str, source: SourceConfig) -> Section:
    kind, place = _format_of(dataset, source).options, f"ingest.sources.{dataset}.options"
    try:
        return kind.model_validate(source.options)
    except ValidationError as error:
        known = list(kind.model_fields)
        raise InspoError(sentences(error, "parameter", lambda _: known, lambda location: ".".join([place, *map(str, location)]))) from error


def _card(out: Path) -> dict[str, Any]:
    card: dict[str, Any] = read_json(out / "card" / "card.json")
    return card
