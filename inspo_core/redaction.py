"""Text without secrets: what every message, tag, parameter and note goes through before it is printed or kept."""

import os
import re
import sys
import urllib.parse
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

HIDDEN = "***"
SHORTEST = 6  # characters of a secret that is hidden where it stands by itself; shorter ones are parts of too many words
_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN(?!IZ)|CREDENTIAL|ACCESS_?KEY|API_?KEY|COOKIE|SIGNATURE|\bSIG\b", re.IGNORECASE)

_SCHEME = r"\w[\w+.-]*://"
_TO_NEXT = rf"(?:(?!{_SCHEME}).)*"  # as much as is before the next address
_LOGIN = r"[^\s/@:\[]*:(?!\d+\b|[\s)]|$)"  # a user and a colon; after a host, a port would follow
# Up to the last @, since a password may hold a slash, a quote, a space or an @; without any @ the address was cut short.
_USER = re.compile(rf"(?<=://)(?!/)(?:{_LOGIN}{_TO_NEXT}@|(?:(?!{_SCHEME})\S)*@|{_LOGIN}\S*)")
_QUERY = re.compile(r"(://[^\s'\"<>?]*)\?[^\s'\"<>]+")
_NAME = rf"(?:{_SECRET_NAME.pattern})[\w-]*"
_SETTING = re.compile(rf"({_NAME}=)(?:\"[^\"]*\"|'[^']*'|[^\s&'\"]+)", re.IGNORECASE)
_ARGUMENT = re.compile(rf"{_NAME}=(.+)", re.IGNORECASE)
_FIELD = re.compile(rf"({_NAME}[\"']\s*:\s*([\"']))(?:(?!\2)[^\\]|\\.)*", re.IGNORECASE)  # of JSON, or of a dictionary that was printed


def database_of(uri: str) -> Path | None:
    """The file of a SQLite URI; None for any other."""
    scheme, _, path = uri.partition(":///")
    return Path(urllib.parse.unquote(path.partition("?")[0])).absolute() if scheme.startswith("sqlite") else None


def shown(uri: str) -> str:
    """The URI without user, password, query and fragment, fit for messages; of a SQLite database its path.

    The password ends at the last ``@``: it may hold what an address should not, such as a slash.
    """
    if path := database_of(uri):
        return str(path)
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return uri
    rest = rest if rest.startswith("/") else rest.rpartition("@")[2]
    return scheme + mark + re.split(r"[?#]", rest)[0]


def is_secret(name: str) -> bool:
    """Whether what has this name, such as an environment variable, is a secret, and not the path of a file that holds one."""
    return bool(_SECRET_NAME.search(name)) and not name.upper().endswith(("_PATH", "_FILE"))


def holds_secret(text: str) -> bool:
    """Whether an address in ``text`` holds a password, a value with a secret's name, or over HTTP a user; in ``ssh://git@host`` is none."""
    logins = [":" in found[0] or text[: found.start()].lower().endswith(("http://", "https://")) for found in _USER.finditer(text)]
    return any(logins) or ("://" in text and bool(_SETTING.search(text)))


def redact(text: str) -> str:
    """``text`` without secrets.

    Hidden are users, passwords and queries of addresses in it; values whose names are those of secrets (``password=...``); and wherever
    they stand the secrets that this process was given: its variables and arguments with such a name, and those in the addresses among both.
    """
    for secret, instead in _given(tuple(os.environ.items()), tuple(sys.argv)):
        text = text.replace(secret, instead)
    text = _USER.sub(lambda found: f"{HIDDEN}@" if found[0].endswith("@") else HIDDEN, text)
    for pattern, instead in ((_QUERY, r"\1"), (_SETTING, rf"\1{HIDDEN}"), (_FIELD, rf"\1{HIDDEN}")):
        text = pattern.sub(instead, text)
    return text


@lru_cache(maxsize=1)
def _given(environment: tuple[tuple[str, str], ...], arguments: tuple[str, ...]) -> list[tuple[str, str]]:
    """The secrets that a process was given, the longest first, and what to write instead."""
    secrets: dict[str, str] = {}
    for name, value in environment:
        if is_secret(name):
            secrets |= dict.fromkeys(_spellings(value), HIDDEN)
    for argument in arguments:
        if setting := _ARGUMENT.search(argument):
            secrets |= dict.fromkeys(_spellings(setting[1]), HIDDEN)
    for text in [*(value for _, value in environment), *arguments]:
        for address in re.split(_SCHEME, text)[1:]:
            secrets |= _of_address(address)
    return sorted(secrets.items(), key=lambda item: -len(item[0]))


def _of_address(address: str) -> dict[str, str]:
    """The secrets in an address, which comes without its scheme."""
    login, mark, rest = address.rpartition("@")
    user, colon, password = login.partition(":")
    secrets: dict[str, str] = {}
    if mark and not address.startswith("/"):
        secrets |= {f"{login}@": f"{HIDDEN}@"} if colon or len(login) >= SHORTEST else {}
        # Libraries that end a host at the password's first slash or colon quote what is left.
        for part in [password, *re.split(r"[/?#:@\s'\"&=]+", password if colon else user)]:
            secrets |= dict.fromkeys(_spellings(part), HIDDEN)
    for pair in (rest if mark else address).partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if is_secret(name):
            secrets |= dict.fromkeys(_spellings(value), HIDDEN)
    return secrets


def _spellings(secret: str) -> Iterator[str]:
    """The secret as it may stand in a text: as it is, and with its special characters written for an address or read from one."""
    for plain in (secret, urllib.parse.unquote(secret)):
        for spelling in (plain, urllib.parse.quote(plain), urllib.parse.quote(plain, safe=""), urllib.parse.quote_plus(plain)):
            if len(spelling) >= SHORTEST:
                yield spelling
