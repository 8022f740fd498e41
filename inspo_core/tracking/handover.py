"""Records that a machine could not deliver before its end, and so left in the shared store.

Below ``INSPO_STORE`` they are objects ``outbox/<run>.<random>.tar.gz``, a journal's folder each.
"""

import io
import os
import secrets
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

import fsspec

from inspo_core.errors import InspoError
from inspo_core.project import in_project
from inspo_core.tracking.journal import JOURNAL, LOCK, Journal
from inspo_core.tracking.mlflow.delivery import Delivery
from inspo_core.tracking.mlflow.server import Unreachable, reason

_DAMAGED = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError)  # what an archive may end in


def leave(journals: list[Journal]) -> str | None:
    """Put journals into the shared store, one object each, and remove them here; returns where they are, None without a store.

    Raises what the store raises.
    """
    if not (store := os.environ.get("INSPO_STORE")):
        return None
    files, root = fsspec.core.url_to_fs(in_project(store))
    files.makedirs(f"{root}/outbox", exist_ok=True)
    for journal in journals:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(journal.folder, ".", filter=lambda member: None if Path(member.name).name == LOCK else member)
        target = f"{root}/outbox/{journal.folder.name}.{secrets.token_hex(4)}"  # another attempt at the same run may leave one too
        files.pipe_file(f"{target}.part", packed.getvalue())
        files.mv(f"{target}.part", f"{target}.tar.gz")
        journal.remove()
    return f"{store}/outbox"


def deliver_left(delivery: Delivery) -> list[str]:
    """Deliver what machines have left in the shared store, and remove it there; returns the names of what is damaged or MLflow refuses,
    which is a warning each.

    Raises Unreachable, and InspoError if the store fails.
    """
    if not (store := os.environ.get("INSPO_STORE")):
        return []
    try:
        return _deliver_left(in_project(store), delivery)
    except Unreachable:
        raise
    except Exception as error:  # each kind of store fails with errors of its own
        raise InspoError(f"records that machines left in {store} (INSPO_STORE) cannot be read ({reason(error)})") from error


def _deliver_left(store: str, delivery: Delivery) -> list[str]:
    files, root = fsspec.core.url_to_fs(in_project(store))
    files.invalidate_cache()
    places, left = {}, []
    with tempfile.TemporaryDirectory() as outbox:
        for name in files.find(f"{root}/outbox"):
            if name.endswith(".tar.gz"):
                content = files.cat_file(name)
                place = Path(outbox, Path(name).name.removesuffix(".tar.gz"))
                try:
                    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                        _unpack(archive, place)
                    if not (place / JOURNAL).is_file():
                        raise ValueError(f"{JOURNAL} is missing in it")
                    places[name] = place
                except _DAMAGED as error:
                    shutil.rmtree(place, ignore_errors=True)
                    left.append(place.name)
                    delivery.warn_once(f"{name} cannot be unpacked ({reason(error)}), so it is left as it is")
        if places:
            _, refused = delivery.send_outbox(Path(outbox))
            left += refused
        for name, place in places.items():
            if not place.exists():  # delivered, not refused
                files.rm_file(name)
    return left


def _unpack(archive: tarfile.TarFile, place: Path) -> None:
    """Plain files and folders below ``place``, nothing else; ``extractall(filter="data")`` needs Python 3.11.4, Debian 12 has 3.11.2."""
    for member in archive:
        target = place / member.name
        if not (member.isfile() or member.isdir()) or ".." in target.parts or not target.is_relative_to(place):
            raise ValueError(f"{member.name!r} in it is not a file or folder of its own")
        (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
        if content := archive.extractfile(member):
            target.write_bytes(content.read())
