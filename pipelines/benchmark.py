"""A benchmark: datasets x algorithms x seeds side by side, compared in one report."""

from typing import Dict, List

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


def benchmark(placement: Placement, cache: bool = True) -> BaseComponent:
    """The pipeline, its steps placed by ``placement``, which must set INSPO_STORE: the report finds there what the tasks have made.

    Its parameter ``plan`` is made by :func:`pipelines.plan.benchmark_plan`. Tasks in a loop share one cache key, so Kubeflow's own is
    used, of which the task's key is a part because every task has it as a parameter. Without ``cache`` every task runs; seeds that are
    finished it finds in the shared store.
    """
    of_datasets = _of_datasets(placement, cache)

    @dsl.pipeline(name="inspo-benchmark", description="Datasets x algorithms x seeds: from raw episodes to one report.")
    def pipeline(data_repo: str, data_rev: str, plan: List[Dict], data_remote: str = "", overrides: str = "{}"):
        end = finish(overrides=overrides, dataset="", algorithm="")
        with dsl.ExitHandler(end, name="benchmark"):
            where = {"data_repo": data_repo, "data_rev": data_rev, "data_remote": data_remote}
            runs = of_datasets(**where, plan=plan, overrides=overrides)
            # A dataset on which something failed is no reason to say nothing of the rest.
            reported = benchmark_report(plan=plan, overrides=overrides).after(runs).ignore_upstream_failure()
        for step, task in {"report": reported, "finish": end}.items():
            task.set_caching_options(False)  # what they are to do depends on which of the tasks failed
            placement.apply(task, step)

    return pipeline


def _of_datasets(placement: Placement, cache: bool) -> BaseComponent:
    # A pipeline in the pipeline: Kubeflow 2.17.0 never starts a task that comes after a loop whatever becomes of the loop, but one that
    # comes after a pipeline it does.
    of_dataset = _of_dataset(placement, cache)

    @dsl.pipeline(name="datasets", description="All runs on all datasets.")
    def pipeline(data_repo: str, data_rev: str, data_remote: str, plan: List[Dict], overrides: str):
        with dsl.ParallelFor(plan, name="datasets", parallelism=AT_ONCE) as item:
            of_plan = {"dataset": item.dataset, "seeds": item.seeds, "ingest_key": item.ingest, "behavior_key": item.behavior}
            where = {"data_repo": data_repo, "data_rev": data_rev, "data_remote": data_remote}
            of_dataset(**of_plan, **where, runs=item.runs, overrides=overrides)

    return pipeline


def _of_dataset(placement: Placement, cache: bool) -> BaseComponent:
    # A pipeline in the pipeline: Kubeflow's local runner does not find the items of a loop that are a field of another loop's item.

    @dsl.pipeline(name="dataset", description="All runs on one dataset.")
    def pipeline(
        data_repo: str,
        data_rev: str,
        data_remote: str,
        dataset: str,
        seeds: List[int],
        ingest_key: str,
        behavior_key: str,
        runs: List[Dict],
        overrides: str,
    ):
        of_data = {"dataset": dataset, "overrides": overrides}
        data = ingest(data_repo=data_repo, data_rev=data_rev, data_remote=data_remote, planned=ingest_key, **of_data)
        clones = behavior(
            data=data.output, seeds=seeds, device=placement.device("behavior"), planned=behavior_key, record=behavior_key, **of_data
        )
        with dsl.ParallelFor(runs, name="runs", parallelism=AT_ONCE) as run:
            of_run = {**of_data, "algorithm": run.algorithm, "seeds": run.seeds}
            policies = train(
                data=data.output, clones=clones.output, device=placement.device("train"), planned=run.train, record=run.train, **of_run
            )
            evaluations = evaluate(policies=policies.output, planned=run.evaluate, record=run.evaluate, **of_run)
        for step, task in {"ingest": data, "behavior": clones, "train": policies, "evaluate": evaluations}.items():
            task.set_caching_options(cache)
            placement.apply(task, step)

    return pipeline
