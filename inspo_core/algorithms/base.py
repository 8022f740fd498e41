"""The contract between the algorithms and the training loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from inspo_core.algorithms.behavior_models import BehaviorModels
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.seed_batching import Fitter, fit_alone
from inspo_core.algorithms.transitions import Transitions


@dataclass(frozen=True)
class Setup:
    """What an algorithm is built from, beside its own configuration: ``SomeAlgorithm(setup, config)``."""

    data: Transitions
    behavior: Callable[[], BehaviorModels]  # reads the estimated behavior policies; not every algorithm needs them
    iterations: int  # planned, for schedules
    seed: int
    device: str
    fit: Fitter = fit_alone  # where algorithms that batch the seeds have their gradient steps made


class Algorithm(Protocol):
    """What learns. Its whole state, generators included, is in ``state_dict``, so that a resumed run is the same run."""

    def iterate(self) -> dict[str, float]:
        """Train for one iteration; the returned values are logged."""
        ...

    def policy(self) -> Policy:
        """The policy as it is now, sharing its parameters."""
        ...

    def state_dict(self) -> dict:
        """Tensors, numbers and plain containers only."""
        ...

    def load_state_dict(self, state: dict) -> None: ...
