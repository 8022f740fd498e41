"""What a person sees while seeds are training: bars on a terminal, a plain line now and then elsewhere."""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from inspo_core.errors import say

PLAIN_SECONDS = 10.0
TAIL_BYTES = 20_000


class Progress:
    """Follows the growing metrics files of a stage's seeds."""

    def __init__(self, title: str, seeds: list[int], total: int):
        """``total``: lines that a seed's metrics file will have."""
        self._title, self._total = title, total
        self._latest: dict[int, dict[str, float]] = {seed: {} for seed in seeds}
        self._begin = self._said = time.monotonic()
        self._bars = None
        if sys.stderr.isatty():
            shown = TextColumn("{task.fields[shown]}")
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), shown, TimeRemainingColumn())
            self._bars = Bars(*columns, console=Console(stderr=True))
            self._tasks = {seed: self._bars.add_task(f"{title} seed {seed}", total=total, shown="") for seed in seeds}

    def __enter__(self) -> "Progress":
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def update(self, seed: int, metrics_file: Path) -> None:
        """Look at how far ``seed`` is."""
        self._latest[seed] |= _last_line(metrics_file)
        if self._bars:
            self._bars.update(self._tasks[seed], completed=self._latest[seed].get("step", 0), shown=_shown(self._latest[seed]))
        elif time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            self._say_plainly()

    def _say_plainly(self) -> None:
        done = sum(line.get("step", 0) for line in self._latest.values())
        share = done / (self._total * len(self._latest))
        left = f", about {(time.monotonic() - self._begin) * (1 / share - 1):.0f} s left" if share else ""
        seeds = "; ".join(f"seed {seed} {line['step']}/{self._total} {_shown(line)}" for seed, line in self._latest.items() if line)
        say(f"{self._title}: {share:.0%}{left}; {seeds}")


def _shown(line: dict[str, float]) -> str:
    names = {"policy_loss": "loss", "held_out/log_likelihood_joint": "held-out log-likelihood", "evaluation/return_sampled": "return"}
    return " ".join(f"{label} {line[name]:.3f}" for name, label in names.items() if name in line)


def _last_line(path: Path) -> dict[str, float]:
    """The newest whole line of a metrics file, with the values of an earlier one that only some lines have."""
    try:
        with open(path, "rb") as file:
            begin = file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().split(b"\n")[1 if begin else 0 : -1]
    except FileNotFoundError:
        return {}
    merged: dict[str, float] = {}
    for line in lines:
        with suppress(ValueError):  # a machine that lost its power may have left zeros, which the run is about to cut off
            merged |= json.loads(line)
    return merged
