"""Monotone linear mixing of the agents' values into one:  total(s) = sum_i w^i(s) value^i + b(s)  with  w^i(s) >= 0.

The weights and the bias come from a hypernetwork of the state; their form is that of ICQ (Yang et al., NeurIPS 2021, arXiv 2106.03400)
and OMIGA (Wang et al., NeurIPS 2023, arXiv 2307.11620). Since no weight is negative, what is best for every agent is best for all.

Shapes: N agents, B batch, S state.
"""

from dataclasses import dataclass

from torch import Tensor

from inspo_core.algorithms.networks import StackedMLP


@dataclass(frozen=True)
class Mixing:
    """The weights and the bias at some states, read once and applied to any values there."""

    weights: Tensor  # (N, B), not negative
    bias: Tensor  # (B,)

    @classmethod
    def at(cls, hypernetwork: StackedMLP, states: Tensor) -> "Mixing":
        """``hypernetwork``: a single network with S inputs and N + 1 outputs; states (B, S)."""
        outputs = hypernetwork(states.unsqueeze(0))[0].T  # (N + 1, B)
        return cls(outputs[:-1].abs(), outputs[-1])

    def total(self, values: Tensor) -> Tensor:
        """(N, B) -> (B,)."""
        return (self.weights * values).sum(0) + self.bias
