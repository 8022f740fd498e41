"""What conservative Q-learning consists of where actions are discrete: the soft maximum over the available actions is pushed down, the
value of the data's action up (Kumar et al., NeurIPS 2020, arXiv 2006.04779, equation 4, CQL(H)).

Shapes: N agents, B batch, A actions; "..." any leading axes.
"""

import torch
from torch import Tensor

from inspo_core.algorithms.learner import Batch
from inspo_core.algorithms.networks import IMPOSSIBLE


def soft_maximum(values: Tensor, available: Tensor) -> Tensor:
    """log sum_a exp Q(a) over the available actions: (..., A) -> (...)."""
    return torch.where(available, values, IMPOSSIBLE).logsumexp(-1)


def greedy_actions(values: Tensor, available: Tensor) -> Tensor:
    """The available action of the highest value: (..., A) -> (..., 1)."""
    return torch.where(available, values, IMPOSSIBLE).argmax(-1, keepdim=True)


def conservative_loss(values: Tensor, batch: Batch, targets: Tensor, alpha: float) -> tuple[Tensor, dict[str, Tensor]]:
    """1/2 (Q(o, a) - y)^2 + alpha (log sum_a' exp Q(o, a') - Q(o, a)) of every agent, mean over the batch: (N,), and what to log.

    values (N, B, A) are Q^i(o^i, .); targets (N, B) are y.
    """
    taken = values.gather(2, batch.actions).squeeze(2)  # (N, B)
    error = 0.5 * (taken - targets).square()
    gap = soft_maximum(values, batch.available) - taken
    return (error + alpha * gap).mean(1), {"critic_loss": error.mean(), "conservative_gap": gap.mean(), "q_mean": taken.mean()}
