"""Exact InSPO: policy evaluation by a linear solve, one agent's update in closed form (docs/exact.md has the proofs).

The objective, for a product policy pi = prod_i pi^i (Liu et al., AAAI 2025, arXiv 2412.07639):

    J(pi) = E[ sum_t gamma^t ( r_t - alpha KL(pi(.|s_t) || mu(.|s_t)) + beta H(pi(.|s_t)) ) ]
    V(s)  = E_{a~pi}[ Q(s,a) - alpha log(pi(a|s)/mu(a|s)) - beta log pi(a|s) ],   Q(s,a) = r(s,a) + gamma E V(s')

A sweep keeps Q_k fixed. The turn of agent i maximises F_s(pi) = E_{a~pi}[ Q_k - alpha log(pi/mu) - beta log pi ] over pi^i at every state:

    pi^i(a^i|s)  prop. to  exp( E_{a^-i~pi^-i}[ Q_k(s,a) + alpha log mu(a|s) ] / (alpha + beta) )

A sequential sweep cannot lower J: F_s begins at V_k(s), no turn lowers it since each sees the teammates as they now are, and F_s >= V_k(s)
at every state is the condition of the policy improvement theorem for the whole joint policy. Turns taken at once have no such chain.

Shapes as in games.py; policies are (S, N, A).
"""

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

import numpy as np

from inspo_core.errors import InspoError
from inspo_core.exact.behavior import Behavior
from inspo_core.exact.games import MarkovGame
from inspo_core.exact.policies import distance, entropies, joint_probabilities, marginals, mean_over_others, under
from inspo_core.rng import numpy_stream

LEAST = 1e-60  # of a probability inside a ratio, so that an action of the data never loses its mean to underflow


@dataclass(frozen=True)
class Settings:
    """The switches, named as in the ``train`` section of params.yaml. Rewards are not rescaled. InspoError for values without meaning."""

    sweeps: int
    alpha: float  # weight of KL(pi || mu), in units of the reward
    alpha_schedule: Literal["fixed", "annealed"] = "fixed"  # annealed: geometrically to alpha_final
    alpha_final: float = 0.03
    beta: float = 0.0  # weight of the entropy, in units of the reward
    beta_schedule: Literal["none", "constant", "annealed"] = "none"  # annealed: linearly to 0
    entropy_in_value: bool = True  # False: the entropy counts in the update, neither in V nor in J
    anneal_fraction: float = 1.0  # share of the sweeps over which alpha and beta are annealed
    update: Literal["sequential", "simultaneous"] = "sequential"
    order: Literal["random", "fixed"] = "random"
    behavior_model: Literal["joint", "product"] = "joint"  # product: mu is replaced by the product of its marginals
    # none: E_{a^-i~pi^-i} Q over all joint actions; ratio: over those of the data, as local Q learns it from weighted transitions
    importance: Literal["none", "ratio"] = "none"
    tolerance: float = 0.0  # stop once the temperatures are final and no policy moves by this much in a sweep

    def __post_init__(self) -> None:
        for field, kind in get_type_hints(type(self)).items():
            if (choices := get_args(kind)) and getattr(self, field) not in choices:
                raise InspoError(f"{field} is {getattr(self, field)!r}, expected {' or '.join(choices)}")
        for field, low in (("sweeps", 1), ("beta", 0), ("tolerance", 0)):
            if not getattr(self, field) >= low:
                raise InspoError(f"{field} is {getattr(self, field)}, expected at least {low}")
        for field, high in (("alpha", np.inf), ("alpha_final", np.inf), ("anneal_fraction", 1)):
            if not 0 < getattr(self, field) <= high:
                raise InspoError(f"{field} is {getattr(self, field)}, expected more than 0" + (" and at most 1" if high == 1 else ""))

    def temperatures(self, sweep: int) -> tuple[float, float]:
        """alpha and beta of the sweep, counted from 0."""
        progress = min(1.0, sweep / (self.anneal_fraction * self.sweeps))
        alpha = self.alpha * (self.alpha_final / self.alpha) ** (progress if self.alpha_schedule == "annealed" else 0)
        return alpha, {"none": 0.0, "constant": self.beta, "annealed": self.beta * (1 - progress)}[self.beta_schedule]


@dataclass(frozen=True)
class Evaluation:
    """A product policy's values. Means are over its states, discounted: visits / visits.sum()."""

    values: np.ndarray  # (S,), V
    q: np.ndarray  # (S, J), Q
    visits: np.ndarray  # (S,), expected number of discounted visits
    objective: float  # J
    kl: float  # mean KL(pi || mu), nats
    entropy: float  # mean H(pi), nats
    outside: float  # mean probability of joint actions that the data of the state lack


@dataclass(frozen=True)
class Sweep:
    """One sweep, judged at the temperatures that it used."""

    alpha: float
    beta: float
    before: float  # J of the policies that it found
    after: Evaluation  # of those that it left
    change: float  # largest total variation distance between an agent's old and new policy in a state
    gains: np.ndarray  # (N,), what each agent's turn adds to F, summed over after.visits


@dataclass(frozen=True)
class Solution:
    policies: np.ndarray  # (S, N, A)
    history: list[Sweep]
    residual: float  # largest total variation distance of an agent's policy from its best response: 0 at a quantal response equilibrium


