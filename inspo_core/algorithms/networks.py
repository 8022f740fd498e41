"""Networks of all agents as one batched computation.

Shapes: N agents, B batch, A actions, O observation size, P parameters of all networks together.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from inspo_core.datasets.scales import least_deviation

# Log-probability given to unavailable actions: zero probability, yet finite, so that 0 * log 0 stays 0.
IMPOSSIBLE = -1e9
PART = 2**17  # numbers of which statistics are taken at once, a megabyte in double precision


class StackedNetworks(ABC):
    """N networks of one shape, evaluated together by one batched matrix product a layer.

    One network alone can be evaluated and trained too, as the sequential update needs. All parameters lie in the flat tensor
    ``parameters``; autograd knows them as the leaves ``stacked`` (N, in, out), or as those of one network, ``rows[i]``.
    """

    memory = 0  # steps of history that an input holds; 0: only the present, without that axis

    def __init__(self, n: int, sizes: list[int], shapes: list[tuple[int, int]], generator: torch.Generator, device: str):
        """``shapes``: of every weight (in, out), in order; each has a bias. Initial values are uniform in +-1/sqrt(in)."""
        self.n, self.sizes = n, sizes
        self._shapes = [shape for i, o in shapes for shape in ((n, i, o), (n, 1, o))]
        self.parameters = torch.empty(sum(math.prod(shape) for shape in self._shapes), device=device)  # (P,)
        for index, block in enumerate(self._blocks(self.parameters)):
            bound = 1 / math.sqrt(shapes[index // 2][0])
            block.uniform_(-bound, bound, generator=generator)
        self.stacked = [block.detach().requires_grad_() for block in self._blocks(self.parameters)]
        self.rows = [[block[i].detach().requires_grad_() for block in self._blocks(self.parameters)] for i in range(n)]

    def _blocks(self, flat: Tensor) -> list[Tensor]:
        pieces = flat.split([math.prod(shape) for shape in self._shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes)]

    def __call__(self, inputs: Tensor) -> Tensor:
        """(N, B, in) -> (N, B, out), every network on its own inputs; with memory (N, B, L, in + 1), see ``recurrent.py``."""
        return self._forward(self.stacked, inputs, torch.baddbmm)

    def one(self, agent: int, inputs: Tensor) -> Tensor:
        """The same of one agent's network, without the axis N."""
        return self._forward(self.rows[agent], inputs, torch.addmm)

    @staticmethod
    @abstractmethod
    def _forward(leaves: list[Tensor], x: Tensor, affine: Callable[..., Tensor]) -> Tensor:
        """``affine(bias, x, weight)`` is x @ weight + bias for all networks or for one."""


class StackedMLP(StackedNetworks):
    """Perceptrons. The activation is a leaky ReLU: in a game with one constant observation all ReLU units of a layer can die, and
    then only the last bias learns.
    """

    def __init__(self, n: int, sizes: list[int], generator: torch.Generator, device: str):
        """``sizes``: widths from input to output."""
        super().__init__(n, sizes, list(pairwise(sizes)), generator, device)

    @staticmethod
    def _forward(leaves: list[Tensor], x: Tensor, affine: Callable[..., Tensor]) -> Tensor:
        for layer in range(0, len(leaves), 2):
            x = affine(leaves[layer + 1], x if layer == 0 else leaky_relu(x, inplace=True), leaves[layer])
        return x


