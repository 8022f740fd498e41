"""The compiled pipelines: they are the committed files, Kubeflow takes them, and their commands are those of the stages and of DVC."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from components.cli import params_of
from pipelines.benchmark import benchmark
from pipelines.experiment import experiment
from pipelines.placement import Placement
from tests.pipelines.compiled import GOLDEN, ROOT, compile_pipelines, containers, read, resolve

STAGES = ["ingest", "behavior", "train", "evaluate", "report"]
STEPS = {"experiment": {*STAGES, "finish"}, "benchmark": {*STAGES, "finish", "benchmark-report"} - {"report"}}
FILES = sorted(GOLDEN.glob("*.yaml"))
PARAMETERS = {
    "dataset": "xor_c",
    "algorithm": "inspo",
    "seeds": [0, 2],
    "overrides": '{"train.iterations": 3, "train.inspo.alpha": 0.5, "evaluate.episodes": 7, "experiment.seeds": [0, 2]}',
    "device": "cpu",
    "planned": "0123",
    "record": "0123",
    "data_repo": "https://git.example/data",
    "data_rev": "v1",
    "data_remote": "",
    "status": {"state": "SUCCEEDED"},
    "ingest_key": "4567",
    "behavior_key": "89ab",
    "plan": [{"dataset": "xor_c", "behavior": "b", "runs": [{"algorithm": "inspo", "train": "t", "evaluate": "e", "seeds": [0.0, 2.0]}]}],
}


def of_benchmark(path: Path) -> bool:
    return path.name.startswith("benchmark")


def stage_parser(stage: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that ``python -m components.<stage>`` uses."""

    class Found(Exception):
        pass

    def stop(parser, *_):
        raise Found(parser)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Found) as found:
            importlib.import_module(f"components.{stage}.__main__").main()
    return found.value.args[0]


def options_of(words: list[str]) -> set[str]:
    return {word for word in words if word.startswith("--")}


