"""Cooperative Markov games as arrays.

Shapes: S states, N agents, A actions an agent, J = A^N joint actions, agent 0 most significant: with A = 2, joint action 1 is (0, 1).
An end of the game is no state: the probability that a row of ``transitions`` lacks to 1 is that of the game's ending there.
"""

from dataclasses import dataclass

import numpy as np

from inspo_core.envs import bridge, make_env
from inspo_core.errors import InspoError

MAX_JOINT_ACTIONS = 4096  # of a game made from its environment


@dataclass(frozen=True)
class MarkovGame:
    """A game whose arrays fit into memory.

    Raises InspoError for shapes that do not agree, for probabilities that are none and for a discount outside [0, 1).
    """

    name: str
    n_agents: int
    n_actions: int
    rewards: np.ndarray  # (S, J) float64, expected, the team's
    transitions: np.ndarray  # (S, J, S) float64, rows sum to at most 1
    start: np.ndarray  # (S,) float64, sums to 1
    gamma: float  # discount
    states: np.ndarray | None = None  # (S, size) float32: what a dataset records in each state; None: there are no datasets of it
    limit_pays: bool = True  # whether the step that a time limit makes the last one is paid

    def __post_init__(self) -> None:
        count, joint = len(self.start), self.n_actions**self.n_agents
        for field, shape in {"rewards": (count, joint), "transitions": (count, joint, count)}.items():
            found = getattr(self, field).shape
            if found != shape:
                raise InspoError(f"game {self.name}: {field} have shape {found}, expected {shape}: S states, A^N joint actions")
        if not np.isfinite(self.rewards).all():
            raise InspoError(f"game {self.name}: rewards hold a value that is not a finite number")
        if not (self.transitions >= 0).all() or self.transitions.sum(axis=2).max() > 1 + 1e-9:
            raise InspoError(f"game {self.name}: transitions hold a row of no probabilities, expected values from 0 that sum to at most 1")
        if not (self.start >= 0).all() or abs(self.start.sum() - 1) > 1e-9:
            raise InspoError(f"game {self.name}: start sums to {self.start.sum()}, expected probabilities that sum to 1")
        if not 0 <= self.gamma < 1:
            raise InspoError(f"game {self.name}: gamma is {self.gamma}, expected at least 0 and less than 1")

    @property
    def n_states(self) -> int:
        return len(self.start)


def matrix_game(name: str, payoff: np.ndarray) -> MarkovGame:
    """The one-step game of ``payoff``, one axis of A actions an agent."""
    rewards = np.asarray(payoff, dtype=np.float64).reshape(1, -1)
    transitions = np.zeros((1, rewards.size, 1))
    return MarkovGame(name, payoff.ndim, len(payoff), rewards, transitions, np.ones(1), 0.0, np.ones((1, 1), dtype=np.float32))


def bridge_game(gamma: float = 0.99) -> MarkovGame:
    """Bridge (inspo_core.envs.bridge): the pairs of cells that can be reached from the start."""
    actions = bridge.JOINT_ACTIONS
    index = {tuple(bridge.STARTS): 0}
    places = [tuple(bridge.STARTS)]
    steps: list[tuple[np.ndarray, list[int | None]]] = []  # per state: reward and successor of every joint action, no successor at the end
    while len(steps) < len(places):
        before = np.tile(places[len(steps)], (len(actions), 1))
        after = bridge.move(before, actions)
        home = (after == bridge.GOALS).all(axis=1)
        for place in map(tuple, after[~home]):
            if place not in index:
                index[place] = len(places)
                places.append(place)
        successors = [None if done else index[tuple(place)] for place, done in zip(after, home, strict=True)]
        steps.append((np.where(home, 0.0, bridge.rewards_of(before, after)), successors))
    transitions = np.zeros((len(places), len(actions), len(places)))
    for state, (_, successors) in enumerate(steps):
        for joint, successor in enumerate(successors):
            if successor is not None:
                transitions[state, joint, successor] = 1
    return MarkovGame(
        name="bridge",
        n_agents=2,
        n_actions=len(bridge.MOVES),
        rewards=np.stack([rewards for rewards, _ in steps]),
        transitions=transitions,
        start=np.eye(1, len(places))[0],
        gamma=gamma,
        states=bridge.states_of(np.array(places)),
        limit_pays=False,
    )


def random_game(generator: np.random.Generator, n_agents: int, n_actions: int, n_states: int, gamma: float) -> MarkovGame:
    """Rewards uniform in [-1, 1]; successors and the start uniform among the distributions, the end counting as a successor."""
    joint = n_actions**n_agents
    return MarkovGame(
        name="random",
        n_agents=n_agents,
        n_actions=n_actions,
        rewards=2 * generator.random((n_states, joint)) - 1,
        transitions=random_distributions(generator, (n_states, joint, n_states + 1))[..., :-1],
        start=random_distributions(generator, (n_states,)),
        gamma=gamma,
    )


def random_distributions(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Flat Dirichlet draws along the last axis. Only ``random`` is drawn: NumPy keeps that stream across versions."""
    weights = -np.log(1 - generator.random(shape))
    return weights / weights.sum(axis=-1, keepdims=True)


def make_game(name: str, gamma: float = 0.99) -> MarkovGame:
    """The project's game ``name`` as arrays: Bridge, and every game of one step. InspoError for others and for too many joint actions."""
    env = make_env(name)
    spec = env.spec
    if name == "bridge":
        return bridge_game(gamma)
    if spec.time_limit != 1:
        raise InspoError(f"there is no exact form of the game {name!r}; there is one of bridge and of every game of one step")
    joint = spec.n_actions**spec.n_agents
    if joint > MAX_JOINT_ACTIONS:
        raise InspoError(f"the game {name!r} has {joint} joint actions, expected at most {MAX_JOINT_ACTIONS}")
    actions = np.stack(np.unravel_index(np.arange(joint), (spec.n_actions,) * spec.n_agents), axis=1)  # (J, N)
    env.reset(np.arange(joint))
    return matrix_game(name, env.step(actions).rewards.reshape((spec.n_actions,) * spec.n_agents))
