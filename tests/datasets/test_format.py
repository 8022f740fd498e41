import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from inspo_core.datasets import EpisodeDataset, content_hash, read_dataset, write_dataset
from inspo_core.datasets.episodes import BLOCK
from inspo_core.errors import InspoError
from inspo_core.files import file_hash, tree_hash


@pytest.fixture
def written(dataset, tmp_path) -> Path:
    write_dataset(dataset, tmp_path / "small")
    return tmp_path / "small"


def edit_meta(directory: Path, change) -> None:
    path = directory / "meta.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def update_entry(path: Path) -> None:
    """Bytes and hash of a field's file as meta.json should say them."""
    edit_meta(path.parent, lambda meta: meta["files"].update({path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)}}))


def error_of(directory: Path, verify: bool = False) -> str:
    with pytest.raises(InspoError) as caught:
        read_dataset(directory, verify=verify)
    message = str(caught.value)
    assert "\n" not in message and str(directory) in message
    return message


@pytest.mark.parametrize("verify", [True, False])
def test_what_is_written_is_read(dataset, written, verify):
    back = read_dataset(written, verify=verify)
    for field in fields(EpisodeDataset):
        before, after = getattr(dataset, field.name), getattr(back, field.name)
        if isinstance(before, np.ndarray):
            assert np.array_equal(before, after), field.name
            assert after.dtype == (np.int16 if field.name == "actions" else before.dtype)
        else:
            assert before == after, field.name


def test_optional_fields_may_be_absent(dataset, tmp_path):
    bare = replace(dataset, states=None, available_actions=None, behavior_log_probs=None)
    write_dataset(bare, tmp_path / "bare")
    assert not (tmp_path / "bare" / "states.npy").exists()
    back = read_dataset(tmp_path / "bare")
    assert back.states is None and back.available_actions is None and back.behavior_log_probs is None


def test_same_dataset_same_bytes_and_rewriting_leaves_nothing_behind(dataset, written, tmp_path):
    before = tree_hash(written)
    write_dataset(dataset, written)
    write_dataset(replace(dataset, rewards=dataset.rewards.copy()), tmp_path / "other")
    assert tree_hash(written) == tree_hash(tmp_path / "other") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "small"]


def test_content_hash_follows_the_content_not_the_name(dataset, written, tmp_path):
    write_dataset(replace(dataset, name="renamed", provenance={}), tmp_path / "renamed")
    assert content_hash(tmp_path / "renamed") == content_hash(written)
    write_dataset(replace(dataset, rewards=dataset.rewards + 1), tmp_path / "changed")
    assert content_hash(tmp_path / "changed") != content_hash(written)


def test_sizes_rows_returns_and_lengths(dataset):
    assert (dataset.n_agents, dataset.n_episodes, dataset.n_transitions) == (2, 3, 7)
    assert dataset.rows.tolist() == [0, 1, 3, 5, 6, 7, 8]
    assert dataset.episode_lengths().tolist() == [2, 1, 4]
    assert dataset.episode_returns().tolist() == [3, 3, 22]


def test_distinct_episodes_compare_every_field_and_the_last_observation():
    def flags(*values):
        return np.array(values, dtype=bool)

    observations = np.zeros((10, 1, 1), dtype=np.float32)
    observations[9] = 1.0  # only the very last observation of the fifth episode differs
    dataset = EpisodeDataset(
        "d", "xor", 2, observations, None, None, np.array([[0], [0], [1], [0], [0]]), np.zeros(5, dtype=np.float32),
        flags(1, 1, 1, 0, 1), flags(0, 0, 0, 1, 0), None, np.arange(6),
    )  # fmt: skip
    assert dataset.distinct_episodes.tolist() == [0, 0, 2, 3, 4]
    assert dataset.distinct_episodes is dataset.distinct_episodes  # of all seeds of a process it is asked once each


def test_arrays_stay_on_disk_and_read_only(written):
    back = read_dataset(written)
    for field in fields(EpisodeDataset):
        values = getattr(back, field.name)
        if isinstance(values, np.ndarray) and field.name != "episode_offsets":
            assert isinstance(values, np.memmap) and not values.flags.writeable


@pytest.mark.parametrize("verify", [True, False])
def test_truncated_file(written, verify):
    path = written / "observations.npy"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-8])
    assert f"observations.npy holds {size - 8} bytes, meta.json says {size}" in error_of(written, verify)


def test_contents_are_trusted_unless_they_are_to_be_verified(dataset, written):
    path = written / "rewards.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert read_dataset(written).n_transitions == dataset.n_transitions
    assert "rewards.npy is damaged or changed: its SHA-256 begins" in error_of(written, verify=True)


def test_values_with_the_hash_that_is_recorded_are_validated_too(written):
    path = written / "rewards.npy"
    np.save(path, np.full(7, np.nan, dtype=np.float32))
    edit_meta(written, lambda meta: meta["files"][path.name].update(sha256=file_hash(path)))
    assert "rewards[0] is nan, expected a finite number" in error_of(written, verify=True)


@pytest.mark.parametrize("verify", [True, False])
def test_missing_file(written, verify):
    (written / "actions.npy").unlink()
    assert "actions.npy is missing though meta.json lists it" in error_of(written, verify)


