"""Estimating the policies that collected a dataset: local clones and one joint model, side by side."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inspo_core.algorithms.behavior_models import (
    ROWS_AT_ONCE,
    BehaviorModels,
    cloning_loss,
    draw_queries,
    joint_log_likelihood,
    local_log_probs,
)
from inspo_core.algorithms.configs import BehaviorConfig
from inspo_core.algorithms.networks import RowOptimizers
from inspo_core.algorithms.seed_batching import Fit, Fitter, fit_alone
from inspo_core.algorithms.transitions import Transitions
from inspo_core.datasets import EpisodeDataset
from inspo_core.rng import Streams, numpy_stream

SLACK = 0.01  # nats a joint action


@dataclass(frozen=True)
class Split:
    """Transition numbers of the episodes trained on and of those held out."""

    train: Tensor
    held_out: Tensor
    repeated: float  # share of held-out episodes that also occur, exactly, in the training part


def split_episodes(dataset: EpisodeDataset, share: float, seed: int, device: str) -> Split:
    """Hold out a random ``share`` of the episodes, at least one; data of a single episode are their own held-out part.

    Small deterministic games repeat the same episodes, and leaving all copies of one out would leave out a behavior; so the
    split is by episode, and the share of repeated ones tells how much the held-out likelihood is one of known episodes.
    """
    order = numpy_stream(seed, "held out").permutation(dataset.n_episodes)
    count = min(max(1, round(share * dataset.n_episodes)), max(1, dataset.n_episodes - 1))
    held_out, train = order[:count], order[count:] if dataset.n_episodes > 1 else order
    distinct = dataset.distinct_episodes
    repeated = float(np.isin(distinct[held_out], distinct[train]).mean())
    episode_of = np.repeat(np.arange(dataset.n_episodes), dataset.episode_lengths())
    of_train, of_held_out = (torch.as_tensor(np.flatnonzero(np.isin(episode_of, part)), device=device) for part in (train, held_out))
    return Split(of_train, of_held_out, repeated)


class BehaviorEstimation:
    """Maximum likelihood for local clones and joint model; an iteration is ``check_every`` steps and a look at held-out data.

    The learning rate falls linearly to 0: at a constant one the probability of a rare joint action (M-NE's best pair is 0.25 % of
    the imbalanced set) swings by 30 % from batch to batch, and the importance ratios of the training with it.

    Kept are the latest parameters whose held-out log-likelihood is within one standard error, or :data:`SLACK`, of the best, of
    either kind for itself: the best alone is often an early one that a few held-out samples favour, still blurred where the data are
    sharp.
    """

    def __init__(self, data: Transitions, split: Split, config: BehaviorConfig, seed: int, device: str, fit: Fitter = fit_alone):
        self._data, self._split, self._config, self._fit = data, split, config, fit
        self._streams = Streams(seed, ["initial", "batches", "orders"], device)
        self.models = BehaviorModels.create(data, config.hidden, config.memory, self._streams["initial"])
        self._networks = {"local": self.models.local, "joint": self.models.joint.network}
        self._optimizers = {name: RowOptimizers(network, config.learning_rate) for name, network in self._networks.items()}
        self._best = dict.fromkeys(self._networks, -math.inf)
        self._kept = {name: network.parameters.clone() for name, network in self._networks.items()}
        self._kept_value = dict(self._best)
        self._steps = 0

    def iterate(self) -> dict[str, float]:
        size, left = self._config.batch_size, self._config.check_every
        while left:
            steps = min(left, max(1, ROWS_AT_ONCE // size))
            self._learn(steps)
            left -= steps
        held_out = self.log_likelihoods(self._split.held_out)
        for name, values in held_out.items():
            mean, error = values.mean().item(), values.std(correction=0).item() / math.sqrt(len(values))
            self._best[name] = max(self._best[name], mean)
            if mean >= self._best[name] - max(error, SLACK):
                self._kept_value[name] = mean
                self._kept[name].copy_(self._networks[name].parameters)
        train = self.log_likelihoods(self._split.train[: 4 * len(self._split.held_out)])
        metrics = {f"held_out/log_likelihood_{name}": values.mean().item() for name, values in held_out.items()}
        return metrics | {f"train/log_likelihood_{name}": values.mean().item() for name, values in train.items()}

    def _learn(self, steps: int) -> None:
        data, config = self._data, self._config
        numbers = range(self._steps, self._steps + steps)
        rates = tuple(config.learning_rate * (1 - number / config.steps) for number in numbers)
        self._steps += steps
        draw = torch.randint(len(self._split.train), (steps, config.batch_size), generator=self._streams["batches"], device=data.device)
        batches = self._split.train[draw]  # (G, B)
        rows, actions = data.rows(batches), data.actions(batches)
        local = (data.inputs(rows, config.memory), data.available(rows), actions.unsqueeze(-1))
        known, asked = draw_queries(data.n_agents, steps, config.batch_size, self._streams["orders"])
        inputs = self.models.joint.inputs(data.states(rows), actions, known, asked)
        joint = (inputs, data.available_to(asked, rows), actions.gather(0, asked.unsqueeze(0))[0].unsqueeze(-1))
        self._fit(Fit(self._optimizers["local"], None, cloning_loss, local, rates=rates))
        self._fit(Fit(self._optimizers["joint"], None, cloning_loss, tuple(column.unsqueeze(0) for column in joint), rates=rates))

    def log_likelihoods(self, transitions: Tensor) -> dict[str, Tensor]:
        """log mu(a|s) in nats of each transition's joint action, under the product of the clones and under the joint model."""
        data = self._data
        log_mu = local_log_probs(self.models.local, data, data.rows(transitions))
        local = log_mu.gather(2, data.actions(transitions).unsqueeze(2)).sum(0).squeeze(1)
        return {"local": local, "joint": joint_log_likelihood(self.models.joint, data, transitions)}

    def finish(self) -> dict[str, float]:
        """Put the kept parameters into the models; their held-out values, the joint model's gain, and what was repeated."""
        for name, network in self._networks.items():
            network.parameters.copy_(self._kept[name])
        values = {f"held_out/log_likelihood_{name}": value for name, value in self._kept_value.items()}
        gain = self._kept_value["joint"] - self._kept_value["local"]
        return values | {"held_out/joint_gain": gain, "held_out/repeated_episodes": self._split.repeated}

    def state_dict(self) -> dict:
        return {
            "networks": {name: network.parameters for name, network in self._networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "best": self._best,
            "kept": self._kept,
            "kept_value": self._kept_value,
            "streams": self._streams.state_dict(),
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict) -> None:
        self._steps = state["steps"]
        for name, network in self._networks.items():
            network.parameters.copy_(state["networks"][name])
            self._optimizers[name].load_state_dict(state["optimizers"][name])
            self._kept[name].copy_(state["kept"][name])
        self._best, self._kept_value = dict(state["best"]), dict(state["kept_value"])
        self._streams.load_state_dict(state["streams"])
