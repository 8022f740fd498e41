"""What a large dataset takes: memory and seconds from the files to the first batches, beside the way that came before.

    python -m benchmarks.large_data

A synthetic set in the shapes of a StarCraft task is written block by block into a temporary folder (2 GB) and then loaded, each in a fresh
process on one thread: as the algorithms see it (``transitions.py``), and by plain code that makes whole arrays in float32 with the copies
of our first version. Printed are peaks of anonymous memory, above that of the same process before it opens the data, and their ratio to the
bytes of the arrays in the types that the contract states; peaks of resident memory, to which the files' pages in the cache add; seconds up
to the first batch, wall, processor's own and the operating system's, and for the other 99. The files are read once before, so that they are
in the cache. The first line is what a virtual machine can make long: filling as much fresh memory with ones.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inspo_core.algorithms.networks import Standardizer
from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.datasets import EpisodeDataset, episode_writer, read_dataset
from inspo_core.datasets.episodes import BLOCK
from inspo_core.files import file_hash

AGENTS, FEATURES, STATE, ACTIONS = 5, 80, 120, 11
LENGTH = 64  # transitions of an episode
BATCH, BATCHES = 128, 100
JOBS = ["write", "memory", "resident", "copies"]


@dataclass
class Peaks:
    """Of this process, in bytes; sampled every few milliseconds. ``before``: anonymous memory when the sampling began."""

    before: int = 0
    anonymous: int = 0
    resident: int = 0

    def sample(self) -> None:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
        anonymous, resident = (int(lines[key].split()[0]) * 1024 for key in ("RssAnon", "VmRSS"))
        self.before = self.before or anonymous
        self.anonymous, self.resident = max(self.anonymous, anonymous), max(self.resident, resident)


@contextmanager
def watched() -> Iterator[Peaks]:
    """Peaks of what is done inside."""
    peaks, ended = Peaks(), threading.Event()
    peaks.sample()

    def watch() -> None:
        while not ended.wait(0.003):
            peaks.sample()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()
        peaks.sample()


def random_blocks(transitions: int, state: int) -> Iterator[EpisodeDataset]:
    """Episodes of standard normal features, random masks, and actions that they allow; without states if ``state`` is 0."""
    rng = np.random.default_rng(0)
    for start in range(0, transitions, BLOCK):
        lengths = np.full(-(-min(BLOCK, transitions - start) // LENGTH), LENGTH)
        lengths[-1] -= lengths.sum() - min(BLOCK, transitions - start)
        count, rows = lengths.sum(), lengths.sum() + len(lengths)
        masks = rng.random((rows, AGENTS, ACTIONS), dtype=np.float32) < 0.7
        masks[..., 0] |= ~masks.any(axis=2)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        last = np.isin(np.arange(count), offsets[1:] - 1)
        yield EpisodeDataset(
            name="large",
            env="made",
            n_actions=ACTIONS,
            observations=rng.standard_normal((rows, AGENTS, FEATURES), dtype=np.float32),
            states=rng.standard_normal((rows, state), dtype=np.float32) if state else None,
            available_actions=masks,
            actions=masks[np.arange(count) + np.repeat(np.arange(len(lengths)), lengths)].argmax(axis=2),
            rewards=rng.standard_normal(count, dtype=np.float32),
            terminations=last,
            truncations=np.zeros_like(last),
            behavior_log_probs=None,
            episode_offsets=offsets,
        )


def write(directory: Path, transitions: int, state: int) -> None:
    with episode_writer(directory, "random episodes") as writer:
        for block in random_blocks(transitions, state):
            writer.append(block)


def contract_bytes(dataset: EpisodeDataset) -> int:
    """Of the arrays that algorithms use, each once: features in float32, masks and flags in bool, actions in int16, numbers in int32."""
    of_rows = dataset.observations[0].size * 4 + (0 if dataset.states is None else dataset.states.shape[1] * 4) + 4
    of_rows += 0 if dataset.available_actions is None else dataset.available_actions[0].size
    of_transitions = dataset.n_agents * 2 + 4 + 1 + 4
    return len(dataset.observations) * of_rows + dataset.n_transitions * of_transitions + 8 * dataset.n_episodes


class Resident:
    """The project's way."""

    def __init__(self, dataset: EpisodeDataset):
        self.data = ResidentTransitions(dataset, "cpu")

    def batch(self, generator: torch.Generator) -> list[Tensor]:
        data, drawn = self.data, self.data.draw((BATCH,), generator)
        rows = data.rows(drawn)
        at_rows = [read(at) for at in (rows, rows + 1) for read in (data.observations, data.states, data.available)]
        return [*at_rows, data.actions(drawn), data.rewards(drawn), data.continues(drawn)]


