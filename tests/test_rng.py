"""One seed, many streams."""

import random
import subprocess
import sys

import numpy as np
import torch

from inspo_core.rng import numpy_stream, stream_seed, torch_stream
from tests.lab import ROOT


def test_seeds_are_the_same_everywhere_and_always():
    expected = [5315035528915048864, 3167441839588509206]  # the first 8 bytes of SHA-256 of "0/initial", "7/curve/10"
    assert [stream_seed(0, "initial"), stream_seed(7, "curve/10")] == expected
    command = [sys.executable, "-c", "from inspo_core.rng import stream_seed as s; print(s(0, 'initial'), s(7, 'curve/10'))"]
    for hash_seed in ("1", "2"):
        said = subprocess.run(
            command, env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
        )
        assert [int(number) for number in said.stdout.split()] == expected


def test_streams_differ_by_seed_and_by_name():
    seeds = [stream_seed(seed, name) for seed in range(200) for name in ("batches", "pool", "1", "")]
    assert len(set(seeds)) == len(seeds) and 0 <= min(seeds) and max(seeds) < 2**63
    assert len({seed % 1000 for seed in seeds}) > 400  # spread, in the low digits too


def test_streams_do_not_influence_one_another():
    alone = numpy_stream(3, "one").random(4)
    one, other = numpy_stream(3, "one"), numpy_stream(3, "other")
    between = [(one.random(), other.random())[0] for _ in range(4)]
    assert between == alone.tolist()
    assert torch.equal(torch.rand(4, generator=torch_stream(3, "one")), torch.rand(4, generator=torch_stream(3, "one")))


def test_global_random_state_is_neither_read_nor_changed():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    first = numpy_stream(0, "x").random(), torch.rand(1, generator=torch_stream(0, "x")).item()
    assert [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()] == states
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    assert first == (numpy_stream(0, "x").random(), torch.rand(1, generator=torch_stream(0, "x")).item())
