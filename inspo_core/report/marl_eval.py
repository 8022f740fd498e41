"""The results in the format of marl-eval (https://github.com/instadeepai/marl-eval), whose tools aggregate and plot them."""

from inspo_core.report.results import METRICS, Results


def marl_eval(results: Results) -> dict:
    """environment (game) -> task (dataset) -> algorithm -> run (seed) -> ``step_<k>`` and ``absolute_metrics`` -> metric -> [mean].

    Every value is an average over the episodes of an evaluation, hence a list of one. ``absolute_metrics`` are those of the last
    policy, where marl-eval's protocol takes the best one over training. ``step_count`` counts training iterations. marl-eval
    wants equally many steps of all runs of a game, so only the iterations at which every run of the game was evaluated are there.
    """
    tree: dict = {}
    for game in dict.fromkeys(results.games.values()):
        cells = [cell for cell in results.cells if results.games[cell.dataset] == game]
        steps = sorted(set.intersection(*(set(curve) for cell in cells for curve in cell.curves)))
        for cell in cells:
            runs = tree.setdefault(game, {}).setdefault(cell.dataset, {})[cell.name] = {}
            for place, seed in enumerate(results.seeds):
                points = {
                    f"step_{number}": {"step_count": step} | {metric: [cell.curves[place][step][metric]] for metric in METRICS}
                    for number, step in enumerate(steps, start=1)
                }
                last = {metric: [float(cell.values[metric][place])] for metric in METRICS}
                runs[f"seed_{seed}"] = points | {"absolute_metrics": last}
    return tree
