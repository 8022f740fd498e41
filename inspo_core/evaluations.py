"""What an evaluation measures, how it is read, its summary over seeds, and what did best."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspo_core.config.sections import ReportConfig
from inspo_core.errors import InspoError, quoted
from inspo_core.files import read_json, write_json
from inspo_core.statistics import estimate

MODES = ("greedy", "sampled")
METRICS = tuple(f"{quantity}_{mode}" for quantity in ("return", "success", "length") for mode in MODES)


@dataclass(frozen=True)
class BestPolicy:
    """The policy of a dataset that did best.

    ``fingerprint`` is that of the seed's training run; ``metric`` and ``value`` say by what it was chosen: the evaluation of the
    last policy of each run in the game itself, which is a choice that offline data alone could not make.
    """

    dataset: str
    algorithm: str
    variant: str
    seed: int
    fingerprint: str
    metric: str
    value: float


def read_metrics(path: Path) -> dict[str, float]:
    """Read a seed's ``metrics.json``.

    Raises InspoError: missing file, missing metric, or one that is not a finite number.
    """
    metrics = read_json(path)
    for name in METRICS:
        value = metrics.get(name) if isinstance(metrics, dict) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise InspoError(f"{path}: {name} is {quoted(value)}, not a finite number; run the evaluate stage again")
    return {name: float(metrics[name]) for name in METRICS}


def summarise(out_dir: Path, seeds: list[int], config: ReportConfig) -> dict[str, dict]:
    """Write ``out_dir/summary.json``: every metric's :class:`~inspo_core.statistics.Estimate` over ``seeds``; return it.

    ``out_dir`` holds one ``seed_<k>`` folder of the stage evaluate a seed; other seeds' folders are left alone.
    """
    runs = [read_metrics(out_dir / f"seed_{seed}" / "metrics.json") for seed in seeds]
    summary = {
        metric: estimate([np.array([run[metric] for run in runs])], config.confidence, config.bootstrap).as_dict() for metric in METRICS
    }
    write_json(out_dir / "summary.json", summary)
    return summary