class Copies:
    """The way before: every array whole, widened, standardised into a new one and put agent by agent into yet another."""

    def __init__(self, dataset: EpisodeDataset):
        observations = torch.as_tensor(np.array(dataset.observations), dtype=torch.float32).transpose(0, 1)
        if dataset.states is None:
            states = observations.transpose(0, 1).flatten(1)
        else:
            states = torch.as_tensor(np.array(dataset.states), dtype=torch.float32)
        self.available = torch.as_tensor(np.array(dataset.available_actions)).transpose(0, 1).contiguous()
        self.observations = self.standardized(observations).contiguous()
        self.states = self.standardized(states)
        self.actions = torch.as_tensor(np.array(dataset.actions), dtype=torch.int64).T.contiguous()
        self.rewards = torch.as_tensor(np.array(dataset.rewards))
        self.continues = 1 - torch.as_tensor(np.array(dataset.terminations), dtype=torch.float32)
        self.rows = torch.as_tensor(dataset.rows)
        self.ages = torch.as_tensor(np.concatenate([np.arange(length + 1) for length in dataset.episode_lengths()]))

    @staticmethod
    def standardized(values: Tensor) -> Tensor:
        return Standardizer(values.mean(-2, keepdim=True), values.std(-2, keepdim=True, correction=0))(values)

    def batch(self, generator: torch.Generator) -> list[Tensor]:
        drawn = torch.randint(len(self.rows), (BATCH,), generator=generator)
        rows = self.rows[drawn]
        at_rows = [values for at in (rows, rows + 1) for values in (self.observations[:, at], self.states[at], self.available[:, at])]
        return [*at_rows, self.actions[:, drawn], self.rewards[drawn], self.continues[drawn]]


def load(directory: Path, way: type[Resident] | type[Copies]) -> dict[str, Any]:
    """From the files to batches, in this process."""
    generator = torch.Generator().manual_seed(0)
    with watched() as peaks:
        clocks = [os.times()]
        dataset = read_dataset(directory)
        data = way(dataset)
        for count in (1, BATCHES - 1):
            for _ in range(count):
                data.batch(generator)
            clocks.append(os.times())
    added, needed = peaks.anonymous - peaks.before, contract_bytes(dataset)
    first, rest = (took(*pair) for pair in zip(clocks, clocks[1:]))
    return {"needed": needed, "added": added, "ratio": added / needed, "resident": peaks.resident, "first": first, "rest": rest}


def took(before: os.times_result, after: os.times_result) -> list[float]:
    """Seconds: wall, in the process, in the operating system for it."""
    return [getattr(after, name) - getattr(before, name) for name in ("elapsed", "user", "system")]


def fill(size: int) -> dict[str, Any]:
    """Fresh memory alone."""
    before = os.times()
    np.empty(size, dtype=np.uint8).fill(1)
    return {"first": took(before, os.times())}


def measure(transitions: int, state: int) -> dict[str, dict[str, Any]]:
    """Write and load a set in processes of their own: what each took."""
    with tempfile.TemporaryDirectory() as folder:
        data, results = Path(folder) / "large", {}
        for job in JOBS:
            command = [sys.executable, "-m", "benchmarks.large_data", "--transitions", str(transitions), "--state", str(state)]
            for path in data.glob("*.npy"):
                file_hash(path)  # brings the file into the cache
            done = subprocess.run([*command, "--job", job, "--data", str(data)], check=True, stdout=subprocess.PIPE)
            results[job] = json.loads(done.stdout)
    return results


def run_job(job: str, data: Path, transitions: int, state: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    if job == "memory":
        return fill(contract_bytes(read_dataset(data)))
    if job != "write":
        return load(data, Resident if job == "resident" else Copies)
    with watched() as peaks:
        start = time.perf_counter()
        write(data, transitions, state)
    size = sum(path.stat().st_size for path in data.iterdir())
    return {"files": size, "added": peaks.anonymous - peaks.before, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_data", description="Memory and seconds that large data take.")
    parser.add_argument("--transitions", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--state", type=int, default=STATE, help="numbers of the state; 0: the data have none (default: %(default)s)")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(run_job(arguments.job, arguments.data, arguments.transitions, arguments.state)))
        return
    results = measure(arguments.transitions, arguments.state)
    written = results.pop("write")
    print(f"written: {written['files'] / 1e6:,.0f} MB in {written['seconds']:.1f} s, at most {written['added'] / 1e6:,.0f} MB of memory")
    memory = f"{'needed MB':>11}{'added MB':>10}{'ratio':>7}{'resident MB':>13}"
    print(f"{'':10}{memory}{'first batch s':>15}{'user':>7}{'system':>8}{'99 more s':>11}")
    for name, result in results.items():
        memory, more = " " * 41, ""
        if "added" in result:
            memory = f"{result['needed'] / 1e6:11,.0f}{result['added'] / 1e6:10,.0f}{result['ratio']:7.2f}{result['resident'] / 1e6:13,.0f}"
            more = f"{result['rest'][0]:11.2f}"
        wall, user, system = result["first"]
        print(f"{name:10}{memory}{wall:15.2f}{user:7.2f}{system:8.2f}{more}")


if __name__ == "__main__":
    main()
