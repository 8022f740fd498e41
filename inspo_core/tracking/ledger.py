"""Where the runs of an experiment come from, in one file beside its outputs.

The outputs hold nothing of the kind, so that they have the same bytes wherever and from whatever commit they are made.
"""

import os
import platform
from pathlib import Path
from typing import Any

from inspo_core.files import read_json, write_json
from inspo_core.tracking.provenance import lasting_tags


def record_runs(ledger: Path, fingerprints: list[str], command: str) -> None:
    """Note that ``command`` makes the runs ``fingerprints`` now, with this code on this machine.

    ``ledger`` holds ``origins``, a list of :func:`origin`, and ``runs``: fingerprint -> place in that list.
    """
    known = read_json(ledger) if ledger.exists() else {"origins": [], "runs": {}}
    now = origin(command)
    if now not in known["origins"]:
        known["origins"].append(now)
    known["runs"] |= dict.fromkeys(fingerprints, known["origins"].index(now))
    write_json(ledger, known)


def origins_of(ledger: Path, fingerprints: list[str]) -> list[tuple[dict[str, Any] | None, int]]:
    """The origins of the runs ``fingerprints`` and how many are of each; None for runs of which nothing was noted."""
    known = read_json(ledger) if ledger.exists() else {"origins": [], "runs": {}}
    places = [known["runs"].get(name) for name in fingerprints]
    return [(None if place is None else known["origins"][place], places.count(place)) for place in dict.fromkeys(places)]


def origin(command: str) -> dict[str, Any]:
    """Command, commit and dirty flag, library versions, hash of the raw data, processor."""
    tags = {name: value for name, value in lasting_tags().items() if not name.startswith("mlflow.")}
    return {**tags, "command": command, "processor": processor(), "cores": len(os.sched_getaffinity(0))}


def processor(information: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model as Linux names it, elsewhere the machine's architecture."""
    try:
        lines = information.read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
