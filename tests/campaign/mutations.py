"""Changes to files that know their structure, as Hypothesis strategies: trees of JSON and YAML values, lines of text, arrays."""

import copy
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.lib import format as npy

Place = tuple[Any, ...]


def nested(depth: int) -> list:
    inner: list = []
    for _ in range(depth):
        inner = [inner]
    return inner


ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 2**31, 2**53 + 1, 2**63, 20230807093130621, -(2**70), 10**320, 0.5, 1.0, -0.0, 3.0, 1e-320, 1e308,
    math.nan, math.inf, -math.inf, "", " ", "x", "0", "no", "010", "1:30", "0o17", "null", "2026-02-30", "auto", "cuda:9", "inspo", "xor_c",
    "../../escaped", "/dev/null/x", ".", "a b", "a;touch ESCAPED", "a/b", "a\0b", "ä\u202e", "\U0001f9ea", "%20", "x" * 700, "\n", "a\nb",
    [], [[]], [1], ["x"], [None], [math.nan], {}, {"x": 1}, {"": None}, nested(40),
]  # fmt: skip
MISSPELT = ["{}s", "{}_", " {}", "{}\u0301", "_{}", "x{}"]


@dataclass(frozen=True)
class Change:
    """What was done at the place ``where`` of a tree; ``now`` is what is there now."""

    where: Place
    what: str
    now: Any = None
    was: str = ""  # the name of what was renamed

    def __str__(self) -> str:
        value = "" if self.what in ("remove", "order") else f" -> {_cut(self.now)}"
        return f"{self.what} {'.'.join(map(str, self.where))[:90]}{value}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the field, any of which tells a reader where to look: its own, or that of what it is part of."""
        keys = [*[str(part) for part in self.where if isinstance(part, str)][-2:], self.was]
        return tuple(key.strip()[:40] for key in keys if key.strip()) or ("",)


