"""Policies with memory: a gated recurrent unit over the last steps of an episode (Cho et al., 2014, arXiv 1406.1078).

An input holds an agent's last L observations, oldest first, and for each a last feature that says whether it belongs to the episode:
before an episode's first step there is nothing to remember, and the hidden state begins there at 0. What a network says of a step so
depends on nothing but these observations, and transitions can be drawn one by one, in any order.

Shapes: N agents, B batch, L steps of history, O observation size, H width of the recurrent layer.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from inspo_core.algorithms.networks import StackedMLP, StackedNetworks


class StackedGRU(StackedNetworks):
    """Perceptrons whose last hidden layer is recurrent: (N, B, L, O + 1) -> (N, B, out), of the last step."""

    def __init__(self, n: int, sizes: list[int], memory: int, generator: torch.Generator, device: str):
        """``sizes``: widths from O to output, at least one hidden; ``memory``: L."""
        *widths, hidden, outputs = sizes
        shapes = [*pairwise(widths), (widths[-1], 3 * hidden), (hidden, 3 * hidden), (hidden, outputs)]
        super().__init__(n, sizes, shapes, generator, device)
        self.memory = memory

    @staticmethod
    def _forward(leaves: list[Tensor], x: Tensor, affine: Callable[..., Tensor]) -> Tensor:
        *layers, from_input, input_bias, from_hidden, hidden_bias, out, out_bias = leaves
        x, present = x[..., :-1], x[..., -1:].unbind(-2)  # (..., B, L, O), L of (..., B, 1)
        flat = x.flatten(-3, -2)
        for weight, bias in zip(layers[::2], layers[1::2]):
            flat = leaky_relu(affine(bias, flat, weight))
        gates = affine(input_bias, flat, from_input).unflatten(-2, x.shape[-3:-1])  # (..., B, L, 3 H)
        hidden = torch.zeros_like(gates[..., 0, : gates.shape[-1] // 3])
        for given, here in zip(gates.unbind(-2), present):
            own = affine(hidden_bias, hidden, from_hidden)
            (reset_x, keep_x, new_x), (reset_h, keep_h, new_h) = given.chunk(3, -1), own.chunk(3, -1)
            keep = torch.sigmoid(keep_x + keep_h)
            new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
            hidden = (new + keep * (hidden - new)) * here
        return affine(out_bias, hidden, out)


def stacked(n: int, sizes: list[int], memory: int, generator: torch.Generator, device: str) -> StackedNetworks:
    """Networks without memory (0) or with ``memory`` steps of it."""
    return StackedGRU(n, sizes, memory, generator, device) if memory else StackedMLP(n, sizes, generator, device)
