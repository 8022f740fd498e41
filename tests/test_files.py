"""Nothing half-written is ever seen, whatever happens in between."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inspo_core.errors import InspoError
from inspo_core.files import atomic_directory, atomic_file, canonical_json, check_writable, read_json, remove, remove_abandoned, write_json
from tests.lab import ROOT, contents


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new/folder/file"
    with atomic_file(path) as aside:
        aside.write_text("half")
        assert not path.exists() and aside.parent == path.parent
        aside.write_text("whole")
    assert contents(tmp_path) == {"new/folder/file": b"whole"}


def test_a_directory_replaces_an_earlier_one_as_a_whole(tmp_path):
    for files in (["one", "two"], ["two", "three"]):
        with atomic_directory(tmp_path / "folder") as aside:
            for name in files:
                (aside / name).write_text(" ".join(files))
    assert contents(tmp_path) == {"folder/two": b"two three", "folder/three": b"two three"}


def test_a_directory_that_a_killed_process_has_put_aside_is_not_in_the_way(tmp_path):
    write_json(tmp_path / f".it.old-{os.getpid()}/value.json", 0)  # of another container, where that number was taken too
    for value in (1, 2):
        with atomic_directory(tmp_path / "it") as aside:
            write_json(aside / "value.json", value)
    assert read_json(tmp_path / "it/value.json") == 2


def test_what_a_killed_process_has_put_aside_is_not_in_the_way(tmp_path):
    write_json(tmp_path / "it/value.json", 1)
    write_json(tmp_path / f".it.old-{os.getpid()}/value.json", 0)  # left in another container, whose process had this one's number
    with atomic_directory(tmp_path / "it") as aside:
        write_json(aside / "value.json", 2)
    assert read_json(tmp_path / "it/value.json") == 2


@pytest.mark.parametrize(
    "manager, write", [(atomic_file, Path.write_text), (atomic_directory, lambda path, text: (path / "file").write_text(text))]
)
def test_a_failure_leaves_the_earlier_one_and_nothing_else(tmp_path, manager, write):
    with manager(tmp_path / "it") as aside:
        write(aside, "earlier")
    before = contents(tmp_path)
    with pytest.raises(ZeroDivisionError), manager(tmp_path / "it") as aside:
        write(aside, "later")
        raise ZeroDivisionError
    assert contents(tmp_path) == before and list(tmp_path.iterdir()) == [tmp_path / "it"]


def test_a_killed_process_leaves_the_earlier_one(tmp_path):
    write_json(tmp_path / "it.json", {"value": 1})
    script = """
import os, signal, sys
from pathlib import Path
from inspo_core.files import atomic_file
with atomic_file(Path(sys.argv[1])) as aside:
    aside.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "it.json")]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == -signal.SIGKILL
    assert read_json(tmp_path / "it.json") == {"value": 1}
    write_json(tmp_path / "it.json", {"value": 2})
    assert read_json(tmp_path / "it.json") == {"value": 2}


KILLED = {
    "file": "with atomic_file(path) as aside:\n    aside.write_text('half')\n    kill()",
    "folder": "with atomic_directory(path) as aside:\n    (aside / 'half').touch()\n    kill()",
    "folder that was put aside": "with atomic_directory(path):\n    shutil.rmtree = lambda *_, **__: kill()",
}


@pytest.mark.parametrize("work", KILLED.values(), ids=KILLED)
def test_what_a_killed_process_has_put_aside_is_removed_by_the_next_writer_and_what_others_write_is_not(tmp_path, work):
    path = tmp_path / "it"
    if "directory" in work:
        write_json(path / "value.json", 1)
    script = f"""
import os, shutil, signal, sys
from pathlib import Path
from inspo_core.files import atomic_directory, atomic_file, check_writable
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
path = Path(sys.argv[1])
{work}
"""
    command = [sys.executable, "-c", script, str(path)]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".it.*"))) == 1
    with atomic_directory(tmp_path / "it2"):
        pass
    assert len(list(tmp_path.glob(".it.*"))) == 1  # it is another's
    remove(path)
    with atomic_directory(path), atomic_directory(path) as aside:
        write_json(aside / "value.json", 2)
        assert len(list(tmp_path.glob(".it.new-*"))) == 2  # those of living processes
    assert {found.name for found in tmp_path.iterdir()} == {"it", "it2"}


def test_what_another_machine_has_put_aside_goes_after_a_day_without_a_change(tmp_path):
    left = [tmp_path / name for name in (".it.new-00000000-1-0123abcd", ".it.new-1-0123abcd", ".other.old-00000000-1-0123abcd")]
    kept = [tmp_path / name for name in (".it.new-x", ".it", "it.new-00000000-1-0123abcd", ".gitignore")]
    for path in [*left, *kept]:
        (path / "inner").mkdir(parents=True)
    remove_abandoned(tmp_path)
    assert all(path.exists() for path in [*left, *kept])
    for path in [*left, *kept]:
        for old in (path, path / "inner"):
            os.utime(old, (0, 0))
    (left[0] / "inner/file").touch()  # still being written
    remove_abandoned(tmp_path)
    assert [path.exists() for path in left] == [True, False, False] and all(path.exists() for path in kept)


def test_no_more_room(tmp_path):
    write_json(tmp_path / "it.json", {"value": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(InspoError, match=r"cannot write .*it.json: File too large; free space there"):
            write_json(tmp_path / "it.json", {"value": "x" * 200})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_json(tmp_path / "it.json") == {"value": 1} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("attempt", [lambda path: write_json(path, 1), check_writable, lambda path: atomic_directory(path).__enter__()])
@pytest.mark.parametrize("place", ["file/folder/it", "/proc/it", "/dev/null/it"])
def test_unusable_places_are_named(tmp_path, attempt, place):
    (tmp_path / "file").touch()
    with pytest.raises(InspoError, match=rf"cannot write .*{place}: .*; free space there, make it writable, or choose another place"):
        attempt(tmp_path / place)


def test_check_writable_leaves_what_is_there(tmp_path):
    write_json(tmp_path / "folder/it.json", 1)
    check_writable(tmp_path / "folder")
    check_writable(tmp_path / "other/folder")
    assert contents(tmp_path) == {"folder/it.json": b"1\n"} and not list((tmp_path / "other").iterdir())


def test_json_depends_on_the_value_alone(tmp_path):
    one, two = {"b": [1, 2.5], "a": {"d": None, "c": True}}, {"a": {"c": True, "d": None}, "b": [1, 2.5]}
    assert canonical_json(one) == canonical_json(two) == '{"a":{"c":true,"d":null},"b":[1,2.5]}'
    write_json(tmp_path / "one", one)
    write_json(tmp_path / "two", two)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    for write in (canonical_json, lambda value: write_json(tmp_path / "one", value)):
        with pytest.raises(ValueError):
            write({"value": float("nan")})
    assert json.loads((tmp_path / "one").read_text()) == one


@pytest.mark.parametrize(
    "content, words",
    [(None, "cannot read .*No such file"), *((content, "is not valid JSON") for content in (b'{"a": 1', b"\xff\xfe", b"[" * 100_000))],
)
def test_reading_what_is_no_json(tmp_path, content, words):
    if content is not None:
        (tmp_path / "it").write_bytes(content)
    with pytest.raises(InspoError, match=words):
        read_json(tmp_path / "it")


def test_remove(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    remove(tmp_path / "link")
    assert (tmp_path / "target/file").exists()
    remove(tmp_path / "target")
    remove(tmp_path / "target")
    assert not list(tmp_path.iterdir())
