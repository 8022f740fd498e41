"""Sound data whose scale spoils learning, which standardises features in float32 and may divide rewards by the largest.

C stands for the columns of a field: the features, every agent's its own, or the reward.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from inspo_core.datasets.episodes import PER_ROW, EpisodeDataset

ROUNDING = 2.0**-20  # of a mean, eight steps of float32: what deviates less cannot be told from a constant,
NOTHING = 1e-11  # nor what deviates less than this, whatever the mean
FEW = 1000  # one value in so many, or a single one, is few

PART = 2**18  # values that are looked at together, 2 MB as doubles
LEAST_EXPONENT = 873  # in the bits of a double: that of the least difference of two floats
WIDTH, BINS = 4, 71  # exponents of one bin; bins
GAP = 4  # bins: values on its two sides differ by a factor of 2^12 at least
LISTED = 10  # features that a sentence names


def least_deviation(means: Any) -> Any:
    """The standard deviations up to which features count as constant; ``means``: their means, an array or tensor of doubles."""
    return (ROUNDING * abs(means)).clip(NOTHING)


def scale_remarks(dataset: EpisodeDataset) -> list[str]:
    """A sentence for each way in which the scale of rewards, observations or states is a trap; none for ordinary data.

    Few values that are thousands of times further from what is usual than all others: they alone decide a scale. Features that vary, but
    by so little, or beside others so large, that in float32 standardised values do not tell it.
    """
    names = ["rewards", "observations", *(["states"] if dataset.states is not None else [])]
    return [remark for name in names for remark in _remarks(dataset, name)]


@dataclass(frozen=True)
class _Columns:
    """What is known of a field's columns after one pass."""

    sample: np.ndarray  # (some, C), the first values, in ascending order
    usual: np.ndarray  # (C,): 0 of rewards, the sample's median of features
    mean: np.ndarray  # (C,)
    deviation: np.ndarray  # (C,)
    counts: np.ndarray  # (C, BINS): how many values lie how far from the usual one; those that are equal to it are left out


def _remarks(dataset: EpisodeDataset, name: str) -> Iterator[str]:
    columns = _look(dataset, name)
    edges = _edges(columns.counts, len(getattr(dataset, name)))
    decided = edges > 0
    if decided.any():
        yield _decided(dataset, name, int(decided.argmax()), columns, edges) + _others(dataset, name, decided)
    if name == "rewards":
        return
    constant = ~decided & (columns.deviation > 0) & (columns.deviation <= least_deviation(columns.mean))
    merged = ~decided & ~constant & _merged(columns)
    for which, words in ((constant, "it is learned as a constant"), (merged, "most of its values become equal when it is standardised")):
        if which.any():
            first = int(which.argmax())
            numbers = f"mean {columns.mean[first]:.6g}, standard deviation {columns.deviation[first]:.3g}"
            yield f"{name}: {_label(dataset, name, first)} is beyond float32 ({numbers}): {words}{_others(dataset, name, which)}"


