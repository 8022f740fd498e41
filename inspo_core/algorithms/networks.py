"""Networks of all agents as one batched computation, and the policy that acts.

Shapes: N agents, B batch, A actions, O observation size, P parameters of one agent's network.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from inspo_core.errors import InspoError
from inspo_core.files import write_json

# Log-probability given to unavailable actions: zero probability, yet finite, so that 0 * log 0 stays 0.
IMPOSSIBLE = -1e9


class StackedMLP:
    """N perceptrons (ReLU) of one shape whose parameters are the rows of one flat tensor.

    All networks are evaluated by one batched matrix product a layer; one network alone can be evaluated and trained, as the
    sequential update needs. Gradients are accumulated into ``gradients``, laid out as ``parameters``.
    """

    def __init__(self, n: int, sizes: list[int], generator: torch.Generator, device: str):
        """``sizes``: widths from input to output. Initial values are uniform in +-1/sqrt(fan in)."""
        self.sizes = sizes
        shapes = list(pairwise(sizes))
        self.parameters = torch.empty(n, sum((i + 1) * o for i, o in shapes), device=device)  # (N, P)
        self.gradients = torch.zeros_like(self.parameters)
        start = 0
        for fan_in, fan_out in shapes:
            end = start + (fan_in + 1) * fan_out
            bound = 1 / math.sqrt(fan_in)
            self.parameters[:, start:end].uniform_(-bound, bound, generator=generator)
            start = end
        self._all = self._leaves(slice(None))
        self._one = [self._leaves(i) for i in range(n)]

    def _leaves(self, agents: slice | int) -> list[tuple[Tensor, Tensor]]:
        # Leaf views with gradient views: autograd writes into the flat gradient, and no slicing enters the graph.
        layers, start = [], 0
        for fan_in, fan_out in pairwise(self.sizes):
            layer = []
            for rows in (fan_in, 1):
                end = start + rows * fan_out
                leaf = self.parameters[agents, start:end].unflatten(-1, (rows, fan_out)).detach().requires_grad_()
                leaf.grad = self.gradients[agents, start:end].unflatten(-1, (rows, fan_out))
                layer.append(leaf)
                start = end
            layers.append(tuple(layer))
        return layers

    def __call__(self, inputs: Tensor) -> Tensor:
        """(N, B, in) -> (N, B, out), every network on its own inputs."""
        return _forward(self._all, inputs, torch.baddbmm)

    def one(self, agent: int, inputs: Tensor) -> Tensor:
        """(B, in) -> (B, out) of one agent's network."""
        return _forward(self._one[agent], inputs, torch.addmm)


def _forward(layers: list[tuple[Tensor, Tensor]], x: Tensor, affine) -> Tensor:
    for index, (weight, bias) in enumerate(layers):
        x = affine(bias, x if index == 0 else x.relu(), weight)
    return x


class RowOptimizers:
    """One Adam a row of a :class:`StackedMLP`, so that an agent can be trained while the others rest."""

    def __init__(self, network: StackedMLP, learning_rate: float):
        self.gradients = network.gradients
        self._adams = []
        for parameters, gradients in zip(network.parameters, network.gradients):
            parameters.grad = gradients
            self._adams.append(torch.optim.Adam([parameters], lr=learning_rate, fused=True))

    def step(self, loss: Tensor, agent: int | None = None) -> None:
        """Descend ``loss``: every network's step, or only ``agent``'s, whose parameters alone the loss then depends on."""
        chosen = slice(None) if agent is None else slice(agent, agent + 1)
        self.gradients[chosen].zero_()
        loss.backward()
        for adam in self._adams[chosen]:
            adam.step()

    def state_dict(self) -> list[dict]:
        return [adam.state_dict() for adam in self._adams]

    def load_state_dict(self, states: list[dict]) -> None:
        for adam, state in zip(self._adams, states, strict=True):
            adam.load_state_dict(state)


def masked_log_softmax(logits: Tensor, available: Tensor | None) -> Tensor:
    """Log-probabilities (..., A); unavailable actions get :data:`IMPOSSIBLE`.

    Where nothing is available (padding, dead agents) the result is uniform rather than NaN.
    """
    if available is None:
        return logits.log_softmax(-1)
    usable = available | ~available.any(-1, keepdim=True)
    return logits.masked_fill(~usable, IMPOSSIBLE).log_softmax(-1)


class Standardizer:
    """Shifts and scales features to mean 0 and deviation 1; constant features become 0."""

    def __init__(self, mean: Tensor, scale: Tensor):
        self.mean, self.scale = mean, scale

    @classmethod
    def fit(cls, values: Tensor) -> "Standardizer":
        """``values`` (..., B, F) -> statistics over B."""
        mean, deviation = values.mean(-2, keepdim=True), values.std(-2, keepdim=True, correction=0)
        return cls(mean, torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def __call__(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.scale


class Policy:
    """pi(a|o) = prod_i pi^i(a^i|o^i): every agent acts on its own observation."""

    def __init__(self, network: StackedMLP, standardizer: Standardizer):
        self.network, self.standardizer = network, standardizer

    @torch.no_grad()
    def log_probs(self, observations: Tensor, available: Tensor | None = None) -> Tensor:
        """Log-probabilities of every agent's actions.

        observations (B, N, O) as the game gives them; available (B, N, A) bool or None -> (B, N, A).
        """
        logits = self.network(self.standardizer(observations.transpose(0, 1)))
        return masked_log_softmax(logits.transpose(0, 1), available)

    def save(self, directory: Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json`` (architecture) into ``directory``."""
        n_agents = len(self.network.parameters)
        write_json(directory / "policy.json", {"n_agents": n_agents, "sizes": self.network.sizes})
        tensors = {
            "parameters": self.network.parameters,
            "mean": self.standardizer.mean,
            "scale": self.standardizer.scale,
        }
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, directory / "policy.safetensors")

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> "Policy":
        """Read what :meth:`save` wrote; InspoError if it is missing or damaged."""
        directory = Path(directory)
        try:
            architecture = json.loads((directory / "policy.json").read_text())
            tensors = load_file(directory / "policy.safetensors", device=device)
            network = StackedMLP(architecture["n_agents"], architecture["sizes"], torch.Generator(device), device)
            network.parameters.copy_(tensors["parameters"])
            return cls(network, Standardizer(tensors["mean"], tensors["scale"]))
        except Exception as error:  # safetensors raises its own kinds for damaged files
            raise InspoError(f"{directory} holds no readable policy ({error}); run the train stage again") from error
