"""Small games with known answers, their data, behavior models and configurations."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inspo_core.algorithms.base import Algorithm, Setup
from inspo_core.algorithms.behavior_estimation import BehaviorEstimation, Split
from inspo_core.algorithms.behavior_models import BehaviorModels, JointModel
from inspo_core.algorithms.configs import BehaviorConfig, LearnerConfig
from inspo_core.algorithms.networks import masked_log_softmax
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.seed_batching import Fitter, Together, fit_alone
from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from inspo_core.config.learners import learner_of
from inspo_core.config.reading import load_params
from inspo_core.config.sections import Params, VariantConfig
from inspo_core.datasets import EpisodeDataset, validate
from inspo_core.datasets.build import SETS
from inspo_core.envs.one_step import permutation_payoffs

ROOT = Path(__file__).parents[2]
TINY = {"hidden": [8], "batch_size": 16, "critic_steps": 3, "policy_steps": 3, "refit_steps": 2, "pool_size": 64}


@cache
def params() -> Params:
    return load_params(ROOT / "params.yaml")


def config_of(algorithm: str, **changes: object) -> LearnerConfig:
    """The parameters of ``params.yaml`` with changes of shared keys or of the algorithm's own."""
    variant = VariantConfig(algorithm=algorithm, **changes)
    return learner_of("changed", params().model_copy(update={"variants": {"changed": variant}})).config


def tiny(algorithm: str, **changes: object) -> dict[str, object]:
    """``TINY`` with changes, of which only what the algorithm reads."""
    return {key: value for key, value in (TINY | changes).items() if key in ALGORITHMS[algorithm].config.model_fields}


def behavior_config(**changes: object) -> BehaviorConfig:
    return BehaviorConfig(**{**params().behavior.model_dump(exclude={"device"}), **changes})


