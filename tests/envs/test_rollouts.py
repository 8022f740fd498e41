"""Acting: choosing actions and playing whole episodes."""

import numpy as np
import pytest
import torch

from inspo_core.algorithms.networks import StackedMLP, Standardizer
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.recurrent import stacked
from inspo_core.envs import make_env
from inspo_core.envs.base import Env, Observation
from inspo_core.envs.matrix import XOR
from inspo_core.envs.rollouts import choose_actions, rollout
from inspo_core.envs.spec import EnvSpec


class Stairs(Env):
    """Two agents; each episode has 1 to 6 steps to climb, action 0 climbs (reward 2), 1 waits (-1), 2 is never available.

    At an odd height agent 1 may only climb. Limit 8; climbing to the top terminates and counts as success.
    """

    def __init__(self) -> None:
        super().__init__(EnvSpec("stairs", 2, 3, observation_size=2, state_size=2, time_limit=8))
        self.begun: list[np.ndarray] = []  # the seeds of every wave

    def _begin(self, seeds: np.ndarray) -> None:
        self.begun = [*self.begun, seeds]
        self.left = 1 + seeds % 6

    def _advance(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        climbs = (actions == 0).any(1) & running
        self.left = self.left - climbs
        return np.where(climbs, 2.0, -1.0), self.left == 0, self.left == 0

    def _observe(self) -> Observation:
        seen = np.stack([self.left, self.left % 2], 1).astype(np.float32)
        available = np.ones((len(seen), 2, 3), dtype=bool)
        available[:, :, 2] = False
        available[self.left % 2 == 1, 1, 1] = False
        return Observation(np.repeat(seen[:, None], 2, axis=1), seen, available)


def fixed_policy(probabilities: list[list[float]], observation_size: int) -> Policy:
    """The same probabilities whatever is seen."""
    n, a = np.shape(probabilities)
    network = StackedMLP(n, [observation_size, a], torch.Generator(), "cpu")
    network.parameters.zero_()
    for row, wanted in zip(network.rows, probabilities):
        row[-1].data.copy_(torch.tensor(wanted).clamp(min=1e-12).log())
    return Policy(network, Standardizer(torch.zeros(n, 1, observation_size), torch.ones(n, 1, observation_size)))


class TestChooseActions:
    def test_greedy_is_the_most_likely_available(self):
        log_probs = np.log([[[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]])
        available = np.array([[[True, True, False], [True, True, True]]])
        assert choose_actions(log_probs, available, None).tolist() == [[1, 0]]

    @pytest.mark.parametrize("sampled", [True, False])
    def test_never_an_unavailable_action(self, sampled):
        rng = np.random.default_rng(0)
        available = rng.random((5000, 2, 4)) < 0.5
        available[..., 0] |= ~available.any(-1)
        log_probs = np.where(available, rng.normal(-5, 3, available.shape), 0.0)  # the forbidden look best
        actions = choose_actions(log_probs, available, rng if sampled else None)
        assert np.take_along_axis(available, actions[..., None], 2).all()

    def test_samples_follow_the_probabilities(self):
        probabilities = np.array([[0.6, 0.3, 0.1, 0.0], [0.05, 0.15, 0.3, 0.5]])
        with np.errstate(divide="ignore"):
            log_probs = np.maximum(np.log(probabilities), -1e9)
        count = 40_000
        actions = choose_actions(np.broadcast_to(log_probs, (count, 2, 4)), np.ones((count, 2, 4), bool), np.random.default_rng(1))
        for agent in range(2):
            shares = np.bincount(actions[:, agent], minlength=4) / count
            assert np.abs(shares - probabilities[agent]).max() < 0.01
        together = np.zeros((4, 4))
        np.add.at(together, tuple(actions.T), 1 / count)
        assert np.abs(together - np.outer(*probabilities)).max() < 0.01  # agents choose independently


class TestRollout:
    def test_sampled_returns_average_to_the_exact_value(self):
        policy = fixed_policy([[0.7, 0.3], [0.2, 0.8]], 1)
        played = rollout(make_env("xor"), policy, 20_000, seed=3, greedy=False)
        exact = float((np.outer([0.7, 0.3], [0.2, 0.8]) * XOR).sum())
        assert played.returns.mean() == pytest.approx(exact, abs=0.03)
        assert played.success.mean() == pytest.approx(0.7 * 0.8 + 0.3 * 0.2, abs=0.02)
        assert (played.lengths == 1).all()

    def test_greedy_takes_the_mode(self):
        played = rollout(make_env("xor"), fixed_policy([[0.6, 0.4], [0.4, 0.6]], 1), 10, seed=3, greedy=True)
        assert (played.returns == 1).all() and played.success.all()

    def test_episodes_of_unlike_lengths(self):
        """Agent 0 waits; agent 1 would wait too, but must climb at odd heights and is stuck at even ones."""
        waiting = fixed_policy([[0.1, 0.9, 0.0], [0.1, 0.9, 0.0]], 2)
        played = rollout(Stairs(), waiting, 300, seed=0, greedy=True)
        top = played.lengths == 1
        assert 20 < top.sum() < 100 and (played.returns[top] == 2).all() and played.success[top].all()
        assert set(played.lengths) == {1, 8} and not played.success[~top].any()
        assert set(played.returns[~top]) == {-8.0, 2.0 - 7}

        climbing = rollout(Stairs(), fixed_policy([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]], 2), 300, seed=0, greedy=True)
        assert set(climbing.lengths) == {1, 2, 3, 4, 5, 6} and climbing.success.all()
        assert np.array_equal(climbing.returns, 2.0 * climbing.lengths)
        assert np.array_equal(climbing.lengths == 1, top)  # the seed fixes the episodes

    def test_preferred_but_unavailable_actions_are_not_played(self):
        """The game refuses an unavailable action, so a played episode proves the masks."""
        eager = fixed_policy([[0.005, 0.005, 0.99], [0.005, 0.005, 0.99]], 2)
        for greedy in (True, False):
            assert rollout(Stairs(), eager, 200, seed=1, greedy=greedy).lengths.max() <= 8

    def test_seed_fixes_everything_and_another_changes_it(self):
        policy = fixed_policy([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]], 2)
        one, same, other = (rollout(Stairs(), policy, 100, seed, greedy=False) for seed in (7, 7, 8))
        assert np.array_equal(one.returns, same.returns) and np.array_equal(one.lengths, same.lengths)
        assert not np.array_equal(one.returns, other.returns)


