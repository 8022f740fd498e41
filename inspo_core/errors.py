"""What a user is meant to read, without secrets."""

import sys
from contextlib import suppress

from inspo_core.redaction import redact


class InspoError(Exception):
    """Bad input or an unusable place: one sentence that names the place, what was found and what to do.

    Commands print it as ``error: ...`` and exit with status 2; anything else that escapes is a bug.
    """

    def __init__(self, sentence: str):
        """What is secret in ``sentence`` is hidden in the error; a name with a line break in it makes no second line."""
        super().__init__(redact(sentence).replace("\n", "\\n"))


LONGEST = 200  # characters of what was found that a message repeats


def quoted(value: object) -> str:
    """What was found, as Python writes it, at a length that can be read."""
    return shortened(repr(value))


def shortened(text: object) -> str:
    """``text`` at a length that can be read, on one line."""
    said = str(text)
    shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in said[:LONGEST])
    return shown if len(said) <= LONGEST else f"{shown}... ({len(said)} characters)"


def warn(sentence: str) -> None:
    """Print a warning to standard error: something is not as it should be, and the work goes on."""
    say(f"warning: {redact(sentence)}")


def say(line: str) -> None:
    """Print a line to standard error. Work does not end because nobody reads it any more."""
    with suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)
