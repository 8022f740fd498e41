"""What the stages hand to one another on disk: data, and behavior models and policies, as safetensors and JSON."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated

import torch
from safetensors.torch import load_file, save

from inspo_core.algorithms.behavior_models import BehaviorModels
from inspo_core.algorithms.networks import Standardizer
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.recurrent import stacked
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from inspo_core.datasets import EpisodeDataset
from inspo_core.datasets.format import check_hashes, read_dataset
from inspo_core.errors import InspoError, shortened
from inspo_core.files import read_json, write_json
from inspo_core.records import RECORD, check_run
from inspo_core.section import NonNegative, Positive, Section


class _Shape(Section):
    """``behavior.json``."""

    hidden: list[Annotated[int, Positive]]
    memory: int = NonNegative


class _Architecture(Section):
    """``policy.json``."""

    n_agents: int = Positive
    sizes: list[Annotated[int, Positive]]
    memory: int = NonNegative
    sharpness: float = Positive


@lru_cache(maxsize=1)
def resident(data: Path, device: str) -> tuple[EpisodeDataset, ResidentTransitions]:
    """The dataset at ``data``, as views of its files, and what algorithms see of it, on the device; once for all seeds of this process.

    Raises InspoError if a file is not what was written.
    """
    dataset = read_dataset(data)
    if (data / RECORD).exists():
        check_run(data, "ingest")
    else:
        check_hashes(data)
    return dataset, ResidentTransitions(dataset, device)


def save_behavior(models: BehaviorModels, directory: Path) -> None:
    """Write ``behavior.safetensors`` and ``behavior.json`` (architecture) into ``directory``."""
    tensors = {"local": models.local.parameters, "joint": models.joint.network.parameters}
    (directory / "behavior.safetensors").write_bytes(save({name: tensor.detach().cpu() for name, tensor in tensors.items()}))
    write_json(directory / "behavior.json", {"hidden": models.local.sizes[1:-1], "memory": models.local.memory})


def load_behavior(directory: Path, data: Transitions) -> BehaviorModels:
    """Read what :func:`save_behavior` wrote of models of the same data.

    Raises InspoError: missing, damaged, or of data with other sizes.
    """
    device = str(data.device)
    try:
        shape = _Shape.model_validate(read_json(directory / "behavior.json"))
        tensors = load_file(directory / "behavior.safetensors", device=device)
        models = BehaviorModels.create(data, shape.hidden, shape.memory, torch.Generator(device))
        models.local.parameters.copy_(tensors["local"])
        models.joint.network.parameters.copy_(tensors["joint"])
    except Exception as error:  # safetensors raises its own kinds for damaged files, torch its own for other sizes
        raise InspoError(f"{directory} holds no usable behavior models ({_line(error)}); run the behavior stage again") from error
    return models


def save_policy(policy: Policy, directory: Path) -> None:
    """Write ``policy.safetensors`` and ``policy.json`` (architecture) into ``directory``."""
    network = policy.network
    architecture = {"n_agents": network.n, "sizes": network.sizes, "memory": network.memory, "sharpness": policy.sharpness}
    write_json(directory / "policy.json", architecture)
    tensors = {"parameters": network.parameters, "mean": policy.standardizer.mean, "scale": policy.standardizer.scale}
    serialised = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    (directory / "policy.safetensors").write_bytes(serialised)


def load_policy(directory: Path, device: str = "cpu") -> Policy:
    """Read what :func:`save_policy` wrote. Raises InspoError: missing or damaged."""
    try:
        architecture = _Architecture.model_validate(read_json(directory / "policy.json"))
        tensors = load_file(directory / "policy.safetensors", device=device)
        n_agents, sizes = architecture.n_agents, architecture.sizes
        network = stacked(n_agents, sizes, architecture.memory, torch.Generator(device), device)
        network.parameters.copy_(tensors["parameters"])
        return Policy(network, Standardizer(tensors["mean"], tensors["scale"]), architecture.sharpness)
    except Exception as error:  # safetensors raises its own kinds for damaged files
        raise InspoError(f"{directory} holds no readable policy ({_line(error)}); run the train stage again") from error


def _line(error: Exception) -> str:
    return shortened(" ".join(str(error).split()))
