"""What code a run can reach: the definitions behind an entry point, and one hash of what they say.

A definition is a function, class or assignment of a module's top level. From the entry on, every name in a definition is followed to
the definition that it means, through imports and re-exports. In the text that is hashed these names are replaced by numbers, given at
the first visit, so that an import counts as the content that it leads to: files, packages, definitions and aliases may be renamed and
moved, comments, docstrings, formatting, the types of parameters and the sentences of errors changed, and the hash stays. A changed
formula changes the hash of whatever can reach it, and of nothing else. Source is parsed, never imported.

Names of locals, parameters, methods and attributes count as text; those of external modules with their dots, so that ``np.zeros`` is
``from numpy import zeros``; a string ``"package.module:Name"`` as what it names; a module that is used as a value, as in
``getattr(module, name)``, as all its definitions with their names; statements that may do more than bind names, such as a call, as a
part of every definition of their module and of the modules below it.

Not seen: modules that are imported for their effect alone; names put together at run time (``import_module``, ``globals()``); what
other modules assign to a module's attributes; files that code reads; compiled modules; quoted types that are more than
a name; what reads the types of parameters (``singledispatch``) or ``__name__``; the releases of libraries.
"""

import ast
import builtins
import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from inspo_core.errors import InspoError

EFFECTS, WHOLE = "", "*"  # in place of a definition's name: the statements that may do more than bind names; all definitions
WITHOUT_EFFECT = {"annotation", "ctx", "kind", "returns", "type_comment", "type_params"}  # fields of the syntax tree
REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):([A-Za-z_]\w*(?:\.\w+)*)")


@dataclass(frozen=True)
class Reached:
    """What an entry point can reach."""

    digest: str  # SHA-256 of what the definitions say, in hexadecimal
    libraries: frozenset[str]  # top-level names of the external modules that they use, the standard library apart
    definitions: frozenset[str]  # "module:name", for people and tests; no part of the digest


def reach(*entries: str, cut: Collection[str] = (), packages: Collection[str] = ("inspo_core",)) -> Reached:
    """All that the definitions ``entries``, each a ``"module:name"``, can reach; the same on every Python from 3.11 on.

    ``packages``: the top-level packages whose source is followed; all others are external.
    ``cut``: modules, with all below them, and definitions (``"module:name"``) that are not followed. What is used of them counts by
    its name alone.

    Raises InspoError for an entry, a cut or a package that is not there, and for source that is not Python.
    """
    graph = _Graph(packages)
    graph.cut = {graph.find("cut", name) for name in cut}
    found = [graph.number(graph.find("entry", entry)) for entry in entries]
    said = [graph.text(*definition) for definition in graph.order]  # grows while it is read
    digest = hashlib.sha256("\n".join(found + said).encode()).hexdigest()
    names = frozenset(f"{source.module}:{name}" for source, name in graph.order if name not in (EFFECTS, WHOLE))
    return Reached(digest, frozenset(graph.libraries - sys.stdlib_module_names), names)


class _Use(NamedTuple):
    """A name that leads out of a definition: an attribute of an attribute of a module."""

    module: str
    path: tuple[str, ...]
    text: str | None = None  # what stands there if it leads nowhere, such as a builtin; None for an import


_Definition = tuple["_Source", str]
_Names = dict[str, _Use | None]  # that a scope binds; where those lead that are imported


