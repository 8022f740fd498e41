"""Which device computes. Random numbers and sums are a device's own, so a run's identity holds ``cpu`` or ``cuda``, never ``auto``."""

from pathlib import Path

from inspo_core.errors import InspoError

# What an NVIDIA driver leaves in the file system, on Linux and in the Linux of Windows.
DRIVER = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg")


def resolve_device(asked: str, place: str) -> str:
    """``cpu`` or ``cuda``: what ``auto`` is on this machine, or what is asked for. ``place`` is what asks: a parameter or an option.

    Raises InspoError if ``cuda`` is asked for and torch finds no usable GPU.
    """
    if asked == "cpu":
        return "cpu"
    usable = any(Path(path).exists() for path in DRIVER) and _cuda_is_available()  # torch takes a second to import
    if asked == "cuda" and not usable:
        raise InspoError(
            f"{place} is 'cuda' but torch finds no usable GPU: is this PyTorch one with CUDA, and the driver new enough for it? "
            f"Without a GPU {place} is to be cpu"
        )
    return "cuda" if usable else "cpu"


def _cuda_is_available() -> bool:
    import torch

    return torch.cuda.is_available()
