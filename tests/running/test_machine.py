"""Settings of the machine: what each variable says, what holds without it, and what is wrong with a bad value."""

import os
from pathlib import Path

import pytest

from inspo_core.errors import InspoError
from inspo_core.running import machine

COUNTS = [
    ("INSPO_WORKERS", machine.workers, len(os.sched_getaffinity(0)), "how many processes may run at a time"),
    ("INSPO_BATCHED_SEEDS", machine.batched_seeds, None, "how many seeds a process trains as one batched model"),
    ("INSPO_CHECKPOINT_EVERY", machine.checkpoint_every, 10, "how many iterations lie between two checkpoints"),
]
of_each = pytest.mark.parametrize("variable, read, default, meaning", COUNTS, ids=[variable for variable, *_ in COUNTS])


@of_each
def test_a_count_has_a_default_and_takes_a_whole_number(monkeypatch, variable, read, default, meaning):
    monkeypatch.delenv(variable, raising=False)
    assert read() == default
    monkeypatch.setenv(variable, "")  # as a manifest leaves it where nothing is to be said
    assert read() == default
    monkeypatch.setenv(variable, "20")
    assert read() == 20


@of_each
@pytest.mark.parametrize("wrong", ["0", "-1", "1.5", "all", " "])
def test_anything_else_is_refused_in_one_sentence(monkeypatch, variable, read, default, meaning, wrong):
    monkeypatch.setenv(variable, wrong)
    with pytest.raises(InspoError) as refused:
        read()
    assert str(refused.value) == f"{variable} is {wrong!r}, expected {meaning}, a whole number from 1"


def test_the_folder_of_checkpoints(monkeypatch):
    monkeypatch.delenv("INSPO_CHECKPOINTS", raising=False)
    assert machine.checkpoints() == Path("checkpoints").absolute()
    monkeypatch.setenv("INSPO_CHECKPOINTS", "/scratch/unfinished")
    assert machine.checkpoints() == Path("/scratch/unfinished")


@pytest.mark.parametrize("variable", [variable for variable, *_ in COUNTS])
def test_a_bad_setting_is_said_before_a_seed_starts(lab, variable):
    lab.train("xor_b", "inspo", "0", **{variable: "many"}).refused(f"{variable} is 'many', expected ", "a whole number from 1")
    assert not list((lab.place / "train").glob("*")) and not (lab.place / "checkpoints").exists()
