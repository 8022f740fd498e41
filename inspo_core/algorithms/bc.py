"""Behavior cloning: pi^i maximises the log-likelihood of agent i's actions in the data (Pomerleau, 1991).

The baseline that shows what the data's own behavior is worth, as a product of the agents' marginal policies.
"""

import torch

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.behavior_models import cloning_loss
from inspo_core.algorithms.networks import Policy, RowOptimizers, StackedMLP
from inspo_core.algorithms.streams import Streams
from inspo_core.config import BCConfig


class BC:
    def __init__(self, setup: Setup, config: BCConfig):
        data = setup.data
        self._data, self._config = data, config
        self._streams = Streams(setup.seed, ["initial", "batches"], setup.device)
        sizes = [data.observations.shape[2], *config.hidden, data.n_actions]
        self._network = StackedMLP(data.n_agents, sizes, self._streams["initial"], setup.device)
        self._optimizers = RowOptimizers(self._network, config.learning_rate)

    def iterate(self) -> dict[str, float]:
        shape = (self._config.policy_steps, self._data.n_agents, self._config.batch_size)
        batches = torch.randint(len(self._data), shape, generator=self._streams["batches"], device=self._data.rows.device)
        losses = torch.zeros(len(batches), device=batches.device)
        for step, batch in enumerate(batches):
            loss = cloning_loss(self._network, self._data, batch)
            self._optimizers.step(loss)
            losses[step] = loss.detach()
        return {"policy_loss": losses.mean().item() / self._data.n_agents}

    def policy(self) -> Policy:
        return Policy(self._network, self._data.observation_standardizer)

    def state_dict(self) -> dict:
        return {
            "network": self._network.parameters,
            "optimizers": self._optimizers.state_dict(),
            "streams": self._streams.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self._network.parameters.copy_(state["network"])
        self._optimizers.load_state_dict(state["optimizers"])
        self._streams.load_state_dict(state["streams"])
