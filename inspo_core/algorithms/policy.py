"""The policy that acts.

Shapes: N agents, B batch, T steps, A actions, O observation size.
"""

import torch
from torch import Tensor

from inspo_core.algorithms.networks import StackedNetworks, Standardizer, masked_log_softmax


class Policy:
    """pi(a|o) = prod_i pi^i(a^i|o^i): every agent acts on its own observation.

    The networks' outputs times ``sharpness`` are the logits; a large one makes a policy of action values greedy.
    """

    def __init__(self, network: StackedNetworks, standardizer: Standardizer, sharpness: float = 1.0):
        self.network, self.standardizer, self.sharpness = network, standardizer, sharpness

    @torch.no_grad()
    def log_probs(self, observations: Tensor, available: Tensor | None = None) -> Tensor:
        """Log-probabilities of every agent's actions: (B, N, A).

        observations (B, N, O) as the game gives them, of networks with memory (B, T, N, O), all of the episode so far or at
        least the last ``network.memory`` steps; available (B, N, A) bool or None.
        """
        logits = self.network(self._inputs(observations)).transpose(0, 1)
        return masked_log_softmax(self.sharpness * logits, available)

    def _inputs(self, observations: Tensor) -> Tensor:
        memory = self.network.memory
        if memory == 0:
            return self.standardizer(observations.transpose(0, 1))
        seen = observations[:, -memory:].permute(2, 0, 1, 3).flatten(1, 2)  # (N, B T, O)
        seen = self.standardizer(seen).unflatten(1, (len(observations), -1))
        missing = memory - seen.shape[2]
        return torch.nn.functional.pad(torch.cat([seen, torch.ones_like(seen[..., :1])], -1), (0, 0, missing, 0))
