"""The loop alone and with every algorithm: stopping, going on, and telling when it cannot."""

import contextlib
import fcntl
import json
import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from inspo_core.algorithms.behavior_estimation import BehaviorEstimation
from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.errors import InspoError
from inspo_core.running import loop
from inspo_core.running.loop import BEFORE, CHECKPOINT, METRICS, Stopped, run_loop
from inspo_core.stopping import stop_on
from tests.algorithms.games import behavior_config, everything, learner, ragged_data, random_models, tiny
from tests.lab import contents

NAME = "0123456789abcdef"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Several would only wait for one another at networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def checkpoint_every_third(monkeypatch):
    monkeypatch.setenv("INSPO_CHECKPOINT_EVERY", "3")


class Walk:
    """A random walk; ``after`` is called at the end of each iteration."""

    def __init__(self, seed: int = 0, after=lambda walk: None):
        self.place, self.generator, self.iterations, self._after = torch.zeros(3), torch.Generator().manual_seed(seed), 0, after

    def iterate(self) -> dict[str, float]:
        self.place += torch.randn(3, generator=self.generator)
        self.iterations += 1
        self._after(self)
        return {"place": self.place.sum().item()}

    def state_dict(self) -> dict:
        return {"place": self.place, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        self.place.copy_(state["place"])
        self.generator.set_state(state["generator"])


@pytest.fixture
def signals():
    """A process that SIGTERM asks to stop; afterwards as it was."""
    before = signal.getsignal(signal.SIGTERM)
    stop_on(signal.SIGTERM)
    yield
    stop_on()
    signal.signal(signal.SIGTERM, before)


def lines(work: Path) -> list[dict]:
    return [json.loads(line) for line in (work / METRICS).read_text().splitlines()]


def ask_to_stop(at: int):
    return lambda walk: os.kill(os.getpid(), signal.SIGTERM) if walk.iterations == at else None


class Crash(Exception):
    pass


def crash(at: int):
    def after(walk):
        if walk.iterations == at:
            raise Crash

    return after


def test_one_line_an_iteration_with_the_evaluation_in_it(tmp_path):
    run_loop(Walk(), 4, tmp_path, NAME, lambda iteration: {"evaluated": iteration / 2} if iteration % 2 == 0 else {})
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    assert [line.get("evaluated") for line in found] == [None, 1.0, None, 2.0]
    assert all("place" in line for line in found)


@pytest.mark.parametrize("ending", [ask_to_stop, crash])
@pytest.mark.parametrize("at", [1, 3, 5, 6])
def test_stopped_and_gone_on_with_is_the_same_run(tmp_path, signals, ending, at):
    run_loop(Walk(), 8, tmp_path / "whole", NAME)
    with pytest.raises((Stopped, Crash)):
        run_loop(Walk(after=ending(at)), 8, tmp_path / "again", NAME)
    kept = at if ending is ask_to_stop else (at - 1) // 3 * 3
    assert (tmp_path / "again" / CHECKPOINT).exists() == (kept > 0)
    stop_on(signal.SIGTERM)
    resumed = Walk(seed=9 if kept else 0)  # a checkpoint makes the seed of the new object void
    run_loop(resumed, 8, tmp_path / "again", NAME)
    assert resumed.iterations == 8 - kept  # it went on, rather than began anew
    assert (tmp_path / "again" / METRICS).read_bytes() == (tmp_path / "whole" / METRICS).read_bytes()
    states = [torch.load(tmp_path / run / CHECKPOINT) for run in ("whole", "again")]
    assert states[0]["iteration"] == states[1]["iteration"] == 8
    assert all(torch.equal(states[0]["state"][key], states[1]["state"][key]) for key in states[0]["state"])


def test_a_request_in_the_last_iteration_changes_nothing(tmp_path, signals):
    run_loop(Walk(after=ask_to_stop(4)), 4, tmp_path, NAME)
    assert len(lines(tmp_path)) == 4


def test_a_finished_run_is_not_run_again(tmp_path):
    run_loop(Walk(), 4, tmp_path, NAME)
    before = contents(tmp_path)
    again = Walk()
    run_loop(again, 4, tmp_path, NAME)
    assert again.iterations == 0 and contents(tmp_path) == before


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_ends_the_run(tmp_path, value):
    with pytest.raises(InspoError, match=r"metrics.jsonl: bad became (nan|inf) in iteration 2; lower the learning rate"):
        run_loop(Walk(), 4, tmp_path, NAME, lambda iteration: {"bad": value} if iteration == 2 else {})
    assert len(lines(tmp_path)) == 1


@pytest.fixture
def stopped(tmp_path) -> Path:
    """The work folder of a run that crashed after iteration 4, with a checkpoint of 3."""
    with contextlib.suppress(Crash):
        run_loop(Walk(after=crash(5)), 8, tmp_path, NAME)
    return tmp_path


def refused(work: Path, message: str, fingerprint: str = NAME) -> None:
    before, walk = contents(work), Walk()
    with pytest.raises(InspoError, match=message):
        run_loop(walk, 8, work, fingerprint)
    assert contents(work) == before and walk.iterations == 0


def test_a_checkpoint_of_another_kind_of_device(stopped):
    checkpoint = torch.load(stopped / CHECKPOINT, weights_only=True)
    checkpoint["state"]["generator"] = torch.zeros(16, dtype=torch.uint8)  # the size of a GPU's
    torch.save(checkpoint, stopped / CHECKPOINT)
    refused(stopped, "checkpoint.pt was written on another kind of device; go on there, or remove .* to start this run anew")


def test_a_checkpoint_of_another_configuration(stopped):
    refused(
        stopped, "checkpoint.pt belongs to another configuration .*fedcba9876543210.*remove .* to start this run anew", "fedcba9876543210"
    )


def test_a_damaged_checkpoint(stopped):
    path = stopped / CHECKPOINT
    whole = path.read_bytes()
    for content in (b"", whole[:-20], whole[: len(whole) // 2], b"something else"):
        path.write_bytes(content)
        refused(stopped, f"{CHECKPOINT} is damaged .*remove {stopped} to start this run anew")
    torch.save({"another": "file"}, path)
    refused(stopped, f"{CHECKPOINT} is damaged")


def test_no_flipped_bit_in_a_checkpoint_changes_a_run(stopped):
    run_loop(Walk(), 8, stopped / "whole", NAME)
    expected = (stopped / "whole" / METRICS).read_bytes()
    whole = {name: (stopped / name).read_bytes() for name in (CHECKPOINT, METRICS)}
    generator, refusals = torch.Generator().manual_seed(0), 0
    for position in torch.randint(len(whole[CHECKPOINT]), (60,), generator=generator).tolist():
        content = bytearray(whole[CHECKPOINT])
        content[position] ^= 1 << position % 8
        (stopped / CHECKPOINT).write_bytes(content)
        (stopped / METRICS).write_bytes(whole[METRICS])
        try:
            run_loop(Walk(), 8, stopped, NAME)
        except InspoError as error:
            refusals += f"{CHECKPOINT} is damaged" in str(error) or f"{CHECKPOINT} belongs to another configuration" in str(error)
        else:
            assert (stopped / METRICS).read_bytes() == expected, position
    assert refusals > 30  # the others hit padding


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:10],
        lambda content: bytes(len(content)),  # as after a power cut
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.replace(b"1", b"7", 1),
        lambda content: b"\xff" + content[1:],
    ],
    ids=["cut off", "zeros", "line ends", "a digit", "no text"],
)
def test_curves_that_are_not_those_of_the_checkpoint(stopped, change):
    (stopped / METRICS).write_bytes(change((stopped / METRICS).read_bytes()))
    refused(stopped, f"{METRICS} does not begin with the .* bytes that .*checkpoint.pt says; remove {stopped} to start this run anew")


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"", None], ids=["cut off", "empty", "missing"])
def test_the_checkpoint_before_is_taken_where_the_last_one_is_damaged(tmp_path, capsys, damage):
    run_loop(Walk(), 11, tmp_path / "whole", NAME)
    work = tmp_path / "again"
    with contextlib.suppress(Crash):
        run_loop(Walk(after=crash(8)), 11, work, NAME)
    assert [torch.load(work / name)["iteration"] for name in (BEFORE, CHECKPOINT)] == [3, 6]
    if damage:
        (work / CHECKPOINT).write_bytes(damage((work / CHECKPOINT).read_bytes()))
    else:  # killed between the two renames
        (work / CHECKPOINT).unlink()
    resumed = Walk(seed=9)
    with contextlib.suppress(Crash):
        resumed = Walk(seed=9, after=crash(2))
        run_loop(resumed, 11, work, NAME)  # to iteration 5: no new checkpoint yet
    assert torch.load(work / CHECKPOINT)["iteration"] == 3 and not (work / BEFORE).exists()
    said = capsys.readouterr().err
    assert said.count("warning: ") == (damage is not None)
    assert (
        damage is None
        or f"{work / CHECKPOINT} is damaged (BadZipFile); the run goes on at the checkpoint before it, of iteration 3" in said
    )
    run_loop(Walk(seed=9), 11, work, NAME)
    assert (work / METRICS).read_bytes() == (tmp_path / "whole" / METRICS).read_bytes()


