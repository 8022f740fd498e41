"""How the report says things: titles, captions, numbers and what stands where there is none. Plain text; who writes a format escapes it."""

from typing import Any

from inspo_core.report.comparisons import Contrast, Standing
from inspo_core.report.results import POOLED, SCORES, Results
from inspo_core.statistics import Estimate, Improvement

METRIC_TITLES = {
    "return_greedy": "Return, greedy",
    "return_sampled": "Return, sampled",
    "success_greedy": "Success rate, greedy",
    "success_sampled": "Success rate, sampled",
    "score_greedy": "Score, greedy",
    "score_sampled": "Score, sampled",
}
STANDING_TITLES = {
    Standing.ABOVE_APART: "above, intervals apart",
    Standing.ABOVE_OVERLAPPING: "above, intervals overlap",
    Standing.LEVEL: "level",
    Standing.BELOW_OVERLAPPING: "below, intervals overlap",
    Standing.BELOW_APART: "below, intervals apart",
    Standing.NO_INTERVAL: "no interval",
}
FAILED = "failed"
EVERY_SEED_FAILED = "every seed failed"
NOT_ON_EVERY_DATASET = "not on every dataset"
NOT_EVALUATED_DURING_TRAINING = "no evaluation during training"
NOT_RECORDED = "not recorded"


def results_title(results: Results) -> str:
    """What was run on what: by name if there are few."""

    def few(names: list[str], noun: str) -> str:
        return " and ".join(names) if len(names) < 3 else f"{len(names)} {noun}"

    return f"Results: {few(results.names, 'algorithms')} on {few(results.datasets, 'datasets')}"


def measured_text(results: Results) -> str:
    """What the numbers are and over what they were taken; a sentence without its end."""
    seeds = results.seeds
    interval = f"[{results.confidence * 100:g} % bootstrap interval, {results.resamples} resamples over seeds]"
    return (
        f"The last policy of every training run, {counted(len(seeds), 'seed')} ({', '.join(map(str, seeds))}), "
        f"{counted(results.episodes, 'episode')} a policy and mode; returns are undiscounted. "
        f"Each entry: interquartile mean over seeds {interval}"
    )


def score_text(results: Results) -> str:
    """What a score is, and which datasets have none."""
    meaning = "A score is a return on a scale where uniformly random play has 0 and the best return 1."
    scored = results.measured(SCORES[0])
    if len(scored) == len(results.played):
        return meaning
    without = [f"{dataset} ({no_score_text(results, dataset)})" for dataset in results.played if dataset not in scored]
    over = f"; scores over all datasets are over the {len(scored)} that have one" if scored else ""
    return f"{meaning} Without one: {', '.join(without)}{over}."


def failed_runs_text(results: Results) -> str:
    """How many runs failed, and what that does to the numbers."""
    total = len(results.cells) * len(results.seeds)
    return (
        f"{len(results.failures)} of {counted(total, 'run')} failed and are left out. An entry over fewer than all seeds says how many; "
        "numbers over all datasets are over the seeds that an algorithm has on every one of them."
    )


def missing_text(results: Results, dataset: str, name: str, metric: str) -> str:
    """What stands where there is no estimate of ``metric`` of the algorithm or variant ``name``."""
    if dataset == POOLED:
        return NOT_ON_EVERY_DATASET
    is_score = metric in SCORES and results.cell(dataset, name).seeds
    return no_score_text(results, dataset) if is_score else FAILED


def no_score_text(results: Results, dataset: str) -> str:
    """Why the game of ``dataset`` has no scores; empty where it has."""
    reference = results.reference(dataset)
    if reference.best is None:
        return "no score: best return not known"
    return "no score: return of random play not known" if reference.random is None else ""


def game_text(results: Results, dataset: str) -> str:
    """The game of ``dataset``, and what is known of its returns."""
    reference = results.reference(dataset)
    known = [] if reference.random is None else [f"random play returns {number_text(reference.random, 'return')}"]
    known += [] if reference.best is None else [f"the best return is {number_text(reference.best, 'return')}"]
    said = "; ".join(filter(None, [", ".join(known), no_score_text(results, dataset)]))
    return f"Game {results.games[dataset]}: {said}."


