"""The results in the format of marl-eval (https://github.com/instadeepai/marl-eval), whose tools aggregate and plot them."""

from typing import Any

from inspo_core.report.results import METRICS, Results


def marl_eval(results: Results) -> dict[str, Any]:
    """environment (game) -> task (dataset) -> algorithm -> run (seed) -> ``step_<k>`` and ``absolute_metrics`` -> metric -> [mean].

    Every value is an average over the episodes of an evaluation, hence a list of one. ``absolute_metrics`` are those of the last
    policy, where marl-eval's protocol takes the best one over training. ``step_count`` counts training iterations. marl-eval
    wants the same algorithms, runs and steps on all tasks of a game. So only the iterations at which every run of the game was
    evaluated are there; and where runs failed, only the algorithms with runs on every task, and the seeds that all of these have.
    """
    tree: dict[str, Any] = {}
    for game in dict.fromkeys(results.games.values()):
        cells = [cell for cell in results.cells if results.games[cell.dataset] == game]
        without_runs = {cell.name for cell in cells if not cell.seeds}
        cells = [cell for cell in cells if cell.name not in without_runs]
        shared = [seed for seed in results.seeds if all(seed in cell.seeds for cell in cells)]
        if not cells or not shared:
            continue
        steps = sorted(set.intersection(*(set(curve) for cell in cells for curve in cell.curves)))
        for cell in cells:
            runs = tree.setdefault(game, {}).setdefault(cell.dataset, {})[cell.name] = {}
            for seed in shared:
                place = cell.seeds.index(seed)
                points = {
                    f"step_{number}": {"step_count": step} | {metric: [cell.curves[place][step][metric]] for metric in METRICS}
                    for number, step in enumerate(steps, start=1)
                }
                last = {metric: [float(cell.values[metric][place])] for metric in METRICS}
                runs[f"seed_{seed}"] = points | {"absolute_metrics": last}
    return tree
