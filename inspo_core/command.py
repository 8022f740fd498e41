"""How every command ends."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from inspo_core.errors import InspoError
from inspo_core.redaction import redact

EXIT_BAD_INPUT = 2


class Parser(argparse.ArgumentParser):
    """A command's options; what is wrong with them is said without the secrets that they may hold."""

    def error(self, message: str) -> NoReturn:
        super().error(redact(message))


def run(main: Callable[[], None]) -> None:
    """Run a command; bad input ends in one sentence on standard error and exit status 2.

    What the terminal's encoding cannot show is printed as an escape sequence.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except InspoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os._exit(1)  # the reader of our output has gone; nothing is left to say
    except OSError as error:
        place = error.filename or f"a file below {Path.cwd()}"
        print(f"error: cannot use {redact(str(place))}: {error.strerror}; free space there, or make it usable", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
