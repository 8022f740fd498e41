"""What README.md and docs/ say is there: the files of the layout, the commands, the scripts, the parameters, the links."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from inspo_core.config.reading import load_params

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}


def layout() -> list[str]:
    """The paths of the code block below the heading Layout; an indented one lies in the last one that is less indented."""
    block = re.search(r"^## Layout\n.*?```\w*\n(.*?)```", README, re.MULTILINE | re.DOTALL)[1]
    paths, folders = [], []
    for line in block.splitlines():
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        folders = [(depth, folder) for depth, folder in folders if depth < indent]
        paths.append("".join(folder for _, folder in folders) + name)
        if name.endswith("/"):
            folders.append((indent, name))
    return paths


def commands(text: str) -> list[list[str]]:
    """Lines of code blocks and inline code that call a module, without comments; what was once run at some commit is history."""
    text = re.sub(r"^\|.*\| [0-9a-f]{12}\b.*$|^\| [0-9a-f]{12}\b.*$", "", text, flags=re.MULTILINE)
    code = [line for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) for line in block.replace("\\\n", " ").splitlines()]
    code += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    calls = [line for line in code if re.match(r"(\S*/)?python -m (components|pipelines|inspo_core|benchmarks)\b", line.strip())]
    return [shlex.split(line, comments=True) for line in calls if "<" not in line and "..." not in line]


def test_the_layout_is_true_and_complete():
    paths = layout()
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists() or path.endswith("/") != (ROOT / path).is_dir()] == []
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    folders = {path.partition("/")[0] + "/" for path in tracked if "/" in path and not path.startswith(".")}
    assert folders - set(paths) == set(), "folders that the layout does not name"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_scripts_exist(page):
    links = {link for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", PAGES[page]) if not ((ROOT / page).parent / link).exists()}
    scripts = {name for name in re.findall(r"\bscripts/[\w.-]*\w", PAGES[page]) if not (ROOT / name).exists()}
    assert not links | scripts


def program(call: list[str]) -> tuple[str, ...]:
    """The module that is called, and its subcommand if it has one."""
    return tuple(call[2:4]) if len(call) > 3 and call[3].isalpha() else (call[2],)


@pytest.mark.parametrize("named", sorted({program(call) for text in PAGES.values() for call in commands(text)}), ids=" ".join)
def test_commands_parse(named):
    """A call's options are options of the command."""
    assert importlib.util.find_spec(named[0]), named[0]
    done = subprocess.run([sys.executable, "-m", *named, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"--[\w-]+", done.stdout))
    for page, text in PAGES.items():
        for call in commands(text):
            unknown = {word.partition("=")[0] for word in call if word.startswith("--")} - known
            assert program(call) != named or not unknown, f"{page}: {shlex.join(call)}"


def test_parameters_set_in_examples_exist():
    pattern = r"(?:-S|--set)[ =](?:'(\w+\.[\w.]+=[^']+)'|(\w+\.[\w.]+=[^\s`]+))"
    found = [quoted or plain for text in PAGES.values() for quoted, plain in re.findall(pattern, text)]
    assert found
    for name, _, value in (assignment.partition("=") for assignment in found):
        for one in [value] if value.startswith("[") else value.split(","):  # several values make several experiments
            load_params(ROOT / "params.yaml", [f"{name}={one}"])


def test_the_readme_names_its_scripts_and_every_stage():
    assert {"scripts/reproduce.sh", "scripts/test.sh"} <= set(re.findall(r"scripts/[\w.-]*\w", README))
    stages = {call[2] for call in commands(README) if call[2].startswith("components.")}
    assert stages == {f"components.{path.parent.name}" for path in (ROOT / "components").glob("*/__main__.py")} - {"components.check"}
