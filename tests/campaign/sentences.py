"""What a refusal must be: one short sentence that names the place and the field, what was found and what was expected."""

import re
from collections.abc import Collection

LONGEST = 600  # characters of a sentence that somebody reads
ERROR, WARNING = "error: ", "warning: "
# Words with which a sentence says what would have been right, or what to do about it.
EXPECTED = re.compile(
    r"\b(expected|should|must|needs?|at (least|most)|greater than|less than|more than|known|did you mean|not one of|no more than|"
    r"is to be|is now|where|but|says|valid|missing|twice|more than once|finite|followed by|is not|nor|no such|has no|there is none)\b"
    r"|: (Is a directory|Not a directory|File name too long|Permission denied)"
)
ADVICE = re.compile(
    r"[;,:] (and )?(please )?(run|make|get|write|copy|give|remove|set|name|add|use|choose|raise|lower|correct|take|put|call|wait|free|"
    r"see|go on|start|end|rename|quote|restore|look|check|install|move|unset|list|say)\b"
)
FOUND = re.compile(
    r"\b(is|are|has|have|holds?|found|says|names?|contains|ends|begins|no|not|unknown|missing|damaged|listed|belongs|leads|without|became|"
    r"cannot|leaves|written|twice)\b"
)


def faults_of(
    said: str, status: object, named: Collection[str], fields: Collection[str], found: Collection[str], right_status: int = 2
) -> list[str]:
    """The rules that a refusal breaks; ``said`` is all of standard error, ``status`` the exit status.

    ``named``: the files or options of which one must be named; ``fields``: the same of fields, empty where there is none to name (a file
    that cannot be parsed); ``found``: how what was found may be repeated, empty where any way to say it will do.
    """
    faults = [] if status == right_status else [f"exit status {status}, not {right_status}"]
    lines = said.splitlines()
    errors = [line for line in lines if line.startswith(ERROR)]
    if len(errors) != 1:
        return [*faults, f"{len(errors)} lines begin with 'error: '"]
    (sentence,) = errors
    if others := [line for line in lines if line is not sentence and not line.startswith(WARNING)]:
        faults.append(f"more lines, such as {others[0][:80]!r}")
    if max(map(len, lines)) > LONGEST:
        faults.append("longer than 600 characters")
    if not sentence.isprintable():
        faults.append("not printable")
    sentence = said if right_status == 1 else sentence  # delivery's warnings explain what its error sums up
    if named and not any(name in sentence for name in named):
        faults.append("names neither the file nor the option")
    if fields and not any(re.search(rf"(?<!\w){re.escape(field)}(?!\w)", sentence) for field in fields):
        faults.append("does not name the field")
    if found and not any(part in sentence for part in found) and not re.search(r"\b(missing|unknown|no such|has no|secrets)\b", sentence):
        faults.append("does not say what was found")
    if not found and "secrets" not in sentence and not FOUND.search(sentence):
        faults.append("does not say what was found")
    if right_status == 1 and re.search(r"\b(kept|stay|left|not delivered)\b", sentence):
        return faults  # what becomes of the records is what matters there
    if not EXPECTED.search(sentence) and not ADVICE.search(sentence):
        faults.append("does not say what was expected")
    return faults


def shape_of(sentence: str) -> str:
    """A sentence without its names and numbers, so that those of one kind are one."""
    sentence = re.sub(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\{[^}]*\}", "…", sentence)
    return re.sub(r"-?\d[\d.e+-]*", "0", sentence)[:160]


def ways_to_say(value: object) -> tuple[str, ...]:
    """How a sentence may repeat ``value``: its beginning as Python or JSON writes it, its type, or that there is none."""
    kind = {bool: "bool", int: "integer", float: "number", str: "string", list: "list", dict: "mapping", type(None): "null"}.get(
        type(value), ""
    )
    try:
        written = [str(value), repr(value)]
    except (ValueError, RecursionError):  # an integer of too many digits, a nest too deep
        written = []
    words = {True: ("true", "True"), False: ("false", "False")}.get(value, ()) if isinstance(value, bool) else ()
    return tuple(filter(None, (*(text[:12] for text in written), *words, *([type(value).__name__] if written else []), kind)))
