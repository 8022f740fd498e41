"""Algorithms against one another: probability of improvement, performance profiles, standings, and what each variant changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import combinations
from typing import Any

import numpy as np

from inspo_core.report.results import POOLED, SCORES, Results, Row
from inspo_core.statistics import Estimate, Improvement, improvement, profile

RETURNS = ("return_greedy", "return_sampled")
THRESHOLDS = np.linspace(0.0, 1.0, 101)  # scores: from random play to the best return
SAME_RETURN = 1e-6  # IQMs that differ by less are level


class Standing(Enum):
    """Where one IQM stands beside another one, and whether their intervals are apart or overlap."""

    ABOVE_APART = auto()
    ABOVE_OVERLAPPING = auto()
    LEVEL = auto()
    BELOW_OVERLAPPING = auto()
    BELOW_APART = auto()
    NO_INTERVAL = auto()  # one of them has none


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
class Contrast:
    """Two entries of an algorithm whose trainings differ in one parameter, and where ``other`` stands beside ``name``."""

    name: str
    other: str
    parameter: str
    value: Any  # that the trainings of name have
    other_value: Any
    standings: dict[tuple[str, str], Standing]  # (dataset, metric) -> standing; datasets on which both have runs

    def has_interval(self, metric: str) -> bool:
        """Whether there is a standing to show: with a single seed there is none."""
        return any(standing is not Standing.NO_INTERVAL for (_, of), standing in self.standings.items() if of == metric)


@dataclass(frozen=True)
class Comparisons:
    """All that an experiment's results say of its algorithms against one another."""

    improvements: list[Comparison]
    overall: list[Comparison]  # the improvements over all datasets, or on the only one
    profiles: dict[tuple[str, str], np.ndarray]  # (metric, name) -> share of runs above each of THRESHOLDS and its interval, (3, T)
    differences: list[Difference]
    standings: dict[tuple[str, str, str], Standing]  # (dataset, metric, other) -> where it stands beside the first algorithm
    contrasts: list[Contrast]  # pairs without the first algorithm

    def standings_on(self, dataset: str, metric: str) -> dict[Standing, list[str]]:
        """The other algorithms by their standing on ``dataset``."""
        found: dict[Standing, list[str]] = {standing: [] for standing in Standing}
        for (place, of, other), standing in self.standings.items():
            if (place, of) == (dataset, metric):
                found[standing].append(other)
        return found

    def shown_standings(self, metric: str) -> list[Standing]:
        """What a table of standings has columns for; empty where no standing has an interval, as with a single seed."""
        there = {standing for (_, of, _), standing in self.standings.items() if of == metric}
        if not there - {Standing.NO_INTERVAL}:
            return []
        return [standing for standing in Standing if standing is not Standing.NO_INTERVAL or standing in there]


def compare(results: Results, rows: list[Row]) -> Comparisons:
    """Every comparison that the experiment has data for. ``rows``: its summary."""
    found, several = improvements(results), len(results.played) > 1
    overall = [comparison for comparison in found if comparison.dataset == POOLED or not several]
    estimates = {(row.dataset, row.metric, row.name): row.estimate for row in rows}
    return Comparisons(
        improvements=found,
        overall=overall,
        profiles=profiles(results),
        differences=differences(results),
        standings=standings(results, estimates),
        contrasts=contrasts(results, estimates),
    )


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
    """The performance profile of every algorithm and score, over all datasets with scores; of algorithms that have a seed on each."""
    return {
        (metric, name): profile(strata, THRESHOLDS, results.confidence, results.resamples)
        for metric in SCORES
        for name in results.names
        if (strata := results.pooled(name, metric))
    }


def differences(results: Results) -> list[Difference]:
    """Every variant against its algorithm, where the experiment has both: on every dataset with scores and, with more datasets, over all.

    A seed has the same behavior models and evaluation episodes in both, so the runs are compared in pairs; one without the other
    does not count.
    """
    found = []
    for metric in SCORES:
        for name in results.names:
            cell = results.cell(results.datasets[0], name)
            if name == cell.algorithm or cell.algorithm not in results.names:
                continue
            pairs = {d: (results.cell(d, name), results.cell(d, cell.algorithm)) for d in results.measured(metric)}
            tasks = []
            for dataset, (ours, default) in pairs.items():
                if seeds := [seed for seed in ours.seeds if seed in default.seeds]:
                    tasks.append((dataset, [ours.at(seeds, metric) - default.at(seeds, metric)]))
            if len(results.played) > 1 and pairs and (seeds := results.shared_seeds(metric, name, cell.algorithm)):
                tasks.append((POOLED, [ours.at(seeds, metric) - default.at(seeds, metric) for ours, default in pairs.values()]))
            for dataset, strata in tasks:
                estimate = results.estimate(*strata)
                found.append(Difference(dataset, cell.algorithm, name, metric, np.concatenate(strata), estimate))
    return found


def standings(results: Results, estimates: dict[tuple[str, str, str], Estimate]) -> dict[tuple[str, str, str], Standing]:
    """By dataset, metric and name, every other algorithm's standing beside the first one, where both have runs.

    ``estimates``: by dataset, metric and name.
    """
    first, *others = results.names
    return {
        (dataset, metric, other): standing for other in others for dataset, metric, standing in _standings(results, estimates, first, other)
    }


def contrasts(results: Results, estimates: dict[tuple[str, str, str], Estimate]) -> list[Contrast]:
    """The pairs without the first algorithm, of which :func:`standings` has all. ``estimates``: by dataset, metric and name."""
    found = []
    for name, other in combinations(results.names[1:], 2):
        beside = {(dataset, metric): standing for dataset, metric, standing in _standings(results, estimates, name, other)}
        if not beside:
            continue
        dataset, _ = next(iter(beside))
        ours, theirs = results.cell(dataset, name), results.cell(dataset, other)
        changed = [key for key, value in ours.config.items() if theirs.config.get(key) != value]
        if ours.algorithm == theirs.algorithm and len(changed) == 1:
            (key,) = changed
            found.append(Contrast(name, other, key, ours.config[key], theirs.config.get(key), beside))
    return found


def _standings(
    results: Results, estimates: dict[tuple[str, str, str], Estimate], name: str, other: str
) -> Iterator[tuple[str, str, Standing]]:
    """Dataset, metric and the standing of ``other`` beside ``name``, where both have runs."""
    for metric in RETURNS:
        for dataset in results.played:
            ours, theirs = (estimates.get((dataset, metric, one)) for one in (name, other))
            if ours and theirs:
                yield dataset, metric, _standing(ours, theirs)


def _standing(ours: Estimate, theirs: Estimate) -> Standing:
    above, below = theirs.is_above(ours), ours.is_above(theirs)
    if above is None or below is None:
        return Standing.NO_INTERVAL
    if abs(theirs.iqm - ours.iqm) < SAME_RETURN:
        return Standing.LEVEL
    if theirs.iqm > ours.iqm:
        return Standing.ABOVE_APART if above or below else Standing.ABOVE_OVERLAPPING
    return Standing.BELOW_APART if above or below else Standing.BELOW_OVERLAPPING
