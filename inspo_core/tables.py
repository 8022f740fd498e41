"""Tables of what is chosen by name: games, readers, algorithms.

An entry is plain data and names, as ``module:name``, what does the work; that is loaded when it is needed, so what only lists, plans,
compiles or reports needs neither torch nor a simulator. Installed packages add entries through entry points: in their ``pyproject.toml``

    [project.entry-points."inspo.games"]
    harvest = "their_package.table:HARVEST"

where the name is the entry's own and the value is an object of the table's kind, in a module that imports quickly.
"""

import importlib.metadata
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from inspo_core.errors import InspoError, quoted
from inspo_core.section import close_or_known


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every entry has."""

    target: str  # "module:name" of what does the work
    libraries: tuple[str, ...] = ()  # distributions, beside numpy and torch, whose releases may change its numbers
    extra: str | None = None  # of this project, which installs what it needs

    def load(self) -> Any:
        """What ``target`` names. Raises InspoError where it cannot be imported: in one sentence, with what to install."""
        try:
            return pkgutil.resolve_name(self.target)
        except (ImportError, AttributeError) as error:
            advice = f"; install it with: pip install 'inspo[{self.extra}]'" if self.extra else ""
            raise InspoError(f"{self.target} cannot be used here ({error}){advice}") from error


E = TypeVar("E", bound=Entry)


class Table(Mapping[str, E], Generic[E]):
    """The entries of this project and those of installed packages, by name."""

    def __init__(self, noun: str, group: str, kind: type[E], entries: Mapping[str, E]):
        """``noun``: what an entry is; ``group``: where installed packages register theirs, objects of ``kind``."""
        self._noun, self._group, self._kind, self._own = noun, group, kind, entries

    @cached_property
    def _entries(self) -> dict[str, E]:
        entries = dict(self._own)
        for found in importlib.metadata.entry_points(group=self._group):
            where = f"entry point {found.name} = {found.value} of {found.dist.name if found.dist else 'an unknown package'}"
            if found.name in entries:
                raise InspoError(f"{where}: another {self._noun} has that name already; rename one of them")
            try:
                entry = found.load()
            except Exception as error:  # whatever a package does when it is imported
                raise InspoError(f"{where} cannot be loaded ({type(error).__name__}: {error}); mend or remove the package") from error
            if not isinstance(entry, self._kind):
                raise InspoError(f"{where} is {type(entry).__name__}, expected {self._kind.__module__}.{self._kind.__name__}")
            entries[found.name] = entry
        return entries

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, name: str, place: str = "") -> E:
        """The entry ``name``; InspoError if there is none. ``place`` is where the name was read, if it was."""
        if name not in self:
            said = f"{place} is {quoted(name)}: " if place else ""
            raise InspoError(f"{said}there is no {self._noun} {quoted(name)}{close_or_known(name, self)}")
        return self[name]
