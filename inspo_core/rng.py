"""One seed, split into named streams that do not influence one another."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, name: str) -> int:
    """A 63-bit seed that depends on the run's ``seed`` and the stream's ``name`` only."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_stream(seed: int, name: str) -> np.random.Generator:
    """The NumPy generator of the stream ``name``."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, name)))


def torch_stream(seed: int, name: str, device: str = "cpu") -> "torch.Generator":
    """The torch generator of the stream ``name``, on the device where its numbers are used."""
    import torch  # the games and the data need only NumPy, and torch takes a second to import

    return torch.Generator(device).manual_seed(stream_seed(seed, name))


class Streams(dict[str, "torch.Generator"]):
    """The named random streams of one training run."""

    def __init__(self, seed: int, names: list[str], device: str):
        super().__init__({name: torch_stream(seed, name, device) for name in names})

    def state_dict(self) -> "dict[str, torch.Tensor]":
        return {name: generator.get_state() for name, generator in self.items()}

    def load_state_dict(self, state: "dict[str, torch.Tensor]") -> None:
        for name, generator in self.items():
            generator.set_state(state[name])
