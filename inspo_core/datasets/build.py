"""The sample datasets, made from nothing: ``python -m inspo_core.datasets.build --out data``.

The same code gives the same bytes, and ``data.dvc`` records their hashes. docs/datasets.md describes every set.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from inspo_core.command import Parser, run
from inspo_core.datasets.episodes import EpisodeDataset
from inspo_core.datasets.recording import concatenate, record
from inspo_core.datasets.writer import write_dataset
from inspo_core.envs import bridge, make_env
from inspo_core.envs.base import Observation
from inspo_core.envs.bridge_partial import places, views
from inspo_core.rng import numpy_stream

SEED = 0
A, B = 0, 1
XOR_TRANSITIONS = 480  # divides evenly among 1, 2, 3 and 4 joint actions
COORDINATION_TRANSITIONS = 960  # divides evenly among 3, 4, 5, 6, 8 and 24 joint actions
MNE_SHARES = {0: 0.80, 1: 0.15, 2: 0.05}  # each agent's, imbalanced data
BRIDGE_EPISODES = 500
PARTIAL_RANDOM_EPISODES = 100  # of the random half of bridge_mixed, so that the set stays below 2 MB


def matrix_set(name: str, game: str, counts: Mapping[tuple[int, ...], int], description: str) -> EpisodeDataset:
    """One episode of one step a joint action; ``counts`` says how often each occurs, the order is shuffled."""
    played = np.repeat(np.array(list(counts)), list(counts.values()), axis=0)
    order = np.argsort(numpy_stream(SEED, f"data/{name}").random(len(played)), kind="stable")
    return record(name, make_env(game), lambda _: played[order], len(played), _provenance(description))


def xor_set(name: str, joint_actions: list[tuple[int, int]]) -> EpisodeDataset:
    """Equal shares of ``joint_actions``."""
    counts: dict[tuple[int, ...], int] = dict.fromkeys(joint_actions, XOR_TRANSITIONS // len(joint_actions))
    seen = ", ".join("AB"[one] + "AB"[two] for one, two in joint_actions)
    return matrix_set(name, "xor", counts, f"{XOR_TRANSITIONS} plays of XOR, equal shares of the joint actions {seen}")


def xor_n_set(n_agents: int) -> EpisodeDataset:
    """Equal shares of the joint actions with exactly one B: all that is seen pays 1."""
    counts = {tuple(row): COORDINATION_TRANSITIONS // n_agents for row in np.eye(n_agents, dtype=np.int64).tolist()}
    shares = f"equal shares of the {n_agents} joint actions with exactly one B"
    text = f"{COORDINATION_TRANSITIONS} plays of XOR with {n_agents} agents, {shares}"
    return matrix_set(f"xor{n_agents}", f"xor{n_agents}", counts, text)


def permutation_set(n_agents: int) -> EpisodeDataset:
    """Equal shares of all joint actions in which no two agents do the same: all that is seen pays 1."""
    permutations = list(itertools.permutations(range(n_agents)))
    counts = dict.fromkeys(permutations, COORDINATION_TRANSITIONS // len(permutations))
    shares = f"equal shares of the {len(permutations)} permutations"
    text = f"{COORDINATION_TRANSITIONS} plays of the permutation game with {n_agents} agents, {shares}"
    return matrix_set(f"permutation{n_agents}", f"permutation{n_agents}", counts, text)


def mne_balanced() -> EpisodeDataset:
    """100 plays of each of the 9 joint actions."""
    counts: dict[tuple[int, ...], int] = {(one, two): 100 for one in range(3) for two in range(3)}
    return matrix_set("mne_balanced", "mne", counts, "900 plays of M-NE, 100 of each joint action")


def mne_imbalanced() -> EpisodeDataset:
    """4000 plays in the exact shares of two independent agents that mostly play the worst equilibrium."""
    counts: dict[tuple[int, ...], int] = {
        (one, two): round(4000 * MNE_SHARES[one] * MNE_SHARES[two]) for one in range(3) for two in range(3)
    }
    text = "4000 plays of M-NE in exact product shares: each agent plays actions 0, 1, 2 with shares .80, .15, .05"
    return matrix_set("mne_imbalanced", "mne", counts, text)


def bridge_optimal() -> EpisodeDataset:
    """Episodes of a joint policy that picks uniformly among the joint actions that bring both agents home soonest."""
    shortest = shortest_joint_actions()
    generator = numpy_stream(SEED, "data/bridge_optimal")

    def choose(seen: Observation) -> np.ndarray:
        one, two = bridge.cells_of(seen.states).T
        return np.stack(np.divmod(_uniform_choice(shortest[one, two], generator), len(bridge.MOVES)), axis=1)

    text = f"{BRIDGE_EPISODES} episodes of Bridge; uniform among the joint actions that minimise the sum of both agents' arrival times"
    return record("bridge_optimal", make_env("bridge"), choose, BRIDGE_EPISODES, _provenance(text))


def bridge_mixed() -> EpisodeDataset:
    """The episodes of ``bridge_optimal``, then as many of uniform random agents; the limit of 50 steps truncates."""
    text = f"the {BRIDGE_EPISODES} episodes of bridge_optimal, then {BRIDGE_EPISODES} of uniform random agents, truncated at 50 steps"
    return concatenate("bridge_mixed", [bridge_optimal(), bridge_random()], _provenance(text))


def bridge_random() -> EpisodeDataset:
    """Episodes of uniform random agents; a part of sets, not a set."""
    generator = numpy_stream(SEED, "data/bridge_random")

    def choose(seen: Observation) -> np.ndarray:
        return _uniform_choice(seen.available_actions, generator)

    return record("bridge_random", make_env("bridge"), choose, BRIDGE_EPISODES, {})


def bridge_partial_optimal() -> EpisodeDataset:
    """The episodes of ``bridge_optimal``, as the agents of ``bridge_partial`` see them."""
    text = f"the {BRIDGE_EPISODES} episodes of bridge_optimal through the partial observation"
    return seen_by("bridge_partial", "bridge_partial_optimal", bridge_optimal(), text)


def bridge_partial_mixed() -> EpisodeDataset:
    """The first episodes of ``bridge_mixed``, as the agents of ``bridge_partial`` see them."""
    episodes = BRIDGE_EPISODES + PARTIAL_RANDOM_EPISODES
    text = f"the first {episodes} episodes of bridge_mixed ({BRIDGE_EPISODES} optimal, the others random) through the partial observation"
    return seen_by("bridge_partial", "bridge_partial_mixed", bridge_mixed().episodes(0, episodes), text)


def bridge_blind_optimal() -> EpisodeDataset:
    """The episodes of ``bridge_optimal``, as the agents of ``bridge_blind`` see them."""
    text = f"the {BRIDGE_EPISODES} episodes of bridge_optimal, of which an agent sees its own row and column"
    return seen_by("bridge_blind", "bridge_blind_optimal", bridge_optimal(), text)


def seen_by(game: str, name: str, full: EpisodeDataset, description: str) -> EpisodeDataset:
    """The episodes of Bridge ``full`` with the observations of ``game``; all else stays."""
    assert full.states is not None  # a set of Bridge has them
    observations = {"bridge_partial": views, "bridge_blind": places}[game](bridge.cells_of(full.states))
    return replace(full, name=name, env=game, observations=observations, provenance=_provenance(description))


def shortest_joint_actions() -> np.ndarray:
    """(cells, cells, 25) bool: the joint actions ``5 a1 + a2`` that minimise the sum of both agents' arrival times.

    Of an agent at its goal only those actions count that lead nowhere: it waits there or pushes against the edge.
    This is the support of AlberDICE's `optimal` data, found by looking at them (docs/datasets.md).
    """
    cells = np.stack(np.meshgrid(*[np.arange(bridge.ROWS * bridge.COLUMNS)] * 2, indexing="ij"), axis=2)  # (C, C, 2)
    actions = bridge.JOINT_ACTIONS
    shape = (*cells.shape[:2], len(actions), 2)
    before = np.broadcast_to(cells[:, :, None], shape)
    after = bridge.move(before.reshape(-1, 2), np.broadcast_to(actions, shape).reshape(-1, 2)).reshape(shape)
    away = before != bridge.GOALS
    idle = bridge.TARGETS[before, actions] == before
    cost = away.sum(axis=3) + np.where((~away & ~idle).any(axis=3), np.inf, 0.0)
    value = np.where((cells == bridge.GOALS).all(axis=2), 0.0, np.inf)
    while True:
        totals = cost + value[after[..., 0], after[..., 1]]  # (C, C, 25)
        better = np.minimum(value, totals.min(axis=2))
        if np.array_equal(better, value):
            return (totals == value[:, :, None]) & np.isfinite(totals)
        value = better


def _uniform_choice(allowed: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A uniform draw among the allowed of the last axis. Only ``random`` is drawn: NumPy keeps that stream across versions."""
    ranks = np.cumsum(allowed, axis=-1)
    draws = np.floor(generator.random(allowed.shape[:-1]) * ranks[..., -1])
    return (ranks > draws[..., None]).argmax(axis=-1)