class RowOptimizers:
    """One Adam for each network of a :class:`StackedNetworks`, so that an agent can be trained while the others rest.

    It calls PyTorch's fused kernel: the optimizer object's own bookkeeping takes as long as the arithmetic of small networks.
    """

    def __init__(self, network: StackedNetworks, learning_rate: float):
        self.network, self.learning_rate = network, learning_rate
        self._means, self._squares = ([[torch.zeros_like(leaf) for leaf in row] for row in network.rows] for _ in range(2))
        self._steps = torch.zeros(network.n, device=network.parameters.device)
        self._step_lists = [[step] * len(row) for step, row in zip(self._steps, network.rows)]  # views: a network's tensors share one

    def step(self, loss: Tensor, agent: int | None = None) -> None:
        """Descend ``loss``: every network's step, or only ``agent``'s, whose parameters alone the loss then depends on."""
        if agent is None:
            self.step_together([self], loss)
        else:
            self._descend(slice(agent, agent + 1), torch.autograd.grad(loss, self.network.rows[agent]))

    @staticmethod
    def step_together(optimizers: "Sequence[RowOptimizers]", loss: Tensor) -> None:
        """Descend a ``loss`` that depends on several stacks of networks, which all take their step."""
        gradients = iter(torch.autograd.grad(loss, [leaf for optimizer in optimizers for leaf in optimizer.network.stacked]))
        for optimizer in optimizers:
            of_stack = [next(gradients).unbind(0) for _ in optimizer.network.stacked]
            optimizer._descend(slice(None), list(chain(*zip(*of_stack))))

    def _descend(self, rows: slice, gradients: Sequence[Tensor]) -> None:
        of_rows = (self.network.rows, self._means, self._squares, self._step_lists)
        leaves, means, squares, steps = (list(chain(*tensors[rows])) for tensors in of_rows)
        self._steps[rows] += 1  # the kernel wants the number of the step under way
        with torch.no_grad():
            torch._fused_adam_(
                leaves, list(gradients), means, squares, [], steps,
                lr=self.learning_rate, beta1=0.9, beta2=0.999, weight_decay=0, eps=1e-8, amsgrad=False, maximize=False,
            )  # fmt: skip

    def state_of(self, agent: int) -> list[Tensor]:
        """The parameters, moments and number of steps of one network, all sharing their memory with the optimizer's own."""
        return [*self.network.rows[agent], *self._means[agent], *self._squares[agent], self._steps[agent]]

    def state_dict(self) -> dict:
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: dict) -> None:
        for mine, saved in ((self._means, state["means"]), (self._squares, state["squares"])):
            for moment, old in zip(chain(*mine), chain(*saved), strict=True):
                moment.copy_(old)
        self._steps.copy_(state["steps"])


def masked_log_softmax(logits: Tensor, available: Tensor | None) -> Tensor:
    """Log-probabilities (..., A); unavailable actions get about :data:`IMPOSSIBLE`.

    Where nothing is available (padding, dead agents) the result is uniform.
    """
    if available is None:
        return logits.log_softmax(-1)
    return torch.where(available, logits, IMPOSSIBLE).log_softmax(-1)


def whole(log_probs: Tensor) -> Tensor:
    """``log_probs`` themselves. Raises FloatingPointError if the policies became NaN, of which nothing can be drawn."""
    if log_probs.isnan().any():
        raise FloatingPointError("the policies became NaN")
    return log_probs


class Standardizer:
    """Shifts and scales features to mean 0 and deviation 1; constant ones become 0, those that are so up to rounding about 0.

    What is finite in the data that were fitted stays finite, whatever their scale.
    """

    def __init__(self, mean: Tensor, scale: Tensor):
        self.mean, self.scale = mean, scale

    @classmethod
    def fit(cls, values: Tensor) -> "Standardizer":
        """``values`` (..., B, F) -> statistics over B, computed in double precision."""
        mean = _mean(values)
        centre = mean.to(values)
        deviation = _deviation(values, centre)
        constant = deviation <= least_deviation(mean)
        rounding = torch.where(deviation > 0, mean.abs().clamp(min=1), 1)  # a scale beside which what rounding leaves is nothing
        return cls(centre, torch.where(constant, rounding, deviation).to(values))

    def __call__(self, values: Tensor) -> Tensor:
        return _within_range(values - self.mean) / self.scale

    def standardize_(self, values: Tensor) -> None:
        """The same in place."""
        _within_range(values.sub_(self.mean)).div_(self.scale)


def _within_range(differences: Tensor) -> Tensor:
    """``differences``, in place, infinite where two numbers were further apart than any is from 0, as the largest numbers of their type."""
    largest = torch.finfo(differences.dtype).max
    return differences.clamp_(-largest, largest)


def _parts(values: Tensor) -> tuple[Tensor, ...]:
    """``values`` (..., B, F) in parts of B that fit the processor's cache when they are doubles."""
    return values.split(max(1, PART * values.shape[-2] // values.numel()), -2)


def _mean(values: Tensor) -> Tensor:
    """The mean of ``values`` (..., B, F) over B, in double precision: (..., 1, F)."""
    total = torch.zeros_like(values[..., :1, :], dtype=torch.float64)
    for part in _parts(values):
        total += part.double().sum(-2, keepdim=True)
    return total / values.shape[-2]


def _deviation(values: Tensor, mean: Tensor) -> Tensor:
    """The standard deviation of ``values`` (..., B, F) over B, in double precision; ``mean`` is only about theirs.

    In parts: ``std`` of PyTorch takes ten times as long on a processor, for the same bits.
    """
    centre = mean.double()
    total, squares = torch.zeros_like(centre), torch.zeros_like(centre)
    size = values.shape[-2]
    for part in _parts(values):
        apart = part - centre
        total += apart.sum(-2, keepdim=True)
        squares += apart.square_().sum(-2, keepdim=True)
    return (squares / size - (total / size).square()).clamp(min=0).sqrt()