def test_two_damaged_checkpoints_are_both_named(tmp_path):
    with contextlib.suppress(Crash):
        run_loop(Walk(after=crash(8)), 11, tmp_path, NAME)
    for name in (CHECKPOINT, BEFORE):
        (tmp_path / name).write_bytes(b"x")
    refused(tmp_path, f"{CHECKPOINT} is damaged .*{BEFORE} is damaged .*remove {tmp_path} to start this run anew")


def test_metrics_damaged_after_the_checkpoint_before_do_not_matter_to_it(tmp_path, capsys):
    run_loop(Walk(), 11, tmp_path / "whole", NAME)
    work = tmp_path / "again"
    with contextlib.suppress(Crash):
        run_loop(Walk(after=crash(8)), 11, work, NAME)
    content = (work / METRICS).read_bytes().splitlines(keepends=True)
    content[4] = bytes(len(content[4]))
    (work / METRICS).write_bytes(b"".join(content))
    run_loop(Walk(seed=9), 11, work, NAME)
    assert f"warning: {work / METRICS} does not begin with" in capsys.readouterr().err
    assert (work / METRICS).read_bytes() == (tmp_path / "whole" / METRICS).read_bytes()


def test_another_process_at_the_same_run(stopped, monkeypatch, signals):
    monkeypatch.setattr(loop, "LOCK_SECONDS", 0.2)
    with open(stopped / METRICS, "ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        refused(stopped, f"another process works on the same run in {stopped}; wait until it has ended, or end it")
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            run_loop(Walk(), 8, stopped, NAME)


def test_a_process_that_is_about_to_end_is_waited_for(stopped):
    if os.fork() == 0:  # as one whose parent was killed, in its last iteration
        with open(stopped / METRICS, "ab") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            (stopped / "locked").touch()
            time.sleep(0.5)
            log.write(b'{"step":5}\n')
            log.flush()
            os._exit(0)
    while not (stopped / "locked").exists():
        time.sleep(0.01)
    run_loop(Walk(), 8, stopped, NAME)
    os.wait()
    assert [line["step"] for line in lines(stopped)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all("place" in line for line in lines(stopped))


def values(state) -> list:
    """Whatever is in a state, with tensors as bytes."""
    if isinstance(state, dict):
        return [(key, values(value)) for key, value in state.items()]
    if isinstance(state, list | tuple):
        return [values(value) for value in state]
    return state.numpy().tobytes() if isinstance(state, torch.Tensor) else state


VARIANTS = {
    "inspo as it is": ("inspo", {}),
    "joint Q, simultaneous, tuned alpha": ("inspo", {"q": "joint", "update": "simultaneous", "alpha_schedule": "tuned"}),
    "product behavior, reweighted": ("inspo", {"behavior_model": "product", "importance": "reweight", "beta_schedule": "constant"}),
    "tuned alpha, no correction": ("inspo", {"alpha_schedule": "tuned", "importance": "none", "entropy_in_value": True}),
    "behavior cloning": ("bc", {}),
    "behavior models": (None, {}),
}


@pytest.mark.parametrize("algorithm, switches", VARIANTS.values(), ids=VARIANTS)
def test_training_twice_k_iterations_is_training_k_and_k(tmp_path, algorithm, switches):
    data = ResidentTransitions(ragged_data(40), "cpu")

    def make(seed: int):
        if algorithm is None:
            return BehaviorEstimation(
                data, everything(data), behavior_config(hidden=[8], batch_size=16, steps=12, check_every=2), seed, "cpu"
            )
        return learner(algorithm, data, random_models(data), iterations=6, seed=seed, **tiny(algorithm, **switches))

    run_loop(make(0), 6, tmp_path / "whole", NAME)
    run_loop(make(0), 6, tmp_path / "twin", NAME)
    run_loop(make(0), 3, tmp_path / "halves", NAME)
    run_loop(make(1), 6, tmp_path / "halves", NAME)  # nothing of the new object's own beginning may remain
    run_loop(make(1), 6, tmp_path / "other", NAME)
    curves, states = {}, {}
    for run in ("whole", "twin", "halves", "other"):
        curves[run] = (tmp_path / run / METRICS).read_bytes()
        states[run] = values(torch.load(tmp_path / run / CHECKPOINT)["state"])
    assert curves["whole"] == curves["twin"] == curves["halves"] != curves["other"]
    assert states["whole"] == states["twin"] == states["halves"] != states["other"]
