"""One experiment: one dataset, one algorithm, several seeds."""

from typing import Any, Dict, List

from kfp import dsl

from components.behavior.component import behavior
from components.evaluate.component import evaluate
from components.ingest.component import ingest
from components.report.component import report
from components.train.component import train
from pipelines.placement import NVIDIA, on_gpus


def experiment(gpus: int = 1, gpu_resource: str = NVIDIA) -> dsl.base_component.BaseComponent:
    """The pipeline, with ``gpus`` GPUs for its train step."""

    @dsl.pipeline(name="inspo-experiment", description="Ingest, behavior, train, evaluate, report: one dataset, one algorithm, several seeds.")
    def pipeline(raw_uri: str, dataset: str, algorithm: str = "inspo", seeds: List[int] = [0, 1, 2, 3, 4], overrides: Dict[str, Any] = {}):
        raw = dsl.importer(artifact_uri=raw_uri, artifact_class=dsl.Dataset)
        data = ingest(dataset=dataset, raw=raw.output, overrides=overrides)
        clones = behavior(dataset=dataset, data=data.output, seeds=seeds, overrides=overrides)
        policies = train(
            dataset=dataset, algorithm=algorithm, data=data.output, clones=clones.output, seeds=seeds, overrides=overrides
        )
        evaluations = evaluate(dataset=dataset, algorithm=algorithm, policies=policies.output, seeds=seeds, overrides=overrides)
        report(evaluations=evaluations.output, policies=policies.output, overrides=overrides)
        on_gpus(policies, gpus, gpu_resource)

    return pipeline
