"""YAML and JSON, each read in one way: no key twice, and a value is the same to every reader of the file.

YAML is that of version 1.2, as DVC reads it. Where DVC's reader goes beyond it (``1_000``, ``0b11``, dates), and in what need not be in a
file of settings (tags, merged mappings, keys that are no text), text is refused.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import yaml

from inspo_core.errors import InspoError, quoted, shortened

MOST_VALUES = 100_000  # of a YAML file, aliases followed
DEEPEST = 50  # levels of lists and mappings in one another
MOST_DIGITS = 300  # of a whole number, which is so at most a float's largest

# The core schema of YAML 1.2.
_PLAIN: list[tuple[re.Pattern[str], Callable[[str], Any]]] = [
    (re.compile(r"|~|null|Null|NULL"), lambda text: None),
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, 16)),
    (re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)"), lambda text: float(text.replace(".", ""))),
    (re.compile(r"\.(nan|NaN|NAN)"), lambda text: float("nan")),
]
# What other readers of YAML, of which DVC's is one, take for a number, a date or an operator.
_AMBIGUOUS = re.compile(
    r"[-+]?(0b|0o|0x)[0-9a-fA-F_]+|([-+][0-9_]+|[0-9][0-9_]*)(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9_]+([eE][-+]?[0-9]+)?"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?|=|<<"
)


class _Composer(yaml.SafeLoader):
    """The structure of the text; what its values are is told by :data:`_PLAIN`."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "tag", None):
            raise yaml.composer.ComposerError(None, None, f"the tag {shortened(event.tag)} is none of plain YAML", event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what a reader of either version of YAML would take for something else than text."""


for _pattern in (*(pattern for pattern, _ in _PLAIN), _AMBIGUOUS):
    _Dumper.add_implicit_resolver("inspo:no-text", re.compile(f"({_pattern.pattern})$"), None)


def parse_yaml(text: str | bytes, place: str) -> Any:
    """What one YAML document says. ``place`` is where it was read, for messages.

    Raises InspoError: no UTF-8, no YAML, a key twice in a mapping, a value that readers of YAML take differently, too much of anything.
    """
    try:
        composer = _Composer(_decoded(text))
        node = composer.get_single_node()
        if composer.yaml_version not in (None, (1, 2)):
            raise ValueError("it says that it is YAML 1.1; take the line %YAML away")
        return None if node is None else _Reader(place).value(node, 0)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        reason = f"{error.problem}, line {where.line + 1}" if where else error.problem
        raise InspoError(f"{place} is not valid YAML: {reason}") from error
    except yaml.YAMLError as error:
        raise InspoError(f"{place} is not valid YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise InspoError(f"{place} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise InspoError(f"{place} is not valid YAML: its lists and mappings lie deeper than {DEEPEST} levels in one another") from error


def dump_yaml(value: Any) -> str:
    """``value`` as YAML, whose text every reader takes for text; keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def parse_json(text: str | bytes, place: str) -> Any:
    """What a JSON text says. ``place`` is where it was read, for messages.

    Raises InspoError: no UTF-8, no JSON, a key twice in an object, a text or a number that nothing can use, too many levels.
    """
    try:
        value = json.loads(_decoded(text), object_pairs_hook=_distinct, parse_int=_whole_number)
        _check_json(value)
    except ValueError as error:
        raise InspoError(f"{place} is not valid JSON ({error})") from error
    except RecursionError as error:
        raise InspoError(f"{place} is not valid JSON (its lists and objects lie too deep in one another)") from error
    return value


def _decoded(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is no UTF-8") from error


def _check_text(text: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{quoted(text)} holds a character that no name and no file can hold")


def _whole_number(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits, more than {MOST_DIGITS}")
    return int(text)


class _Reader:
    """The values of composed nodes. Aliases are followed, so their number and depth end before the time does."""

    def __init__(self, place: str):
        self._place, self._count = place, 0

    def value(self, node: yaml.Node, depth: int) -> Any:
        self._count += 1
        if depth > DEEPEST:
            raise self._refused(node, f"lists and mappings lie deeper than {DEEPEST} levels in one another")
        if self._count > MOST_VALUES:
            raise self._refused(node, f"with its aliases (*) the text has more than {MOST_VALUES} values")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, depth + 1)
            if not isinstance(key, str):
                raise self._refused(key_node, f"the key {quoted(key)} is no text; put it in quotes")
            if key in found:
                raise self._refused(key_node, f"the key {quoted(key)} is there twice in one mapping; keep one of them")
            found[key] = self.value(value_node, depth + 1)
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        if node.style:  # in quotes, or a block
            try:
                _check_text(text)
            except ValueError as error:
                raise self._refused(node, str(error)) from error
            return text
        for pattern, convert in _PLAIN:
            if pattern.fullmatch(text):
                if len(text) > MOST_DIGITS:
                    raise self._refused(node, f"a number of {len(text)} characters, more than {MOST_DIGITS}")
                return convert(text)
        if _AMBIGUOUS.fullmatch(text):
            kinds = "readers of YAML take it for a number, a date or text; write a number in decimal digits, text in quotes"
            raise self._refused(node, f"{shortened(text)} is ambiguous: {kinds}")
        return text

    def _refused(self, node: yaml.Node, what: str) -> InspoError:
        return InspoError(f"{self._place}, line {node.start_mark.line + 1}: {what}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise ValueError(f"the key {quoted(twice)} is there twice in one object; keep one of them")
    return found


def _check_json(value: Any) -> None:
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"its lists and objects lie deeper than {DEEPEST} levels in one another")
        if isinstance(one, str):
            _check_text(one)
        elif isinstance(one, list):
            waiting += [(item, depth + 1) for item in one]
        elif isinstance(one, dict):
            waiting += [(item, depth + 1) for pair in one.items() for item in pair]
