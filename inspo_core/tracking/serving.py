"""The trained policy as an MLflow model: MLflow copies this file beside the policy and runs it when the model is loaded.

It needs NumPy and safetensors only, neither torch nor this project, and so repeats the forward pass of
``inspo_core.algorithms.networks.Policy``; a test holds the two together.

Shapes: B batch, N agents, O observation size, A actions.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from safetensors.numpy import load_file

LEAK = 0.01  # slope of the leaky ReLU below zero


class Actor:
    """Acts on observations."""

    def load_context(self, context):
        """Read ``policy.json`` and ``policy.safetensors``."""
        architecture = json.loads(Path(context.artifacts["architecture"]).read_text())
        tensors = load_file(context.artifacts["parameters"])
        self.mean, self.scale = tensors["mean"], tensors["scale"]
        self.sharpness = architecture["sharpness"]
        n = architecture["n_agents"]
        shapes = [shape for i, o in pairwise(architecture["sizes"]) for shape in ((n, i, o), (n, 1, o))]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        self.layers = [part.reshape(shape) for part, shape in zip(np.split(tensors["parameters"], ends[:-1]), shapes)]

    def predict(self, context, model_input, params=None):
        """The agents' actions, (B, N) int64.

        ``model_input``: ``observations`` (B, N, O) float32 as the game gives them, ``available_actions`` (B, N, A) bool.
        ``params``: ``greedy`` takes the most probable action, otherwise actions are drawn, the same ones for the same ``seed``.
        """
        params = params or {}
        available = np.asarray(model_input["available_actions"])
        logits = self.logits(np.asarray(model_input["observations"]))
        logits = np.where(available | ~available.any(-1, keepdims=True), logits, -np.inf)
        if not params.get("greedy", True):
            logits = logits + np.random.default_rng(params.get("seed", 0)).gumbel(size=logits.shape)
        return logits.argmax(-1)

    def logits(self, observations):
        """(B, N, O) -> (B, N, A)"""
        x = (observations.swapaxes(0, 1) - self.mean) / self.scale  # (N, B, O)
        for layer in range(0, len(self.layers), 2):
            x = (x if layer == 0 else np.maximum(x, LEAK * x)) @ self.layers[layer] + self.layers[layer + 1]
        return self.sharpness * x.swapaxes(0, 1)


class ServedPolicy(Actor, PythonModel):
    """As MLflow wants it. ``predict`` is inherited: MLflow warns about one without type hints, and has none for dictionaries of arrays."""


set_model(ServedPolicy())
