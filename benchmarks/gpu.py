"""Time and memory of gradient steps on a GPU, of one seed and of several at the same time.

    benchmarks/gpu.sh                   the tests that need a GPU, then this
    python -m benchmarks.gpu

InSPO's seeds are one batched model in one process, those of OMIGA and CFCQL, which do not batch them, a process each, all in the same
interval. Networks and batches are those of 2s3z and of a small game, data are random, other parameters those of ``params.yaml``. An
iteration is a sweep of InSPO, and ``critic_steps`` gradient steps of the others. Most of a sweep can be questions to the joint behavior
model, which every seed asks for itself; ``inspo_product``, which hardly asks, shows the gradient steps. A row a case is printed as soon as
it is measured:

    graphs     no: every step is handed to the GPU by itself, to compare
    iteration  milliseconds, the mean of all that began in the interval
    step       the same divided by the gradient steps that a seed takes in an iteration, one after the other
    total      gradient steps a second of all seeds together, divided by those of one seed
    allocated, reserved    MiB, the peaks of torch's allocator since before the data were made, summed over the processes
    nvidia-smi             MiB, what the GPU's memory in use grew by since before the first process, contexts of CUDA included

All rows go to a JSON file too, which is whole after each of them.
"""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from benchmarks.batched_seeds import GAME, SIZES, Seeds
from benchmarks.learning_step import BATCH, HIDDEN, PARAMS, SHAPES, random_data
from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.behavior_models import BehaviorModels
from inspo_core.algorithms.configs import InSPOConfig
from inspo_core.algorithms.cuda_graphs import take_steps
from inspo_core.algorithms.seed_batching import Fit
from inspo_core.config.learners import learner_of
from inspo_core.config.reading import load_params
from inspo_core.files import atomic_file

QUICK = {"hidden": [16, 16], "batch_size": 32, "critic_steps": 3, "policy_steps": 3, "refit_steps": 2, "pool_size": 64}
BATCHED, OTHERS = ("inspo", "inspo_product"), ("omiga", "cfcql")
HEADER = (
    f"{'algorithm':14}{'size':>6}{'seeds':>6}{'processes':>10}{'graphs':>7}{'iteration':>11}{'step':>9}{'total':>7}"
    f"{'allocated':>11}{'reserved':>10}{'nvidia-smi':>11}"
)


@dataclass(frozen=True)
class Case:
    algorithm: str  # or one of the variants in params.yaml
    size: str
    seeds: int
    graphs: bool

    @property
    def processes(self) -> int:
        return 1 if self.algorithm in BATCHED else self.seeds

    @property
    def words(self) -> str:
        seeds = f"{self.seeds} seed" + ("s" if self.seeds > 1 else "")
        return f"{self.algorithm} {self.size} {seeds}" + ("" if self.graphs else " without graphs")

    @property
    def cells(self) -> str:
        return f"{self.algorithm:14}{self.size:>6}{self.seeds:>6}{self.processes:>10}{'yes' if self.graphs else 'no':>7}"


@dataclass(frozen=True)
class Measured:
    """What one process measured."""

    iterations: int
    seconds: float
    steps: int  # that a seed takes in an iteration
    allocated: int | None  # bytes
    reserved: int | None


class CaseFailed(Exception):
    """A process raised something, or ended."""


class NoTimeLeft(Exception):
    pass


def cases(seeds: list[int]) -> list[Case]:
    """Those of one process first: what other processes hold of the GPU's memory is so not counted as theirs."""
    made = []
    for name, size in product(BATCHED, SIZES):
        made += [Case(name, size, count, graphs) for count in seeds for graphs in ([True, False] if count == 1 else [True])]
    for count in seeds:
        made += [Case(name, size, count, graphs=True) for name, size in product(OTHERS, SIZES)]
        made += [Case(name, size, count, graphs=False) for name, size in product(OTHERS, SIZES) if count == 1]
    return made


def step_by_step(fit: Fit) -> list[torch.Tensor]:
    return take_steps(fit.step, fit.columns, axis=1 if fit.agent is None else 0, recordable=False)