def _provenance(description: str) -> dict[str, str]:
    return {
        "description": description,
        "source": "python -m inspo_core.datasets.build",
        "licence": "that of this project; no foreign data inside",
    }


SETS: dict[str, Callable[[], EpisodeDataset]] = {
    "xor_a": lambda: xor_set("xor_a", [(A, B)]),
    "xor_b": lambda: xor_set("xor_b", [(A, B), (B, A)]),
    "xor_c": lambda: xor_set("xor_c", [(A, A), (A, B), (B, A)]),
    "xor_d": lambda: xor_set("xor_d", [(A, A), (A, B), (B, A), (B, B)]),
    "mne_balanced": mne_balanced,
    "mne_imbalanced": mne_imbalanced,
    **{f"xor{n}": partial(xor_n_set, n) for n in (3, 4, 5, 6, 8)},
    **{f"permutation{n}": partial(permutation_set, n) for n in (3, 4)},
    "bridge_optimal": bridge_optimal,
    "bridge_mixed": bridge_mixed,
    "bridge_partial_optimal": bridge_partial_optimal,
    "bridge_partial_mixed": bridge_partial_mixed,
    "bridge_blind_optimal": bridge_blind_optimal,
}


def build(out: Path) -> None:
    """Write every sample dataset to ``out/<name>``."""
    for name, make in SETS.items():
        write_dataset(make(), out / name)


def main() -> None:
    parser = Parser(prog="python -m inspo_core.datasets.build", description="Build the sample datasets.")
    parser.add_argument("--out", type=Path, default=Path("data"), help="directory for the datasets (default: %(default)s)")
    build(parser.parse_args().out)


if __name__ == "__main__":
    run(main)
