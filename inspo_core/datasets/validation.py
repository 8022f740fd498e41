"""What every dataset must satisfy, checked value by value; the first breach ends in one sentence."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspo_core.errors import InspoError

if TYPE_CHECKING:
    from inspo_core.datasets.format import EpisodeDataset

MAX_ACTIONS = 2**15  # actions are stored as 16-bit integers


def validate(dataset: "EpisodeDataset", place: Path | str) -> None:
    """Check ``dataset``, which comes from ``place``.

    Raises InspoError that names the place, the field and the first offending transition: wrong types or shapes, numbers that are not
    finite, actions out of range or outside the mask, offsets out of order, episodes whose end flags are missing or misplaced.
    """
    _check_types(dataset, place)
    _check_offsets(dataset, place)
    _check_shapes(dataset, place)
    for name in ("observations", "states", "rewards", "behavior_log_probs"):
        _check_finite(getattr(dataset, name), name, place)
    if dataset.behavior_log_probs is not None:
        _check_first(dataset.behavior_log_probs > 1e-6, dataset.behavior_log_probs, "behavior_log_probs", "at most 0", place)
    _check_actions(dataset, place)
    _check_ends(dataset, place)


def _check_types(dataset: "EpisodeDataset", place: Path | str) -> None:
    if not dataset.name or not dataset.env:
        raise InspoError(f"{place}: name is {dataset.name!r} and env is {dataset.env!r}, expected two names")
    if not 1 <= dataset.n_actions <= MAX_ACTIONS:
        raise InspoError(f"{place}: n_actions is {dataset.n_actions}, expected 1 to {MAX_ACTIONS}")
    kinds = {"observations": "f4", "states": "f4", "available_actions": "?", "actions": "i8", "rewards": "f4", "terminations": "?"}
    kinds |= {"truncations": "?", "behavior_log_probs": "f4", "episode_offsets": "i8"}
    for name, kind in kinds.items():
        values = getattr(dataset, name)
        if values is not None and values.dtype != np.dtype(kind):
            raise InspoError(f"{place}: {name} are {values.dtype}, expected {np.dtype(kind)}")


def _check_offsets(dataset: "EpisodeDataset", place: Path | str) -> None:
    offsets = dataset.episode_offsets
    if offsets.ndim != 1 or len(offsets) < 2:
        raise InspoError(f"{place}: episode_offsets have shape {offsets.shape}, expected one row of at least 2 (one episode)")
    if offsets[0] != 0:
        raise InspoError(f"{place}: episode_offsets[0] is {offsets[0]}, expected 0")
    _check_first(np.diff(offsets, prepend=-1) <= 0, offsets, "episode_offsets", "more than the offset before it", place)
    if offsets[-1] != len(dataset.actions):
        raise InspoError(f"{place}: the last of episode_offsets is {offsets[-1]}, expected the number of actions, {len(dataset.actions)}")


def _check_shapes(dataset: "EpisodeDataset", place: Path | str) -> None:
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


def _check_finite(values: np.ndarray | None, name: str, place: Path | str) -> None:
    if values is not None:
        _check_first(~np.isfinite(values), values, name, "a finite number", place)


def _check_actions(dataset: "EpisodeDataset", place: Path | str) -> None:
    actions, masks = dataset.actions, dataset.available_actions
    outside = (actions < 0) | (actions >= dataset.n_actions)
    _check_first(outside, actions, "actions", f"0 to {dataset.n_actions - 1}", place)
    if masks is not None:
        chosen = np.take_along_axis(masks[dataset.rows], actions[:, :, None], axis=2)[:, :, 0]
        _check_first(~chosen, actions, "actions", "an action that available_actions allows there", place)


def _check_ends(dataset: "EpisodeDataset", place: Path | str) -> None:
    terminations, truncations = dataset.terminations, dataset.truncations
    _check_first(terminations & truncations, truncations, "truncations", "False where terminations is True", place)
    last = np.zeros(dataset.n_transitions, dtype=bool)
    last[dataset.episode_offsets[1:] - 1] = True
    for name in ("terminations", "truncations"):
        flags = getattr(dataset, name)
        _check_first(flags & ~last, flags, name, "False before the last transition of an episode", place)
    unended = last & ~terminations & ~truncations
    _check_first(unended, terminations, "terminations", "True, or True in truncations, at the last transition of an episode", place)


def _check_first(wrong: np.ndarray, values: np.ndarray, name: str, expected: str, place: Path | str) -> None:
    if wrong.any():
        where = tuple(int(index) for index in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
        raise InspoError(f"{place}: {name}[{', '.join(map(str, where))}] is {values[where]}, expected {expected}")
