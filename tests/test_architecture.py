"""The house: who may import whom. A layer imports from those below it and from itself."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. A name is a module or a package with all below it.
FLOORS = [
    ["inspo_core.redaction"],
    ["inspo_core.errors"],
    ["inspo_core.parsing", "inspo_core.project"],
    [
        "inspo_core.code_graph",
        "inspo_core.command",
        "inspo_core.files",
        "inspo_core.rng",
        "inspo_core.section",
        "inspo_core.stopping",
    ],
    ["inspo_core.dvc_lock", "inspo_core.provenance", "inspo_core.records", "inspo_core.statistics", "inspo_core.tables"],
    ["inspo_core.identity"],
    ["inspo_core.envs"],
    ["inspo_core.datasets"],
    ["inspo_core.algorithms", "inspo_core.exact"],
    ["inspo_core.config"],
    ["inspo_core.evaluations"],
    ["inspo_core.tracking"],
    ["inspo_core.report", "inspo_core.running"],
    ["inspo_core.stages"],
    ["inspo_core.code_hashes", "inspo_core.publish"],
    ["components"],
    ["pipelines"],
]
# What a part may not import, at any depth of its own files: what it must know nothing of.
FORBIDDEN = {
    "inspo_core.algorithms": ["argparse", "dvc", "inspo_core.files", "kfp", "mlflow", "os", "pathlib", "safetensors"],
    "inspo_core.config": ["torch"],
    "inspo_core.datasets": ["inspo_core.tracking", "mlflow", "torch"],
    "inspo_core.envs": ["inspo_core.tracking", "mlflow"],
    "inspo_core.exact": ["mlflow", "torch"],
    "inspo_core.report": ["inspo_core.tracking", "mlflow", "torch"],
}
# Libraries that only these may import.
ONLY = {"mlflow": ["inspo_core.tracking.mlflow"], "kfp": ["components", "pipelines"], "dvc": ["inspo_core.datasets.fetch"]}


@cache
def modules() -> list[tuple[str, ast.Module]]:
    return list(_modules())


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for package in ("inspo_core", "components", "pipelines"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
            yield name, ast.parse(path.read_text())


def imports(tree: ast.Module, with_typing: bool = True) -> Iterator[str]:
    """The modules that a file imports, wherever in it; ``with_typing``: those too that only type checkers see."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not with_typing:
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" if is_module(f"{node.module}.{alias.name}") else node.module for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def floor(name: str) -> int | None:
    return next((number for number, parts in enumerate(FLOORS) if any(within(name, part) for part in parts)), None)


def test_every_module_has_a_floor():
    assert [name for name, _ in modules() if floor(name) is None and name != "inspo_core"] == []


def test_imports_point_downward():
    upward = {
        f"{name} -> {other}"
        for name, tree in modules()
        for other in imports(tree, with_typing=False)
        if (theirs := floor(other)) is not None and (ours := floor(name)) is not None and theirs > ours
    }
    assert upward == set()


def test_parts_of_one_floor_do_not_import_one_another():
    def part(name: str) -> str:
        return next(part for parts in FLOORS for part in parts if within(name, part))

    sideways = {
        f"{name} -> {other}"
        for name, tree in modules()
        for other in imports(tree, with_typing=False)
        if floor(other) is not None and floor(name) == floor(other) and part(name) != part(other)
    }
    assert sideways == set()


def test_there_are_no_circles():
    arrows = {name: {other for other in imports(tree, with_typing=False) if is_module(other) and other != name} for name, tree in modules()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in arrows.get(name, ()):
                visit(other, (*path, name))
            done.add(name)

    for name in arrows:
        visit(name, ())


@pytest.mark.parametrize("part", FORBIDDEN)
def test_a_part_knows_nothing_of_what_is_not_its_own(part):
    found = {
        f"{name} -> {other}"
        for name, tree in modules()
        if within(name, part)
        for other in imports(tree, with_typing=False)
        if any(within(other, forbidden) for forbidden in FORBIDDEN[part])
    }
    assert found == set()


@pytest.mark.parametrize("library", ONLY)
def test_a_library_stays_where_it_belongs(library):
    found = {
        name
        for name, tree in modules()
        for other in imports(tree)
        if within(other, library) and not any(within(name, place) for place in ONLY[library])
    }
    assert found == set()


def test_nothing_is_written_twice_in_the_table_of_floors():
    parts = [part for parts in FLOORS for part in parts]
    assert len(parts) == len(set(parts)) and all(is_module(part) for part in parts)
