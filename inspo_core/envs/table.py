"""The games by name: their sizes and references as data, and what plays them, which is imported when it is to play.

The references of the games here are exact: they follow from the payoffs of all joint actions, Bridge's from dynamic programming
(tests/envs/bridge_returns.py). A test makes them all anew.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inspo_core.envs.spec import EnvSpec
from inspo_core.tables import Entry, Table


@dataclass(frozen=True, kw_only=True)
class Game(Entry):
    """``target`` is called with the :class:`EnvSpec` and ``arguments``, and gives the :class:`~inspo_core.envs.base.Env`."""

    n_agents: int
    n_actions: int
    observation_size: int
    state_size: int
    time_limit: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    episodes_at_once: int | None = None  # an evaluation plays no more side by side; None: all
    best: float | None = None  # highest expected return of an episode, where it is known
    random: float | None = None  # expected return of uniformly random play, where it is known
    obtained: str = ""  # how best and random were

    def spec(self, name: str) -> EnvSpec:
        """The sizes of the game, under its name in the table."""
        return EnvSpec(name, self.n_agents, self.n_actions, self.observation_size, self.state_size, self.time_limit)

    @property
    def rules(self) -> dict[str, Any]:
        """What, beside its code, decides how it is played: JSON values. Its name and its references do not."""
        sizes = ("n_agents", "n_actions", "observation_size", "state_size", "time_limit", "episodes_at_once")
        return {"arguments": dict(self.arguments), **{name: getattr(self, name) for name in sizes}}


_PAYOFFS = "best: the largest payoff; random: the mean payoff of all joint actions"
_BRIDGE = "best and random: dynamic programming; partial observation does not lower best"


def _one_step(target: str, n_agents: int, n_actions: int, best: float, random: float) -> Game:
    return Game(
        target=target,
        n_agents=n_agents,
        n_actions=n_actions,
        observation_size=1,
        state_size=1,
        time_limit=1,
        best=best,
        random=random,
        obtained=_PAYOFFS,
    )


def _bridge(target: str, observation_size: int) -> Game:
    return Game(
        target=target,
        n_agents=2,
        n_actions=5,
        observation_size=observation_size,
        state_size=8,
        time_limit=50,
        best=-1.2354525995574737,
        random=-17.55857194903336,
        obtained=_BRIDGE,
    )


# Random play, by number N of agents. XOR: the number of Bs is N / 2 in the mean, which costs as much; but one B, of probability N / 2^N,
# pays 1 in place of -1.
_XOR = {n: 2 * n / 2**n - n / 2 for n in range(3, 9)}
_PERMUTATION = {n: math.factorial(n) / n**n for n in range(2, 9)}

GAMES: Table[Game] = Table(
    "game",
    "inspo.games",
    Game,
    {
        "xor": _one_step("inspo_core.envs.matrix:xor", 2, 2, best=1.0, random=0.0),
        "mne": _one_step("inspo_core.envs.matrix:mne", 2, 3, best=20.0, random=-85 / 9),
        **{f"xor{n}": _one_step("inspo_core.envs.one_step:xor_game", n, 2, 1.0, random) for n, random in _XOR.items()},
        **{f"permutation{n}": _one_step("inspo_core.envs.one_step:permutation_game", n, n, 1.0, r) for n, r in _PERMUTATION.items()},
        "bridge": _bridge("inspo_core.envs.bridge:Bridge", 8),
        "bridge_partial": _bridge("inspo_core.envs.bridge_partial:seen_around", 20),
        "bridge_blind": _bridge("inspo_core.envs.bridge_partial:own_place", 2),
    },
)
