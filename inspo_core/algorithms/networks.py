"""Networks of all agents as one batched computation, and the policy that acts.

Shapes: N agents, B batch, A actions, O observation size, P parameters of all networks together.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import leaky_relu
from torch.optim.adam import adam

from inspo_core.errors import InspoError
from inspo_core.files import write_json

# Log-probability given to unavailable actions: zero probability, yet finite, so that 0 * log 0 stays 0.
IMPOSSIBLE = -1e9


class StackedMLP:
    """N perceptrons of one shape, evaluated together by one batched matrix product a layer.

    One network alone can be evaluated and trained too, as the sequential update needs. All parameters lie in the flat tensor
    ``parameters``, all gradients in ``gradients``. The activation is a leaky ReLU: in a game with one constant observation all
    ReLU units of a layer can die, and then only the last bias learns.
    """

    def __init__(self, n: int, sizes: list[int], generator: torch.Generator, device: str):
        """``sizes``: widths from input to output. Initial values are uniform in +-1/sqrt(fan in)."""
        self.n, self.sizes = n, sizes
        self._shapes = [shape for i, o in pairwise(sizes) for shape in ((n, i, o), (n, 1, o))]
        self.parameters = torch.empty(sum(math.prod(shape) for shape in self._shapes), device=device)  # (P,)
        self.gradients = torch.zeros_like(self.parameters)
        for index, block in enumerate(self._blocks(self.parameters)):
            bound = 1 / math.sqrt(sizes[index // 2])
            block.uniform_(-bound, bound, generator=generator)
        self._all = self._leaves(slice(None))
        self.rows = [self._leaves(i) for i in range(n)]

    def _blocks(self, flat: Tensor) -> list[Tensor]:
        pieces = flat.split([math.prod(shape) for shape in self._shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes)]

    def _leaves(self, agents: slice | int) -> list[Tensor]:
        # Leaf views with gradient views: autograd writes into the flat gradient, and no slicing enters the graph.
        leaves = [block[agents].detach().requires_grad_() for block in self._blocks(self.parameters)]
        for leaf, gradient in zip(leaves, self._blocks(self.gradients)):
            leaf.grad = gradient[agents]
        return leaves

    def __call__(self, inputs: Tensor) -> Tensor:
        """(N, B, in) -> (N, B, out), every network on its own inputs."""
        return _forward(self._all, inputs, torch.baddbmm)

    def one(self, agent: int, inputs: Tensor) -> Tensor:
        """(B, in) -> (B, out) of one agent's network."""
        return _forward(self.rows[agent], inputs, torch.addmm)


def _forward(leaves: list[Tensor], x: Tensor, affine: Callable[..., Tensor]) -> Tensor:
    for layer in range(0, len(leaves), 2):
        x = affine(leaves[layer + 1], x if layer == 0 else leaky_relu(x), leaves[layer])
    return x


class RowOptimizers:
    """One Adam for each network of a :class:`StackedMLP`, so that an agent can be trained while the others rest.

    It calls PyTorch's functional Adam: the optimizer object's own bookkeeping takes as long as the arithmetic of small networks.
    """

    def __init__(self, network: StackedMLP, learning_rate: float):
        self._gradients, self.learning_rate = network.gradients, learning_rate
        self._rows = [_AdamLists.of(row) for row in network.rows]
        self._all = _AdamLists(*([tensor for row in self._rows for tensor in lists(row)] for lists in _AdamLists.FIELDS))

    def step(self, loss: Tensor, agent: int | None = None) -> None:
        """Descend ``loss``: every network's step, or only ``agent``'s, whose parameters alone the loss then depends on."""
        self._gradients.zero_()
        loss.backward()
        self._descend(self._all if agent is None else self._rows[agent])

    @staticmethod
    def step_together(optimizers: "Sequence[RowOptimizers]", loss: Tensor) -> None:
        """Descend a ``loss`` that depends on several stacks of networks, which all take their step."""
        for optimizer in optimizers:
            optimizer._gradients.zero_()
        loss.backward()
        for optimizer in optimizers:
            optimizer._descend(optimizer._all)

    def _descend(self, trained: "_AdamLists") -> None:
        with torch.no_grad():
            adam(
                trained.leaves, trained.gradients, trained.means, trained.squares, [], trained.steps,
                fused=True, amsgrad=False, beta1=0.9, beta2=0.999, lr=self.learning_rate, weight_decay=0, eps=1e-8, maximize=False,
            )  # fmt: skip

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"means": self._all.means, "squares": self._all.squares, "steps": self._all.steps}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        for name, tensors in self.state_dict().items():
            for mine, saved in zip(tensors, state[name], strict=True):
                mine.copy_(saved)


