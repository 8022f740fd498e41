"""The sizes of a game."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvSpec:
    """``time_limit`` is the number of steps after which an unfinished episode is truncated (not terminated)."""

    name: str
    n_agents: int
    n_actions: int
    observation_size: int
    state_size: int
    time_limit: int
