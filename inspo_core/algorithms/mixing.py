"""Monotone mixing of the agents' values into one, linear or in two layers; weights and biases come from a hypernetwork of the state.

Linear:  total(s) = sum_i w^i(s) value^i + b(s)  with  w^i(s) >= 0,  as in ICQ (Yang et al., NeurIPS 2021, arXiv 2106.03400) and OMIGA
(Wang et al., NeurIPS 2023, arXiv 2307.11620). Since no weight is negative, what is best for every agent is best for all.

Shapes: N agents, B batch, A actions, S state, E width of the mixed layer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import elu

from inspo_core.algorithms.networks import StackedNetworks


@dataclass(frozen=True)
class Mixing:
    """The weights and the bias at some states, read once and applied to any values there."""

    weights: Tensor  # (N, B), not negative
    bias: Tensor  # (B,)

    @classmethod
    def at(cls, hypernetwork: StackedNetworks, states: Tensor) -> "Mixing":
        """``hypernetwork``: a single network with S inputs and N + 1 outputs; states (B, S)."""
        outputs = hypernetwork(states.unsqueeze(0))[0].T  # (N + 1, B)
        return cls(outputs[:-1].abs(), outputs[-1])

    def total(self, values: Tensor) -> Tensor:
        """(N, B) -> (B,)."""
        return (self.weights * values).sum(0) + self.bias


@dataclass(frozen=True)
class TwoLayerMixing:
    """QMIX (Rashid et al., ICML 2018, arXiv 1803.11485) at some states:  total = w2 . elu(W1 values + b1) + b2  with  W1, w2 >= 0."""

    first: Tensor  # (B, N, E), not negative
    first_bias: Tensor  # (B, E)
    second: Tensor  # (B, E, 1), not negative
    bias: Tensor  # (B, 1, 1)

    @staticmethod
    def outputs(agents: int, width: int) -> int:
        """How many numbers the hypernetwork puts out."""
        return agents * width + 2 * width + 1

    @classmethod
    def at(cls, hypernetwork: StackedNetworks, states: Tensor, width: int) -> "TwoLayerMixing":
        """``hypernetwork``: a single network with S inputs and :meth:`outputs` outputs; states (B, S)."""
        raw = hypernetwork(states.unsqueeze(0))[0]  # (B, N E + 2 E + 1)
        first, first_bias, second, bias = raw.split([raw.shape[1] - 2 * width - 1, width, width, 1], 1)
        return cls(first.abs().unflatten(1, (-1, width)), first_bias, second.abs().unsqueeze(2), bias.unsqueeze(2))

    def total(self, values: Tensor) -> Tensor:
        """(N, B) -> (B,)."""
        return self._second_layer(self._first_layer(values).unsqueeze(1)).flatten()

    def counterfactual(self, values: Tensor, actions: Tensor) -> Tensor:
        """The total if agent i alone plays each of its actions and the others theirs of ``actions``, for every i.

        values (N, B, A), actions (N, B, 1) -> (N, B, A). Agent i's own part of the first layer is exchanged, the rest is shared.
        """
        taken = values.gather(2, actions)  # (N, B, 1)
        change = (values - taken).transpose(0, 1)  # (B, N, A)
        mixed = torch.addcmul(self._first_layer(taken.squeeze(2))[:, None, None], change.unsqueeze(3), self.first.unsqueeze(2))
        return self._second_layer(mixed.flatten(1, 2)).view(change.shape).transpose(0, 1)

    def _first_layer(self, values: Tensor) -> Tensor:
        """(N, B) -> (B, E)."""
        return torch.baddbmm(self.first_bias.unsqueeze(1), values.T.unsqueeze(1), self.first).squeeze(1)

    def _second_layer(self, mixed: Tensor) -> Tensor:
        """(B, anything, E) -> (B, anything, 1)."""
        return torch.baddbmm(self.bias, elu(mixed), self.second)