def _look(dataset: EpisodeDataset, name: str) -> _Columns:
    parts = _parts(dataset, name)
    first = next(parts)
    sample = np.sort(first, axis=0)
    width = sample.shape[1]
    usual = np.zeros(width) if name == "rewards" else sample[len(sample) // 2].astype(np.float64)
    counts, total, squares = np.zeros(width * BINS, dtype=np.int64), np.zeros(width), np.zeros(width)
    for part in _parts(dataset, name):
        apart = part - usual
        total += apart.sum(axis=0)
        squares += np.square(apart).sum(axis=0)
        bins = _bins(apart)
        np.add.at(counts, (bins + np.arange(width) * BINS)[bins >= 0], 1)
    rows = len(getattr(dataset, name))
    mean = total / rows
    deviation = np.sqrt(np.maximum(squares / rows - np.square(mean), 0))
    return _Columns(sample, usual, usual + mean, deviation, counts.reshape(width, BINS))


def _parts(dataset: EpisodeDataset, name: str) -> Iterator[np.ndarray]:
    """All rows of a field as (some, C)."""
    values = getattr(dataset, name)
    flat = values.reshape(len(values), -1)
    at_once = max(1, PART // flat.shape[1])
    yield from (flat[start : start + at_once] for start in range(0, len(flat), at_once))


def _bins(apart: np.ndarray) -> np.ndarray:
    """The bins of distances, doubles that are differences of floats; negative where they are 0."""
    exponents = (apart.view(np.int64) >> 52) & 0x7FF
    return (exponents - LEAST_EXPONENT) // WIDTH


def _edges(counts: np.ndarray, rows: int) -> np.ndarray:
    """(C,): the bin at which few distant values begin beyond a gap; 0 where there are none."""
    edges, beyond = np.zeros(len(counts), dtype=np.int64), np.zeros(len(counts), dtype=np.int64)
    nearest = np.full(len(counts), BINS)  # bin of the nearest of those that are beyond
    for at in range(BINS - 1, -1, -1):
        found = counts[:, at] > 0
        few = found & (nearest - at >= GAP) & (beyond > 0) & (beyond <= max(1, rows // FEW)) & (edges == 0)
        edges[few] = nearest[few]
        nearest[found] = at
        beyond += counts[:, at]
    return edges


def _merged(columns: _Columns) -> np.ndarray:
    """(C,) bool: whether at least half of the sample's different values become equal when float32 standardises them."""
    scale = np.where(columns.deviation > 0, columns.deviation, 1).astype(np.float32)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        standardised = (columns.sample - columns.mean.astype(np.float32)) / scale
    before, after = ((np.diff(values, axis=0) != 0).sum(axis=0) for values in (columns.sample, standardised))
    return (before > 1) & (2 * after <= before)


def _decided(dataset: EpisodeDataset, name: str, column: int, columns: _Columns, edges: np.ndarray) -> str:
    usual, edge = float(columns.usual[column]), int(edges[column])
    values = np.concatenate([part[:, column] for part in _parts(dataset, name)])
    apart = values - np.float64(usual)
    far = _bins(apart) >= edge
    at, nearest = int(np.abs(apart).argmax()), float(np.abs(apart[~far]).max())
    found = f"{values[at]:.6g} in episode {_episode_and_step(dataset, name, at)}, {abs(apart[at]) / nearest:.2g} times"
    more = f" ({far.sum() - 1} more are like it)" if far.sum() > 1 else ""
    if name == "rewards":
        return f"rewards: one is {found} the largest of the others{more}; divided by it, as reward_scale: max_abs does, those are about 0"
    where = f"{name}: {_label(dataset, name, column)}"
    return f"{where} is {found} as far from its usual {usual:.6g} as the others{more}; standardised, those are about equal"


def _episode_and_step(dataset: EpisodeDataset, name: str, row: int) -> str:
    firsts = dataset.episode_offsets + (np.arange(len(dataset.episode_offsets)) if name in PER_ROW else 0)
    episode = int(np.searchsorted(firsts, row, side="right")) - 1
    return f"{episode}, step {row - firsts[episode]}"


def _label(dataset: EpisodeDataset, name: str, column: int) -> str:
    if name == "states":
        return f"feature {column}"
    agent, feature = divmod(column, dataset.observations.shape[2])
    return f"feature {feature} of agent {agent}"


def _others(dataset: EpisodeDataset, name: str, which: np.ndarray) -> str:
    """The columns of ``which`` but the first, as the end of a sentence."""
    rest = np.flatnonzero(which)[1:].tolist()
    listed = ", ".join(_label(dataset, name, column) for column in rest[:LISTED])
    unlisted = f" and {len(rest) - LISTED} more" if len(rest) > LISTED else ""
    return f"; alike: {listed}{unlisted}" if rest else ""
