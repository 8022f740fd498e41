"""The trained policy as an MLflow model: MLflow copies this file beside the policy and runs it when the model is loaded.

It needs NumPy and safetensors only, neither torch nor this project, and so repeats the forward pass of
``inspo_core.algorithms.policy.Policy``; a test holds the two together.

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
        architecture = json.loads(Path(context.artifacts["architecture"]).read_text(encoding="utf-8"))
        tensors = load_file(context.artifacts["parameters"])
        self.mean, self.scale = tensors["mean"], tensors["scale"]
        self.memory, self.sharpness = architecture["memory"], architecture["sharpness"]
        sizes, n = architecture["sizes"], architecture["n_agents"]
        affine = list(pairwise(sizes))
        if self.memory:
            *affine, (last, hidden), (_, actions) = affine
            affine += [(last, 3 * hidden), (hidden, 3 * hidden), (hidden, actions)]
        shapes = [shape for i, o in affine for shape in ((n, i, o), (n, 1, o))]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        parts = [part.reshape(shape) for part, shape in zip(np.split(tensors["parameters"], ends[:-1]), shapes)]
        self.layers = list(zip(parts[::2], parts[1::2]))  # weight (N, in, out), bias (N, 1, out)

    def predict(self, context, model_input, params=None):
        """The agents' actions, (B, N) int64.

        ``model_input``: ``observations`` (B, N, O) float32 as the game gives them, of a policy with memory (B, T, N, O), the episode so
        far; ``available_actions`` (B, N, A) bool, now.
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
        """(B, N, O), or with memory (B, T, N, O) -> (B, N, A)"""
        if self.memory:
            outputs = self.recurrent([self.standardised(step) for step in observations[:, -self.memory :].swapaxes(0, 1)])
        else:
            outputs = self.perceptron(self.standardised(observations), self.layers)
        return self.sharpness * outputs.swapaxes(0, 1)

    def standardised(self, observations):
        """(B, N, O) -> (N, B, O)"""
        return (observations.swapaxes(0, 1) - self.mean) / self.scale

    def perceptron(self, x, layers):
        """(N, B, in) -> (N, B, out)"""
        for index, (weight, bias) in enumerate(layers):
            x = (x if index == 0 else leaky(x)) @ weight + bias
        return x

    def recurrent(self, steps):
        """The gated recurrent unit over T times (N, B, O), then the last layer."""
        *before, (from_input, input_bias), (from_hidden, hidden_bias), last = self.layers
        hidden = np.zeros((*steps[0].shape[:2], from_hidden.shape[1]), np.float32)
        for x in steps:
            for weight, bias in before:
                x = leaky(x @ weight + bias)
            reset_x, keep_x, new_x = np.split(x @ from_input + input_bias, 3, axis=-1)
            reset_h, keep_h, new_h = np.split(hidden @ from_hidden + hidden_bias, 3, axis=-1)
            new = np.tanh(new_x + sigmoid(reset_x + reset_h) * new_h)
            hidden = new + sigmoid(keep_x + keep_h) * (hidden - new)
        return self.perceptron(hidden, [last])


def leaky(x):
    """The leaky ReLU."""
    return np.maximum(x, LEAK * x)


def sigmoid(x):
    """The logistic function, which saturates instead of overflowing."""
    return 0.5 * (1 + np.tanh(0.5 * x))


class ServedPolicy(Actor, PythonModel):
    """As MLflow wants it. ``predict`` is inherited: MLflow warns about one without type hints, and has none for dictionaries of arrays."""


set_model(ServedPolicy())
