"""The sample datasets: rebuilt from nothing, compared byte by byte with what data.dvc records, and known answers of each."""

import hashlib
import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from inspo_core.datasets import EpisodeDataset, read_dataset
from inspo_core.datasets.build import SETS, build, shortest_joint_actions
from inspo_core.envs import make_env

ROOT = Path(__file__).resolve().parents[2]
ALBERDICE = ROOT.parent / "shared/data/alberdice/bridge_from_start/buffer_optimal"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "data"
    build(out)
    return out


@pytest.fixture(scope="module")
def sets(built) -> dict[str, EpisodeDataset]:
    return {name: read_dataset(built / name) for name in SETS}


def documented() -> list[list[str]]:
    """The rows of all tables in docs/datasets.md."""
    lines = (ROOT / "docs/datasets.md").read_text().splitlines()
    return [line.strip("| ").replace("`", "").split(" | ") for line in lines if line.lstrip().startswith("|")]


def stored(md5: str) -> bytes:
    """An object of the DVC remote that lies in the repository."""
    return (ROOT / "dvcstore/files/md5" / md5[:2] / md5[2:]).read_bytes()


@pytest.fixture(scope="module")
def recorded() -> dict[str, str]:
    """File of data/ -> MD5, as data.dvc records it: its hash names a listing in DVC's remote."""
    md5 = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"][0]["md5"]
    listing = stored(md5)
    assert hashlib.md5(listing).hexdigest() + ".dir" == md5
    return {entry["relpath"]: entry["md5"] for entry in json.loads(listing)}


def test_the_builder_makes_the_bytes_that_data_dvc_records(built, recorded):
    made = {path.relative_to(built).as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in built.rglob("*") if path.is_file()}
    assert {path.split("/")[0] for path in made} == set(SETS)
    assert made == {path: md5 for path, md5 in recorded.items() if path.split("/")[0] in SETS}


def test_the_remote_in_the_repository_holds_all_of_data_dvc(recorded):
    for path, md5 in recorded.items():
        assert hashlib.md5(stored(md5)).hexdigest() == md5, path


