"""How the tasks of a benchmark ended, in the shared store, for a report that counts what is there when some of it failed."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspo_core.algorithm_configs import ALGORITHM_CONFIGS
from inspo_core.config import DEFAULT
from inspo_core.errors import InspoError
from inspo_core.files import read_json
from inspo_core.seeds import SeedsFailed
from inspo_core.shared_store import SharedStore
from inspo_core.stages import seeds_in


def run_stage(key: str, stage: Callable[[list[int]], None], seeds: list[int], before: Path | None, out: Path) -> None:
    """Run ``stage`` for ``seeds``; with a ``key``, only for those that the folder ``before`` holds, and record under it how each ended.

    ``before``: what the stage before has written; None: it can run for every seed. Recorded seeds that failed fail the task only if
    all did.

    Raises InspoError then, with a key but without a shared store, and as ``stage`` does.
    """
    if not key:
        return stage(seeds)
    store = SharedStore.from_environment()
    if store is None:
        raise InspoError("--record needs a shared store; set INSPO_STORE to a directory or to s3://bucket/prefix")
    able = seeds if before is None else seeds_in(before, seeds)
    failures = {}
    if able:
        try:
            stage(able)
        except SeedsFailed as error:
            failures = error.reasons
            print(f"warning: {error}", file=sys.stderr)
    made = {str(seed): read_json(out / f"seed_{seed}" / "run.json")["fingerprint"] for seed in able if seed not in failures}
    store.write_record(key, {"seeds": made, "failures": {str(seed): reason for seed, reason in failures.items()}})
    if not made:
        raise InspoError(f"none of the seeds {seeds} has a result: {'; '.join(sorted(set(failures.values()))) or f'{before} holds none of them'}")


def gather(plan: list[dict[str, Any]], store: SharedStore, evaluations: Path, trainings: Path) -> dict[tuple[str, str, int], str]:
    """Put what the tasks of ``plan`` have made into ``evaluations/<dataset>/<algorithm>/seed_<k>`` and the same of ``trainings``.

    ``plan`` is that of :func:`pipelines.plan.benchmark_plan`. Returns why what is missing is missing, by dataset, algorithm and seed.
    """
    missing = {}
    for of_dataset in plan:
        for run in of_dataset["runs"]:
            variant = DEFAULT if run["algorithm"] in ALGORITHM_CONFIGS else run["algorithm"]
            labels = {"dataset": of_dataset["dataset"], "variant": variant}
            records = [store.read_record(key) or {} for key in (of_dataset["behavior"], run["train"], run["evaluate"])]
            for seed in run["seeds"]:
                place = Path(of_dataset["dataset"], run["algorithm"], f"seed_{seed}")
                evaluated = records[-1].get("seeds", {}).get(str(seed))
                if evaluated and store.fetch("evaluate", evaluated, evaluations / place, labels):
                    trained = read_json(evaluations / place / "run.json")["train_fingerprint"]
                    if store.fetch("train", trained, trainings / place, labels):
                        continue
                reasons = [record["failures"][str(seed)] for record in records if str(seed) in record.get("failures", {})]
                reason = reasons[0] if reasons else "its task ended without a word; see the steps of the pipeline's run"
                missing[of_dataset["dataset"], run["algorithm"], seed] = reason
    return missing