def test_missing_entry_of_a_needed_field(written):
    edit_meta(written, lambda meta: meta["files"].pop("rewards.npy"))
    assert "files has no entry for rewards.npy" in error_of(written)


@pytest.mark.parametrize("verify", [True, False])
def test_wrong_schema_version(written, verify):
    edit_meta(written, lambda meta: meta.update(schema_version=2))
    assert "meta.json: schema_version is 2, this version reads 1" in error_of(written, verify)


def test_not_a_dataset_at_all(tmp_path):
    assert "missing" in error_of(tmp_path / "nowhere")
    (tmp_path / "meta.json").write_text("{}")
    assert "no schema_version" in error_of(tmp_path)
    (tmp_path / "meta.json").write_text("{")
    assert "not valid JSON" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda meta: meta.pop("env"), "env is None, expected a JSON str"),
        (lambda meta: meta.update(n_agents=3), "n_agents is 3, the arrays hold 2"),
        (lambda meta: meta.update(n_transitions=8), "n_transitions is 8, the arrays hold 7"),
        (lambda meta: meta["files"].update({"rewards.npy": 5}), "files.rewards.npy is 5, expected its bytes and sha256"),
        (lambda meta: meta["files"].update({"rewards.npy": [1] * 999}), "files.rewards.npy is [1, 1, 1"),
        (lambda meta: meta["files"]["rewards.npy"].update(sha256="a\nb"), "expected its bytes and sha256"),
        (lambda meta: meta.update(provenance={"source": "\ud800"}), "'\\ud800' holds a character that no name and no file can hold"),
        (lambda meta: meta["files"]["rewards.npy"].update(bytes=True), "expected its bytes and sha256"),
        (lambda meta: meta["files"].update({"masks.npy": {}}), "files has an entry for 'masks.npy', expected observations.npy, states.npy"),
        (lambda meta: meta["files"].update({"observations": {}}), "files has an entry for 'observations', expected observations.npy"),
        (lambda meta: meta.update(files=[]), "files is [], expected a JSON dict"),
        (lambda meta: meta.update(n_episodes=True), "n_episodes is True, expected a JSON int"),
        (lambda meta: meta.update(n_agents=2.0), "n_agents is 2.0, expected a JSON int"),
        (lambda meta: meta.update(schema_version=True), "schema_version is True, this version reads 1"),
        (lambda meta: meta.update(name=["a"] * 999), "name is ['a', 'a'"),
        (lambda meta: meta.update(provenance={"seen": float("inf")}), "provenance is {'seen': inf}, expected JSON"),
        (lambda meta: meta.update(n_actions=2), "available_actions have shape (10, 2, 3), expected (10, 2, 2)"),
    ],
)
def test_meta_that_contradicts_itself_or_the_arrays(written, change, words):
    edit_meta(written, change)
    assert words in error_of(written)


@pytest.mark.parametrize("verify", [True, False])
def test_wrong_type_on_disk_and_files_that_are_no_arrays(written, verify):
    path = written / "rewards.npy"
    for make, words in [
        (lambda: np.save(path, np.zeros(7)), "rewards are stored as float64, expected float32"),
        (lambda: path.write_bytes(b"no array"), "rewards.npy is not a readable .npy file"),
        (lambda: np.save(path, np.array([{}], dtype=object), allow_pickle=True), "rewards.npy is not a readable .npy file"),
    ]:
        make()
        update_entry(path)
        assert words in error_of(written, verify)


def test_an_invalid_dataset_is_not_written(dataset, tmp_path):
    with pytest.raises(InspoError, match="dataset small: rewards"):
        write_dataset(replace(dataset, rewards=dataset.rewards * np.float32(np.nan)), tmp_path / "small")
    assert not list(tmp_path.iterdir())


def test_blocks_are_all_episodes_in_order_of_some_thousand_transitions_or_one_longer_episode():
    lengths = np.array([BLOCK - 1, 1, 1, 3 * BLOCK, 2, BLOCK, 5])
    dataset = whole_episodes(lengths)
    blocks = list(dataset.blocks())
    assert [block.episode_lengths().tolist() for block in blocks] == [[BLOCK - 1, 1], [1], [3 * BLOCK], [2], [BLOCK], [5]]
    for name in ("observations", "actions", "rewards", "terminations", "truncations"):
        assert np.array_equal(np.concatenate([getattr(block, name) for block in blocks]), getattr(dataset, name))
    assert dataset.episode_returns().tolist() == np.add.reduceat(dataset.rewards.astype(np.float64), dataset.episode_offsets[:-1]).tolist()


def whole_episodes(lengths: np.ndarray) -> EpisodeDataset:
    count, rng = lengths.sum(), np.random.default_rng(3)
    last = np.isin(np.arange(count), np.cumsum(lengths) - 1)
    return EpisodeDataset(
        "d", "xor", 2, rng.random((count + len(lengths), 1, 2), dtype=np.float32), None, None, rng.integers(0, 2, (count, 1)),
        rng.random(count, dtype=np.float32), last, np.zeros_like(last), None, np.concatenate([[0], np.cumsum(lengths)]),
    )  # fmt: skip
