"""A small tree of evaluations and trainings with the numbers that such runs give."""

import functools
import json
from pathlib import Path

import numpy as np

from inspo_core.config.learners import learner_of
from inspo_core.config.reading import load_params
from inspo_core.config.sections import Params
from inspo_core.files import write_json
from inspo_core.records import write_record

ROOT = Path(__file__).resolve().parents[2]
GAMES = {  # dataset -> algorithm or variant -> mean of the final return, its spread over seeds, return before training
    "xor_c": {
        "inspo": (1.0, 0.0, -0.4),
        "bc": (-0.05, 0.06, -0.4),
        "inspo_product": (0.2, 0.3, -0.4),
        "inspo_simultaneous": (1.0, 0.0, -0.4),
    },
    "mne_imbalanced": {"inspo": (20.0, 0.0, -8.0), "bc": (2.6, 0.7, -8.0), "inspo_product": (12.0, 3.0, -8.0)},
    "bridge_mixed": {"inspo": (-1.26, 0.02, -17.7), "bc": (-9.4, 1.3, -17.7), "inspo_product": (-1.5, 0.1, -17.7)},
}
STEPS = (10, 20, 30, 40, 50, 60)


@functools.cache
def committed() -> Params:
    return load_params(ROOT / "params.yaml")


class Tree:
    """``evaluations`` and ``trainings`` of an experiment, and the parameters that name it."""

    def __init__(self, root: Path, datasets: list[str], algorithms: list[str], seeds: list[int]):
        self.root = root
        self.evaluations, self.trainings, self.out = root / "evaluate", root / "train", root / "reports"
        self.experiment = {"datasets": datasets, "algorithms": algorithms, "seeds": seeds}
        for dataset in datasets:
            for algorithm in algorithms:
                for seed in seeds:
                    self.add(dataset, algorithm, seed)

    def params(self, **experiment: list) -> Params:
        overrides = {f"experiment.{key}": value for key, value in {**self.experiment, **experiment}.items()}
        return load_params(ROOT / "params.yaml", [json.dumps({**overrides, "report.bootstrap": 500})])

    def add(self, dataset: str, name: str, seed: int, episodes: int = 100, **record: str) -> Path:
        """Write one seed's two folders, ``record`` into their ``run.json``; return the evaluation's."""
        final, spread, start = GAMES[dataset][name]
        rng = np.random.default_rng([list(GAMES).index(dataset), len(name), seed])
        ended = final + spread * rng.normal()
        best = {"xor_c": 1.0, "mne_imbalanced": 20.0, "bridge_mixed": -1.23545}[dataset]
        ended = min(ended, best)
        learner = learner_of(name, committed())
        run = {"dataset": dataset, "algorithm": learner.algorithm, "variant": learner.variant, "seed": seed, **record}
        training = self.trainings / dataset / name / f"seed_{seed}"
        training.mkdir(parents=True, exist_ok=True)
        with open(training / "metrics.jsonl", "w") as file:
            for step in range(1, STEPS[-1] + 1):
                line = {"step": step, "critic_loss": float(np.exp(-step / 20))}
                if step in STEPS:
                    value = ended + (start - ended) * np.exp(-step / 12) * (1 + 0.2 * rng.normal())
                    line |= {f"evaluation/{name}": number for name, number in _numbers(min(value, best), best).items()}
                file.write(json.dumps(line) + "\n")
        write_record(training, {**run, "stage": "train", "fingerprint": f"{dataset}-{name}-{seed}", "config": {}})
        evaluation = self.evaluations / dataset / name / f"seed_{seed}"
        evaluation.mkdir(parents=True, exist_ok=True)
        lengths = {"length_greedy": 8.0, "length_sampled": 8.5}
        write_json(evaluation / "metrics.json", {**_numbers(ended, best), **lengths})
        lineage = {"stage": "evaluate", "fingerprint": "e" * 16, "train_fingerprint": f"{dataset}-{name}-{seed}"}
        lineage["env"] = dataset.partition("_")[0]
        write_record(evaluation, {**lineage, **run, "config": {"episodes": episodes, "seed": 1000003}})
        return evaluation


def _numbers(value: float, best: float) -> dict[str, float]:
    near = float(np.clip(1 - abs(best - value) / (abs(best) + 1), 0, 1))
    return {
        "return_greedy": float(value),
        "return_sampled": float(value - 0.03 * abs(best)),
        "success_greedy": near,
        "success_sampled": round(0.97 * near, 2),
    }
