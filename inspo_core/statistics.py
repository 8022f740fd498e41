"""Numbers over seeds: mean, spread, interquartile mean and its bootstrap interval; probability of improvement; performance profile.

All but mean and spread follow Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv 2108.13264), with stratified percentile bootstrap intervals. docs/statistics.md says what the
interval covers, and what it does not, with few seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from inspo_core.errors import InspoError
from inspo_core.rng import numpy_stream

CHUNK = 2_000_000  # values resampled at once: 16 MB
SAME = 1e-9  # returns that differ by less are the same episodes, summed in another order


@dataclass(frozen=True)
class Estimate:
    """A metric over independent runs.

    ``std`` (sample standard deviation), ``low`` and ``high`` (ends of the interval of the IQM) are None where they do
    not exist: with a single run, and ``std`` also over several strata, where it would mix tasks with seeds.
    """

    mean: float
    std: float | None
    iqm: float
    low: float | None
    high: float | None
    seeds: int

    def is_above(self, other: "Estimate") -> bool | None:
        """Whether the whole interval lies above that of ``other``; None where one of them has none."""
        return None if self.low is None or other.high is None else self.low > other.high

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Improvement:
    """Probability that a run of one algorithm is better than one of another, and its interval, None with a single run."""

    probability: float
    low: float | None
    high: float | None


def mean(values: np.ndarray) -> np.ndarray:
    """Arithmetic mean over the last axis, never outside the values: the mean of one number repeated is that number."""
    return np.clip(np.mean(values, axis=-1), np.min(values, axis=-1), np.max(values, axis=-1))


def std(values: np.ndarray) -> float | None:
    """Sample standard deviation (divisor S - 1) of ``values`` (S,); None for a single value."""
    return float(np.std(values - values[0], ddof=1)) if len(values) > 1 else None


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean over the last axis: mean of what is left after floor(S/4) values are cut at either end.

    With S < 4 nothing is cut and it is the mean; with S = 5 it is the mean of the middle three.
    """
    cut = values.shape[-1] // 4
    return mean(np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut])


def bootstrap(
    strata: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Distribution (``resamples``,) of ``statistic`` under resampling with replacement inside each stratum.

    ``strata`` holds one array (S,) of independent values a task; ``statistic`` reduces the last axis of the pooled values.
    """
    total = sum(len(values) for values in strata)
    step = max(1, CHUNK // total)
    parts = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = [np.asarray(values)[rng.integers(len(values), size=(rows, len(values)))] for values in strata]
        parts.append(statistic(np.concatenate(drawn, axis=1)))
    return np.concatenate(parts)


def estimate(strata: Sequence[np.ndarray], confidence: float, resamples: int) -> Estimate:
    """Estimate a metric from the values (S,) of independent runs, one array a stratum (task, dataset).

    The interval is the percentile bootstrap's, from ``resamples`` resamples of one fixed stream: the same values give the
    same bytes. Every stratum needs the same number of runs, so that each weighs the same in the pooled IQM.

    Raises InspoError: no values, strata of different sizes, a value that is not finite.
    """
    sizes = {len(values) for values in strata}
    if len(sizes) != 1 or 0 in sizes:
        raise InspoError(f"an estimate needs the same number of runs, at least one, of every task; found {sorted(sizes)}")
    pooled = np.concatenate([np.asarray(values, dtype=np.float64) for values in strata])
    if not np.isfinite(pooled).all():
        raise InspoError(f"an estimate needs finite values; found {pooled[~np.isfinite(pooled)][0]}")
    seeds = sizes.pop()
    low = high = None
    if seeds > 1:
        distribution = bootstrap(strata, iqm, resamples, numpy_stream(0, "bootstrap"))
        low, high = (float(end) for end in np.quantile(distribution, _tails(confidence)))
    spread = std(pooled) if len(strata) == 1 else None
    return Estimate(float(mean(pooled)), spread, float(iqm(pooled)), low, high, seeds)


def improvement(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], confidence: float, resamples: int) -> Improvement:
    """Probability that a run of X is better than a run of Y, after Agarwal et al.: over tasks, the mean of P(x > y) + P(x = y) / 2.

    ``xs`` and ``ys`` hold one array (S,) a task, of independent runs. The interval is the percentile bootstrap's; X and Y are
    resampled apart, inside each task. None for its ends where a task has a single run.

    Raises InspoError: no tasks, other tasks in ``ys``, a task without runs, a value that is not finite.
    """
    if not xs or len(xs) != len(ys) or not all(len(values) for values in (*xs, *ys)):
        raise InspoError(f"an improvement needs runs of both sides on the same tasks; found {len(xs)} and {len(ys)} tasks")
    if not all(np.isfinite(values).all() for values in (*xs, *ys)):
        raise InspoError("an improvement needs finite values")
    wins = [np.where(np.abs(x[:, None] - y) <= SAME, 0.5, x[:, None] > y) for x, y in zip(xs, ys)]
    probability = float(np.mean([win.mean() for win in wins]))
    if min(min(win.shape) for win in wins) < 2:
        return Improvement(probability, None, None)
    rng, distribution = numpy_stream(0, "improvement"), np.zeros(resamples)
    for win in wins:  # how often each run was drawn says all of a resample
        drawn_x, drawn_y = (rng.multinomial(size, np.full(size, 1 / size), size=resamples) for size in win.shape)
        distribution += ((drawn_x @ win) * drawn_y).sum(axis=1) / win.size
    low, high = np.quantile(distribution / len(wins), _tails(confidence))
    return Improvement(probability, float(low), float(high))


def profile(strata: Sequence[np.ndarray], thresholds: np.ndarray, confidence: float, resamples: int) -> np.ndarray:
    """Performance profile: the share of all runs above each of ``thresholds`` (T,), and the ends of its interval; (3, T).

    ``strata`` holds one array (S,) of scores a task, resampled inside each. The ends are nan where a task has a single run.
    """
    above = [np.asarray(values)[:, None] > thresholds for values in strata]  # (S, T)
    total = sum(len(values) for values in above)
    share = np.concatenate(above).mean(axis=0)
    if min(len(values) for values in above) < 2:
        return np.stack([share, *np.full((2, len(thresholds)), np.nan)])
    rng, distribution = numpy_stream(0, "profile"), np.zeros((resamples, len(thresholds)))
    for values in above:
        distribution += rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples) @ values.astype(float)
    return np.stack([share, *np.quantile(distribution / total, _tails(confidence), axis=0)])


def _tails(confidence: float) -> list[float]:
    return [(1 - confidence) / 2, (1 + confidence) / 2]
