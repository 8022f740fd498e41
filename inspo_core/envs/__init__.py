"""Where policies act: one vectorised contract (``base.py``), one file a game, one registry."""

from collections.abc import Callable
from functools import partial

from inspo_core.envs.base import Env, EnvSpec, Observation, Step
from inspo_core.envs.bridge import Bridge
from inspo_core.envs.bridge_partial import PartialBridge, places, views
from inspo_core.envs.matrix import MNE, XOR, MatrixGame
from inspo_core.envs.one_step import permutation_game, xor_game
from inspo_core.errors import InspoError

ENVS: dict[str, Callable[[], Env]] = {
    "xor": lambda: MatrixGame("xor", XOR),
    "mne": lambda: MatrixGame("mne", MNE),
    **{f"xor{n}": partial(xor_game, n) for n in range(3, 9)},
    **{f"permutation{n}": partial(permutation_game, n) for n in range(2, 9)},
    "bridge": Bridge,
    "bridge_partial": partial(PartialBridge, "bridge_partial", views),
    "bridge_blind": partial(PartialBridge, "bridge_blind", places),
}


def make_env(name: str) -> Env:
    """A fresh environment of the game ``name``. Raises InspoError for a game that is not registered."""
    if name not in ENVS:
        raise InspoError(f"there is no game named {name!r}; known games: {', '.join(ENVS)}")
    return ENVS[name]()


__all__ = ["ENVS", "Env", "EnvSpec", "Observation", "Step", "make_env"]
