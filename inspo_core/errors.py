"""The one error that a user is meant to read."""


class InspoError(Exception):
    """Bad input or an unusable place: one sentence that names the place, what was found and what to do.

    Commands print it as ``error: ...`` and exit with status 2; anything else that escapes is a bug.
    """
