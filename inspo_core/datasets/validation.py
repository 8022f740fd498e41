"""What every dataset must satisfy, checked value by value; the first breach ends in one sentence."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspo_core.datasets.episodes import PER_ROW, EpisodeDataset
from inspo_core.errors import InspoError, quoted

MAX_ACTIONS = 2**15  # actions are stored as 16-bit integers


@dataclass(frozen=True)
class Position:
    """What lies before a block in its dataset."""

    transitions: int = 0
    episodes: int = 0

    def after(self, block: EpisodeDataset) -> "Position":
        return Position(self.transitions + block.n_transitions, self.episodes + block.n_episodes)


def validate(dataset: EpisodeDataset, place: Path | str, start: Position = Position()) -> None:
    """Check ``dataset``, which comes from ``place``; in bounded memory, block by block. ``start``: where it begins, if it is one block.

    Raises InspoError that names the place, the field and the first offending transition: wrong types or shapes, numbers that are not
    finite, actions out of range or outside the mask, offsets out of order, episodes whose end flags are missing or misplaced.
    """
    validate_sizes(dataset, place, start)
    for block in dataset.blocks():
        for name in ("observations", "states", "rewards", "behavior_log_probs"):
            _check_finite(block, name, place, start)
        if block.behavior_log_probs is not None:
            _check_first(block.behavior_log_probs > 1e-6, block, "behavior_log_probs", "at most 0", place, start)
        _check_actions(block, place, start)
        _check_ends(block, place, start)
        start = start.after(block)


def validate_sizes(dataset: EpisodeDataset, place: Path | str, start: Position = Position()) -> None:
    """The part of :func:`validate` that looks at types, shapes and offsets alone."""
    _check_types(dataset, place)
    _check_offsets(dataset, place, start)
    _check_shapes(dataset, place)


def _check_types(dataset: EpisodeDataset, place: Path | str) -> None:
    if not dataset.name or not dataset.env:
        raise InspoError(f"{place}: name is {dataset.name!r} and env is {dataset.env!r}, expected two names")
    try:
        json.dumps(dataset.provenance, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise InspoError(f"{place}: provenance is {quoted(dataset.provenance)}, expected JSON: {error}") from error
    if not 1 <= dataset.n_actions <= MAX_ACTIONS:
        raise InspoError(f"{place}: n_actions is {dataset.n_actions}, expected 1 to {MAX_ACTIONS}")
    kinds = {"observations": "f4", "states": "f4", "available_actions": "?", "rewards": "f4", "terminations": "?"}
    kinds |= {"truncations": "?", "behavior_log_probs": "f4", "episode_offsets": "i8"}
    for name, kind in kinds.items():
        values = getattr(dataset, name)
        if values is not None and values.dtype != np.dtype(kind):
            raise InspoError(f"{place}: {name} are {values.dtype}, expected {np.dtype(kind)}")
    if not np.issubdtype(dataset.actions.dtype, np.integer):
        raise InspoError(f"{place}: actions are {dataset.actions.dtype}, expected integers")


def _check_offsets(dataset: EpisodeDataset, place: Path | str, start: Position) -> None:
    offsets, before = dataset.episode_offsets, start.transitions
    if offsets.ndim != 1 or len(offsets) < 2:
        raise InspoError(f"{place}: episode_offsets have shape {offsets.shape}, expected one row of at least 2 (one episode)")
    if offsets[0] != 0:
        raise InspoError(f"{place}: episode_offsets[{start.episodes}] is {offsets[0] + before}, expected {before}")
    unordered = np.diff(offsets, prepend=-1) <= 0
    if unordered.any():
        first = int(unordered.argmax())
        found = f"episode_offsets[{first + start.episodes}] is {offsets[first] + before}"
        raise InspoError(f"{place}: {found}, expected more than the offset before it")
    if offsets[-1] != len(dataset.actions):
        found, expected = offsets[-1] + before, len(dataset.actions) + before
        raise InspoError(f"{place}: the last of episode_offsets is {found}, expected the number of actions, {expected}")


def _check_shapes(dataset: EpisodeDataset, place: Path | str) -> None:
    if dataset.actions.ndim != 2 or dataset.actions.shape[1] == 0:
        raise InspoError(f"{place}: actions have shape {dataset.actions.shape}, expected (transitions, agents)")
    transitions, agents = dataset.actions.shape
    rows = transitions + dataset.n_episodes
    expected: dict[str, tuple] = {
        "observations": (rows, agents, "size"),
        "states": (rows, "size"),
        "available_actions": (rows, agents, dataset.n_actions),
        "rewards": (transitions,),
        "terminations": (transitions,),
        "truncations": (transitions,),
        "behavior_log_probs": (transitions, agents),
    }
    for name, shape in expected.items():
        values = getattr(dataset, name)
        if values is None:
            continue
        fits = values.ndim == len(shape) and all(want in ("size", have) for want, have in zip(shape, values.shape, strict=True))
        if not fits or 0 in values.shape:
            wanted = f"({', '.join(str(part) for part in shape)}{',' if len(shape) == 1 else ''})"
            raise InspoError(f"{place}: {name} have shape {values.shape}, expected {wanted}")


def _check_finite(block: EpisodeDataset, name: str, place: Path | str, start: Position) -> None:
    if (values := getattr(block, name)) is not None:
        _check_first(~np.isfinite(values), block, name, "a finite number", place, start)


def _check_actions(block: EpisodeDataset, place: Path | str, start: Position) -> None:
    actions, masks = block.actions, block.available_actions
    outside = (actions < 0) | (actions >= block.n_actions)
    _check_first(outside, block, "actions", f"0 to {block.n_actions - 1}", place, start)
    if masks is not None:
        chosen = np.take_along_axis(masks[block.rows], actions[:, :, None].astype(np.int64), axis=2)[:, :, 0]
        _check_first(~chosen, block, "actions", "an action that available_actions allows there", place, start)


def _check_ends(block: EpisodeDataset, place: Path | str, start: Position) -> None:
    terminations, truncations = block.terminations, block.truncations
    _check_first(terminations & truncations, block, "truncations", "False where terminations is True", place, start)
    last = np.zeros(block.n_transitions, dtype=bool)
    last[block.episode_offsets[1:] - 1] = True
    for name in ("terminations", "truncations"):
        early = getattr(block, name) & ~last
        _check_first(early, block, name, "False before the last transition of an episode", place, start)
    unended = last & ~terminations & ~truncations
    _check_first(unended, block, "terminations", "True, or True in truncations, at the last transition of an episode", place, start)


def _check_first(wrong: np.ndarray, block: EpisodeDataset, name: str, expected: str, place: Path | str, start: Position) -> None:
    if wrong.any():
        where = tuple(int(index) for index in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
        shift = start.transitions + (start.episodes if name in PER_ROW else 0)
        index = ", ".join(map(str, (where[0] + shift, *where[1:])))
        raise InspoError(f"{place}: {name}[{index}] is {getattr(block, name)[where]}, expected {expected}")
