"""Where policies act: one vectorised contract (``base.py``), one file a game, one table."""

from inspo_core.envs.base import Env
from inspo_core.envs.table import GAMES


def make_env(name: str) -> Env:
    """A fresh environment of the game ``name``; close it when it is no longer played.

    Raises InspoError for a game that is not in the table, or that cannot be imported here, with what to install.
    """
    game = GAMES.entry(name)
    env: Env = game.load()(game.spec(name), **game.arguments)
    return env