class _Graph:
    """The followed modules, and the definitions in the order in which they are met."""

    def __init__(self, packages: Collection[str]):
        self.order: list[_Definition] = []
        self.libraries: set[str] = set()
        self.cut: set[_Definition] = set()
        self._packages = packages
        self._numbers: dict[_Definition, str] = {}
        self._sources: dict[str, _Source | None] = {}
        self._said: dict[_Use, str] = {}

    def find(self, role: str, reference: str) -> _Definition:
        """What ``"module:name"`` names, or a whole module. Raises InspoError if that is not there, or cut."""
        module, colon, name = reference.partition(":")
        found = self._follow(module, (name,) if colon else ())[0] if self._source(module) else ""
        kind, packages = "module" if role == "cut" and not colon else "definition", " or ".join(sorted(self._packages))
        if isinstance(found, str) or (found[1] == WHOLE) != (kind == "module"):
            raise InspoError(f"the {role} {reference!r} leads nowhere; expected a {kind} of {packages} that is not cut")
        return found

    def number(self, definition: _Definition) -> str:
        if definition not in self._numbers:
            self._numbers[definition] = f"<{len(self.order)}>"
            self.order.append(definition)
        return self._numbers[definition]

    def text(self, source: "_Source", name: str) -> str:
        """What a definition says, with numbers for names."""
        if name == WHOLE:
            return "".join(f"{name}={self._say(source.use(name))}" for name in sorted(source.everything()))
        said = [part if isinstance(part, str) else self._say(part) for part in source.parts(name)]
        above = [self._source(module) for module in _and_above(source.module) if name != EFFECTS]
        return "".join(said + [self.number((one, EFFECTS)) for one in above if one and EFFECTS in one.names])

    def _say(self, use: _Use) -> str:
        if use not in self._said:
            if use.text is not None and not (self._source(use.module) and self._home(use.module, use.path[0])):
                self._said[use] = use.text
            else:
                what, attributes = self._follow(use.module, use.path)
                self._said[use] = ".".join((what if isinstance(what, str) else self.number(what), *attributes))
        return self._said[use]

    def _follow(self, module: str, path: tuple[str, ...]) -> tuple[_Definition | str, tuple[str, ...]]:
        """What the attributes ``path`` of a module lead to, with those that are left: a definition, or words for what is not followed."""
        source = self._source(module)
        if not source:
            self.libraries.add(module.partition(".")[0])
            return f"<external {'.'.join((module, *path))}>", ()
        name, rest = path[0] if path else "", path[1:]
        is_imported_by_itself = source.names.get(name) == _Use(module, (name,))  # a package's "from . import submodule"
        if path and (is_imported_by_itself or name not in source.names and self._source(f"{module}.{name}")):
            return self._follow(f"{module}.{name}", rest)
        if any((above := self._source(one)) and (above, WHOLE) in self.cut for one in _and_above(module)):
            return f"<cut {name}>", rest
        home = self._home(module, name) if path else None
        if home is None:
            return (source, WHOLE), path  # an attribute that is not there may be made at run time, by anything in the module
        if home != module:
            return self._follow(home, path)
        if use := source.names[name]:
            return self._follow(use.module, use.path + rest)
        return f"<cut {name}>" if (source, name) in self.cut else (source, name), rest

    def _home(self, module: str, name: str, passed: tuple[str, ...] = ()) -> str | None:
        """The module that binds a name: this one, or one from which it imports ``*``."""
        source = self._source(module)
        if not source:
            return None if hasattr(builtins, name) else module
        if name in source.names:
            return module
        stars = [star for star in source.stars if star not in passed and not ((taken := self._source(star)) and taken.hides(name))]
        return next(filter(None, (self._home(star, name, (*passed, module)) for star in stars)), None)

    def _source(self, module: str) -> "_Source | None":
        """None for what is not followed: external modules, and those without Python source."""
        if module not in self._sources:
            file = _file_of(module) if module.partition(".")[0] in self._packages else None
            self._sources[module] = _parse(file, module, file.stat().st_mtime_ns, file.stat().st_size) if file else None
        return self._sources[module]


def _and_above(module: str) -> list[str]:
    """``a.b.c``, ``a.b`` and ``a``."""
    return [module.rsplit(".", up)[0] for up in range(module.count(".") + 1)]


def _file_of(module: str) -> Path | None:
    """The source of a module; of a package without ``__init__.py`` its folder."""
    top, *below = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise InspoError(f"the package {top!r}, whose code is to be followed, is not installed")
    stems = [Path(place, *below) for place in spec.submodule_search_locations or ()]
    files = [file for stem in stems for file in (stem / "__init__.py", stem.with_suffix(".py"))] + stems
    if spec.origin and spec.origin.endswith(".py") and not below:
        files = [Path(spec.origin)]
    return next((file for file in files if file.exists()), None)


