"""Which device computes: what is asked for, or what this machine has."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from inspo_core.errors import InspoError
from inspo_core.running.device import DRIVER, resolve_device

HAS_GPU = torch.cuda.is_available()
without_gpu = pytest.mark.skipif(HAS_GPU, reason="there is a GPU here")
without_driver = pytest.mark.skipif(any(Path(path).exists() for path in DRIVER), reason="there is an NVIDIA driver here")


def test_cpu_is_cpu_and_auto_is_what_is_here():
    assert resolve_device("cpu", "train.device") == "cpu"
    assert resolve_device("auto", "train.device") == ("cuda" if HAS_GPU else "cpu")


@pytest.mark.skipif(not HAS_GPU, reason="no GPU")
def test_cuda_is_cuda():
    assert resolve_device("cuda", "train.device") == "cuda"


@without_gpu
@pytest.mark.parametrize("place", ["behavior.device", "train.device"])
def test_cuda_asked_in_vain_names_who_asks(place):
    with pytest.raises(InspoError, match=f"^{place} is 'cuda' but torch finds no usable GPU.*Without a GPU {place} is to be cpu$"):
        resolve_device("cuda", place)


@without_gpu
def test_a_command_that_asks_in_vain_ends_in_one_sentence(lab):
    run = ["--dataset", "xor_b", "--data", lab.data("xor_b"), "--seeds", "0", "--out", "behavior"]
    lab.run("components.behavior", *run, "--set", "behavior.device=cuda").refused("behavior.device is 'cuda' but torch finds no usable GPU")
    lab.run("components.behavior", *run, "--device", "cuda").refused("--device is 'cuda' but torch finds no usable GPU")
    lab.train("xor_b", "bc", "0", "--device", "cuda").refused("--device is 'cuda' but torch finds no usable GPU")
    assert not (lab.place / "behavior").exists() and not (lab.place / "train").exists()


@without_driver
@pytest.mark.parametrize("asked", ["auto", "cpu"])
def test_a_machine_without_a_driver_is_told_without_torch(asked):
    code = (
        f"import sys; from inspo_core.running.device import resolve_device; print(resolve_device({asked!r}, 'x'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "cpu False\n"
