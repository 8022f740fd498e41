"""Reader of AlberDICE's folders: PyMARL's padded episode batch, one ``.npy`` a key.

With T1 = longest episode + 1 every array starts with (E, T1): ``obs`` (N, O), ``state`` (S), ``actions`` (N, 1), ``avail_actions`` (N, A),
``reward`` (1), ``terminated`` (1), ``filled`` (1). An episode of L steps fills L + 1 rows, the last one with the final
observation; rows after that are padding. AlberDICE marks an episode that ran into the time limit as terminated.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inspo_core.datasets.episodes import BLOCK, EpisodeDataset
from inspo_core.datasets.formats.table import AlberDICEOptions
from inspo_core.datasets.npy import open_array
from inspo_core.datasets.scales import ROUNDING
from inspo_core.errors import InspoError, warn

FLAG, NUMBER = "0 or 1", "a finite number within the range of float32"

NOISE = 2.0**-40  # of a number: what varies by less in doubles is constant up to their rounding

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

    Raises InspoError that names the file for missing keys, shapes that do not agree, padding inside an episode, misplaced flags, and values
    outside the padding that the dataset could not hold as they are, but for the rounding to float32: all is checked before it is cast.
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
    if rounded := [*_rounded_away(raw, "obs", at_once), *_rounded_away(raw, "state", at_once)]:
        provenance["rounding"] = "; ".join(rounded)
        warn(f"{directory}: {provenance['rounding']}; subtract what is constant in it before it is stored as float32")
    for first in range(0, episodes, at_once):
        part = {key: array[first : first + at_once] for key, array in raw.items()}
        yield EpisodeDataset(name=name, env=game, provenance=provenance, **_unpadded(part, first, options.timeout_at, directory))


def _unpadded(raw: dict[str, np.ndarray], first: int, timeout_at: int | None, directory: Path) -> dict[str, Any]:
    """The remaining fields of a dataset of these episodes, of which ``first`` come before them in the folder."""

    def kept(key: str, rows: np.ndarray, sound: Callable[[np.ndarray], np.ndarray], expected: str) -> np.ndarray:
        """(rows, ...): the values of ``key`` where ``rows`` (E, T1) is True, as they are in the file; ``sound`` must hold for each."""
        values = raw[key][rows]
        wrong = ~sound(values)
        if wrong.any():
            row, *rest = np.argwhere(wrong)[0].tolist()
            episode, step = np.argwhere(rows)[row].tolist()
            index = ", ".join(map(str, (first + episode, step, *rest)))
            raise InspoError(f"{directory / key}.npy[{index}] is {values[row, *rest]}, expected {expected}")
        return values

    n_actions, shape = raw["avail_actions"].shape[-1], raw["filled"].shape[:2]
    filled = kept("filled", np.ones(shape, dtype=bool), _is_flag, FLAG).reshape(shape) != 0  # (E, T1)
    lengths = filled.sum(axis=1) - 1
    _check_filled(filled, lengths, first, directory / "filled.npy")
    if timeout_at is not None and lengths.max() > timeout_at:
        longest = int(lengths.argmax())
        raise InspoError(f"{directory}: episode {first + longest} has {lengths[longest]} steps, but timeout_at is {timeout_at}; raise it")
    terminated = np.zeros(shape, dtype=bool)
    terminated[filled] = kept("terminated", filled, _is_flag, FLAG)[:, 0] != 0
    times = np.arange(filled.shape[1])
    transitions = times < lengths[:, None]
    last = times == lengths[:, None] - 1
    _check_terminated(terminated & transitions & ~last, first, directory / "terminated.npy")
    cut_off = last & (~terminated | (lengths[:, None] == timeout_at if timeout_at else False))
    return {
        "n_actions": n_actions,
        "observations": kept("obs", filled, _fits, NUMBER).astype(np.float32),
        "states": kept("state", filled, _fits, NUMBER).astype(np.float32),
        "available_actions": kept("avail_actions", filled, _is_flag, FLAG) != 0,
        "actions": kept(
            "actions", transitions, lambda found: np.isin(found, np.arange(n_actions)), f"a whole number from 0 to {n_actions - 1}"
        )[..., 0].astype(np.int64),
        "rewards": kept("reward", transitions, _fits, NUMBER)[:, 0].astype(np.float32),
        "terminations": (last & ~cut_off)[transitions],
        "truncations": cut_off[transitions],
        "behavior_log_probs": None,
        "episode_offsets": np.concatenate([[0], np.cumsum(lengths)]),
    }


@np.errstate(invalid="ignore", over="ignore")  # what is not finite is refused later
def _rounded_away(raw: dict[str, np.ndarray], key: str, at_once: int) -> list[str]:
    """A sentence if features of ``key`` vary by so little that float32 makes them constant, though the file has them in more digits."""
    if np.can_cast(raw[key].dtype, np.float32):
        return []
    lowest, highest = np.full(raw[key].shape[2:], np.inf), np.full(raw[key].shape[2:], -np.inf)
    for first in range(0, len(raw[key]), at_once):
        values = raw[key][first : first + at_once][raw["filled"][first : first + at_once, :, 0] != 0].astype(np.float64)
        lowest = np.minimum(lowest, values.min(axis=0, initial=np.inf))
        highest = np.maximum(highest, values.max(axis=0, initial=-np.inf))
    largest, span = np.maximum(np.abs(lowest), np.abs(highest)), highest - lowest
    features = np.argwhere((span < ROUNDING * largest) & (span > NOISE * largest)).tolist()
    if not features:
        return []
    first_one = tuple(features[0])
    where = f"{key}.npy[..., {', '.join(map(str, first_one))}]" + (f" and {len(features) - 1} more features" if features[1:] else "")
    return [f"{where} varies by {span[first_one]:.3g} beside {largest[first_one]:.6g}, which float32 does not tell from a constant"]


def _is_flag(values: np.ndarray) -> np.ndarray:
    return (values == 0) | (values == 1)


def _fits(values: np.ndarray) -> np.ndarray:
    largest = np.float64(np.finfo(np.float32).max)  # NumPy would make a number of Python's as narrow as the values
    return (values >= -largest) & (values <= largest)


def _load(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InspoError(f"{path} is missing; an AlberDICE folder holds {', '.join(f'{key}.npy' for key in AXES)}")
    return open_array(path, "copy it anew")


def _check_shapes(raw: dict[str, np.ndarray], directory: Path) -> None:
    sizes: dict[str, tuple[int, str]] = {"1": (1, "the format")}
    for key, letters in AXES.items():
        path, array = directory / f"{key}.npy", raw[key]
        axes = ("E", "T1", *letters)
        if array.ndim != len(axes):
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
