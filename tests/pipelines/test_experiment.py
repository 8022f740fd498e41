"""The compiled pipeline: it is the committed file, Kubeflow's schema takes it, and its commands are those of the stages and of DVC."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from components.cli import params_of
from tests.pipelines.compiled import GOLDEN, ROOT, compile_pipeline, containers, resolve

STAGES = ["ingest", "behavior", "train", "evaluate", "report"]
PARAMETERS = {
    "dataset": "xor_c",
    "algorithm": "inspo",
    "seeds": [0, 2],
    "overrides": {"train.iterations": 3, "train.alpha": 0.5, "evaluate.episodes": 7},
}


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


def test_the_committed_file_is_what_the_code_compiles_to(tmp_path):
    compile_pipeline(tmp_path / "experiment.yaml")
    assert (tmp_path / "experiment.yaml").read_bytes() == GOLDEN.read_bytes(), "run: python -m pipelines.compile"


def test_kubeflow_takes_the_file():
    spec = json_format.ParseDict(yaml.safe_load(GOLDEN.read_text()), PipelineSpec())
    assert spec.pipeline_info.name == "inspo-experiment"
    assert set(spec.root.dag.tasks) == {"importer", *STAGES}


def test_no_secret_and_no_host_in_the_file():
    text = GOLDEN.read_text().replace("nvidia.com/gpu", "")  # the name of a Kubernetes resource
    assert not re.search(r"://|@|password|secret|token|credential|\.(com|org|io|net|local)\b", text, re.IGNORECASE)
    environments = [container["env"] for container in containers(yaml.safe_load(text)).values()]
    assert environments == [[{"name": "INSPO_IMAGE", "value": "inspo:0.1.0"}]] * len(STAGES)


def test_only_training_asks_for_a_gpu_and_need_not(tmp_path):
    for gpus, expected in ((2, {"train": "2"}), (0, {})):
        pipeline = compile_pipeline(tmp_path / "pipeline.yaml", "--gpus", str(gpus), "--gpu-resource", "amd.com/gpu")
        asked = {stage: container["resources"] for stage, container in containers(pipeline).items() if "resources" in container}
        assert {stage: resources["accelerator"]["resourceCount"] for stage, resources in asked.items()} == expected
        assert all(resources["accelerator"]["resourceType"] == "amd.com/gpu" for resources in asked.values())


def test_one_variable_names_the_image_of_every_step(tmp_path):
    pipeline = compile_pipeline(tmp_path / "pipeline.yaml", INSPO_IMAGE="registry.example/inspo@sha256:0123")
    assert {container["image"] for container in containers(pipeline).values()} == {"registry.example/inspo@sha256:0123"}
    assert "inspo:0.1.0" not in (tmp_path / "pipeline.yaml").read_text()


def test_compiling_imports_no_heavy_library():
    code = "import sys, pipelines.experiment; print(*{'torch', 'mlflow', 'dvc', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("stage", STAGES)
def test_the_stage_understands_its_component(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    container = containers(yaml.safe_load(GOLDEN.read_text()))[stage]
    names = re.findall(r"artifacts\['(\w+)'\]", " ".join(container["args"]))
    words = resolve(container, {name: Path("/artifacts") / name for name in names}, PARAMETERS)
    assert words[:3] == ["python", "-m", f"components.{stage}"]
    assert "{{" not in " ".join(words)

    arguments = stage_parser(stage, monkeypatch).parse_args(words[3:])
    params = params_of(arguments)
    assert (params.train.iterations, params.train.alpha, params.evaluate.episodes) == (3, 0.5, 7)
    if stage == "report":
        assert (params.experiment.datasets, params.experiment.algorithms, params.experiment.seeds) == (["xor_c"], ["inspo"], [0, 2])
    elif stage != "ingest":
        assert arguments.seeds == [0, 2]


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_runs_the_same_command(stage):
    """Same module, same options; DVC leaves to params.yaml what Kubeflow hands over as parameters of a run."""
    command = shlex.split(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["cmd"])
    container = containers(yaml.safe_load(GOLDEN.read_text()))[stage]
    assert command[:3] == container["command"]
    of_a_run = {"--params", "--seeds", "--set"}
    assert options_of(command) - of_a_run == options_of(container["args"]) - of_a_run
