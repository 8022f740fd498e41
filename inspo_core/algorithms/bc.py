"""Behavior cloning: pi^i maximises the log-likelihood of agent i's actions in the data (Pomerleau, 1991).

The baseline that shows what the data's own behavior is worth, as a product of the agents' marginal policies.

Shapes: N agents, B batch, G gradient steps.
"""

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.behavior_models import cloning_loss
from inspo_core.algorithms.configs import BCConfig
from inspo_core.algorithms.learner import BatchLearner
from inspo_core.algorithms.seed_batching import Fit


class BC(BatchLearner):
    def __init__(self, setup: Setup, config: BCConfig):
        super().__init__(setup, config)
        self._fit, self._shape = setup.fit, (config.policy_steps, config.batch_size)
        self.policy_network()

    def one_pass(self) -> dict[str, float]:
        drawn = self.data.draw(self._shape, self.streams["batches"])  # (G, B)
        rows = self.data.rows(drawn)
        columns = (self.data.inputs(rows, self._config.memory), self.data.available(rows), self.data.actions(drawn).unsqueeze(-1))
        (losses,) = self._fit(Fit(self._optimizers["policy"], None, cloning_loss, columns))  # (G, N)
        return {"policy_loss": losses.mean(1).mean().item()}
