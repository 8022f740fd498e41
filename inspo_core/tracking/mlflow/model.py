"""Writes a trained policy as an MLflow model, with signature, input example and pinned requirements; nothing is pickled.

Shapes: B batch, T steps, N agents, O observation size, A actions.
"""

import importlib.metadata
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from inspo_core.tracking.forms import Malformed

SERVING = Path(__file__).with_name("serving.py")
ARCHITECTURE, PARAMETERS = "policy.json", "policy.safetensors"
REQUIREMENTS = ("mlflow", "numpy", "safetensors")


class _Architecture(BaseModel):
    model_config = ConfigDict(strict=True)
    n_agents: PositiveInt
    sizes: Annotated[list[PositiveInt], Field(min_length=2)]
    memory: NonNegativeInt


def write(policy: Path, folder: Path, model_id: str, run_id: str, location: str) -> None:
    """Write the policy that lies in ``policy`` as an MLflow model into ``folder``, as logged model ``model_id`` at ``location``.

    Raises Malformed if it is none.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    if missing := [name for name in (ARCHITECTURE, PARAMETERS) if not (policy / name).is_file()]:
        raise Malformed(f"{missing[0]} is missing")
    try:
        architecture = _Architecture.model_validate_json((policy / ARCHITECTURE).read_bytes())
    except ValueError as error:
        raise Malformed(f"{ARCHITECTURE} describes no policy") from error
    agents, actions = architecture.n_agents, architecture.sizes[-1]
    seen = (*([-1] if architecture.memory else []), agents, architecture.sizes[0])  # with memory: of T steps
    signature = ModelSignature(
        inputs=Schema(
            [
                TensorSpec(np.dtype("float32"), (-1, *seen), "observations"),
                TensorSpec(np.dtype("bool"), (-1, agents, actions), "available_actions"),
            ]
        ),
        outputs=Schema([TensorSpec(np.dtype("int64"), (-1, agents))]),
        params=ParamSchema([ParamSpec("greedy", "boolean", True), ParamSpec("seed", "long", 0)]),
    )
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(SERVING),
        artifacts={"architecture": (policy / ARCHITECTURE).absolute().as_uri(), "parameters": (policy / PARAMETERS).absolute().as_uri()},
        signature=signature,
        input_example={
            "observations": np.zeros((1, *(abs(size) for size in seen)), np.float32),
            "available_actions": np.ones((1, agents, actions), bool),
        },
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
        mlflow_model=Model(artifact_path=location, run_id=run_id, model_id=model_id),
    )
