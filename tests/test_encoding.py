"""Text is UTF-8 wherever it is read and written, whatever the locale says, and a command prints anything anywhere."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("inspo_core", "components", "pipelines", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def leaves_encoding_to_the_locale(call: ast.Call) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given:
        return False
    match call.func:
        case ast.Name("open"):
            mode = call.args[1] if len(call.args) > 1 else given.get("mode", ast.Constant("r"))
            return not (isinstance(mode, ast.Constant) and "b" in mode.value)
        case ast.Attribute(attr="read_text"):
            return not call.args
        case ast.Attribute(attr="write_text"):
            return len(call.args) < 2
    return bool({"text", "universal_newlines"} & given.keys())


def test_the_locale_decides_no_encoding():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and leaves_encoding_to_the_locale(node)
    ]
    assert FILES and found == []


@pytest.mark.parametrize("text", ["open(p)", "open(p, 'w')", "p.read_text()", "p.write_text(t)", "run(c, text=True)"])
def test_what_leaves_it_to_the_locale_is_seen(text):
    assert leaves_encoding_to_the_locale(ast.parse(text).body[0].value)


def test_a_command_prints_what_its_terminal_cannot_show():
    program = "from inspo_core.command import run; run(lambda: print('\\u00e4\\ud800'))"
    c_locale = {"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | c_locale, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\xe4\\ud800\n", b"")
