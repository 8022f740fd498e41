"""The behavior policy mu of a dataset as a table. Shapes as in games.py."""

from dataclasses import dataclass, replace

import numpy as np

from inspo_core.datasets import EpisodeDataset
from inspo_core.errors import InspoError
from inspo_core.exact.games import MarkovGame
from inspo_core.exact.policies import joint_probabilities, marginals

SMOOTHING = 1e-3  # counts of every joint action before the first look at the data


@dataclass(frozen=True)
class Behavior:
    """mu, and what the data it was estimated from contain. InspoError if mu is not a positive distribution in every state."""

    mu: np.ndarray  # (S, J), positive: every KL to it is finite
    shares: np.ndarray  # (S, J), of the joint actions among the data of a state; all 0 in a state without data

    def __post_init__(self) -> None:
        if not (self.mu > 0).all() or np.abs(self.mu.sum(axis=1) - 1).max() > 1e-9:
            raise InspoError("behavior: mu has a row that is no distribution with positive probabilities; smooth it")

    def product(self, game: MarkovGame) -> "Behavior":
        """mu replaced by the product of its marginals."""
        return replace(self, mu=joint_probabilities(marginals(self.mu, game)))


def behavior_of(game: MarkovGame, dataset: EpisodeDataset, times: np.ndarray | None = None) -> Behavior:
    """The joint actions' counts in every state, smoothed by ``SMOOTHING``; uniform in states without data.

    ``times`` (E,): how often each episode counts, by default once.

    Raises InspoError if the dataset is of another game or holds a state that the game has not.
    """
    if dataset.env != game.name or game.states is None or dataset.states is None:
        raise InspoError(f"dataset {dataset.name}: its game is {dataset.env!r}, expected {game.name!r}, and both must have states")
    index = {state.tobytes(): number for number, state in enumerate(game.states)}
    seen = np.ascontiguousarray(dataset.states[dataset.rows], dtype=np.float32)
    numbers = np.array([index.get(state.tobytes(), -1) for state in seen])
    if (numbers < 0).any():
        first = int((numbers < 0).argmax())
        raise InspoError(f"dataset {dataset.name}: states of transition {first} are {seen[first].tolist()}, no state of {game.name}")
    joint = dataset.actions @ game.n_actions ** np.arange(game.n_agents)[::-1]
    counts = np.zeros(game.rewards.shape)
    np.add.at(counts, (numbers, joint), 1 if times is None else np.repeat(times, dataset.episode_lengths()))
    smoothed = counts + SMOOTHING
    return Behavior(smoothed / smoothed.sum(axis=1, keepdims=True), counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
