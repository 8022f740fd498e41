"""Algorithms against one another: probability of improvement, performance profiles, and what each variant changes."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from inspo_core.report.results import POOLED, SCORES, Results, Row
from inspo_core.statistics import Estimate, Improvement, improvement, profile

RETURNS = ("return_greedy", "return_sampled")
LEVEL = "level"
STANDINGS = ("above, intervals apart", "above, intervals overlap", LEVEL, "below, intervals overlap", "below, intervals apart")
THRESHOLDS = np.linspace(0.0, 1.0, 101)  # scores: from random play to the best return


@dataclass(frozen=True)
class Comparison:
    """How probably a run of ``name`` is better than one of ``other``, on a dataset or over all of them."""

    dataset: str
    metric: str
    name: str
    other: str
    result: Improvement


@dataclass(frozen=True)
class Difference:
    """A variant's score minus that of its algorithm, seed by seed."""

    dataset: str
    algorithm: str
    variant: str
    metric: str
    values: np.ndarray  # (S,); of all datasets (D * S,)
    estimate: Estimate


@dataclass(frozen=True)
class Comparisons:
    """All that an experiment's results say of its algorithms against one another."""

    improvements: list[Comparison]
    overall: list[Comparison]  # the improvements over all datasets, or on the only one
    profiles: dict[tuple[str, str], np.ndarray]  # (metric, name) -> share of runs above each of THRESHOLDS and its interval, (3, T)
    differences: list[Difference]


def compare(results: Results) -> Comparisons:
    """Every comparison that the experiment has data for."""
    found, several = improvements(results), len(results.played) > 1
    overall = [comparison for comparison in found if comparison.dataset == POOLED or not several]
    return Comparisons(found, overall, profiles(results), differences(results))


def improvements(results: Results) -> list[Comparison]:
    """The first algorithm of the experiment against each other one, on every dataset and, with more than one, over all.

    Only where both have runs: over all datasets, on each of them.
    """
    first, *others = results.names
    found = []
    for metric in RETURNS:
        for other in others:
            ours, theirs = results.column(first, metric), results.column(other, metric)
            tasks = [(dataset, [x], [y]) for dataset, x, y in zip(results.played, ours, theirs) if len(x) and len(y)]
            if len(tasks) == len(results.played) > 1:
                tasks.append((POOLED, ours, theirs))
            for dataset, xs, ys in tasks:
                found.append(Comparison(dataset, metric, first, other, improvement(xs, ys, results.confidence, results.resamples)))
    return found


def profiles(results: Results) -> dict[tuple[str, str], np.ndarray]:
    """The performance profile of every algorithm and score, over all datasets; of algorithms that have a seed on each."""
    return {
        (metric, name): profile(strata, THRESHOLDS, results.confidence, results.resamples)
        for metric in SCORES
        for name in results.names
        if (strata := results.pooled(name, metric))
    }


def differences(results: Results) -> list[Difference]:
    """Every variant against its algorithm, where the experiment has both: on every dataset and, with more than one, over all.

    A seed has the same behavior models and evaluation episodes in both, so the runs are compared in pairs; one without the other
    does not count.
    """
    found = []
    for metric in SCORES:
        for name in results.names:
            cell = results.cell(results.datasets[0], name)
            if name == cell.algorithm or cell.algorithm not in results.names:
                continue
            pairs = {dataset: (results.cell(dataset, name), results.cell(dataset, cell.algorithm)) for dataset in results.played}
            tasks = []
            for dataset, (ours, default) in pairs.items():
                if seeds := [seed for seed in ours.seeds if seed in default.seeds]:
                    tasks.append((dataset, [ours.at(seeds, metric) - default.at(seeds, metric)]))
            if len(pairs) > 1 and (seeds := results.shared_seeds(name, cell.algorithm)):
                tasks.append((POOLED, [ours.at(seeds, metric) - default.at(seeds, metric) for ours, default in pairs.values()]))
            for dataset, strata in tasks:
                estimate = results.estimate(*strata)
                found.append(Difference(dataset, cell.algorithm, name, metric, np.concatenate(strata), estimate))
    return found


def standings(results: Results, rows: list[Row], metric: str) -> dict[tuple[str, str], str]:
    """By dataset and standing (:data:`STANDINGS`): the algorithms whose IQM is above, level with or below that of the first one.

    Nothing where there is one algorithm alone, or where one of them has no interval.
    """
    first, *others = results.names
    estimates = _estimates(rows, metric)
    found: dict[tuple[str, str], list[str]] = {(dataset, standing): [] for dataset in results.played for standing in STANDINGS}
    for dataset in results.played:
        for other in others:
            ours, theirs = estimates.get((dataset, first)), estimates.get((dataset, other))
            if ours is None or theirs is None:
                continue
            standing = _standing(ours, theirs)
            if standing is None:
                return {}
            found[dataset, standing].append(other)
    return {place: ", ".join(names) for place, names in found.items()} if others else {}


def contrasts(results: Results, rows: list[Row], metric: str) -> dict[tuple[str, str], str]:
    """By pair and dataset, the standing of the second one's IQM beside the first one's.

    A pair is two entries of an algorithm whose trainings differ in one parameter; :func:`standings` has those of the first entry.
    """
    estimates = _estimates(rows, metric)
    found = {}
    for name, other in combinations(results.names[1:], 2):
        for dataset in results.played:
            ours, theirs = results.cell(dataset, name), results.cell(dataset, other)
            if not (ours.seeds and theirs.seeds and ours.algorithm == theirs.algorithm):
                continue
            changed = [key for key, value in ours.config.items() if theirs.config.get(key) != value]
            standing = _standing(estimates[dataset, name], estimates[dataset, other])
            if standing and len(changed) == 1:
                (key,) = changed
                found[f"{other} beside {name} ({key}: {theirs.config.get(key)}, not {ours.config[key]})", dataset] = standing
    return found


def _estimates(rows: list[Row], metric: str) -> dict[tuple[str, str], Estimate]:
    """By dataset and name."""
    return {(row.dataset, row.name): row.estimate for row in rows if row.metric == metric}


def _standing(ours: Estimate, theirs: Estimate) -> str | None:
    above, below = theirs.is_above(ours), ours.is_above(theirs)
    if above is None or below is None:
        return None
    if abs(theirs.iqm - ours.iqm) < 1e-6:
        return LEVEL
    return f"{'above' if theirs.iqm > ours.iqm else 'below'}, intervals {'apart' if above or below else 'overlap'}"