def trainings_text(results: Results) -> str:
    """How many trainings, how they were evaluated and how the intervals were made."""
    runs = sum(len(cell.seeds) for cell in results.cells)
    return (
        f"{runs} trainings, each evaluated over {results.episodes} episodes, greedy and sampled. Intervals: "
        f"{results.confidence * 100:g} % percentile bootstrap with {results.resamples} resamples."
    )


def fewer_seeds_text(results: Results, estimate: Estimate) -> str:
    """``n of N seeds``, or nothing where these are all."""
    return f"{estimate.seeds} of {counted(len(results.seeds), 'seed')}" if estimate.seeds < len(results.seeds) else ""


def over_datasets_text(results: Results) -> str:
    """``over N datasets``, or ``on`` the only one."""
    return f"over {len(results.played)} datasets" if len(results.played) > 1 else f"on {results.played[0]}"


def dataset_title(dataset: str) -> str:
    return "all, pooled" if dataset == POOLED else dataset


def standings_title(results: Results, metric: str) -> str:
    return f"{METRIC_TITLES[metric]}: the others' interquartile means beside that of {results.names[0]}"


def contrasts_title(results: Results, metric: str) -> str:
    return f"{METRIC_TITLES[metric]}: pairs without {results.names[0]} that differ in one parameter"


def contrast_text(contrast: Contrast) -> str:
    """Which pair it is, and what differs."""
    values = f"{contrast.parameter}: {contrast.other_value}, not {contrast.value}"
    return f"{contrast.other} beside {contrast.name} ({values})"


def contrast_cell(contrast: Contrast, dataset: str, metric: str) -> str:
    """The pair's standing on ``dataset``, or that one of them has no runs there."""
    standing = contrast.standings.get((dataset, metric))
    return STANDING_TITLES[standing] if standing else FAILED


def improvements_title(results: Results, metric: str) -> str:
    return f"Probability that a run of {results.names[0]} is better: {METRIC_TITLES[metric].lower()}"


def differences_title(metric: str) -> str:
    return f"{METRIC_TITLES[metric]}: variant minus algorithm, seed by seed"


def improvement_text(improvement: Improvement) -> str:
    """``probability [low, high]``, or the probability alone where there is no interval."""
    interval = "" if improvement.low is None or improvement.high is None else f" [{improvement.low:.2f}, {improvement.high:.2f}]"
    return f"{improvement.probability:.2f}{interval}"


def interval_text(estimate: Estimate, metric: str) -> str:
    """``[low, high]``, or nothing where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{number_text(estimate.low, metric)}, {number_text(estimate.high, metric)}]"


def iqm_text(estimate: Estimate, metric: str) -> str:
    """``IQM [low, high]``, or the IQM alone where there is no interval."""
    return f"{number_text(estimate.iqm, metric)} {interval_text(estimate, metric)}".rstrip()


def mean_text(estimate: Estimate, metric: str) -> str:
    """``mean ± std``, or the mean alone where there is no spread."""
    mean = number_text(estimate.mean, metric)
    return mean if estimate.std is None else f"{mean} ± {number_text(estimate.std, metric)}"


def number_text(value: float, metric: str) -> str:
    """With three decimals where ``metric`` is a return, else with two."""
    digits = 3 if metric.startswith("return") else 2
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.00"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def origin_texts(origin: dict[str, Any] | None) -> tuple[str, str, str, str]:
    """Commit, command, machine and versions of an origin (:func:`inspo_core.provenance.origins_of`)."""
    if origin is None:
        return (NOT_RECORDED,) * 4
    commit = origin.get("git_commit", NOT_RECORDED)[:12] + (", changed since" if origin.get("git_dirty") == "true" else "")
    versions = [f"{name.removeprefix('version_')} {value}" for name, value in origin.items() if name.startswith("version_")]
    return commit, origin["command"], f"{origin['processor']}, {origin['cores']} cores", ", ".join(versions)
