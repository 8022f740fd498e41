"""The card of a dataset: what it holds, in numbers (``card.json``), in words (``card.md``) and as a picture (``returns.png``)."""

from pathlib import Path
from typing import Any

import numpy as np

from inspo_core.datasets.episodes import EpisodeDataset
from inspo_core.files import write_json

MAX_BARS = 12  # up to so many distinct returns get a bar each; more are binned
BINS = 30


def describe(dataset: EpisodeDataset, content_hash: str) -> dict[str, Any]:
    """The numbers of the card as JSON values; ``content_hash`` is the one of the dataset on disk."""
    returns, lengths = dataset.episode_returns(), dataset.episode_lengths()
    distinct = len(np.unique(dataset.distinct_episodes()))
    quartiles = np.quantile(returns, [0.25, 0.5, 0.75])
    return {
        "name": dataset.name,
        "env": dataset.env,
        "content_hash": content_hash,
        "provenance": dict(dataset.provenance),
        "n_episodes": dataset.n_episodes,
        "n_transitions": dataset.n_transitions,
        "n_agents": dataset.n_agents,
        "n_actions": dataset.n_actions,
        "observation_size": dataset.observations.shape[2],
        "state_size": None if dataset.states is None else dataset.states.shape[1],
        "has_available_actions": dataset.available_actions is not None,
        "has_behavior_log_probs": dataset.behavior_log_probs is not None,
        "returns": {
            "mean": _number(returns.mean()),
            "std": _number(returns.std()),
            "min": _number(returns.min()),
            "quartiles": [_number(quartile) for quartile in quartiles],
            "max": _number(returns.max()),
            "histogram": _histogram(returns),
        },
        "lengths": {"mean": _number(lengths.mean()), "min": int(lengths.min()), "max": int(lengths.max())},
        "terminated_episodes": int(dataset.terminations.sum()),
        "truncated_episodes": int(dataset.truncations.sum()),
        "distinct_episodes": distinct,
        "duplicate_rate": _number(1 - distinct / dataset.n_episodes),
    }


def write_card(card: dict[str, Any], directory: Path) -> None:
    """Write ``card.json``, ``card.md`` and ``returns.png`` into ``directory``; the same card gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "card.json", card)
    (directory / "card.md").write_text(_markdown(card), encoding="utf-8")
    _draw_returns(card, directory / "returns.png")


def _number(value: float) -> float:
    return round(float(value), 6) + 0.0  # + 0.0 turns -0.0 into 0.0


def _histogram(returns: np.ndarray) -> dict[str, list]:
    """``counts`` of episodes at each of the ``values``, or between consecutive ``edges`` if the values are many."""
    values, counts = np.unique(returns.round(6), return_counts=True)
    if len(values) <= MAX_BARS:
        return {"values": [_number(value) for value in values], "counts": counts.tolist()}
    counts, edges = np.histogram(returns, bins=BINS)
    return {"edges": [_number(edge) for edge in edges], "counts": counts.tolist()}


def _markdown(card: dict[str, Any]) -> str:
    returns, lengths = card["returns"], card["lengths"]
    low, median, high = returns["quartiles"]
    rows = {
        "game": f"{card['env']}: {card['n_agents']} agents, {card['n_actions']} actions each",
        "observation, state": f"{card['observation_size']} numbers an agent, {card['state_size'] or 'no'} numbers of state",
        "episodes": f"{card['n_episodes']:,} with {card['n_transitions']:,} transitions",
        "episode length": f"{lengths['min']} to {lengths['max']}, mean {lengths['mean']:.2f}",
        "ended by": f"the game (terminated) {card['terminated_episodes']:,}, a time limit (truncated) {card['truncated_episodes']:,}",
        "return": f"mean {returns['mean']:.4f}, standard deviation {returns['std']:.4f}",
        "return, spread": f"min {returns['min']:.4f}, quartiles {low:.4f} / {median:.4f} / {high:.4f}, max {returns['max']:.4f}",
        "distinct episodes": f"{card['distinct_episodes']:,}; duplicate rate {card['duplicate_rate']:.1%}",
        "action masks": "stored" if card["has_available_actions"] else "none: every action is always available",
        "behavior log-probabilities": "stored" if card["has_behavior_log_probs"] else "not known",
        "content hash": f"`{card['content_hash']}`",
        **{key: str(value) for key, value in card["provenance"].items() if value is not None},
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"# Dataset {card['name']}\n\n| | |\n|---|---|\n{table}\n\n![Histogram of the episodes' returns](returns.png)\n"


def _draw_returns(card: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second to import, and only ingest draws
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    returns, histogram = card["returns"], card["returns"]["histogram"]
    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    counts = np.array(histogram["counts"])
    if "values" in histogram:
        places = np.arange(len(counts))
        bars = axes.bar(places, counts, width=0.6, color="#3b6ea8")
        axes.bar_label(bars, padding=2, fontsize=8, color="#444444")
        axes.set_xticks(places, [f"{value:.5g}" for value in histogram["values"]])
        margin = max(1.0, (5 - len(counts)) / 2)  # keeps few bars from growing wide
        axes.set_xlim(-margin, len(counts) - 1 + margin)
    else:
        edges = np.array(histogram["edges"])
        axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color="#3b6ea8", edgecolor="white", linewidth=0.4)
        axes.axvline(returns["mean"], color="#c8553d", linestyle="--", linewidth=1.4, label=f"mean {returns['mean']:.3f}")
        axes.legend(frameon=False)
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{card['name']}: {card['n_episodes']:,} episodes, mean return {returns['mean']:.3f}", fontsize=11, loc="left")
    axes.set_xlabel("return of an episode (undiscounted sum of rewards)")
    axes.set_ylabel("episodes")
    figure.savefig(path, metadata={"Software": None})  # the library's version would change the bytes
