"""Behavior cloning: pi^i maximises the log-likelihood of agent i's actions in the data (Pomerleau, 1991).

The baseline that shows what the data's own behavior is worth, as a product of the agents' marginal policies.
"""

from torch import Tensor

from inspo_core.algorithm_configs import BCConfig
from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.learner import Batch, BatchLearner
from inspo_core.algorithms.networks import masked_log_softmax


class BC(BatchLearner):
    def __init__(self, setup: Setup, config: BCConfig):
        super().__init__(setup, config, steps=config.policy_steps)
        self._network = self.policy_network()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        log_probs = masked_log_softmax(self._network(batch.observations), batch.available).gather(2, batch.actions)  # (N, B, 1)
        loss = -log_probs.mean((1, 2))
        self.descend(policy=loss.sum())
        return {"policy_loss": loss.mean()}
