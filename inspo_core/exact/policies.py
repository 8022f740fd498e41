"""Tables of policies, (S, N, A): every agent's probabilities in every state. Shapes as in games.py."""

import numpy as np

from inspo_core.exact.games import MarkovGame, random_distributions


def random_policies(game: MarkovGame, generator: np.random.Generator) -> np.ndarray:
    """(S, N, A): every agent's policy in every state a flat Dirichlet draw."""
    return random_distributions(generator, (game.n_states, game.n_agents, game.n_actions))


def greedy(policies: np.ndarray) -> np.ndarray:
    """(S, N, A): every agent plays its likeliest action, the first one of several."""
    return np.eye(policies.shape[2])[policies.argmax(axis=2)]


def expected_return(game: MarkovGame, policies: np.ndarray, limit: int) -> float:
    """The expected undiscounted return of an episode that is cut off after ``limit`` steps."""
    rewards, moves = under(game, joint_probabilities(policies))
    at, total = game.start, 0.0
    for step in range(limit):
        if step < limit - 1 or game.limit_pays:
            total += at @ rewards
        at = at @ moves
    return float(total)


def joint_probabilities(policies: np.ndarray) -> np.ndarray:
    """(S, J): the probabilities of the joint actions if the agents with policies (S, N, A) act independently."""
    joint = np.ones((len(policies), 1))
    for own in policies.transpose(1, 0, 2):
        joint = (joint[:, :, None] * own[:, None, :]).reshape(len(joint), -1)
    return joint


def marginals(table: np.ndarray, game: MarkovGame) -> np.ndarray:
    """(S, N, A): each agent's share of a joint distribution (S, J)."""
    shaped = table.reshape(-1, *[game.n_actions] * game.n_agents)
    axes = range(1, game.n_agents + 1)
    return np.stack([shaped.sum(axis=tuple(axis for axis in axes if axis != own)) for own in axes], axis=1)


def under(game: MarkovGame, joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected reward (S,) and successors (S, S) if the joint actions have the probabilities ``joint``."""
    return (joint * game.rewards).sum(axis=1), (joint[:, None, :] @ game.transitions)[:, 0]


def mean_over_others(game: MarkovGame, policies: np.ndarray, table: np.ndarray, agent: int) -> np.ndarray:
    """E_{a^-i~pi^-i} of a table (S, J): (S, A)."""
    means = table.reshape(-1, *[game.n_actions] * game.n_agents)
    for other in reversed(range(game.n_agents)):
        if other != agent:
            axis = other + 1
            shape = [len(policies)] + [1] * (means.ndim - 1)
            shape[axis] = game.n_actions
            means = (means * policies[:, other].reshape(shape)).sum(axis=axis)
    return means


def entropies(policies: np.ndarray) -> np.ndarray:
    return -(policies * np.log(np.where(policies > 0, policies, 1.0))).sum(axis=-1)


def distance(one: np.ndarray, two: np.ndarray) -> float:
    return float(0.5 * np.abs(one - two).sum(axis=2).max())