def test_the_committed_files_are_what_the_code_compiles_to(tmp_path):
    compile_pipelines(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in FILES}, "run: python -m pipelines.compile"
    assert set(made) == {f"{pipeline}-{placement}.yaml" for pipeline in STEPS for placement in ("cpu", "gpu")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kubeflow_takes_the_file(path):
    pipeline, platform = read(path)
    spec = json_format.ParseDict(pipeline, PipelineSpec())
    name = path.stem.partition("-")[0]
    assert spec.pipeline_info.name == f"inspo-{name}" and set(containers(pipeline)) == STEPS[name]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {step.removeprefix("exec-") for step in executors} == STEPS[name]
    for executor in executors.values():
        json_format.ParseDict(executor, KubernetesExecutorConfig())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_training_asks_for_a_gpu(path):
    resources = {step: container.get("resources", {}) for step, container in containers(read(path)[0]).items()}
    asked = {step: found["accelerator"]["resourceCount"] for step, found in resources.items() if "accelerator" in found}
    assert asked == ({"train": "1"} if path.stem.endswith("gpu") else {})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_step_with_a_gpu_is_told_to_compute_there(path):
    """And refuses to do without it (tests/running has that)."""
    graph = read(path)[0]
    tasks = {name: task for component in graph["components"].values() for name, task in component.get("dag", {}).get("tasks", {}).items()}
    told = {name: task["inputs"]["parameters"].get("device", {}) for name, task in tasks.items() if name in STAGES}
    devices = {name: device["runtimeValue"]["constant"] for name, device in told.items() if device}
    assert devices == {"behavior": "cpu", "train": "cuda" if path.stem.endswith("gpu") else "cpu"}
    for step, container in containers(graph).items():
        assert ("--device" in container["args"]) == (step in devices)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_secret_and_no_host_in_the_file(path):
    text = re.sub(r"nvidia\.com/gpu|app\.kubernetes\.io|sidecar\.istio\.io|cluster-autoscaler\.kubernetes\.io", "", path.read_text())
    assert not re.search(r"://|@|\.(com|org|io|net|local)\b", text)
    for step, container in containers(read(path)[0]).items():
        environment = {variable["name"]: variable["value"] for variable in container["env"]}
        known = {"INSPO_IMAGE", "INSPO_WORKERS", "INSPO_DELIVERY_PATIENCE"}
        assert environment.keys() <= known, step
        assert environment["INSPO_IMAGE"] == container["image"] == "inspo:0.1.0"


def test_one_variable_names_the_image_of_every_step(tmp_path):
    compile_pipelines(tmp_path, INSPO_IMAGE="registry.example/inspo@sha256:0123")
    for path in tmp_path.iterdir():
        assert {container["image"] for container in containers(read(path)[0]).values()} == {"registry.example/inspo@sha256:0123"}
        assert "inspo:0.1.0" not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_parameter_of_a_command_is_handed_to_its_task(path):
    """Kubeflow 2.17.0 looks for them among what the task is given, and knows no defaults there."""
    graph = read(path)[0]
    dags = [graph["root"]["dag"], *(component["dag"] for component in graph["components"].values() if "dag" in component)]
    seen = set()
    for name, task in ((name, task) for dag in dags for name, task in dag["tasks"].items()):
        component = graph["components"][task["componentRef"]["name"]]
        if "executorLabel" in component:
            command = str(graph["deploymentSpec"]["executors"][component["executorLabel"]]["container"]["args"])
            asked = set(re.findall(r"\$\.inputs\.parameters\[\\*'(\w+)\\*'\]", command))
            assert asked and asked <= task["inputs"]["parameters"].keys(), name
            seen.add(name)
    assert seen == STEPS[path.stem.partition("-")[0]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_runs_whatever_became_of_another_task_does_not_wait_for_a_loop(path):
    """Kubeflow 2.17.0 makes it an exit hook of that task, and leaves out the hooks of loops."""
    graph = read(path)[0]
    waiting = {}
    for dag in [graph["root"]["dag"], *(component["dag"] for component in graph["components"].values() if "dag" in component)]:
        for name, task in dag["tasks"].items():
            if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED":
                waiting[name] = [dag["tasks"][other] for other in task["dependentTasks"]]
    assert waiting.keys() == ({"benchmark-report", "finish"} if of_benchmark(path) else {"finish"})
    assert all(len(others) == 1 and "parameterIterator" not in others[0] for others in waiting.values())


def test_cache_keys_are_the_keys_that_are_handed_in():
    keys = {stage: f"key-of-{stage}" for stage in STAGES}
    tasks = experiment(Placement(), keys).pipeline_spec.components["comp-exit-handler-1"].dag.tasks
    assert {name: (task.caching_options.enable_cache, task.caching_options.cache_key) for name, task in tasks.items()} == {
        stage: (True, key) for stage, key in keys.items()
    }
    given = {name: task.inputs.parameters["planned"].runtime_value.constant.string_value for name, task in tasks.items()}
    assert given == keys  # for servers that know no cache keys
    assert not experiment(Placement(), keys).pipeline_spec.root.dag.tasks["finish"].caching_options.enable_cache


def test_in_a_loop_every_task_has_its_key_as_a_parameter():
    components = benchmark(Placement()).pipeline_spec.components
    tasks = {name: task for component in components.values() for name, task in component.dag.tasks.items() if name in STAGES}
    sources = {name: task.inputs.parameters["planned"] for name, task in tasks.items()}
    assert {name: source.component_input_parameter or source.parameter_expression_selector for name, source in sources.items()} == {
        "ingest": "ingest_key",
        "behavior": "behavior_key",
        "train": "pipelinechannel--runs-loop-item",
        "evaluate": "pipelinechannel--runs-loop-item",
    }
    assert sources["train"].parameter_expression_selector == 'parseJson(string_value)["train"]'
    assert sources["evaluate"].parameter_expression_selector == 'parseJson(string_value)["evaluate"]'
    of_dataset = (
        next(component for name, component in components.items() if "dataset" in component.dag.tasks).dag.tasks["dataset"].inputs.parameters
    )
    assert of_dataset["ingest_key"].parameter_expression_selector == 'parseJson(string_value)["ingest"]'
    assert of_dataset["behavior_key"].parameter_expression_selector == 'parseJson(string_value)["behavior"]'
    assert all(task.caching_options.enable_cache and not task.caching_options.cache_key for task in tasks.values())
    assert all(tasks[name].inputs.parameters["record"] == sources[name] for name in ("behavior", "train", "evaluate"))
    report = components["comp-exit-handler-1"].dag.tasks["benchmark-report"]
    assert report.trigger_policy.strategy == report.trigger_policy.ALL_UPSTREAM_TASKS_COMPLETED
    assert not report.caching_options.enable_cache


@pytest.mark.parametrize(
    "pipeline", [experiment(Placement(), dict.fromkeys(STAGES, "key"), cache=False), benchmark(Placement(), cache=False)]
)
def test_without_cache_every_step_runs(pipeline):
    dags = [pipeline.pipeline_spec.root.dag, *(component.dag for component in pipeline.pipeline_spec.components.values())]
    tasks = {name: task for dag in dags for name, task in dag.tasks.items() if name.removeprefix("benchmark-") in (*STAGES, "finish")}
    assert len(tasks) == len(STAGES) + 1
    assert not any(task.caching_options.enable_cache or task.caching_options.cache_key for task in tasks.values())


@pytest.mark.parametrize("path", [GOLDEN / "experiment-cpu.yaml", GOLDEN / "benchmark-cpu.yaml"], ids=lambda path: path.stem)
def test_the_commands_understand_their_components(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for step, container in containers(read(path)[0]).items():
        names = re.findall(r"artifacts\['(\w+)'\]", " ".join(container["args"]))
        words = resolve(container, {name: Path("/artifacts") / name for name in names}, PARAMETERS)
        stage = step.removeprefix("benchmark-")
        assert words[:3] == ["python", "-m", f"components.{stage}"]
        assert "{{" not in " ".join(words)

        arguments = stage_parser(stage, monkeypatch).parse_args(words[3:])
        params = params_of(arguments)
        assert (params.train.iterations, params.train.blocks["inspo"]["alpha"], params.evaluate.episodes) == (3, 0.5, 7)
        if step == "report":
            assert (params.experiment.datasets, params.experiment.algorithms) == (["xor_c"], ["inspo"])
        if stage in ("behavior", "train", "evaluate"):
            assert arguments.seeds == [0, 2]


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_runs_the_same_command(stage):
    """Same module, same options, but for where raw data come from and what only a cluster needs; a pod's folder has nothing to prune."""
    command = shlex.split(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["cmd"])
    container = containers(read(GOLDEN / "experiment-cpu.yaml")[0])[stage]
    assert command[:3] == container["command"]
    of_a_run = {"--params", "--seeds", "--set", "--record", "--planned", "--device", "--executor-input", "--html", "--markdown"}
    raw = {"--raw", "--repo", "--rev", "--remote"}
    assert options_of(command) - of_a_run - raw - {"--prune"} == options_of(container["args"]) - of_a_run - raw
