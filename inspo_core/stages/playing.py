"""Evaluating policies in a game, in every mode."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from inspo_core.envs import make_env
from inspo_core.envs.rollouts import Rollouts, rollout
from inspo_core.envs.table import GAMES
from inspo_core.evaluations import MODES

if TYPE_CHECKING:
    from inspo_core.algorithms.policy import Policy

# play(policy, episodes, seed) -> the finished episodes by mode; both modes play the same games
Play = Callable[["Policy", int, int], dict[str, Rollouts]]


@contextmanager
def opened(env_name: str) -> Iterator[Play]:
    """The game, to be played with policies; it is closed at the end of the block."""
    with closing(make_env(env_name)) as env:
        at_once = GAMES[env_name].episodes_at_once
        yield lambda policy, episodes, seed: {mode: rollout(env, policy, episodes, seed, mode == "greedy", at_once) for mode in MODES}
