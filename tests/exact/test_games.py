"""Games as arrays and behavior policies as tables, against the environments and the data they stand for."""

import numpy as np
import pytest

from inspo_core.datasets.build import SETS
from inspo_core.datasets.recording import record
from inspo_core.envs import make_env
from inspo_core.envs.matrix import XOR
from inspo_core.errors import InspoError
from inspo_core.exact.behavior import SMOOTHING, Behavior, behavior_of
from inspo_core.exact.games import MarkovGame, bridge_game, make_game, matrix_game, random_game
from inspo_core.exact.policies import expected_return, greedy, random_policies
from inspo_core.rng import numpy_stream


def playing(policies: np.ndarray, game: MarkovGame, name: str):
    """``choose`` of ``record``: independent draws from the tables (S, N, A)."""
    index = {state.tobytes(): number for number, state in enumerate(game.states)}
    index[np.array([2, 5, 2, 5, 0, 0, 0, 0], dtype=np.float32).tobytes()] = 0  # episodes that are over are still asked
    generator = numpy_stream(0, name)

    def choose(seen):
        numbers = [index[state.tobytes()] for state in seen.states]
        cumulative = policies[numbers].cumsum(axis=2)
        return np.minimum((cumulative < generator.random((*cumulative.shape[:2], 1))).sum(axis=2), policies.shape[2] - 1)

    return choose


def test_bridge_arrays_are_what_the_environment_does():
    game, env = bridge_game(), make_env("bridge")
    index = {state.tobytes(): number for number, state in enumerate(game.states)}
    generator = numpy_stream(0, "test/bridge")
    seen = env.reset(np.arange(300))
    visited, running = set(), np.ones(300, dtype=bool)
    for _ in range(env.spec.time_limit - 1):  # the step at the limit pays nothing, whatever it is
        actions = np.floor(5 * generator.random((300, 2))).astype(int)
        before, step = seen.states, env.step(actions)
        for episode in np.flatnonzero(running):
            state, joint = index[before[episode].tobytes()], 5 * actions[episode, 0] + actions[episode, 1]
            visited.add(state)
            assert game.rewards[state, joint] == step.rewards[episode]
            successors = game.transitions[state, joint]
            assert successors.sum() == (not step.terminated[episode])
            assert step.terminated[episode] or successors[index[step.observation.states[episode].tobytes()]] == 1
        running &= ~(step.terminated | step.truncated)
        seen = step.observation
    assert len(visited) > 0.9 * game.n_states


@pytest.mark.parametrize("name", ["xor", "mne", "xor3", "permutation3"])
def test_one_step_games_pay_what_the_environment_pays(name):
    game, env = make_game(name), make_env(name)
    env.reset(np.arange(game.rewards.size))
    actions = np.array(list(np.ndindex(*(game.n_actions,) * game.n_agents)))
    assert game.rewards[0].tolist() == env.step(actions).rewards.tolist()
    assert not game.transitions.any()


def test_expected_returns_are_the_means_of_played_episodes():
    """Of random policies, which often run into the limit; a greedy policy's episodes are all alike."""
    game = bridge_game()
    policies = random_policies(game, numpy_stream(1, "test/policies"))
    played = record("played", make_env("bridge"), playing(policies, game, "test/play"), 2000, {}).episode_returns()
    assert abs(played.mean() - expected_return(game, policies, 50)) < 4 * played.std() / np.sqrt(len(played))
    certain = record("played", make_env("bridge"), playing(greedy(policies), game, "test/play"), 2, {}).episode_returns()
    assert certain == pytest.approx(expected_return(game, greedy(policies), 50), rel=1e-6)


def test_the_last_step_within_the_limit_is_paid_in_one_game_and_not_in_the_other():
    xor, on_bridge = matrix_game("xor", XOR), bridge_game()
    assert expected_return(xor, np.array([[[1.0, 0.0], [0.0, 1.0]]]), 1) == 1
    still = np.tile(np.eye(5)[0], (on_bridge.n_states, 2, 1))
    assert expected_return(on_bridge, still, 20) == pytest.approx(19 * on_bridge.rewards[0, 0])


def test_mu_is_the_smoothed_share_of_each_joint_action():
    game = make_game("xor")
    behavior = behavior_of(game, SETS["xor_c"]())  # 160 plays each of AA, AB, BA
    seen, unseen = (160 + SMOOTHING) / (480 + 4 * SMOOTHING), SMOOTHING / (480 + 4 * SMOOTHING)
    assert behavior.mu[0] == pytest.approx([seen, seen, seen, unseen], rel=1e-12)
    assert behavior.shares[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    own = seen + seen
    assert behavior.product(game).mu[0] == pytest.approx([own**2, own * (1 - own), own * (1 - own), (1 - own) ** 2], rel=1e-9)


def test_mu_in_the_states_of_bridge():
    game, dataset = bridge_game(), SETS["bridge_mixed"]()
    behavior = behavior_of(game, dataset)
    at_start = (dataset.states[dataset.rows] == game.states[0]).all(axis=1)
    played = dataset.actions[at_start] @ [5, 1]
    assert behavior.shares[0] == pytest.approx(np.bincount(played, minlength=25) / at_start.sum())
    never = ~behavior.shares.any(axis=1)
    assert behavior.mu[never] == pytest.approx(1 / 25)


def test_what_does_not_fit_is_refused():
    game = random_game(numpy_stream(0, "test"), n_agents=2, n_actions=2, n_states=3, gamma=0.5)
    arrays = {name: getattr(game, name) for name in ("rewards", "transitions", "start")}
    for changes, words in [
        ({"rewards": game.rewards[:, :3]}, r"rewards have shape \(3, 3\), expected \(3, 4\)"),
        ({"rewards": np.full((3, 4), np.nan)}, "not a finite number"),
        ({"transitions": 1.5 * game.transitions}, "sum to at most 1"),
        ({"transitions": -game.transitions}, "values from 0"),
        ({"start": 2 * game.start}, "start sums to 2"),
        ({"gamma": 1.0}, "gamma is 1.0"),
    ]:
        with pytest.raises(InspoError, match=words):
            MarkovGame(**{"name": "made", "n_agents": 2, "n_actions": 2, "gamma": 0.5, **arrays, **changes})
    with pytest.raises(InspoError, match="smooth it"):
        Behavior(np.array([[0.5, 0.5, 0, 0]]), np.zeros((1, 4)))
    with pytest.raises(InspoError, match="its game is 'mne', expected 'xor'"):
        behavior_of(make_game("xor"), SETS["mne_balanced"]())
    smaller = MarkovGame(**arrays, name="bridge", n_agents=2, n_actions=2, gamma=0.5, states=np.zeros((3, 8), dtype=np.float32))
    with pytest.raises(InspoError, match="states of transition 0 are"):
        behavior_of(smaller, SETS["bridge_optimal"]())
    with pytest.raises(InspoError, match="no exact form of the game 'bridge_partial'"):
        make_game("bridge_partial")
    with pytest.raises(InspoError, match="16777216 joint actions, expected at most 4096"):
        make_game("permutation8")
