"""The AlberDICE reader, on a folder written here and on the real ones where they lie beside the checkout."""

from pathlib import Path

import numpy as np
import pytest

from inspo_core.datasets import EpisodeDataset, read_dataset, write_dataset
from inspo_core.datasets.episodes import BLOCK
from inspo_core.datasets.formats.alberdice import read
from inspo_core.datasets.formats.table import AlberDICEOptions
from inspo_core.datasets.recording import concatenate
from inspo_core.errors import InspoError

SHARED = Path(__file__).resolve().parents[4] / "shared/data/alberdice"
LENGTHS = np.array([2, 4, 3])  # the second one runs into the limit of 4
T1 = 5


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Three padded episodes, N = 2, A = 3, O = 4, S = 6; padding is zero as in the real files."""
    rng = np.random.default_rng(1)
    filled = np.arange(T1) <= LENGTHS[:, None]
    actions = rng.integers(0, 3, (3, T1, 2, 1))
    masks = (rng.random((3, T1, 2, 3)) < 0.5) | (np.arange(3) == actions)
    arrays = {
        "obs": rng.random((3, T1, 2, 4), dtype=np.float32),
        "state": rng.random((3, T1, 6), dtype=np.float32),
        "actions": actions,
        "avail_actions": masks.astype(np.int32),
        "reward": rng.random((3, T1, 1), dtype=np.float32),
        "terminated": (np.arange(T1) == LENGTHS[:, None] - 1).astype(np.uint8)[..., None],
        "filled": filled.astype(np.int64)[..., None],
    }
    for array in arrays.values():
        array[~filled] = 0
    return arrays


@pytest.fixture
def folder(arrays, tmp_path) -> Path:
    save(arrays, tmp_path / "raw")
    return tmp_path / "raw"


def save(arrays: dict[str, np.ndarray], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)


def read_alberdice(folder: Path, name: str, game: str, timeout_at: int | None) -> EpisodeDataset:
    """All blocks as one dataset."""
    blocks = list(read(folder, name, game, AlberDICEOptions(timeout_at=timeout_at)))
    return concatenate(name, blocks, blocks[0].provenance)


def error_of(folder: Path, timeout_at: int | None = None) -> str:
    with pytest.raises(InspoError) as caught:
        read_alberdice(folder, "small", "bridge", timeout_at)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def test_padding_is_cut_and_the_last_observation_kept(arrays, folder, tmp_path):
    dataset = read_alberdice(folder, "small", "bridge", timeout_at=4)
    assert dataset.episode_lengths().tolist() == LENGTHS.tolist() and dataset.n_actions == 3
    for episode, length in enumerate(LENGTHS):
        start = dataset.episode_offsets[episode]
        row = start + episode
        assert np.array_equal(dataset.observations[row : row + length + 1], arrays["obs"][episode, : length + 1])
        assert np.array_equal(dataset.states[row : row + length + 1], arrays["state"][episode, : length + 1])
        assert np.array_equal(dataset.available_actions[row : row + length + 1], arrays["avail_actions"][episode, : length + 1] == 1)
        assert np.array_equal(dataset.actions[start : start + length], arrays["actions"][episode, :length, :, 0])
        assert np.array_equal(dataset.rewards[start : start + length], arrays["reward"][episode, :length, 0])
    write_dataset(dataset, tmp_path / "native")
    assert read_dataset(tmp_path / "native").provenance["timeout_at"] == 4


def test_timeout_at_turns_terminated_time_outs_into_truncations(folder):
    ends = LENGTHS.cumsum() - 1
    undone = read_alberdice(folder, "small", "bridge", timeout_at=4)
    assert undone.terminations[ends].tolist() == [True, False, True] and undone.truncations[ends].tolist() == [False, True, False]
    as_is = read_alberdice(folder, "small", "bridge", timeout_at=None)
    assert as_is.terminations[ends].all() and not as_is.truncations.any()


def test_an_episode_without_a_terminal_flag_is_truncated(arrays, folder):
    arrays["terminated"][2] = 0
    save(arrays, folder)
    dataset = read_alberdice(folder, "small", "bridge", timeout_at=None)
    assert dataset.truncations[-1] and not dataset.terminations[-1]


def break_shape(arrays):
    arrays["state"] = arrays["state"][:, :-1]


def break_agents(arrays):
    arrays["actions"] = arrays["actions"][:, :, :1]


def break_axes(arrays):
    arrays["reward"] = arrays["reward"][..., 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (break_shape, "state.npy has shape (3, 4, 6), expected (E, T1, S) with T1 = 5 as in obs.npy"),
        (break_agents, "actions.npy has shape (3, 5, 1, 1), expected (E, T1, N, 1) with N = 2 as in obs.npy"),
        (break_axes, "reward.npy has shape (3, 5), expected (E, T1, 1)"),
        (lambda arrays: arrays["filled"].__setitem__((0, 4), 1), "filled.npy: episode 0 is not 2 or more filled rows"),
        (lambda arrays: arrays["filled"].__setitem__((1, slice(1, None)), 0), "filled.npy: episode 1 is not 2 or more filled rows"),
        (lambda arrays: arrays["filled"].__setitem__(1, 0), "filled.npy: episode 1 is not 2 or more filled rows"),
        (lambda arrays: arrays["terminated"].__setitem__((1, 1), 1), "terminated.npy: episode 1 is terminated at step 1"),
    ],
)
def test_a_broken_folder_is_one_sentence_that_names_the_file(arrays, folder, change, words):
    change(arrays)
    save(arrays, folder)
    assert words in error_of(folder)


def put(key: str, index: tuple[int, ...], value: float, kind: str = "f8"):
    """One value of ``key``, whose array is then of another type."""

    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[key] = arrays[key].astype(kind)
        arrays[key][index] = value

    return change


@pytest.mark.parametrize(
    ("key", "index", "value", "kind", "expected"),
    [
        ("actions", (1, 2, 1, 0), 0.37, "f4", "a whole number from 0 to 2"),
        ("actions", (1, 2, 1, 0), np.nan, "f8", "a whole number from 0 to 2"),
        ("actions", (1, 2, 1, 0), 3, "i8", "a whole number from 0 to 2"),
        ("actions", (1, 2, 1, 0), 2**64 - 1, "u8", "a whole number from 0 to 2"),
        ("avail_actions", (2, 3, 0, 1), 1e-9, "f8", "0 or 1"),
        ("avail_actions", (2, 3, 0, 1), 255, "u1", "0 or 1"),
        ("avail_actions", (2, 3, 0, 1), np.nan, "f4", "0 or 1"),
        ("terminated", (0, 0, 0), 0.5, "f4", "0 or 1"),
        ("filled", (1, 4, 0), 2, "i8", "0 or 1"),
        ("reward", (0, 1, 0), np.inf, "f2", "a finite number within the range of float32"),
        ("reward", (0, 1, 0), 1e39, "f8", "a finite number within the range of float32"),
        ("reward", (0, 1, 0), np.nan, "f4", "a finite number within the range of float32"),
        ("state", (2, 3, 5), -np.inf, "f8", "a finite number within the range of float32"),
        ("obs", (2, 3, 1, 0), 1e300, "f8", "a finite number within the range of float32"),
    ],
)
def test_no_value_is_cast_that_the_dataset_could_not_hold(arrays, folder, key, index, value, kind, expected):
    put(key, index, value, kind)(arrays)
    save(arrays, folder)
    place = ", ".join(map(str, index))
    assert error_of(folder) == f"{folder / key}.npy[{place}] is {arrays[key][index]}, expected {expected}"


@pytest.mark.parametrize(("key", "index"), [("obs", (1, 3)), ("state", (4,))])
@pytest.mark.parametrize("kind", ["f8", "i8", "i4"])
def test_what_float32_rounds_away_is_said_and_kept_in_the_provenance(arrays, folder, capsys, key, index, kind):
    arrays[key] = arrays[key].astype(kind)
    arrays[key][(..., *index)] = 1_764_300_000 + np.arange(T1)
    save(arrays, folder)
    provenance = read_alberdice(folder, "small", "bridge", timeout_at=None).provenance
    place = ", ".join(map(str, index))
    assert provenance["rounding"] == f"{key}.npy[..., {place}] varies by 4 beside 1.7643e+09, which float32 does not tell from a constant"
    assert capsys.readouterr().err.startswith(f"warning: {folder}: {provenance['rounding']}; subtract")


@pytest.mark.parametrize("values", [0.1 + 1e-16 * np.arange(T1), 1e9 * np.arange(T1), np.full(T1, 1_764_300_001.0), 1e-9 * np.arange(T1)])
def test_nothing_is_said_of_doubles_that_float32_can_hold(arrays, folder, capsys, values):
    arrays["state"] = arrays["state"].astype("f8")
    arrays["state"][..., 2] = values
    save(arrays, folder)
    assert "rounding" not in read_alberdice(folder, "small", "bridge", timeout_at=None).provenance
    assert not capsys.readouterr().err


def test_whole_numbers_of_any_type_and_any_padding_are_read(arrays, folder):
    expected = read_alberdice(folder, "small", "bridge", timeout_at=None)
    padding = arrays["filled"][..., 0] == 0
    for key in ("obs", "state", "reward"):
        arrays[key][padding] = np.nan
    for key, kind in (("actions", "f8"), ("avail_actions", "?"), ("terminated", "f4"), ("filled", "u1")):
        arrays[key] = arrays[key].astype(kind)
    arrays["actions"][padding] = -0.5
    arrays["actions"][2, 3] = 99.0  # there is no transition from an episode's last row
    save(arrays, folder)
    found = read_alberdice(folder, "small", "bridge", timeout_at=None)
    for field in ("observations", "states", "available_actions", "actions", "rewards", "terminations", "truncations"):
        before, after = getattr(expected, field), getattr(found, field)
        assert np.array_equal(before, after) and before.dtype == after.dtype, field


def test_a_long_folder_comes_in_blocks_and_a_breach_names_the_episode_of_the_folder(arrays, folder):
    times = 2 * BLOCK // T1 // 3 + 1
    many = {key: np.concatenate([array] * times) for key, array in arrays.items()}
    save(many, folder)
    blocks = list(read(folder, "small", "bridge", AlberDICEOptions(timeout_at=4)))
    assert len(blocks) == 3 and all(block.n_transitions <= BLOCK for block in blocks)
    assert np.concatenate([block.episode_lengths() for block in blocks]).tolist() == [*LENGTHS] * times
    assert {block.provenance["description"] for block in blocks} == {f"an AlberDICE folder of {3 * times} episodes"}
    last = 3 * times - 1
    many["terminated"][last, 0] = 1
    save(many, folder)
    assert f"terminated.npy: episode {last} is terminated at step 0" in error_of(folder)


def test_missing_and_unreadable_files(folder):
    assert "but timeout_at is 3" in error_of(folder, timeout_at=3)
    (folder / "obs.npy").write_bytes((folder / "obs.npy").read_bytes()[:-4])
    assert "obs.npy is not a readable .npy file" in error_of(folder)
    (folder / "obs.npy").unlink()
    assert "obs.npy is missing; an AlberDICE folder holds obs.npy" in error_of(folder)


@pytest.mark.skipif(not SHARED.is_dir(), reason="AlberDICE's data are not beside the checkout")
def test_real_bridge_data():
    dataset = read_alberdice(SHARED / "bridge_from_start/buffer_optimal", "bridge_optimal", "bridge", timeout_at=50)
    assert (dataset.n_episodes, dataset.n_transitions, dataset.n_agents, dataset.n_actions) == (500, 4000, 2, 5)
    assert dataset.episode_returns().mean() == pytest.approx(-1.2620, abs=5e-5)
    assert dataset.terminations.sum() == 500 and not dataset.truncations.any()
    values, counts = np.unique(dataset.episode_returns().round(4), return_counts=True)
    assert values.tolist() == [-1.2904, -1.2591, -1.2355] and counts.tolist() == [173, 160, 167]


@pytest.mark.skipif(not SHARED.is_dir(), reason="AlberDICE's data are not beside the checkout")
@pytest.mark.parametrize("kind", ["02", "02_20", "00_02_20", "random"])
def test_real_matrix_game_data(kind):
    dataset = read_alberdice(SHARED / f"mmdp_game_1_from_start/buffer_{kind}", kind, "mmdp", timeout_at=50)
    assert (dataset.n_episodes, dataset.n_transitions, dataset.n_actions) == (100, 5000, 2)
    assert dataset.truncations.sum() == 100 and not dataset.terminations.any()