@functools.cache
def _parse(file: Path, module: str, changed: int, size: int) -> "_Source":
    is_package = file.suffix != ".py" or file.stem == "__init__"
    try:
        return _Source(module, is_package, ast.parse(file.read_bytes() if file.suffix == ".py" else b""))
    except (SyntaxError, ValueError) as error:
        raise InspoError(f"{file} is not Python that version {sys.version_info[0]}.{sys.version_info[1]} reads: {error}") from error


class _Source:
    """The top level of a module: the names that it binds, and the statements that do so."""

    def __init__(self, module: str, is_package: bool, tree: ast.Module):
        self.module = module
        self.names: _Names = {}
        self.stars: list[str] = []
        self._is_package = is_package
        self._statements: dict[str, list[ast.stmt]] = {}
        self._parts: dict[str, list[str | _Use]] = {}
        for statement in _running(tree.body):
            bound = [*self.bound(statement), *((name, None) for name in _declared_global(statement))] or [(EFFECTS, None)]
            self.stars += [use.module for name, use in bound if use and name == "*"]
            _add(self.names, bound)
            for name in {name for name, _ in bound}:
                self._statements.setdefault(name, []).append(statement)

    def bound(self, node: ast.AST) -> Iterator[tuple[str, _Use | None]]:
        """The names that a node binds in its scope, with where they lead if it imports them; ``EFFECTS`` if it may do more."""
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    top = alias.name.partition(".")[0]
                    yield alias.asname or top, _Use(alias.name if alias.asname else top, ())
                return
            case ast.ImportFrom(module=module, names=aliases, level=level):
                above = self.module.rsplit(".", level - self._is_package)[0] if level else None
                for alias in aliases:
                    yield alias.asname or alias.name, _Use(".".join(filter(None, (above, module))), (alias.name,))
                return
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                yield from ((inner.target.id, None) for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr))
                return
            case ast.Name(ctx=ast.Store() | ast.Del()):
                yield node.id, None
            case ast.Expr() | ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                yield EFFECTS, None
        if isinstance(name := getattr(node, "name", getattr(node, "rest", None)), str):  # of functions, classes, except and match
            yield name, None
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            for child in ast.iter_child_nodes(node):
                yield from self.bound(child)

    def use(self, name: str) -> _Use:
        """A name that nothing around it binds but the module, if not a builtin."""
        return _Use(self.module, (name,), name)

    def hides(self, name: str) -> bool:
        """Whether ``import *`` leaves the name out, by ``__all__`` if that is a literal."""
        try:
            return name not in ast.literal_eval(self._statements["__all__"][0].value)  # type: ignore[attr-defined]
        except (KeyError, ValueError, AttributeError):
            return name.startswith("_")

    def everything(self) -> list[str]:
        """What counts if the module is used as a value: its definitions, of a package also what it re-exports."""
        return [name for name, use in self.names.items() if use is None or self._is_package]

    def parts(self, name: str) -> list[str | _Use]:
        """A definition in canonical form: texts, and between them the names that lead out of it."""
        if name not in self._parts:
            parts = self._parts[name] = []
            for statement in self._statements[name]:
                _Writer(self, parts).visit(statement)
        return self._parts[name]


def _add(names: _Names, bound: Iterable[tuple[str, _Use | None]]) -> None:
    """An import that shares its name with another binding does not lead on: the statements count."""
    for name, use in bound:
        names[name] = use if names.get(name, use) == use else None


def _declared_global(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Global):
        yield from node.names
    elif not isinstance(node, ast.expr):
        for child in ast.iter_child_nodes(node):
            yield from _declared_global(child)


