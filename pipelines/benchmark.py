"""A benchmark: datasets x algorithms x seeds side by side, compared in one report."""

from typing import Any, Dict, List

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.behavior.component import behavior
from components.evaluate.component import evaluate
from components.finish.component import finish
from components.ingest.component import ingest
from components.report.component import benchmark_report
from components.train.component import train
from pipelines.placement import Placement

AT_ONCE = 20  # iterations of a loop that run side by side


def benchmark(placement: Placement) -> BaseComponent:
    """The pipeline, its steps placed by ``placement``, which must set INSPO_STORE: the report finds there what the tasks have made.

    Its parameter ``plan`` is made by :func:`pipelines.plan.benchmark_plan`. Tasks in a loop share one cache key, so Kubeflow's own is
    used, of which the fingerprint is a part because every task has it as a parameter.
    """

    @dsl.pipeline(name="inspo-benchmark", description="Datasets x algorithms x seeds: from raw episodes to one report.")
    def pipeline(data_repo: str, data_rev: str, plan: List[Dict], data_remote: str = "", overrides: Dict[str, Any] = {}):
        end = finish(overrides=overrides)
        with dsl.ExitHandler(end, name="benchmark"):
            with dsl.ParallelFor(plan, name="datasets", parallelism=AT_ONCE) as item:
                of_data = {"dataset": item.dataset, "overrides": overrides}
                data = ingest(data_repo=data_repo, data_rev=data_rev, data_remote=data_remote, fingerprint=item.ingest, **of_data)
                clones = behavior(data=data.output, seeds=item.seeds, fingerprint=item.behavior, **of_data)
                with dsl.ParallelFor(item.runs, name="runs", parallelism=AT_ONCE) as run:
                    of_run = {**of_data, "algorithm": run.algorithm, "seeds": run.seeds}
                    policies = train(data=data.output, clones=clones.output, fingerprint=run.train, **of_run)
                    evaluations = evaluate(policies=policies.output, fingerprint=run.evaluate, **of_run)
            # A loop in which something failed is no reason to say nothing of the rest.
            reported = benchmark_report(plan=plan, overrides=overrides).after(evaluations).ignore_upstream_failure()
        reported.set_caching_options(False)  # its parameters do not tell which of the tasks failed
        end.set_caching_options(False)
        steps = {"ingest": data, "behavior": clones, "train": policies, "evaluate": evaluations, "report": reported, "finish": end}
        for step, task in steps.items():
            placement.apply(task, step)

    return pipeline
