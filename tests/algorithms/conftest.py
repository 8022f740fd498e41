"""One thread and small data for all tests of algorithms.

Networks this small run fastest on one thread, and their numbers do not depend on the machine's number of cores then.
"""

import pytest
import torch

from inspo_core.algorithms.transitions import Transitions
from tests.algorithms.games import some_agents


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def three_agents() -> Transitions:
    return some_agents(0, 1, 2)


@pytest.fixture(scope="session")
def two_agents() -> Transitions:
    return some_agents(0, 2)
