import numpy as np
import pytest

from inspo_core.envs import make_env

XOR = {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): -2}
MNE = {(one, two): -20 if one != two else (5, 10, 20)[one] for one in range(3) for two in range(3)}


@pytest.mark.parametrize(("name", "payoff", "best"), [("xor", XOR, 1), ("mne", MNE, 20)])
def test_payoffs(name, payoff, best):
    env = make_env(name)
    env.reset(np.arange(len(payoff)))
    step = env.step(np.array(list(payoff)))
    assert step.rewards.tolist() == list(payoff.values())
    assert step.success.tolist() == [reward == best for reward in payoff.values()]
    assert step.terminated.all() and not step.truncated.any()
    assert (step.observation.observations == 1).all() and (step.observation.states == 1).all()
