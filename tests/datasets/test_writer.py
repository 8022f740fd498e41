"""The writer: block by block the bytes of np.save, in memory that does not grow, nothing left of what ends badly.

That the sample datasets keep the hashes that data.dvc records, is in test_build.py.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspo_core.datasets import EpisodeDataset, content_hash, episode_writer, read_dataset, write_dataset
from inspo_core.datasets.build import SETS
from inspo_core.datasets.format import DTYPES
from inspo_core.datasets.formats.native import read
from inspo_core.datasets.formats.table import NoOptions
from inspo_core.errors import InspoError
from inspo_core.files import tree_hash

ROOT = Path(__file__).resolve().parents[2]


def episode_by_episode(dataset: EpisodeDataset, directory: Path) -> None:
    with episode_writer(directory, "test") as writer:
        for episode in range(dataset.n_episodes):
            writer.append(dataset.episodes(episode, episode + 1))


@pytest.mark.parametrize("name", ["xor_c", "bridge_partial_optimal"])
def test_files_are_those_of_np_save_whatever_the_blocks(name, tmp_path):
    dataset = SETS[name]()
    write_dataset(dataset, tmp_path / "blocks")
    episode_by_episode(dataset, tmp_path / "episodes")
    assert tree_hash(tmp_path / "blocks") == tree_hash(tmp_path / "episodes")
    for field, dtype in DTYPES.items():
        if (values := getattr(dataset, field)) is not None:
            np.save(tmp_path / "whole.npy", values.astype(dtype))
            assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "blocks" / f"{field}.npy").read_bytes(), field


def test_every_optional_field_survives_blocks(dataset, tmp_path):
    write_dataset(dataset, tmp_path / "whole")
    episode_by_episode(dataset, tmp_path / "episodes")
    assert tree_hash(tmp_path / "whole") == tree_hash(tmp_path / "episodes")
    assert np.array_equal(read_dataset(tmp_path / "episodes", verify=True).behavior_log_probs, dataset.behavior_log_probs)


def refused(blocks: list[EpisodeDataset], tmp_path: Path) -> str:
    """What writing ``blocks`` over a good dataset ends in; that one stays."""
    before = tree_hash(tmp_path / "out")
    with pytest.raises(InspoError) as caught, episode_writer(tmp_path / "out", "raw/small") as writer:
        for block in blocks:
            writer.append(block)
    assert tree_hash(tmp_path / "out") == before and [path.name for path in tmp_path.iterdir()] == ["out"]
    assert "\n" not in str(caught.value) and str(caught.value).startswith("raw/small")
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: {"rewards": d.rewards * np.float32(np.nan)}, "raw/small: rewards[3] is nan, expected a finite number"),
        (lambda d: {"observations": np.where(np.arange(5)[:, None, None] == 4, np.inf, d.observations)}, "observations[9, 0, 0] is inf"),
        (lambda d: {"terminations": d.terminations & False}, "terminations[6] is False, expected True, or True in truncations"),
        (lambda d: {"states": None}, "the block from episode 2 has states: none, expected values of shape (5,) as before it"),
        (lambda d: {"states": d.states[:, :3]}, "states: values of shape (3,), expected values of shape (5,)"),
        (lambda d: {"observations": d.observations[..., :1]}, "observations: values of shape (2, 1), expected values of shape (2, 4)"),
        (lambda d: {"env": "xor"}, "the block from episode 2 has env 'xor', expected 'bridge' as before it"),
    ],
)
def test_a_bad_block_names_its_place_and_leaves_the_last_good_dataset(dataset, tmp_path, change, words):
    write_dataset(SETS["xor_b"](), tmp_path / "out")
    third = dataset.episodes(2, 3)
    changed = {name: values.astype(np.float32) if name == "observations" else values for name, values in change(third).items()}
    assert words in refused([dataset.episodes(0, 2), replace(third, **changed)], tmp_path)


def test_no_episode_at_all_is_no_dataset(tmp_path):
    write_dataset(SETS["xor_b"](), tmp_path / "out")
    assert "raw/small holds no episode" in refused([], tmp_path)


def test_a_reader_that_breaks_off_leaves_nothing(dataset, tmp_path):
    with pytest.raises(RuntimeError), episode_writer(tmp_path / "out", "test") as writer:
        writer.append(dataset)
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_native_data_come_as_views_of_their_files_in_blocks_and_are_verified(tmp_path):
    write_dataset(SETS["bridge_mixed"](), tmp_path / "raw")
    blocks = list(read(tmp_path / "raw", "renamed", "bridge", NoOptions()))
    assert len(blocks) > 5 and {block.name for block in blocks} == {"renamed"}
    assert all(isinstance(block.observations, np.memmap) and isinstance(block.actions, np.memmap) for block in blocks)
    with episode_writer(tmp_path / "out", "raw") as writer:
        for block in blocks:
            writer.append(block)
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "raw")
    content = bytearray((tmp_path / "raw/rewards.npy").read_bytes())
    content[-2] ^= 1
    (tmp_path / "raw/rewards.npy").write_bytes(content)
    with pytest.raises(InspoError, match="rewards.npy is damaged or changed"):
        next(iter(read(tmp_path / "raw", "renamed", "bridge", NoOptions())))


LIMITED = """
import resource, sys
from pathlib import Path
from benchmarks.large_data import random_blocks
from inspo_core.datasets import content_hash, episode_writer, read_dataset
from inspo_core.datasets.card import describe
from inspo_core.datasets.formats.native import read
from inspo_core.datasets.formats.table import NoOptions

folder = Path(sys.argv[1])
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + 96 * 2**20,) * 2)
for out in ("made", "ingested"):
    with episode_writer(folder / out, "test") as writer:
        for block in random_blocks(160_000, 120) if out == "made" else read(folder / "made", "large", "made", NoOptions()):
            writer.append(block)
card = describe(read_dataset(folder / "ingested", verify=True), content_hash(folder / "ingested"))
print(card["n_transitions"], card["distinct_episodes"], card["content_hash"] == content_hash(folder / "made"))
"""


def test_data_larger_than_the_memory_are_made_ingested_verified_and_described(tmp_path):
    """350 MB with 96 MB to work with."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["160000", "2500", "True"]
    assert sum(path.stat().st_size for path in (tmp_path / "made").iterdir()) > 340e6
