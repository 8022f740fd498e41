"""What docs/exact.md proves, in random games of 2 to 4 agents, 2 to 4 actions and 1 to 6 states."""

from dataclasses import replace

import numpy as np
import pytest

from inspo_core.exact.behavior import Behavior
from inspo_core.exact.games import random_distributions, random_game
from inspo_core.exact.policies import random_policies
from inspo_core.exact.solver import Settings, solve
from inspo_core.rng import numpy_stream


def check(seeds: range) -> None:
    fallen = 0
    for seed in seeds:
        draw = numpy_stream(seed, "test/properties")
        n_agents, n_actions, n_states = (low + int((high - low + 1) * draw.random()) for low, high in ((2, 4), (2, 4), (1, 6)))
        game = random_game(draw, n_agents, n_actions, n_states, gamma=0.95 * draw.random())
        mu = random_distributions(draw, game.rewards.shape)
        beta = max(0.0, draw.random() - 0.5)  # 0 in half of the games
        settings = Settings(
            sweeps=3000,
            alpha=10 ** -draw.random(),
            beta=beta,
            beta_schedule="constant",
            behavior_model="joint" if draw.random() < 0.7 else "product",
            tolerance=1e-8,
        )
        behavior, start = Behavior(mu, mu), random_policies(game, draw)
        solution = solve(game, behavior, settings, start, seed)
        rises = np.array([one.after.objective - one.before for one in solution.history])
        assert rises.min() > -1e-9, f"game {seed}: J fell by {-rises.min()} in sweep {rises.argmin()}"
        gains = np.array([one.gains for one in solution.history])
        assert gains.min() > -1e-9, f"game {seed}: a turn made its agent's own policy worse"
        assert np.abs(rises - gains.sum(axis=1)).max() < 1e-9, f"game {seed}: the turns' gains do not add up to the sweep's"
        assert solution.residual < 1e-6, f"game {seed}: residual {solution.residual} after {len(rises)} sweeps"
        together = solve(game, behavior, replace(settings, update="simultaneous", sweeps=10), start, seed)
        fallen += any(one.after.objective < one.before - 1e-9 for one in together.history)
    assert fallen > 0.1 * len(seeds), "simultaneous updating is expected to lower J in many of these games"


def test_sequential_sweeps_climb_to_an_equilibrium():
    check(range(100))


@pytest.mark.slow
def test_sequential_sweeps_climb_to_an_equilibrium_in_many_games():
    check(range(100, 1200))
