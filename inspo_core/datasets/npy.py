"""Opening ``.npy`` files strictly: what is not exactly one plain array of numbers is one sentence.

The layout is that of numpy.lib.format, versions 1 and 2. NumPy's own reader takes files that hold more than their header says, and
archives, text and records; what it raises for the rest is of many kinds.
"""

import ast
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from inspo_core.errors import InspoError, quoted

MAGIC = b"\x93NUMPY"
LENGTH_BYTES = {1: 2, 2: 4}  # version -> bytes that hold the header's length
HEAD = 10_000  # bytes that are read; the header of an array of numbers has about 128
MAX_AXES = 32
NUMBERS = re.compile(r"[<>|=]?[biuf]\d+")  # bool, integers, floats


def open_array(path: Path, advice: str) -> np.ndarray:
    """The array of numbers (bool, integers or floats) in the file ``path``, memory-mapped and read-only.

    Raises InspoError that names the file, what was found and the ``advice``: no such file, another kind of file, a header that is broken or
    says another type, no values, more or fewer bytes than the header says.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
        start, dtype, order, shape = _parse(head)
        _check_size(path.stat().st_size, start, dtype, shape)
        return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order=order)
    except OSError as error:
        raise InspoError(f"{path} cannot be read: {error.strerror or error}; {advice}") from error
    except ValueError as error:
        raise InspoError(f"{path} is not a readable .npy file: {error}; {advice}") from error


def _parse(head: bytes) -> tuple[int, np.dtype, Any, tuple[int, ...]]:
    """Where the data begin, their type, order (``C`` or ``F``) and shape. Raises ValueError that says what was found instead."""
    if head[:2] == b"PK":
        raise ValueError("it is a zip archive, as numpy.savez writes it, expected one array as numpy.save does")
    if not head.startswith(MAGIC) or len(head) < len(MAGIC) + 2:
        raise ValueError(f"it begins with {head[: len(MAGIC)]!r}, expected {MAGIC!r}")
    version = head[len(MAGIC)]
    if version not in LENGTH_BYTES:
        raise ValueError(f"its version is {version}, expected 1 or 2")
    begin = len(MAGIC) + 2 + LENGTH_BYTES[version]
    start = begin + int.from_bytes(head[begin - LENGTH_BYTES[version] : begin], "little")
    if start > len(head):
        raise ValueError(f"its header of {start - begin} bytes is longer than the file, or than that of any array of numbers")
    text = head[begin:start].decode("latin1")
    try:
        header = ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"its header is {quoted(text)}, expected a dictionary") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"its header is {quoted(text)}, expected descr, fortran_order and shape")
    return start, _dtype(header["descr"]), "F" if _flag(header["fortran_order"]) else "C", _shape(header["shape"])


def _dtype(descr: Any) -> np.dtype:
    if isinstance(descr, str) and NUMBERS.fullmatch(descr):
        with suppress(TypeError):  # of a width that there is not
            return np.dtype(descr)
    raise ValueError(f"it holds values of type {quoted(descr)}, expected bool, integers or floats")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"fortran_order of its header is {quoted(value)}, expected True or False")
    return value


def _shape(shape: Any) -> tuple[int, ...]:
    sizes = shape if isinstance(shape, tuple) else ()
    if not 1 <= len(sizes) <= MAX_AXES or not all(type(size) is int and 0 < size < 2**63 for size in sizes):
        raise ValueError(f"its shape is {quoted(shape)}, expected 1 to {MAX_AXES} positive integers")
    return sizes


def _check_size(size: int, start: int, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    expected = start + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise ValueError(f"it holds {size} bytes, but shape {quoted(shape)} of {dtype} in its header makes {expected}")
