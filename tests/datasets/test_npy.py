"""Files that are not exactly one array of numbers: each reader ends in one sentence that names file and find."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from inspo_core.datasets import read_dataset, write_dataset
from inspo_core.datasets.format import DTYPES
from inspo_core.datasets.formats.alberdice import AXES, read
from inspo_core.datasets.formats.table import AlberDICEOptions
from inspo_core.datasets.npy import open_array
from inspo_core.errors import InspoError
from tests.datasets.test_format import update_entry


def with_header(text: str) -> Callable[[Path], None]:
    """A sound file's data under another header."""

    def write(path: Path) -> None:
        data = path.read_bytes()[-40:]
        path.write_bytes(npy.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode() + data)

    return write


def shape(written: str, descr: str = "'<f4'") -> Callable[[Path], None]:
    return with_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {written}}}\n")


def archive(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros(3))


def saved(values: object, **options: bool) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.array(values), **options)


def edited(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


BROKEN = {
    "an archive": (archive, "it is a zip archive"),
    "the beginning of an archive": (lambda path: path.write_bytes(b"PK\3\4"), "it is a zip archive"),
    "nothing": (lambda path: path.write_bytes(b""), "it begins with b''"),
    "text": (lambda path: path.write_bytes(b"no array"), "it begins with b'no arr'"),
    "another version": (edited(lambda data: data[:6] + b"\3" + data[7:]), "its version is 3, expected 1 or 2"),
    "bytes for ends of lines": (edited(lambda data: data.replace(b"\n", b"\r\n")), "bytes, but shape"),
    "four bytes more": (edited(lambda data: data + bytes(4)), "bytes, but shape"),
    "four bytes less": (edited(lambda data: data[:-4]), "bytes, but shape"),
    "no data": (edited(lambda data: data[:128]), "it holds 128 bytes, but shape"),
    "half a header": (edited(lambda data: data[:40]), "is longer than the file"),
    "no brace": (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (10,), \n"), "its header is \"{'descr'"),
    "brackets": (with_header("[" * 5000), "its header is '[[["),
    "a header that is no dictionary": (with_header("5"), "expected descr, fortran_order and shape"),
    "a header without a shape": (with_header("{'descr': '<f4', 'fortran_order': False}"), "expected descr, fortran_order and shape"),
    "a header without an order": (with_header("{'descr': '<f4', 'fortran_order': 2, 'shape': (10,)}"), "fortran_order of its header is 2"),
    "a negative size": (shape("(-1, 2)"), "its shape is (-1, 2), expected 1 to 32 positive integers"),
    "sizes beyond all memory": (shape(f"(10, {10**4000})"), "its shape is (10, 1000"),
    "a truth value for a size": (shape("(True, 10)"), "its shape is (True, 10)"),
    "no axis": (shape("()"), "its shape is ()"),
    "no value": (shape("(0, 4)"), "its shape is (0, 4)"),
    "many axes": (shape(f"({'1,' * 40})"), "its shape is (1, 1,"),
    "characters": (saved([["a"]]), "it holds values of type '<U1', expected bool, integers or floats"),
    "complex numbers": (saved([1j]), "it holds values of type '<c16'"),
    "records": (saved(np.zeros(2, dtype=[("a", "f4"), ("b", "i8")])), "it holds values of type [('a', '<f4'), ('b', '<i8')]"),
    "objects": (saved([{}], allow_pickle=True), "it holds values of type '|O'"),
    "dates": (saved(np.zeros(2, dtype="M8[s]")), "it holds values of type '<M8[s]'"),
    "a type that there is not": (shape("(5,)", "'<f3'"), "it holds values of type '<f3'"),
}


@pytest.fixture(params=["observations", "actions", "rewards", "episode_offsets", "obs", "reward", "filled"])
def sound(request, dataset, tmp_path) -> tuple[Path, Callable[[], object]]:
    """A file of a native dataset or of an AlberDICE folder, and what reads it."""
    if request.param in DTYPES:
        write_dataset(dataset, tmp_path / "native")
        return tmp_path / f"native/{request.param}.npy", lambda: read_dataset(tmp_path / "native")
    (tmp_path / "folder").mkdir()
    for key in AXES:
        np.save(tmp_path / f"folder/{key}.npy", np.ones(10, dtype=np.float32))
    return tmp_path / f"folder/{request.param}.npy", lambda: list(
        read(tmp_path / "folder", "a", "bridge", AlberDICEOptions(timeout_at=None))
    )


@pytest.mark.parametrize("broken", BROKEN)
def test_a_file_that_is_not_one_array_of_numbers_is_one_sentence_of_every_reader(sound, broken):
    (change, words), (path, reader) = BROKEN[broken], sound
    change(path)
    if path.parent.name == "native":
        update_entry(path)
    with pytest.raises(InspoError) as caught:
        reader()
    message = str(caught.value)
    assert message.startswith(f"{path} is not a readable .npy file: ") and words in message
    assert "\n" not in message and len(message) < 400 + len(str(path))


@pytest.mark.parametrize("kind", ["?", "u1", "<i8", ">i4", "<f2", "<f8", "<f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_numbers_are_read_as_numpy_reads_them(tmp_path, kind, order):
    values = np.asarray(np.random.default_rng(0).integers(0, 2, (3, 4, 2)).astype(kind), order=order)
    np.save(tmp_path / "a.npy", values)
    found = open_array(tmp_path / "a.npy", "")
    assert found.dtype == values.dtype and np.array_equal(found, values) and not found.flags.writeable
    with open(tmp_path / "b.npy", "wb") as file:
        npy.write_array(file, values, version=(2, 0))
    assert np.array_equal(open_array(tmp_path / "b.npy", ""), values)


def test_what_cannot_be_opened_is_one_sentence(tmp_path):
    for path, words in ((tmp_path / "no.npy", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(InspoError, match=f"{path} cannot be read: {words}; copy it anew"):
            open_array(path, "copy it anew")