@pytest.mark.parametrize("name", SETS)
def test_a_set_replays_in_its_game(sets, name):
    """Observations, states, rewards and ends are those that the game gives for the stored actions."""
    dataset = sets[name]
    lengths, starts, rows = dataset.episode_lengths(), dataset.episode_offsets[:-1], dataset.rows
    env = make_env(dataset.env)
    seen = env.reset(np.arange(dataset.n_episodes))
    for time in range(lengths.max()):
        running = time < lengths
        at = np.minimum(starts + time, dataset.n_transitions - 1)
        step = env.step(dataset.actions[at])
        for stored, given in ((dataset.observations, seen.observations), (dataset.states, seen.states)):
            assert np.array_equal(stored[rows[at]][running], given[running])
        assert np.array_equal(dataset.observations[rows[at] + 1][running], step.observation.observations[running])
        assert np.array_equal(dataset.rewards[at][running], step.rewards[running].astype(np.float32))
        assert np.array_equal(dataset.terminations[at][running], step.terminated[running])
        assert np.array_equal(dataset.truncations[at][running], step.truncated[running])
        seen = step.observation


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("xor_a", {(0, 1): 480}),
        ("xor_b", {(0, 1): 240, (1, 0): 240}),
        ("xor_c", {(0, 0): 160, (0, 1): 160, (1, 0): 160}),
        ("xor_d", {(0, 0): 120, (0, 1): 120, (1, 0): 120, (1, 1): 120}),
        ("mne_balanced", {(one, two): 100 for one in range(3) for two in range(3)}),
        (
            "mne_imbalanced",
            {(0, 0): 2560, (0, 1): 480, (1, 0): 480, (0, 2): 160, (2, 0): 160, (1, 1): 90, (1, 2): 30, (2, 1): 30, (2, 2): 10},
        ),
        *((f"xor{n}", {(0,) * b + (1,) + (0,) * (n - 1 - b): 960 // n for b in range(n)}) for n in (3, 4, 5, 6, 8)),
        ("permutation3", dict.fromkeys(itertools.permutations(range(3)), 160)),
        ("permutation4", dict.fromkeys(itertools.permutations(range(4)), 40)),
    ],
)
def test_matrix_sets_have_exact_counts_in_shuffled_order(sets, name, counts):
    played = [tuple(actions) for actions in sets[name].actions.tolist()]
    assert Counter(played) == counts
    if len(counts) > 1:
        assert played != sorted(played)


PRODUCT_VALUES = {f"xor{n}": 2 * (1 - 1 / n) ** (n - 1) - 1 for n in (3, 4, 5, 6, 8)}
PRODUCT_VALUES |= {f"permutation{n}": math.factorial(n) / n**n for n in (3, 4)}


@pytest.mark.parametrize("name", PRODUCT_VALUES)
def test_all_that_is_seen_pays_one_but_the_product_of_the_marginals_does_not(sets, name):
    dataset, env = sets[name], make_env(name)
    assert (dataset.rewards == 1).all()
    joint = np.array(list(itertools.product(range(dataset.n_actions), repeat=dataset.n_agents)))
    marginals = np.stack([np.bincount(played, minlength=dataset.n_actions) / len(played) for played in dataset.actions.T])  # (N, A)
    probabilities = marginals[np.arange(dataset.n_agents), joint].prod(axis=1)
    value = probabilities @ env.payoffs(joint)
    assert value == pytest.approx(PRODUCT_VALUES[name], abs=1e-9)
    told = {row[0]: row[1:] for row in documented()}
    column = told["agents N"].index(str(dataset.n_agents))
    assert float(told[name.rstrip("0123456789")][column]) == pytest.approx(value, abs=5e-4)


def test_bridge_optimal_has_the_returns_and_modes_of_alberdice(sets):
    dataset = sets["bridge_optimal"]
    assert dataset.n_episodes == 500 and set(dataset.episode_lengths()) == {8}
    assert dataset.terminations.sum() == 500 and dataset.truncations.sum() == 0
    returns = Counter(dataset.episode_returns().round(4).tolist())
    assert set(returns) == {-1.2355, -1.2591, -1.2904}
    assert all(abs(count - 500 / 3) < 40 for count in returns.values()), returns
    first_steps = Counter(map(tuple, dataset.actions[dataset.episode_offsets[:-1]].tolist()))
    assert set(first_steps) == {(3, 3), (4, 4)}, "either both go right (agent 2 backs off) or both go left (agent 1 does)"
    assert abs(first_steps[3, 3] - 250) < 40


def test_bridge_mixed_is_the_optimal_half_and_a_random_half(sets):
    dataset, optimal = sets["bridge_mixed"], sets["bridge_optimal"]
    half = dataset.episode_offsets[500]
    assert half == optimal.n_transitions and np.array_equal(dataset.actions[:half], optimal.actions)
    assert np.array_equal(dataset.observations[: half + 500], optimal.observations)
    returns, lengths = dataset.episode_returns()[500:], dataset.episode_lengths()[500:]
    assert len(returns) == 500
    assert returns.mean() == pytest.approx(-17.67, abs=4 * returns.std() / np.sqrt(500))  # AlberDICE's random half
    shares = np.bincount(dataset.actions[half:].ravel(), minlength=5) / dataset.actions[half:].size
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    last = dataset.episode_offsets[501:] - 1
    assert lengths.max() == 50 and 0 < (lengths < 50).sum() < 50
    assert np.array_equal(dataset.truncations[last], ~dataset.terminations[last])
    assert dataset.truncations[last][lengths == 50].sum() >= 470 and not dataset.truncations[last][lengths < 50].any()


@pytest.mark.parametrize(
    ("game", "name", "episodes", "size"),
    [("bridge_partial", "optimal", 500, 20), ("bridge_partial", "mixed", 600, 20), ("bridge_blind", "optimal", 500, 2)],
)
def test_the_partial_sets_are_the_same_episodes_seen_otherwise(sets, game, name, episodes, size):
    partial, full = sets[f"{game}_{name}"], sets[f"bridge_{name}"]
    transitions = full.episode_offsets[episodes]
    assert np.array_equal(partial.episode_offsets, full.episode_offsets[: episodes + 1])
    for field in ("actions", "rewards", "terminations", "truncations"):
        assert np.array_equal(getattr(partial, field), getattr(full, field)[:transitions]), field
    assert np.array_equal(partial.states, full.states[: transitions + episodes])
    assert partial.observations.shape[1:] == (2, size) and partial.env == game


@pytest.mark.skipif(not ALBERDICE.is_dir(), reason="AlberDICE's data are not beside the checkout")
def test_the_optimal_policy_has_exactly_the_support_of_alberdice(sets):
    """Same positions visited, and in each of them the same set of joint actions played."""

    def played(states: np.ndarray, actions: np.ndarray) -> dict[tuple, set]:
        support: dict[tuple, set] = {}
        for state, joint in zip(states.reshape(-1, 8).tolist(), actions.reshape(-1, 2).tolist(), strict=True):
            place = (int(6 * state[0] + state[1]), int(6 * state[4] + state[5]))
            support.setdefault(place, set()).add(5 * joint[0] + joint[1])
        return support

    theirs = played(np.load(ALBERDICE / "state.npy")[:, :8], np.load(ALBERDICE / "actions.npy")[:, :8, :, 0])
    ours = played(sets["bridge_optimal"].states[sets["bridge_optimal"].rows], sets["bridge_optimal"].actions)
    allowed = shortest_joint_actions()
    assert theirs == ours == {place: set(np.flatnonzero(allowed[place]).tolist()) for place in ours}


def test_the_table_in_the_docs_tells_the_truth(sets):
    table = {row[0]: row[1:] for row in documented() if row[0] in SETS}
    assert set(table) == set(SETS)
    for name, (_, episodes, transitions, mean, extremes, truncated, distinct) in table.items():
        dataset, returns = sets[name], sets[name].episode_returns()
        found = [dataset.n_episodes, dataset.n_transitions, dataset.truncations.sum(), len(set(dataset.distinct_episodes.tolist()))]
        assert [int(episodes), int(transitions), int(truncated), int(distinct)] == found, name
        assert [float(mean), *map(float, extremes.split(", "))] == pytest.approx([returns.mean(), returns.min(), returns.max()], abs=5e-4)