def _cut(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a long {type(value).__name__}"
    return text if len(text) < 120 else f"{text[:100]}... ({len(text)} characters)"


def places(tree: Any, at: Place = ()) -> Iterator[Place]:
    """Every place in a tree, the root apart."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def at(tree: Any, where: Place) -> Any:
    for key in where:
        tree = tree[key]
    return tree


def _near(value: Any) -> st.SearchStrategy[Any]:
    """Values that are a little off."""
    if isinstance(value, bool):
        return st.sampled_from([not value, int(value), str(value).lower(), [value]])
    if isinstance(value, int | float):
        small = abs(value) < 2**63
        off = [-value, str(value), [value], *([value + 1, value - 1, value * 10, float(value), value + 0.5, value // 2] if small else [])]
        return st.sampled_from([number for number in off if number != value or type(number) is not type(value)])
    if isinstance(value, str):
        return st.sampled_from(
            [value.upper(), value + " ", value[:-1], value + "x", [value], {value: value}, value.encode().hex(), value * 200]
        )
    if isinstance(value, list):
        return st.sampled_from([value[:-1], value + value[:1], value[::-1], value[0] if value else None, [value], value * 300])
    if isinstance(value, dict):
        return st.sampled_from([{}, list(value), [value], None, dict(list(value.items())[1:])])
    return st.sampled_from([0, "", "none", [None]])


@st.composite
def changed(draw: st.DrawFn, tree: Any, most: int = 2, below: Sequence[Place] = ((),)) -> tuple[Any, list[Change]]:
    """``tree`` with one change, or up to ``most``; only at places below those of ``below``."""
    tree, changes = copy.deepcopy(tree), []
    for _ in range(draw(st.sampled_from([1] * 5 + list(range(2, most + 1))))):
        there = [place for place in places(tree) if any(place[: len(prefix)] == prefix for prefix in below)]
        if not there:
            break
        where, was = draw(st.sampled_from(there)), ""
        parent, key = at(tree, where[:-1]), where[-1]
        what = draw(st.sampled_from(["odd", "near", "near", "remove", "add", "swap", "rename"]))
        if what == "odd":
            parent[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif what == "near":
            parent[key] = copy.deepcopy(draw(_near(parent[key])))
        elif what == "swap":
            parent[key] = copy.deepcopy(at(tree, draw(st.sampled_from(there))))
        elif what == "remove":
            del parent[key]
        elif isinstance(parent, list):
            what = "add"
            parent.insert(key, copy.deepcopy(draw(st.sampled_from([*ODD, parent[key]]))))
        else:
            new = draw(st.sampled_from(MISSPELT)).format(key)
            parent[new] = parent.pop(key) if what == "rename" else copy.deepcopy(draw(st.sampled_from(ODD)))
            where, was = (*where[:-1], new), str(key) if what == "rename" else ""
        changes.append(Change(where, what, None if what == "remove" else copy.deepcopy(at(tree, where)), was))
    return tree, changes


INSERTED = [b"\xff", b"\x00", b"\xef\xbb\xbf", b"\r", b"\t", b"[" * 900, b"{" * 900, b'"', b": ", b"- ", b"&a *a",
            b"!!python/object:os.system", b"\xe2\x80\xa8", b"9" * 4400, b"2026-02-30", b"\n", b"%", b"0", b"-", b"#"]  # fmt: skip
ALIASES = b"".join(b"a%d: &a%d [%s]\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 9) if level else b"0") for level in range(9))


@st.composite
def bytes_changed(draw: st.DrawFn, content: bytes) -> tuple[bytes, str]:
    """Text or other bytes with one change that knows lines, and no more."""
    what = draw(
        st.sampled_from(["cut", "flip", "insert", "delete a line", "double a line", "swap lines", "empty", "zeros", "CRLF", "aliases"])
    )
    place = draw(st.integers(0, max(0, len(content) - 1)))
    lines = content.split(b"\n")
    line = draw(st.integers(0, len(lines) - 1))
    if what == "cut":
        return content[:place], f"cut at byte {place}"
    if what == "flip":
        bit = draw(st.integers(0, 7))
        return content[:place] + bytes([content[place] ^ 1 << bit]) + content[
            place + 1 :
        ] if content else b"\x01", f"bit {bit} of byte {place}"
    if what == "insert":
        inserted = draw(st.sampled_from(INSERTED))
        return content[:place] + inserted + content[place:], f"{inserted[:12]!r} ({len(inserted)} bytes) at byte {place}"
    if what == "delete a line":
        return b"\n".join(lines[:line] + lines[line + 1 :]), f"without line {line + 1}"
    if what == "double a line":
        return b"\n".join(lines[: line + 1] + lines[line:]), f"line {line + 1} twice"
    if what == "swap lines":
        other = draw(st.integers(0, len(lines) - 1))
        lines[line], lines[other] = lines[other], lines[line]
        return b"\n".join(lines), f"lines {line + 1} and {other + 1} swapped"
    if what == "zeros":
        size = min(len(content) - place, 64)
        return content[:place] + bytes(size) + content[place + size :], f"{size} zeros from byte {place}"
    if what == "CRLF":
        return content.replace(b"\n", b"\r\n"), "CRLF"
    if what == "aliases":
        return ALIASES + content, "nine lines of aliases of aliases"
    return b"", "empty"


def saved(array: np.ndarray) -> bytes:
    """As ``np.save`` writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=array.dtype.hasobject)
    return buffer.getvalue()


ODD_NUMBERS = [0, 1, -1, 2, 1e-9, 0.5, 3.4e38, -7.6e37, 1e300, math.nan, math.inf, -math.inf, 2**31, 255]
CASTS = ["<f8", "<f4", ">f4", "<f2", "<i8", "<i4", "<i2", "<u8", "|u1", "?", "<c8", "<U4", "|S3", "|O", "<M8[s]"]


