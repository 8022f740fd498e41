"""What every game of the table must do; a new game is covered as soon as it is in the table."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from inspo_core.envs import GAMES, Env, bridge, make_env
from inspo_core.envs.base import Observation, Step
from inspo_core.envs.play import play, random_return
from inspo_core.errors import InspoError
from tests.envs.bridge_returns import action_values, random_values

E = 7


@pytest.fixture(params=sorted(GAMES))
def env(request) -> Iterator[Env]:
    made = make_env(request.param)
    yield made
    made.close()


def random_actions(observation: Observation, generator: np.random.Generator) -> np.ndarray:
    return np.where(observation.available_actions, generator.random(observation.available_actions.shape), -1.0).argmax(axis=2)


def stepped(env: Env, seed: int, steps: int) -> tuple[list[Observation], list[Step], list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    seen, steps_made, played = [env.reset(np.arange(E) + seed)], [], []
    for _ in range(steps):
        played.append(random_actions(seen[-1], generator))
        steps_made.append(env.step(played[-1]))
        seen.append(steps_made[-1].observation)
    return seen, steps_made, played


@pytest.mark.parametrize("name", sorted(GAMES))
def test_an_entry_is_plain_data_and_loads(name):
    game = GAMES[name]
    rules = json.loads(json.dumps(game.rules, allow_nan=False))
    assert rules == game.rules and rules["arguments"] == dict(game.arguments)
    assert callable(game.load()) and make_env(name).spec == game.spec(name)
    assert (game.best is None) == (game.random is None) == (game.obtained == "")


def test_name_and_references_are_no_rules():
    game = GAMES["bridge"]
    assert replace(game, best=0.0, random=-1.0, obtained="guessed").rules == game.rules
    for field in ("n_agents", "n_actions", "observation_size", "state_size", "time_limit"):
        assert replace(game, **{field: 99}).rules != game.rules
    assert replace(game, arguments={"map": "wide"}).rules != game.rules != replace(game, episodes_at_once=8).rules


def payoffs(name: str) -> Iterator[np.ndarray]:
    """Those of all joint actions of a game of one step, some at a time."""
    game, env = GAMES[name], make_env(name)
    joint = game.n_actions**game.n_agents
    for start in range(0, joint, 2**18):
        numbers = np.arange(start, min(start + 2**18, joint))
        env.reset(numbers)
        yield env.step(np.stack(np.unravel_index(numbers, (game.n_actions,) * game.n_agents), axis=1)).rewards
    env.close()


@pytest.mark.parametrize("name", [name for name, game in GAMES.items() if game.random is not None])
def test_the_reference_of_random_play_is_what_random_play_earns(name):
    """Of games of one step the mean over all joint actions, of Bridge what dynamic programming finds; others are played."""
    game = GAMES[name]
    if game.time_limit == 1:
        expected = sum(part.sum() for part in payoffs(name)) / game.n_actions**game.n_agents
    elif name.startswith("bridge"):
        expected = random_values(game.time_limit - 1)[tuple(bridge.STARTS)].mean()  # the step at the limit pays nothing
    else:
        env = make_env(name)
        expected = random_return(env)
        env.close()
    assert expected == pytest.approx(game.random, abs=1e-12)


@pytest.mark.parametrize(("name", "deviation"), [("xor", 1.3), ("mne", 16), ("xor8", 2.6), ("permutation4", 0.3), ("bridge", 4)])
def test_episodes_of_random_play_earn_the_reference_in_the_mean(name, deviation):
    """Within five standard errors, and not exactly; ``deviation`` is at least that of a return."""
    found = random_return(make_env(name), 20_000)
    assert 0 < abs(found - GAMES[name].random) < 5 * deviation / 20_000**0.5


@pytest.mark.parametrize("name", [name for name, game in GAMES.items() if game.best is not None])
def test_the_best_return_is_the_best(name):
    """Of games of one step the largest payoff of all joint actions, of Bridge what dynamic programming finds."""
    game = GAMES[name]
    if game.time_limit == 1:
        best = max(part.max() for part in payoffs(name))
    else:
        best = action_values(game.time_limit - 1)[tuple(bridge.STARTS)].max()  # the step at the limit pays nothing
    assert best == pytest.approx(game.best, abs=1e-12)


def test_shapes_and_types(env):
    spec = env.spec
    seen, steps, _ = stepped(env, seed=0, steps=2)
    for observation in seen:
        assert observation.observations.shape == (E, spec.n_agents, spec.observation_size)
        assert observation.observations.dtype == np.float32
        assert observation.states.shape == (E, spec.state_size) and observation.states.dtype == np.float32
        assert observation.available_actions.shape == (E, spec.n_agents, spec.n_actions)
        assert observation.available_actions.dtype == bool and observation.available_actions.any(axis=2).all()
    for step in steps:
        assert step.rewards.shape == (E,) and step.rewards.dtype == np.float64
        for flags in (step.terminated, step.truncated, step.success):
            assert flags.shape == (E,) and flags.dtype == bool


def test_same_seeds_and_actions_give_the_same_episodes(env):
    first, second = stepped(env, seed=3, steps=env.spec.time_limit), stepped(make_env(env.spec.name), seed=3, steps=env.spec.time_limit)
    again = stepped(env, seed=3, steps=env.spec.time_limit)  # a second reset of the same environment
    for other in (second, again):
        for one, two in zip(first[0], other[0], strict=True):
            assert np.array_equal(one.observations, two.observations) and np.array_equal(one.states, two.states)
        for one, two in zip(first[1], other[1], strict=True):
            assert np.array_equal(one.rewards, two.rewards) and np.array_equal(one.terminated, two.terminated)


def test_an_episode_does_not_depend_on_its_neighbours(env):
    _, steps, played = stepped(env, seed=5, steps=env.spec.time_limit)
    alone = make_env(env.spec.name)
    alone.reset(np.array([5 + 2]))
    for step, actions in zip(steps, played, strict=True):
        one = alone.step(actions[2:3])
        assert one.rewards[0] == step.rewards[2] and one.terminated[0] == step.terminated[2]
        assert np.array_equal(one.observation.observations[0], step.observation.observations[2])


def test_every_episode_ends_by_the_limit_and_only_the_limit_truncates(env):
    _, steps, _ = stepped(env, seed=1, steps=env.spec.time_limit)
    for step in steps[:-1]:
        assert not step.truncated.any()
    assert np.array_equal(steps[-1].truncated, ~steps[-1].terminated)


def test_a_finished_episode_is_frozen(env):
    seen, steps, _ = stepped(env, seed=1, steps=env.spec.time_limit)
    for _ in range(3):
        after = env.step(random_actions(seen[-1], np.random.default_rng(9)))
        assert (after.rewards == 0).all()
        assert np.array_equal(after.terminated, steps[-1].terminated) and np.array_equal(after.truncated, steps[-1].truncated)
        assert np.array_equal(after.success, steps[-1].success)
        assert np.array_equal(after.observation.observations, seen[-1].observations)


def test_steps_do_not_change_what_was_returned_before(env):
    first = env.reset(np.arange(E))
    before = first.observations.copy(), first.states.copy()
    env.step(random_actions(first, np.random.default_rng(0)))
    assert np.array_equal(first.observations, before[0]) and np.array_equal(first.states, before[1])


@pytest.mark.parametrize("action", [-1, "A"])
def test_an_illegal_action_is_refused(env, action):
    observation = env.reset(np.arange(E))
    actions = random_actions(observation, np.random.default_rng(0))
    actions[4, 1] = env.spec.n_actions if action == "A" else action
    with pytest.raises(InspoError, match=f"{env.spec.name}: agent 1 of episode 4 played action {actions[4, 1]}, available are \\[0"):
        env.step(actions)


def test_an_unavailable_action_is_refused():
    env = make_env("bridge")
    seen = env.reset(np.arange(E))
    seen.available_actions[3, 0, 2] = False  # no game of the table has masks yet; the check must hold for those to come
    with pytest.raises(InspoError, match=r"agent 0 of episode 3 played action 2, available are \[0, 1, 3, 4\]"):
        env.step(np.full((E, 2), 2))


def test_actions_of_another_shape_or_type_are_refused(env):
    env.reset(np.arange(E))
    for actions in (np.zeros((E - 1, env.spec.n_agents), dtype=int), np.zeros((E, env.spec.n_agents))):
        with pytest.raises(InspoError, match="step needs integer actions of shape"):
            env.step(actions)


def test_step_before_reset_and_bad_seeds_are_refused(env):
    with pytest.raises(InspoError, match="before reset"):
        env.step(np.zeros((E, env.spec.n_agents), dtype=int))
    for seeds in (np.zeros(0, dtype=int), np.zeros(3), np.zeros((2, 2), dtype=int)):
        with pytest.raises(InspoError, match="integer seeds"):
            env.reset(seeds)


def test_an_unknown_game_is_an_error_that_names_the_known_ones():
    with pytest.raises(InspoError, match="there is no game 'brigde'; did you mean bridge"):
        make_env("brigde")


def test_playing_goes_on_until_the_last_episode_ends(env):
    """And a step tells which of the episodes had not ended before it."""
    generator = np.random.default_rng(2)
    steps = list(play(env, lambda seen: random_actions(seen, generator), np.arange(E)))
    done = np.zeros(E, dtype=bool)
    for played in steps:
        assert np.array_equal(played.running, ~done) and played.actions.shape == (E, env.spec.n_agents)
        done = played.step.terminated | played.step.truncated
    assert done.all() and len(steps) <= env.spec.time_limit and steps[-1].running.any()


def test_closing_twice_does_no_harm(env):
    env.reset(np.arange(E))
    env.close()
    env.close()


def test_a_game_that_cannot_be_imported_is_one_sentence_that_names_the_extra():
    absent = replace(GAMES["xor"], target="a_simulator_that_is_not_here.game:Game", extra="smac")
    with pytest.raises(InspoError) as raised:
        absent.load()
    assert str(raised.value) == (
        "a_simulator_that_is_not_here.game:Game cannot be used here (No module named 'a_simulator_that_is_not_here'); "
        "install it with: pip install 'inspo[smac]'"
    )
    with pytest.raises(InspoError, match=r"^inspo_core.envs.matrix:xxor cannot be used here \(.*has no attribute 'xxor'\)$"):
        replace(GAMES["xor"], target="inspo_core.envs.matrix:xxor").load()
