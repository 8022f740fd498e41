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


def torch_stream(seed: int, name: str) -> "torch.Generator":
    """The CPU torch generator of the stream ``name``; drawing on the CPU gives the same numbers on every device."""
    import torch  # the games and the data need only NumPy, and torch takes a second to import

    return torch.Generator().manual_seed(stream_seed(seed, name))