@st.composite
def array_changed(draw: st.DrawFn, content: bytes) -> tuple[bytes, str]:
    """A ``.npy`` file: other values, type, shape, order or header; or bytes that are no longer one."""
    array = np.load(io.BytesIO(content))
    what = draw(st.sampled_from(["value", "value", "type", "shape", "rows", "header", "bytes", "npz", "extra", "order", "version"]))
    if what == "value":
        place = draw(st.integers(0, max(0, array.size - 1)))
        number = draw(st.sampled_from(ODD_NUMBERS))
        wide = array.astype(np.float64)
        if not array.size:
            return content, "nothing"
        wide.flat[place] = number
        kept = draw(st.booleans()) and not (array.dtype.kind in "bi" and not math.isfinite(number))
        with np.errstate(all="ignore"):
            return saved(wide.astype(array.dtype) if kept else wide), f"value {place} is {number}{'' if kept else ', as float64'}"
    if what == "type":
        to = draw(st.sampled_from(CASTS))
        with np.errstate(all="ignore"):
            return saved(array.astype(np.int64).astype(to) if to == "<M8[s]" else array.astype(to)), f"as {to}"
    if what == "shape":
        shapes = [
            array.reshape(-1),
            array[None],
            array[..., None],
            array.T,
            array[:0],
            np.array(1.0),
            array.reshape(array.shape[:1] + (-1, 1)),
        ]
        other = draw(st.sampled_from(shapes)) if array.size else array[None]
        return saved(other), f"of shape {other.shape}"
    if what == "rows":
        some = {
            "first": array[:-1],
            "all but the first": array[1:],
            "one twice": np.concatenate([array, array[:1]]),
            "reversed": array[::-1],
        }
        name = draw(st.sampled_from(sorted(some)))
        return saved(np.ascontiguousarray(some[name])), f"rows: {name}"
    if what == "header":
        shapes = ["(-1,)", "()", "(99999999999,)", "(1.5,)", "('a',)", "(True,)", f"({array.size},)"]
        texts = [
            f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {draw(st.sampled_from(shapes))}, }}",
            f"{{'descr': '{array.dtype.str}', 'fortran_order': True, 'shape': {array.shape}, }}",
            f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}",
            f"{{'descr': [('x', '{array.dtype.str}')], 'fortran_order': False, 'shape': {array.shape}, }}",
            f"{{'descr': 'zz', 'fortran_order': False, 'shape': {array.shape}, }}",
            "[" * 3000,
        ]
        text = draw(st.sampled_from(texts))
        padded = (text + " " * (-(len(text) + 11) % 64) + "\n").encode()
        header = npy.magic(1, 0) + len(padded).to_bytes(2, "little") + padded
        return header + np.ascontiguousarray(array).tobytes(), f"header {text[:90]}"
    if what == "npz":
        buffer = io.BytesIO()
        np.savez(buffer, array)
        return draw(
            st.sampled_from([(buffer.getvalue(), "an .npz"), (b"PK\3\4" + content[4:], "begins like a zip"), (b"\x80\x04N.", "a pickle")])
        )
    if what == "extra":
        extra = draw(st.sampled_from([b"\0", b"\0" * 4, content[-64:], b"\r\n"]))
        return content + extra, f"{len(extra)} bytes more at the end"
    if what == "order":
        return saved(np.asfortranarray(array)), "in Fortran's order"
    if what == "version":
        return content[:6] + bytes([draw(st.integers(0, 9)), 0]) + content[8:], "another version of .npy"
    return draw(bytes_changed(content))


def dumped_json(tree: Any) -> bytes:
    """As any writer of JSON would write it; numbers that JSON does not have as Python writes them."""
    return (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


@st.composite
def json_changed(draw: st.DrawFn, content: bytes, most: int = 2) -> tuple[bytes, str, tuple[str, ...], tuple[Any, ...]]:
    """A JSON file with changes, what they are, the fields' names, and what is there now or its new name.

    The last two are empty where it may not be JSON any more.
    """
    if draw(st.integers(0, 4)) == 0:
        mutated, what = draw(bytes_changed(content))
        return mutated, what, (), ()
    if draw(st.integers(0, 15)) == 0:
        whole = draw(st.sampled_from([[], 5, None, "x", [1], {}, [[]], True, 1e999]))
        return dumped_json(whole), f"the whole file is {whole!r}", (), (whole,)
    tree, changes = draw(changed(json.loads(content), most))
    return (
        dumped_json(tree),
        "; ".join(map(str, changes)),
        sum((one.names for one in changes), ()),
        tuple(value for one in changes if one.what != "remove" for value in (one.now, one.where[-1])),
    )
