"""One experiment: one dataset, one algorithm, several seeds."""

from typing import List

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.behavior.component import behavior
from components.evaluate.component import evaluate
from components.finish.component import finish
from components.ingest.component import ingest
from components.report.component import report
from components.train.component import train
from pipelines.placement import Placement


def experiment(placement: Placement, keys: dict[str, str] | None = None, cache: bool = True) -> BaseComponent:
    """The pipeline, its steps placed by ``placement``.

    ``keys``: the key of each stage, from :func:`pipelines.plan.experiment_keys`. It is the step's cache key, and a parameter of it
    for servers that know no such key (2.17.0 does not, kubeflow/pipelines#13762). None leaves the cache to Kubeflow, which knows
    parameters, artifacts and the image's name, but not what changed inside an image or a revision of that name. Without ``cache`` every
    step runs.
    """
    keys = keys or {}

    @dsl.pipeline(name="inspo-experiment", description="One dataset, one algorithm, several seeds: from raw episodes to a report.")
    def pipeline(
        data_repo: str,
        data_rev: str,
        dataset: str,
        data_remote: str = "",
        algorithm: str = "inspo",
        seeds: List[int] = [0, 1, 2, 3, 4],
        overrides: str = "{}",
    ):
        data_of = {"dataset": dataset, "overrides": overrides}
        run_of = {**data_of, "algorithm": algorithm, "seeds": seeds}
        end = finish(overrides=overrides, dataset=dataset, algorithm=algorithm)
        with dsl.ExitHandler(end, name="experiment"):
            where = {"data_repo": data_repo, "data_rev": data_rev, "data_remote": data_remote}
            data = ingest(**where, planned=keys.get("ingest", ""), **data_of)
            clones = behavior(
                data=data.output, seeds=seeds, device=placement.device("behavior"), planned=keys.get("behavior", ""), record="", **data_of
            )
            policies = train(
                data=data.output, clones=clones.output, device=placement.device("train"), planned=keys.get("train", ""), record="", **run_of
            )
            evaluations = evaluate(policies=policies.output, planned=keys.get("evaluate", ""), record="", **run_of)
            reported = report(evaluations=evaluations.output, policies=policies.output, planned=keys.get("report", ""), **run_of)
        steps = {"ingest": data, "behavior": clones, "train": policies, "evaluate": evaluations, "report": reported}
        for step, task in steps.items():
            task.set_caching_options(cache, cache_key=keys.get(step) if cache else None)
        end.set_caching_options(False)
        for step, task in (steps | {"finish": end}).items():
            placement.apply(task, step)

    return pipeline