class TestWaves:
    @pytest.mark.parametrize("at_once", [1, 3, 10, None])
    @pytest.mark.parametrize("greedy", [True, False])
    def test_every_width_plays_the_same_episodes(self, at_once, greedy):
        """And no wave is wider than asked; the last one is what is left."""
        env, policy = Stairs(), fixed_policy([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]], 2)
        played = rollout(env, policy, 10, seed=4, greedy=greedy, at_once=at_once)
        whole = Stairs()
        rollout(whole, policy, 10, seed=4, greedy=greedy)
        assert np.array_equal(np.concatenate(env.begun), np.concatenate(whole.begun))
        assert [len(seeds) for seeds in env.begun] == {1: [1] * 10, 3: [3, 3, 3, 1], 10: [10], None: [10]}[at_once]
        assert played.returns.shape == played.lengths.shape == played.success.shape == (10,)

    @pytest.mark.parametrize("at_once", [1, 3, 29, 30, 1000])
    def test_greedy_results_do_not_depend_on_the_width(self, at_once):
        climbing = fixed_policy([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]], 2)
        wide = rollout(Stairs(), climbing, 30, seed=0, greedy=True)
        narrow = rollout(Stairs(), climbing, 30, seed=0, greedy=True, at_once=at_once)
        assert len(set(wide.lengths.tolist())) > 3
        for field in ("returns", "lengths", "success"):
            assert np.array_equal(getattr(narrow, field), getattr(wide, field)), field

    def test_sampled_waves_draw_from_one_stream(self):
        """Another wave is other draws: identical episodes do not all end alike."""
        policy = fixed_policy([[0.5, 0.5], [0.5, 0.5]], 1)
        returns = rollout(make_env("xor"), policy, 4000, seed=0, greedy=False, at_once=1000).returns.reshape(4, 1000)
        assert not np.array_equal(returns[0], returns[1]) and np.abs(returns.mean(1)).max() < 0.15

    def test_a_policy_with_memory_forgets_the_wave_before(self):
        """In ``bridge_blind`` what is seen is the own place alone: a wave that remembered the last one would play another way."""
        network = stacked(2, [2, 8, 5], 3, torch.Generator().manual_seed(2), "cpu")
        network.parameters.mul_(4)
        policy = Policy(network, Standardizer(torch.zeros(2, 1, 2), torch.ones(2, 1, 2)))
        wide, narrow = (rollout(make_env("bridge_blind"), policy, 4, seed=0, greedy=True, at_once=at_once) for at_once in (None, 1))
        assert np.array_equal(wide.returns, narrow.returns) and np.array_equal(wide.lengths, narrow.lengths)