def evaluate(game: MarkovGame, behavior: Behavior, policies: np.ndarray, alpha: float, beta: float) -> Evaluation:
    """V, Q and J of the regularised game, exactly."""
    joint = joint_probabilities(policies)
    rewards, moves = under(game, joint)
    entropy = entropies(policies).sum(axis=1)
    kl = -entropy - (joint * np.log(behavior.mu)).sum(axis=1)
    system = np.eye(game.n_states) - game.gamma * moves
    values = np.linalg.solve(system, rewards - alpha * kl + beta * entropy)
    visits = np.linalg.solve(system.T, game.start)
    weights = visits / visits.sum()
    return Evaluation(
        values=values,
        q=game.rewards + game.gamma * game.transitions @ values,
        visits=visits,
        objective=float(game.start @ values),
        kl=float(weights @ kl),
        entropy=float(weights @ entropy),
        outside=float(weights @ (joint * (behavior.shares == 0)).sum(axis=1)),
    )


def sweep(
    game: MarkovGame,
    behavior: Behavior,
    policies: np.ndarray,
    q: np.ndarray,
    alpha: float,
    beta: float,
    order: np.ndarray,
    update: str = "sequential",
    importance: str = "none",
) -> tuple[np.ndarray, np.ndarray]:
    """One turn an agent, in ``order``, against a fixed Q (S, J). Returns the new policies and each turn's gain in F (S, N).

    A sequential turn sees the teammates as the turns before have left them, a simultaneous one as they were before the sweep.
    """
    new, gains = policies.copy(), np.zeros(policies.shape[:2])
    for agent in order:
        teammates = new if update == "sequential" else policies
        scores = action_scores(game, behavior, teammates, q, alpha, agent, importance)
        best = _softmax(scores / (alpha + beta))
        gains[:, agent] = _soft_value(best, scores, alpha + beta) - _soft_value(policies[:, agent], scores, alpha + beta)
        new[:, agent] = best
    return new, gains


def action_scores(
    game: MarkovGame, behavior: Behavior, policies: np.ndarray, q: np.ndarray, alpha: float, agent: int, importance: str = "none"
) -> np.ndarray:
    """E_{a^-i~pi^-i}[ Q(s,a) + alpha log mu(a|s) ]: (S, A).

    With ``importance="ratio"`` the mean of Q is that of the data's transitions with action a^i, each counted with
    rho^i = pi^-i(a^-i|s) / mu(a^-i|s,a^i), divided by the sum of the counts; an action that the state's data lack gets the lowest mean.
    """
    if importance == "none":
        return mean_over_others(game, policies, q + alpha * np.log(behavior.mu), agent)
    ratios = behavior.shares / behavior.mu  # times pi^-i(a^-i|s) mu^i(a^i|s) it is share x rho^i; mu^i cancels
    teammates = np.maximum(policies, LEAST)
    total, weight = (mean_over_others(game, teammates, table, agent) for table in (ratios * q, ratios))
    seen = weight > 0
    means = np.divide(total, weight, out=np.full_like(total, np.inf), where=seen)
    lowest = means.min(axis=1, keepdims=True)
    means = np.where(seen, means, np.where(np.isfinite(lowest), lowest, 0.0))
    return means + mean_over_others(game, policies, alpha * np.log(behavior.mu), agent)


def residual(game: MarkovGame, behavior: Behavior, policies: np.ndarray, q: np.ndarray, alpha: float, beta: float) -> float:
    """The largest total variation distance of an agent's policy in a state from its softmax best response, with Q of ``policies``."""
    best, _ = sweep(game, behavior, policies, q, alpha, beta, np.arange(game.n_agents), update="simultaneous")
    return distance(best, policies)


def solve(game: MarkovGame, behavior: Behavior, settings: Settings, start: np.ndarray | None = None, seed: int = 0) -> Solution:
    """Sweep from the policies ``start`` (S, N, A), by default the marginals of mu; ``seed`` is that of the agents' orders."""
    if settings.behavior_model == "product":
        behavior = behavior.product(game)
    policies = marginals(behavior.mu, game) if start is None else start
    generator = numpy_stream(seed, "exact/order")
    history: list[Sweep] = []
    found: Evaluation | None = None
    last = settings.temperatures(settings.sweeps)
    for number in range(settings.sweeps):
        alpha, beta = settings.temperatures(number)
        value_beta = beta if settings.entropy_in_value else 0.0
        if found is None or (history[-1].alpha, history[-1].beta) != (alpha, beta):
            found = evaluate(game, behavior, policies, alpha, value_beta)
        draws = generator.random(game.n_agents)
        order = draws.argsort() if settings.order == "random" else np.arange(game.n_agents)
        new, gains = sweep(game, behavior, policies, found.q, alpha, beta, order, settings.update, settings.importance)
        after = evaluate(game, behavior, new, alpha, value_beta)
        history.append(Sweep(alpha, beta, found.objective, after, distance(new, policies), after.visits @ gains))
        policies, found = new, after
        if (alpha, beta) == last and history[-1].change < settings.tolerance:
            break
    assert found is not None  # there is at least one sweep
    return Solution(policies, history, residual(game, behavior, policies, found.q, alpha, beta))


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _soft_value(policy: np.ndarray, scores: np.ndarray, temperature: float) -> np.ndarray:
    return (policy * scores).sum(axis=1) + temperature * entropies(policy)
