"""Reader of AlberDICE's folders: PyMARL's padded episode batch, one ``.npy`` a key.

With T1 = longest episode + 1 every array starts with (E, T1): ``obs`` (N, O), ``state`` (S), ``actions`` (N, 1), ``avail_actions`` (N, A),
``reward`` (1), ``terminated`` (1), ``filled`` (1). An episode of L steps fills L + 1 rows, the last one with the final
observation; rows after that are padding. AlberDICE marks an episode that ran into the time limit as terminated.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inspo_core.datasets.episodes import BLOCK, EpisodeDataset
from inspo_core.datasets.formats.table import AlberDICEOptions
from inspo_core.errors import InspoError

# key -> the letters of its axes after (E, T1)
AXES = {
    "obs": "NO",
    "state": "S",
    "actions": "N1",
    "avail_actions": "NA",
    "reward": "1",
    "terminated": "1",
    "filled": "1",
}


def read(directory: Path, name: str, game: str, options: AlberDICEOptions) -> Iterator[EpisodeDataset]:
    """The episodes of the folder ``directory`` as the dataset ``name`` of ``game``, in blocks.

    ``options.timeout_at``: an episode of exactly that many steps is truncated, though the folder says terminated. None: flags are taken
    as they are, and an episode without one is truncated.

    Raises InspoError that names the file for missing keys, shapes that do not agree, padding inside an episode and misplaced flags.
    """
    raw = {key: _load(directory / f"{key}.npy") for key in AXES}
    _check_shapes(raw, directory)
    episodes, rows = raw["filled"].shape[:2]
    provenance = {
        "description": f"an AlberDICE folder of {episodes} episodes",
        "source": "AlberDICE, github.com/dematsunaga/alberdice",
        "licence": "none stated for the data; the repository's marl_env part is MIT",
        "timeout_at": options.timeout_at,
    }
    at_once = max(1, BLOCK // rows)
    for first in range(0, episodes, at_once):
        part = {key: array[first : first + at_once] for key, array in raw.items()}
        yield EpisodeDataset(name=name, env=game, provenance=provenance, **_unpadded(part, first, options.timeout_at, directory))


def _unpadded(raw: dict[str, np.ndarray], first: int, timeout_at: int | None, directory: Path) -> dict[str, Any]:
    """The remaining fields of a dataset of these episodes, of which ``first`` come before them in the folder."""
    filled, terminated = raw["filled"][..., 0] != 0, raw["terminated"][..., 0] != 0  # (E, T1)
    lengths = filled.sum(axis=1) - 1
    _check_filled(filled, lengths, first, directory / "filled.npy")
    if timeout_at is not None and lengths.max() > timeout_at:
        longest = int(lengths.argmax())
        raise InspoError(f"{directory}: episode {first + longest} has {lengths[longest]} steps, but timeout_at is {timeout_at}; raise it")
    times = np.arange(filled.shape[1])
    transitions = times < lengths[:, None]
    last = times == lengths[:, None] - 1
    _check_terminated(terminated & transitions & ~last, first, directory / "terminated.npy")
    cut_off = last & (~terminated | (lengths[:, None] == timeout_at if timeout_at else False))
    return {
        "n_actions": raw["avail_actions"].shape[-1],
        "observations": raw["obs"][filled].astype(np.float32),
        "states": raw["state"][filled].astype(np.float32),
        "available_actions": raw["avail_actions"][filled] != 0,
        "actions": raw["actions"][transitions][..., 0].astype(np.int64),
        "rewards": raw["reward"][transitions][:, 0].astype(np.float32),
        "terminations": (last & ~cut_off)[transitions],
        "truncations": cut_off[transitions],
        "behavior_log_probs": None,
        "episode_offsets": np.concatenate([[0], np.cumsum(lengths)]),
    }


def _load(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InspoError(f"{path} is missing; an AlberDICE folder holds {', '.join(f'{key}.npy' for key in AXES)}")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InspoError(f"{path} is not a readable .npy file ({error}); copy it anew") from error


def _check_shapes(raw: dict[str, np.ndarray], directory: Path) -> None:
    sizes: dict[str, tuple[int, str]] = {"1": (1, "the format")}
    for key, letters in AXES.items():
        path, array = directory / f"{key}.npy", raw[key]
        axes = ("E", "T1", *letters)
        if array.ndim != len(axes) or 0 in array.shape:
            raise InspoError(f"{path} has shape {array.shape}, expected ({', '.join(axes)})")
        for axis, size in zip(axes, array.shape, strict=True):
            expected, source = sizes.setdefault(axis, (size, path.name))
            if size != expected:
                raise InspoError(f"{path} has shape {array.shape}, expected ({', '.join(axes)}) with {axis} = {expected} as in {source}")


def _check_filled(filled: np.ndarray, lengths: np.ndarray, first: int, path: Path) -> None:
    gaps = (filled != (np.arange(filled.shape[1]) <= lengths[:, None])).any(axis=1) | (lengths < 1)
    if gaps.any():
        episode = first + int(gaps.argmax())
        raise InspoError(f"{path}: episode {episode} is not 2 or more filled rows followed by padding only")


def _check_terminated(early: np.ndarray, first: int, path: Path) -> None:
    if early.any():
        episode, step = np.argwhere(early)[0]
        raise InspoError(f"{path}: episode {first + episode} is terminated at step {step}, but its filled rows go on after that")
