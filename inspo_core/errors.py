"""What a user is meant to read, without secrets."""

import sys
from contextlib import suppress

from inspo_core.redaction import redact


class InspoError(Exception):
    """Bad input or an unusable place: one sentence that names the place, what was found and what to do.

    Commands print it as ``error: ...`` and exit with status 2; anything else that escapes is a bug.
    """

    def __init__(self, sentence: str):
        """What is secret in ``sentence`` is hidden in the error."""
        super().__init__(redact(sentence))


def warn(sentence: str) -> None:
    """Print a warning to standard error: something is not as it should be, and the work goes on."""
    say(f"warning: {redact(sentence)}")


def say(line: str) -> None:
    """Print a line to standard error. Work does not end because nobody reads it any more."""
    with suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)
