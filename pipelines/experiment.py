"""One experiment: one dataset, one algorithm, several seeds."""

from typing import Any, Dict, List

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.behavior.component import behavior
from components.evaluate.component import evaluate
from components.image import IMAGE
from components.ingest.component import ingest
from components.report.component import report
from components.train.component import train
from pipelines.placement import NVIDIA, on_gpus


def experiment(gpus: int = 1, gpu_resource: str = NVIDIA) -> BaseComponent:
    """The pipeline, with ``gpus`` GPUs for its train step."""

    @dsl.pipeline(name="inspo-experiment", description="One dataset, one algorithm, several seeds: from raw episodes to a report.")
    def pipeline(raw_uri: str, dataset: str, algorithm: str = "inspo", seeds: List[int] = [0, 1, 2, 3, 4], overrides: Dict[str, Any] = {}):
        data_of = {"dataset": dataset, "overrides": overrides}
        run_of = {**data_of, "algorithm": algorithm, "seeds": seeds}

        raw = dsl.importer(artifact_uri=raw_uri, artifact_class=dsl.Dataset)
        data = ingest(raw=raw.output, **data_of)
        clones = behavior(data=data.output, seeds=seeds, **data_of)
        policies = train(data=data.output, clones=clones.output, **run_of)
        evaluations = evaluate(policies=policies.output, **run_of)
        reports = report(evaluations=evaluations.output, policies=policies.output, **run_of)

        for task in (data, clones, policies, evaluations, reports):
            task.set_env_variable("INSPO_IMAGE", IMAGE)  # MLflow runs are tagged with it
        on_gpus(policies, gpus, gpu_resource)

    return pipeline