def dataset_of(
    states: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    lengths: Sequence[int],
    terminated: Sequence[bool],
    n_actions: int,
    available: np.ndarray | None = None,
) -> EpisodeDataset:
    """Valid episodes whose agents all see the state (R, S); episodes that are not terminated are truncated."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    terminations, truncations = np.zeros(len(actions), dtype=bool), np.zeros(len(actions), dtype=bool)
    terminations[offsets[1:] - 1] = terminated
    truncations[offsets[1:] - 1] = ~np.asarray(terminated)
    states = states.astype(np.float32)
    dataset = EpisodeDataset(
        name="made",
        env="made",
        n_actions=n_actions,
        observations=np.repeat(states[:, None], actions.shape[1], axis=1),
        states=states,
        available_actions=available,
        actions=actions.astype(np.int64),
        rewards=rewards.astype(np.float32),
        terminations=terminations,
        truncations=truncations,
        behavior_log_probs=None,
        episode_offsets=offsets,
    )
    validate(dataset, "test")
    return dataset


def matrix_data(payoff: np.ndarray, played: np.ndarray) -> EpisodeDataset:
    """Plays (T, N) of the one-step game ``payoff``."""
    count = len(played)
    return dataset_of(np.ones((2 * count, 1)), played, payoff[tuple(played.T)], [1] * count, [True] * count, len(payoff))


def permutation_payoff(n: int = 3) -> np.ndarray:
    """n agents, n actions: 1 if all actions differ, else 0."""
    shape = (n,) * n
    return permutation_payoffs(np.array(list(np.ndindex(*shape)))).reshape(shape)


def permutation_data(n: int = 3) -> EpisodeDataset:
    return matrix_data(permutation_payoff(n), np.array(list(itertools.permutations(range(n))) * 60))


def ragged_data(episodes: int = 1000) -> EpisodeDataset:
    """Three agents, three actions, two contexts, episodes of 1 to 4 steps with both kinds of end.

    In context 0 agent 1 mostly repeats agent 0 and agent 2 mostly plays their sum; in context 1 agent 0 may not play 2 and agent 2
    only 0 and 1, and agent 2 mostly plays what agent 0 did not. Agent 0's actions pay.
    """
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 5, episodes)
    rows, count = lengths.sum() + episodes, lengths.sum()
    context = rng.integers(0, 2, rows)
    row = np.arange(count) + np.repeat(np.arange(episodes), lengths)
    at = context[row]
    first = np.where(at == 0, rng.choice(3, count, p=[0.5, 0.3, 0.2]), rng.choice(3, count, p=[0.4, 0.6, 0]))
    second = np.where((at == 0) & (rng.random(count) < 0.8), first, rng.integers(0, 3, count))
    third = np.where(at == 0, (first + second) % 3, 1 - np.minimum(first, 1))
    third = np.where(rng.random(count) < 0.3, rng.integers(0, 2, count), third)
    available = np.ones((rows, 3, 3), dtype=bool)
    available[context == 1, 0, 2] = False
    available[context == 1, 2, 2] = False
    ends = np.arange(episodes) % 2 == 0
    return dataset_of(np.eye(2)[context], np.stack([first, second, third], 1), first - 0.5, lengths, ends, 3, available)


def data_of(*agents: int, episodes: int = 40) -> EpisodeDataset:
    """Those agents of ``ragged_data`` only: masks that bind, and two contexts to tell apart."""
    dataset, picked = ragged_data(episodes), list(agents)
    observations, available = (getattr(dataset, name)[:, picked] for name in ("observations", "available_actions"))
    return replace(dataset, observations=observations, available_actions=available, actions=dataset.actions[:, picked])


def some_agents(*agents: int, episodes: int = 40) -> Transitions:
    """:func:`data_of` as algorithms see it."""
    return ResidentTransitions(data_of(*agents, episodes=episodes), "cpu")


def sample_data(name: str) -> Transitions:
    """A dataset of ``inspo_core.datasets.build``."""
    return ResidentTransitions(SETS[name](), "cpu")


class Arrays(NamedTuple):
    """All that the calls of :class:`Transitions` tell, whole."""

    observations: Tensor  # (N, R, O)
    states: Tensor  # (R, S)
    available: Tensor  # (N, R, A)
    actions: Tensor  # (N, T)
    rewards: Tensor  # (T,)
    continues: Tensor  # (T,)
    rows: Tensor  # (T,)


def arrays(data: Transitions) -> Arrays:
    rows, every = torch.arange(data.n_rows), torch.arange(len(data))
    at_rows = (data.observations(rows), data.states(rows), data.available(rows))
    return Arrays(*at_rows, data.actions(every), data.rewards(every), data.continues(every), data.rows(every))


def everything(data: Transitions) -> Split:
    """All transitions both to train on and to judge by: the target is the empirical distribution itself."""
    every = torch.arange(len(data), device=data.device)
    return Split(every, every, 1.0)


def estimated(data: Transitions, steps: int, seed: int = 0, **changes: object) -> BehaviorModels:
    """Behavior models trained by the stage's own code."""
    config = behavior_config(**{"hidden": [32, 32], "learning_rate": 0.005, "batch_size": 128, "steps": steps, **changes})
    estimation = BehaviorEstimation(data, everything(data), config, seed, str(data.device))
    for _ in range(config.steps // config.check_every):
        estimation.iterate()
    estimation.finish()
    return estimation.models


@cache
def estimated_sample(name: str) -> tuple[Transitions, BehaviorModels]:
    data = sample_data(name)
    return data, estimated(data, 500)


def random_models(data: Transitions, seed: int = 0, sharpness: float = 3.0) -> BehaviorModels:
    """Untrained models with uneven probabilities: as good as any for testing what is computed from them."""
    models = BehaviorModels.create(data, [16], 0, torch.Generator(data.device).manual_seed(seed))
    for network in (models.local, models.joint.network):
        network.parameters.mul_(sharpness)
    return models


def learner(
    algorithm: str,
    data: Transitions,
    models: BehaviorModels,
    iterations: int = 10,
    seed: int = 0,
    fit: Fitter = fit_alone,
    **changes: object,
) -> Algorithm:
    """Made of ``config_of(algorithm, **changes)``."""
    made: Algorithm = ALGORITHMS[algorithm].load()(
        Setup(data, lambda: models, iterations, seed, str(data.device), fit), config_of(algorithm, **changes)
    )
    return made


def at_once(runs: list[Callable[[Fitter], None]]) -> list[Exception]:
    """Call the functions in a thread each, as the training of several seeds does; what they raised."""
    together, raised = Together(len(runs)), []

    def enclosed(run: Callable[[Fitter], None]) -> None:
        with together.run():
            try:
                run(together.fit)
            except Exception as error:
                raised.append(error)

    threads = [threading.Thread(target=enclosed, args=(run,), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return raised


def joint_table(model: JointModel, data: Transitions, row: int, order: Sequence[int]) -> np.ndarray:
    """mu(a|s) at a row of the data by the chain rule in ``order``: one axis of A actions an agent."""
    n, a = data.n_agents, data.n_actions
    actions = torch.tensor(list(itertools.product(range(a), repeat=n))).T  # (N, A^N)
    total = torch.zeros(a**n)
    known: list[int] = []
    for agent in order:
        total += conditional(model, data, row, actions, known, agent).gather(1, actions[agent].unsqueeze(1)).squeeze(1)
        known.append(agent)
    return total.exp().double().numpy().reshape((a,) * n)


@torch.no_grad()
def conditional(model: JointModel, data: Transitions, row: int, actions: Tensor, known: Sequence[int], asked: int) -> Tensor:
    """log mu(. | s, the actions of ``known``) of ``asked`` at one row, for actions (N, B): (B, A)."""
    size = actions.shape[1]
    mask = torch.zeros(data.n_agents, size, dtype=torch.bool)
    mask[list(known)] = True
    at = torch.full((size,), row)
    return model.conditional(data.states(at), actions, mask, torch.full((size,), asked), data.available_to(asked, at))


def uneven_policies(available: Tensor) -> Tensor:
    """log pi (N, P, A), different everywhere, of the ``available`` actions."""
    return masked_log_softmax(1.5 * torch.randn(available.shape, generator=torch.Generator().manual_seed(8)), available)


def empirical_joint(data: Transitions, row: int) -> np.ndarray:
    """Shares of the joint actions among all transitions in the state of ``row``: one axis of A actions an agent."""
    whole = arrays(data)
    alike = (whole.states[whole.rows] == whole.states[row]).all(1)
    table = np.zeros((data.n_actions,) * data.n_agents)
    np.add.at(table, tuple(whole.actions[:, alike].numpy()), 1)
    return table / table.sum()


def action_probabilities(policy: Policy, observation_size: int = 1) -> np.ndarray:
    """(N, A) float64 in a game where every observation is 1."""
    return policy.log_probs(torch.ones(1, policy.network.n, observation_size))[0].exp().double().numpy()


def expected_payoff(policy: Policy, payoff: np.ndarray) -> float:
    """What sampled actions earn on average in a matrix game, exactly."""
    joint = np.ones(())
    for probabilities in action_probabilities(policy):
        joint = np.multiply.outer(joint, probabilities)
    return float((joint * payoff).sum())
