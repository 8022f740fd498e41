"""What of the code a run can reach, and which changes to it change the hash."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from textwrap import dedent

import pytest

from inspo_core.code_graph import Reached, reach
from inspo_core.errors import InspoError

ROOT = Path(__file__).resolve().parents[1]
ENTRY = "house.run:run"
Files = dict[str, str]

HOUSE: Files = {
    "house/__init__.py": "",
    "house/run.py": """
        import numpy as np
        from house import maths
        from house.maths import Square

        def run(side, rate=0.5):
            from house.late import weight
            return np.sqrt(Square(side).area() * maths.scaled(weight(side), rate))

        def other():
            return 1
        """,
    "house/maths.py": """
        from house.shapes import Shape

        SCALE = 2.0

        def logged(function):
            return function

        @logged
        def scaled(value, factor=3):
            return SCALE * value * factor

        class Square(Shape):
            sides: int = 4

            def area(self):
                return self.side ** 2

        def unreached(value):
            return value + 1
        """,
    "house/shapes.py": """
        class Shape:
            def __init__(self, side):
                self.side = side
        """,
    "house/late.py": """
        def weight(value):
            return [value for value in range(value)]
        """,
}


@pytest.fixture
def reached(tmp_path, monkeypatch) -> Callable[..., Reached]:
    """``reached(files, entry, ...)``: of files that are written to a place of their own."""
    numbers = count()

    def of(files: Files, *entries: str, **options) -> Reached:
        place = tmp_path / str(next(numbers))
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(dedent(text))
        monkeypatch.syspath_prepend(place)
        return reach(*entries or [ENTRY], **{"packages": ("house",), **options})

    return of


@pytest.fixture
def run_of(reached) -> Callable[..., Reached]:
    """Of the function ``run`` of one module, or of one module and others beside it."""
    return lambda text, **others: reached({"house/run.py": text, **{f"house/{name}.py": other for name, other in others.items()}})


def edited(file: str, old: str, new: str, files: Files = HOUSE) -> Files:
    assert old in files[file]
    return {**files, file: files[file].replace(old, new)}


def moved(old: str, new: str, *replaced: tuple[str, str]) -> Files:
    """The house with a file elsewhere, and text ``replaced`` in all files."""
    files = {new if name == old else name: text for name, text in HOUSE.items()}
    for before, after in replaced:
        files = {name: text.replace(before, after) for name, text in files.items()}
    return files


def split_maths() -> Files:
    """The module ``maths`` as a folder that exports the same names from two files, by relative imports."""
    head, square = dedent(HOUSE["house/maths.py"]).split("class Square")
    files = {name: text for name, text in HOUSE.items() if name != "house/maths.py"}
    return files | {
        "house/maths/__init__.py": "from .scales import scaled\nfrom .squares import *\n",
        "house/maths/scales.py": head,
        "house/maths/squares.py": "from ..shapes import Shape\n__all__ = ['Square']\nclass Square" + square,
    }


SAME = {
    "a moved file": moved("house/shapes.py", "house/deep/forms.py", ("house.shapes import", "house.deep.forms import")),
    "a moved file of a function-level import": moved("house/late.py", "house/a/b.py", ("house.late import", "house.a.b import")),
    "a renamed module that is used by attribute": moved(
        "house/maths.py", "house/algebra.py", ("import maths", "import algebra"), ("maths.", "algebra."), ("house.maths", "house.algebra")
    ),
    "a module that became a folder": split_maths(),
    "a new file": {**HOUSE, "house/new.py": "import nothing\n"},
    "a comment": edited("house/maths.py", "SCALE = 2.0", "SCALE = 2.0  # twice"),
    "docstrings": edited(
        "house/maths.py",
        "def area(self):",
        'def area(self):\n                "The area."',
        {**HOUSE, "house/shapes.py": '"""Shapes."""' + dedent(HOUSE["house/shapes.py"])},
    ),
    "formatting": edited("house/maths.py", "SCALE * value * factor", "(\n                SCALE\n                * value * factor)"),
    "the order of imports": edited(
        "house/run.py",
        "import numpy as np\n        from house import maths\n",
        "from house import maths\n        import numpy as np\n",
    ),
    "an alias": edited("house/run.py", "import weight", "import weight as w", edited("house/run.py", "(weight(", "(w(")),
    "a dotted import": edited(
        "house/run.py", "from house import maths", "import house.maths", edited("house/run.py", "maths.s", "house.maths.s")
    ),
    "an external name imported by itself": edited(
        "house/run.py", "import numpy as np", "from numpy import sqrt", edited("house/run.py", "np.sqrt", "sqrt")
    ),
    "an import at the top": edited(
        "house/run.py",
        "            from house.late import weight\n",
        "",
        edited("house/run.py", "import numpy", "from house.late import weight\n        import numpy"),
    ),
    "types of parameters": edited("house/maths.py", "scaled(value, factor=3):", "scaled(value: 'Shape', factor: int = 3) -> float:"),
    "the type of a constant": edited("house/maths.py", "SCALE = 2.0", "SCALE: float = 2.0"),
    "the name of a definition": edited("house/maths.py", "SCALE", "FACTOR"),
    "an unreached definition": edited("house/maths.py", "value + 1", "value + 2"),
    "an unreached definition beside the entry": edited("house/run.py", "return 1", "return 2"),
    "an unused import": edited("house/run.py", "import numpy as np", "import numpy as np\n        import torch"),
    "what only type checkers read": edited(
        "house/run.py",
        "def other",
        "from typing import TYPE_CHECKING\n        if TYPE_CHECKING:\n            from house.gone import Gone\n\n        def other",
    ),
    "what only a script does": edited("house/run.py", "def other", "if __name__ == '__main__':\n            run(1)\n\n        def other"),
}
DIFFERENT = {
    "a formula": edited("house/maths.py", "SCALE * value", "SCALE + value"),
    "a constant": edited("house/maths.py", "SCALE = 2.0", "SCALE = 2.5"),
    "a constant that is changed afterwards": edited("house/maths.py", "def unreached", "SCALE += 1\n\n        def unreached"),
    "a default value": edited("house/maths.py", "factor=3", "factor=4"),
    "a default value of the entry": edited("house/run.py", "rate=0.5", "rate=0.6"),
    "a decorator": edited("house/maths.py", "return function", "return print(function)"),
    "a decorator less": edited("house/maths.py", "        @logged\n", ""),
    "a base class": edited("house/shapes.py", "self.side = side", "self.side = abs(side)"),
    "another base class": edited("house/maths.py", "Square(Shape)", "Square"),
    "a method": edited("house/maths.py", "** 2", "** 3"),
    "the type of a field": edited("house/maths.py", "sides: int", "sides: float"),
    "a function-level import": edited("house/late.py", "range(value)", "range(value, 9)"),
    "another external function": edited("house/run.py", "np.sqrt", "np.cbrt"),
    "a call beside the definitions": edited("house/maths.py", "SCALE = 2.0", "SCALE = 2.0\n        print(SCALE)"),
    "a call in the package": {**HOUSE, "house/__init__.py": "import numpy\nnumpy.seterr(all='raise')\n"},
    "another file under an old name": {**HOUSE, "house/late.py": "def weight(value):\n    return value\n"},
}


@pytest.mark.parametrize("change", SAME)
def test_what_says_the_same_has_the_same_hash(reached, change):
    before, after = reached(HOUSE), reached(SAME[change])
    assert before.digest == after.digest


@pytest.mark.parametrize("change", DIFFERENT)
def test_what_says_something_else_has_another_hash(reached, change):
    assert reached(HOUSE).digest != reached(DIFFERENT[change]).digest


def test_a_renamed_package_has_the_same_hash(reached):
    files = {name.replace("house", "home"): text.replace("house", "home") for name, text in HOUSE.items()}
    assert reached(HOUSE).digest == reached(files, "home.run:run", packages=("home",)).digest


def test_definitions_and_libraries_are_those_that_are_reached(reached):
    found = reached(HOUSE)
    names = ["run:run", "maths:Square", "maths:scaled", "maths:SCALE", "maths:logged", "shapes:Shape", "late:weight"]
    assert found.definitions == {f"house.{name}" for name in names}
    assert found.libraries == {"numpy"}
    assert reached(edited("house/run.py", "np.sqrt", "__import__('math').sqrt")).libraries == set()


def test_the_standard_library_is_no_library_but_counts(run_of):
    one, two = (
        run_of(f"import math\nfrom torch.nn import functional as F\ndef run():\n    return F.{name}(math.pi)") for name in ("relu", "elu")
    )
    assert one.libraries == two.libraries == {"torch"} and one.digest != two.digest
    assert run_of("from math import pi\ndef run():\n    return pi").digest != run_of("from math import e\ndef run():\n    return e").digest


def test_several_entries_count_in_their_order(reached):
    one, two = reached(HOUSE, "house.maths:scaled", "house.late:weight"), reached(HOUSE, "house.late:weight", "house.maths:scaled")
    assert one.definitions == two.definitions and one.digest != two.digest


def test_an_entry_may_be_a_re_export(reached):
    again = {**HOUSE, "house/__init__.py": "from .run import run as start\n"}
    assert reached(HOUSE).digest == reached(again, "house:start").digest


@pytest.mark.parametrize(
    "body",
    [
        "def run(area):\n    return area",
        "def run(*, area=1, **rest):\n    return lambda: area",
        "def run():\n    area = 1\n    return area",
        "def run():\n    for area in range(3):\n        pass\n    return area",
        "def run():\n    return [area for area in range(3)]",
        "def run():\n    return {area: other for area, other in zip('a', 'b')}",
        "def run():\n    return (lambda area: area)(1)",
        "def run():\n    def area():\n        return 1\n    return area()",
        "def run():\n    with open('x') as area:\n        return area",
        "def run():\n    try:\n        pass\n    except ValueError as area:\n        return area",
        "def run(x):\n    match x:\n        case [area, *_]:\n            return area",
        "def run(x):\n    return [y for y in x if (area := y)] and area",
        "def run():\n    area = 1\n    def inner():\n        nonlocal area\n        area += 1\n    return inner",
        "class run:\n    area = 1\n    twice = area * 2",
        "class run:\n    def area(self):\n        return self.area",
        "def run(x):\n    return x.area",
        "def run(x):\n    return x(area=1)",
        "def run():\n    return 'area'",
    ],
)
def test_a_name_of_an_inner_scope_is_not_the_module_s(run_of, body):
    assert run_of(f"from house.maths import area\n{body}", maths="def area():\n    return 1").definitions == {"house.run:run"}


@pytest.mark.parametrize(
    "body",
    [
        "def run(x=area):\n    area = x\n    return area",
        "def run():\n    return [area for area in area]",
        "class run:\n    area = area",
        "class run:\n    area = 1\n    def method(self):\n        return area",
        "class run:\n    area = 1\n    many = [area for _ in '12']",
        "class run:\n    field: area",
        "class run:\n    field: 'area'",
        "def run():\n    class Inner(area):\n        pass\n    return Inner",
        "def run():\n    global area\n    area += 1",
        "def run():\n    return f'{area:.3f}'",
        "def run():\n    def inner():\n        return lambda: area\n    return inner",
        "run = {'area': area}",
        "run, other = area(), 1",
        "if area:\n    def run(): pass\nelse:\n    def run(): return 1",
        "for run in area():\n    pass",
        "def run():\n    return 1\nrun.extra = area",
        "run = {}\nfor key in 'ab':\n    run[key] = area",
    ],
)
def test_a_name_that_no_inner_scope_binds_is_the_module_s(run_of, body):
    found = run_of(f"from house.maths import area\n{body}", maths="def area():\n    return 1")
    assert "house.maths:area" in found.definitions


@pytest.mark.parametrize(
    "text",
    [
        "import house.maths\ndef run():\n    return house.maths.area()",
        "import house.maths as maths\ndef run():\n    return maths.area()",
        "from . import maths\ndef run():\n    return maths.area()",
        "from .maths import area\ndef run():\n    return area()",
        "from .maths import *\ndef run():\n    return area()",
        "def run():\n    import house.maths\n    return house.maths.area()",
        "def run():\n    from .maths import area as a\n    return a()",
        "from house.middle import area\ndef run():\n    return area()",
        "from house import middle\ndef run():\n    return middle.maths.area()",
    ],
)
def test_every_way_to_import_a_definition_says_the_same(run_of, text):
    maths, middle = (
        "def area():\n    return len('1')\ndef unreached():\n    pass\n",
        "from house import maths\nfrom house.maths import area\n",
    )
    found = run_of(text, maths=maths, middle=middle)
    assert found.definitions == {"house.run:run", "house.maths:area"}
    assert found.digest == run_of("def area():\n    return len('1')\ndef run():\n    return area()").digest


def test_import_star_takes_what_all_names(run_of):
    text = "from house.maths import *\ndef run():\n    return shown(), hidden()"
    maths = "__all__ = ['shown']\ndef shown(): pass\ndef hidden(): pass"
    assert run_of(text, maths=maths).definitions == {"house.run:run", "house.maths:shown"}


def test_a_module_used_as_a_value_counts_with_all_its_definitions(run_of):
    text = "from house import maths\ndef run(name):\n    return getattr(maths, name)"
    one, two, three = (run_of(text, maths=f"A = 1\ndef {name}():\n    return {value}") for name, value in (("f", 1), ("f", 2), ("g", 1)))
    assert one.definitions == {"house.run:run", "house.maths:A", "house.maths:f"}
    assert len({one.digest, two.digest, three.digest}) == 3


def test_a_name_that_a_module_makes_at_run_time_counts_as_the_whole_module(run_of):
    text = "from house import maths\ndef run():\n    return maths.lazy()"
    maths = "def __getattr__(name):\n    return {}"
    assert run_of(text, maths=maths.format(1)).digest != run_of(text, maths=maths.format(2)).digest


def test_a_class_that_only_a_string_names_is_reached_and_may_move(run_of):
    table = "GAMES = {{'a': '{0}'}}\ndef run(name):\n    return GAMES[name]"
    game = "class Game:\n    best = 1"
    here, there = run_of(table.format("house.game:Game"), game=game), run_of(table.format("house.play:Game"), play=game)
    assert "house.game:Game" in here.definitions and here.digest == there.digest
    assert here.digest != run_of(table.format("house.game:Game"), game=game.replace("1", "2")).digest
    assert run_of(table.format("house.gone:Game")).digest != run_of(table.format("elsewhere.gone:Game")).digest


def test_circles_of_imports_and_calls_have_an_end(run_of):
    text = "from house import maths\ndef run(x):\n    return maths.halve(x)"
    maths = "from house import run as start\nfrom house.run import *\ndef halve(x):\n    return start.run(x / {}) if abs(x) else halve(0)"
    one, two = run_of(text, maths=maths.format(2)), run_of(text, maths=maths.format(3))
    assert one.definitions == {"house.run:run", "house.maths:halve"} and one.digest != two.digest


def test_of_two_bindings_of_a_name_both_count(run_of):
    text = "try:\n    from house.fast import f\nexcept ImportError:\n    from house.slow import f\ndef run():\n    return f()"
    plain, fast, slow = "def f():\n    return 1", "def f():\n    return 2", "def f():\n    return 3"
    digests = {run_of(text, fast=one, slow=two).digest for one, two in ((plain, plain), (fast, plain), (plain, slow))}
    assert len(digests) == 3
    inside = "def run(x):\n    if x:\n        from house.fast import f\n    else:\n        from house.slow import f\n    return f()"
    assert run_of(inside, fast=fast, slow=slow).definitions == {"house.run:run", "house.fast:f", "house.slow:f"}


CUTTING = {
    "house/run.py": "from house.files import write\nfrom house import files\ndef run(x):\n    write(x), files.write(x), files.sub.read(x)",
    "house/files/__init__.py": "def write(x):\n    return 1",
    "house/files/sub.py": "def read(x):\n    return 1",
}


@pytest.mark.parametrize("cut", [["house.files"], ["house.files:write", "house.files.sub:read"], ["house.files.sub", "house.files:write"]])
def test_what_is_cut_counts_by_its_name_alone(reached, cut):
    before = reached(CUTTING, cut=cut)
    changed = {name: text.replace("return 1", "import torch; return torch.e") for name, text in CUTTING.items()}
    elsewhere = {name.replace("files", "store"): text.replace("files", "store") for name, text in CUTTING.items()}
    assert before.definitions == {ENTRY}
    assert before == reached(changed, cut=cut)
    assert before == reached(elsewhere, cut=[name.replace("files", "store") for name in cut])
    assert before.digest != reached({name: text.replace("read", "look") for name, text in CUTTING.items()}, cut=["house.files"]).digest


def test_a_table_that_is_cut_reaches_none_of_its_entries(reached):
    files = {
        "house/run.py": "from house import GAMES\ndef run(name):\n    return GAMES[name]",
        "house/__init__.py": "from house.table import GAMES",
        "house/table.py": "GAMES = {'a': 'house.game:Game'}",
        "house/game.py": "class Game:\n    pass",
    }
    assert "house.game:Game" in reached(files).definitions
    for name in ("house.table:GAMES", "house:GAMES"):
        assert reached(files, cut=[name]).definitions == {ENTRY}


def test_other_packages_are_followed_only_if_named(reached):
    files = {"house/run.py": "from game.play import step\ndef run():\n    return step()", "game/play.py": "def step():\n    return 1"}
    outside, inside = reached(files), reached(files, packages=("house", "game"))
    assert outside.libraries == {"game"} and outside.definitions == {ENTRY}
    assert inside.libraries == set() and inside.definitions == {ENTRY, "game.play:step"}
    changed = edited("game/play.py", "1", "2", files)
    assert outside == reached(changed) and inside.digest != reached(changed, packages=("house", "game")).digest


@pytest.mark.parametrize(
    ("entry", "options", "message"),
    [
        ("house.gone:run", {}, r"the entry 'house.gone:run' leads nowhere; expected a definition of house that is not cut"),
        ("house.run:gone", {}, r"the entry 'house.run:gone' leads nowhere"),
        ("house.run:np", {}, r"the entry 'house.run:np' leads nowhere"),
        ("house.run", {}, r"the entry 'house.run' leads nowhere; expected a definition"),
        ("numpy:zeros", {}, r"the entry 'numpy:zeros' leads nowhere"),
        (ENTRY, {"cut": ["house.run"]}, r"the entry 'house.run:run' leads nowhere; expected a definition of house that is not cut"),
        (ENTRY, {"cut": ["house.gone"]}, r"the cut 'house.gone' leads nowhere; expected a module of house"),
        (ENTRY, {"cut": ["house.maths:gone"]}, r"the cut 'house.maths:gone' leads nowhere; expected a definition of house"),
        (
            ENTRY,
            {"packages": ("house", "numpy_gone"), "cut": ["numpy_gone.a"]},
            r"the package 'numpy_gone', whose code .* is not installed",
        ),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(reached, entry, options, message):
    with pytest.raises(InspoError, match=message):
        reached(HOUSE, entry, **options)


def test_source_that_is_not_python_is_refused_by_its_name(reached):
    with pytest.raises(InspoError, match=r"maths\.py is not Python that version 3\.\d+ reads: invalid syntax"):
        reached({**HOUSE, "house/maths.py": "def broken(:\n"})


def test_a_change_is_seen_within_one_process(tmp_path, reached):
    before = reached(HOUSE)
    (tmp_path / "0/house/late.py").write_text("def weight(value):\n    return 1\n")
    assert reach(ENTRY, packages=("house",)).digest != before.digest


def test_an_algorithm_of_this_project_reaches_torch_and_no_other_algorithm():
    found = reach("inspo_core.algorithms.bc:BC")
    assert "torch" in found.libraries and "inspo_core.algorithms.bc:BC" in found.definitions
    others = {"AlberDICE", "CFCQL", "CQL", "ICQ", "InSPO", "OMAR", "OMIGA", "OptiDICE"}
    assert not others & {name.partition(":")[2] for name in found.definitions}


FSTRINGS = """
    def run(x, width=3):
        return f"", f"{x=}", f"a{x!r:>{width}}" "b", f"{x:}", f"{{{x}}}", f"{x:{width}.{width}f}", f"{x = !r:>10}", "\U0001fae8\u00e9"
    """


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_version_of_python_finds_the_same(reached, tmp_path, version):
    python = _python(version)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    entries = ["inspo_core.algorithms.inspo.sweep:InSPO", "inspo_core.algorithms.omiga:OMIGA", "inspo_core.statistics:estimate"]
    here = [reach(entry).digest for entry in entries] + [reached({"house/run.py": FSTRINGS}).digest]
    code = (
        "import json, sys; from inspo_core.code_graph import reach; "
        "print(json.dumps([reach(entry, packages=(entry.partition('.')[0],)).digest for entry in sys.argv[1:]]))"
    )
    path = os.pathsep.join((str(ROOT), str(tmp_path / "0")))
    done = subprocess.run([python, "-c", code, *entries, ENTRY], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == here


def _python(version: str) -> str | None:
    """Of this version, where it runs on its own: one on the path, or one that pyenv keeps."""
    kept = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    return str(kept[0]) if kept else shutil.which(f"python{version}")


def test_what_an_error_says_does_not_count_and_its_kind_does(run_of):
    text = "def run(x):\n    if x < 0:\n        raise ValueError(f'{x} is below 0')\n    return x\n"
    assert run_of(text).digest == run_of(text.replace("is below 0", "is negative; take another")).digest
    assert run_of(text).digest != run_of(text.replace("ValueError", "TypeError")).digest
    assert run_of(text).digest != run_of(text.replace("x < 0", "x < 1")).digest