def iteration_of(case: Case, number: int, device: str, quick: bool) -> tuple[Callable[[], object], int]:
    """An iteration of the case's seeds that process ``number`` trains, and how many gradient steps a seed takes in it."""
    learner = learner_of(case.algorithm, load_params(PARAMS))
    changes = {"hidden": HIDDEN, "batch_size": BATCH, **SIZES[case.size], **(QUICK if quick else {})}
    config = learner.config.model_copy(update={key: value for key, value in changes.items() if key in type(learner.config).model_fields})
    shape = SHAPES.get(case.size, GAME)
    data = random_data(shape, 256 if quick else 32768, device)
    if isinstance(config, InSPOConfig):
        seeds = Seeds(config, data, case.seeds)
        steps = config.critic_steps + shape.agents * config.policy_steps + (shape.agents - 1) * config.refit_steps
        if not case.graphs:
            return lambda: seeds.alone(step_by_step), steps
        return (seeds.alone if case.seeds == 1 else seeds.together), steps
    models = BehaviorModels.create(data, config.hidden, 0, torch.Generator(device).manual_seed(1))
    made = learner.entry.load()(Setup(data, lambda: models, 10**6, number, device), config)
    made.recordable = case.graphs
    return made.iterate, config.critic_steps


def work(connection: Connection, number: int, device: str, quick: bool) -> None:
    """A process: for every case it is sent, get ready, be told the interval, measure; up to the next case it keeps its memory."""
    torch.set_num_threads(1)
    on_gpu = device == "cuda"

    if on_gpu:
        torch.cuda.init()

    def wait_for_gpu() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    while (case := connection.recv()) is not None:
        iterate = None
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            iterate, steps = iteration_of(case, number, device, quick)
            iterate()
            iterate()
            wait_for_gpu()
            connection.send("ready")
            start, end = connection.recv()
            time.sleep(max(0.0, start - time.monotonic()))
            begun, count = time.monotonic(), 0
            while count == 0 or time.monotonic() < end:
                iterate()
                wait_for_gpu()
                count += 1
            seconds = time.monotonic() - begun
            peaks = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()) if on_gpu else (None, None)
            connection.send(Measured(count, seconds, steps, *peaks))
        except Exception as error:  # told by the process that asked, which goes on with the other cases
            connection.send(CaseFailed(f"{type(error).__name__}: {error}"))


class Processes:
    """As many as were needed at once so far."""

    def __init__(self, device: str, quick: bool):
        self._settings = device, quick
        self._context = multiprocessing.get_context("forkserver")  # it imports torch once for all, and never touches the GPU
        self._context.set_forkserver_preload(["benchmarks.batched_seeds"])
        self._running: list[tuple[BaseProcess, Connection]] = []

    def measure(self, case: Case, seconds: float, deadline: float) -> list[Measured]:
        """What the case's processes measured in the same interval of ``seconds``, while they still hold their memory.

        Raises CaseFailed or NoTimeLeft, and ends all processes then: after an error of CUDA they are of no more use.
        """
        while len(self._running) < case.processes:
            here, there = self._context.Pipe()
            process = self._context.Process(target=work, args=(there, len(self._running), *self._settings), daemon=True)
            process.start()
            there.close()
            self._running.append((process, here))
        connections = [connection for _, connection in self._running[: case.processes]]
        try:
            for connection in connections:
                connection.send(case)
            self._answers(connections, deadline)
            start = time.monotonic() + 0.1
            for connection in connections:
                connection.send((start, start + seconds))
            return self._answers(connections, deadline)
        except (CaseFailed, NoTimeLeft):
            self.end()
            raise
        except (EOFError, OSError) as error:
            self.end()
            raise CaseFailed("a process ended without a word") from error

    @staticmethod
    def _answers(connections: list[Connection], deadline: float) -> list:
        answers = []
        for connection in connections:
            if not connection.poll(max(0.0, deadline - time.monotonic())):
                raise NoTimeLeft
            answers.append(connection.recv())
            if isinstance(answers[-1], CaseFailed):
                raise answers[-1]
        return answers

    def end(self) -> None:
        for process, connection in self._running:
            process.kill()
            process.join()
            connection.close()
        self._running.clear()