@dataclass(frozen=True)
class _AdamLists:
    """Parameters with their gradients, moments and step counters, in the same order."""

    leaves: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]

    FIELDS = tuple(attrgetter(name) for name in ("leaves", "gradients", "means", "squares", "steps"))

    @classmethod
    def of(cls, leaves: list[Tensor]) -> "_AdamLists":
        zeros = [[torch.zeros_like(leaf) for leaf in leaves] for _ in range(2)]
        return cls(leaves, [leaf.grad for leaf in leaves], *zeros, [torch.zeros((), device=leaf.device) for leaf in leaves])


def masked_log_softmax(logits: Tensor, available: Tensor | None) -> Tensor:
    """Log-probabilities (..., A); unavailable actions get about :data:`IMPOSSIBLE`.

    Where nothing is available (padding, dead agents) the result is uniform.
    """
    if available is None:
        return logits.log_softmax(-1)
    return torch.where(available, logits, IMPOSSIBLE).log_softmax(-1)


class Standardizer:
    """Shifts and scales features to mean 0 and deviation 1; constant features, up to rounding, keep their scale."""

    def __init__(self, mean: Tensor, scale: Tensor):
        self.mean, self.scale = mean, scale

    @classmethod
    def fit(cls, values: Tensor) -> "Standardizer":
        """``values`` (..., B, F) -> statistics over B."""
        mean, deviation = values.mean(-2, keepdim=True), values.std(-2, keepdim=True, correction=0)
        constant = deviation <= 1e-5 * mean.abs().clamp(min=1e-6)
        return cls(mean, torch.where(constant, torch.ones_like(deviation), deviation))

    def __call__(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.scale


class Policy:
    """pi(a|o) = prod_i pi^i(a^i|o^i): every agent acts on its own observation.

    The networks' outputs times ``sharpness`` are the logits; a large one makes a policy of action values greedy.
    """

    def __init__(self, network: StackedMLP, standardizer: Standardizer, sharpness: float = 1.0):
        self.network, self.standardizer, self.sharpness = network, standardizer, sharpness

    @torch.no_grad()
    def log_probs(self, observations: Tensor, available: Tensor | None = None) -> Tensor:
        """Log-probabilities of every agent's actions.

        observations (B, N, O) as the game gives them; available (B, N, A) bool or None -> (B, N, A).
        """
        logits = self.network(self.standardizer(observations.transpose(0, 1)))
        return masked_log_softmax(self.sharpness * logits.transpose(0, 1), available)

    def save(self, directory: Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json`` (architecture) into ``directory``."""
        write_json(directory / "policy.json", {"n_agents": self.network.n, "sizes": self.network.sizes, "sharpness": self.sharpness})
        tensors = {
            "parameters": self.network.parameters,
            "mean": self.standardizer.mean,
            "scale": self.standardizer.scale,
        }
        serialised = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        (directory / "policy.safetensors").write_bytes(serialised)

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> "Policy":
        """Read what :meth:`save` wrote; InspoError if it is missing or damaged."""
        directory = Path(directory)
        try:
            architecture = json.loads((directory / "policy.json").read_text())
            tensors = load_file(directory / "policy.safetensors", device=device)
            network = StackedMLP(architecture["n_agents"], architecture["sizes"], torch.Generator(device), device)
            network.parameters.copy_(tensors["parameters"])
            return cls(network, Standardizer(tensors["mean"], tensors["scale"]), architecture["sharpness"])
        except Exception as error:  # safetensors raises its own kinds for damaged files
            raise InspoError(f"{directory} holds no readable policy ({error}); run the train stage again") from error
