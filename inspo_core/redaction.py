"""Text without secrets."""

import os
import re
import urllib.parse
from pathlib import Path


def database_of(uri: str) -> Path | None:
    """The file of a SQLite URI; None for any other."""
    scheme, _, path = uri.partition(":///")
    return Path(urllib.parse.unquote(path.partition("?")[0])).absolute() if scheme.startswith("sqlite") else None


def shown(uri: str) -> str:
    """The URI without user, password and query, fit for messages; of a SQLite database its path."""
    if path := database_of(uri):
        return str(path)
    parts = urllib.parse.urlsplit(uri)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redact(text: str) -> str:
    """``text`` without the passwords of URIs in it."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        if uri := os.environ.get(name):
            text = text.replace(uri, shown(uri))
    return re.sub(r"(?<=://)[^/\s'\"]*@", "***@", text)