def memory_in_use() -> int | None:
    """MiB of the first GPU, as nvidia-smi says; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=10, check=True).stdout
        return int(said.splitlines()[0])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return None


def growth(before: int | None) -> int | None:
    now = memory_in_use()
    return None if before is None or now is None else now - before


def row_of(case: Case, measured: list[Measured], grown: int | None) -> dict[str, Any]:
    """Times in milliseconds, memory in MiB."""
    iteration = 1e3 * sum(one.seconds / one.iterations for one in measured) / len(measured)
    a_process = case.seeds // case.processes
    allocated, reserved = (
        None if any(value is None for value in peaks) else round(sum(peaks) / 2**20)
        for peaks in ([one.allocated for one in measured], [one.reserved for one in measured])
    )
    return {
        "iterations": sum(one.iterations for one in measured),
        "steps_an_iteration": measured[0].steps,
        "iteration_ms": iteration,
        "step_ms": iteration / measured[0].steps,
        "steps_a_second": sum(a_process * one.steps * one.iterations / one.seconds for one in measured),
        "allocated_mib": allocated,
        "reserved_mib": reserved,
        "nvidia_smi_mib": grown,
    }


def line_of(case: Case, row: dict) -> str:
    if "failed" in row:
        return f"{case.cells}  {row['failed']}"
    total = "" if row["total"] is None else f"{row['total']:.2f}"
    memory = ["-" if row[f"{name}_mib"] is None else str(row[f"{name}_mib"]) for name in ("allocated", "reserved", "nvidia_smi")]
    return f"{case.cells}{row['iteration_ms']:11.1f}{row['step_ms']:9.3f}{total:>7}{memory[0]:>11}{memory[1]:>10}{memory[2]:>11}"


def ratio_to_one(case: Case, row: dict, rows: list[dict]) -> float | None:
    """How many times the gradient steps a second of one seed; None where one seed was not measured."""
    alone = asdict(replace(case, seeds=1, graphs=True))
    found = [old for old in [*rows, {**asdict(case), **row}] if alone.items() <= old.items() and "failed" not in old]
    return row["steps_a_second"] / found[0]["steps_a_second"] if found else None


def write(out: Path, results: dict) -> None:
    with atomic_file(out) as aside:
        aside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def machine(device: str) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability(),
        "processors": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Time and memory of gradient steps on a GPU.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 4, 8], help="how many at the same time (default: %(default)s)")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds that a row is measured for (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=330.0, help="after which the rest is left out (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small networks, pools and intervals, to try the script")
    parser.add_argument("--out", type=Path, help="the JSON file (default: gpu-results.json in the folder that OUT names, or here)")
    arguments = parser.parse_args()
    out = arguments.out or Path(os.environ.get("OUT", ".")) / "gpu-results.json"
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: torch finds no usable GPU; --device cpu --quick tries the script without one")
    interval = 0.05 if arguments.quick else arguments.interval
    results: dict[str, Any] = {**machine(arguments.device), "quick": arguments.quick, "interval_s": interval}
    print(", ".join(f"{name} {value}" for name, value in results.items()), HEADER, sep="\n", flush=True)
    results["rows"], before = [], memory_in_use()
    processes, waiting = Processes(arguments.device, arguments.quick), cases(sorted(arguments.seeds))
    while waiting:
        case = waiting[0]
        try:
            measured = processes.measure(case, interval, begun + arguments.seconds)
        except NoTimeLeft:
            print(f"{arguments.seconds:.0f} s are over; left out: " + "; ".join(one.words for one in waiting))
            break
        except CaseFailed as error:
            row: dict[str, Any] = {"failed": str(error)}
        else:
            row = row_of(case, measured, growth(before))
            row["total"] = ratio_to_one(case, row, results["rows"])
        results["rows"].append({**asdict(case), "processes": case.processes, **row})
        print(line_of(case, row), flush=True)
        waiting.pop(0)
        write(out, {**results, "left_out": [one.words for one in waiting]})
    processes.end()
    write(out, {**results, "left_out": [one.words for one in waiting]})
    print(f"{len(results['rows'])} rows in {out}, {time.monotonic() - begun:.0f} s")
    sys.exit(any("failed" in row for row in results["rows"]))


if __name__ == "__main__":
    main()