def _running(items: Iterable[Any]) -> Iterator[Any]:
    """Syntax without docstrings, and without what only type checkers and scripts run."""
    for item in items:
        match item:
            case ast.If(ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING") | ast.Compare(ast.Name("__name__"))):
                yield from _running(item.orelse)
            case ast.Expr(ast.Constant()) | ast.Pass() | ast.Global():
                pass
            case _:
                yield item


class _Writer(ast.NodeVisitor):
    """Writes the syntax of one scope in a form that all versions of Python share, and looks names up as Python does."""

    def __init__(self, source: _Source, parts: list[str | _Use], around: tuple[_Names, ...] = (), own: _Names | None = None):
        """``around``: the names of the functions around, from inside out; ``own``: of a class, those bound so far."""
        self._source, self._parts, self._around, self._own = source, parts, around, own

    def generic_visit(self, node: ast.AST) -> None:
        self._write(node, *(field for field in node._fields if field not in WITHOUT_EFFECT))

    def _write(self, node: ast.AST, *fields: str) -> None:
        self._parts.append(f"{type(node).__name__}(")
        for field in fields:
            if (value := getattr(node, field, None)) is not None and value != []:
                self._parts.append(f"{field}=")
                self._value(value)
        self._parts.append(")")

    def _value(self, value: Any) -> None:
        if isinstance(value, ast.AST):
            self.visit(value)
        elif isinstance(value, list):
            self._parts.append("[")
            for item in _running(value):
                said = len(self._parts)
                self._value(item)
                self._parts += [","] if len(self._parts) > said else []
            self._parts.append("]")
        else:
            self._parts.append(ascii(value))

    def _look_up(self, name: str) -> _Use | None:
        """Where a name leads; None for a local."""
        return next((names[name] for names in (self._own or {}, *self._around) if name in names), self._source.use(name))

    def _bind(self, name: str) -> None:
        self._parts.append(name if self._own is not None else self._look_up(name) or name)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._parts.append(self._look_up(node.id) or node.id)
        else:
            self._bind(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        root: Any = node
        attributes: list[str] = []
        while isinstance(root, ast.Attribute):
            attributes.insert(0, root.attr)
            root = root.value
        if isinstance(root, ast.Name) and (use := self._look_up(root.id)):
            text = use.text and ".".join((use.text, *attributes))
            self._parts.append(_Use(use.module, (*use.path, *attributes), text))
        else:
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        text = ascii(node.value)
        named = REFERENCE.fullmatch(node.value) if isinstance(node.value, str) else None
        self._parts.append(_Use(named[1], tuple(named[2].split(".")), text) if named else text)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Versions of Python differ in the empty texts between the fields."""
        self._value([value for value in node.values if not (isinstance(value, ast.Constant) and value.value == "")])

    def visit_Raise(self, node: ast.Raise) -> None:
        """What an error says is no part of a result: its kind alone counts."""
        self._parts.append("Raise(")
        self._value(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        self._parts.append(")")

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Said here only if the name may mean other things too; else it is said where the name is used."""
        names = {} if self._own is not None else [*self._around, self._source.names][0]
        for name, use in self._source.bound(node):
            if use and not names.get(name):
                self._parts += [name, "=", use]

    visit_ImportFrom = visit_Import

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Types count in classes, whose fields they may define; elsewhere this is an assignment, if it assigns anything."""
        if self._own is not None:
            self._write(node, "target", "value")
            quoted = getattr(node.annotation, "value", None)
            self.visit(ast.Name(quoted, ast.Load()) if isinstance(quoted, str) else node.annotation)
        elif node.value:
            self._write(ast.Assign([node.target], node.value), "targets", "value")

    def visit_FunctionDef(self, node: Any) -> None:
        if not isinstance(node, ast.Lambda):
            self._bind(node.name)
        self._write(node, "args", "decorator_list")
        args, body = node.args, node.body if isinstance(node.body, list) else [node.body]
        names: _Names = {one.arg: None for one in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg) if one}
        _add(names, [bound for part in body for bound in self._source.bound(part)])
        names |= {name: self._source.use(name) for name in _declared_global(node)}
        self._inside(names)._write(node, "body")

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        self._write(node, "bases", "keywords", "decorator_list")
        names: _Names = {}
        for statement in _running(node.body):
            _Writer(self._source, self._parts, self._around, names).visit(statement)
            _add(names, self._source.bound(statement))

    def visit_ListComp(self, node: Any) -> None:
        """Comprehensions: the first iterable is looked up outside."""
        names: _Names = dict(bound for generator in node.generators for bound in self._source.bound(generator.target))
        inside = self._inside(names)
        for number, generator in enumerate(node.generators):
            (inside if number else self).visit(generator.iter)
            inside._write(generator, "target", "ifs", "is_async")
        inside._write(node, "elt", "key", "value")

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def _inside(self, names: _Names) -> "_Writer":
        """Of a function or comprehension, which does not see the names of a class around it."""
        return _Writer(self._source, self._parts, (names, *self._around))
