"""Raw files of a dataset out of a DVC repository: read through DVC, verified against the hashes that it has for them.

The repository is any that git and DVC can read, at an address or in a folder; its datasets are the folders ``data/<name>``. Neither
address nor parameters hold credentials: those of the repository and of its remote come from the environment and from files, as git, DVC and
AWS's libraries find them.
"""

import errno
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from inspo_core.errors import InspoError
from inspo_core.files import atomic_directory
from inspo_core.redaction import redact, shown

if TYPE_CHECKING:
    from dvc.repo import Repo

DATA = "data"  # the folder of the datasets in a repository
REFUSED = ("AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Unable to locate credentials", "NoCredentials")


def fetch(dataset: str, repo: str, rev: str, remote: str | None, into: Path) -> Path:
    """Put ``data/<dataset>`` of the DVC repository ``repo`` at revision ``rev`` into the folder ``into``, whole or not at all.

    ``repo``: a URL or a path; ``remote``: name of the DVC remote to read from, None for the repository's default. Returns ``into``.

    Raises InspoError: repository, revision, dataset or remote is not there or not to be read, or a file is not what DVC says.
    """
    with _opened(repo, rev, remote) as source, atomic_directory(into) as place:
        expected = source.files(dataset)
        source.download(dataset, place)
        found = file_hashes(place)
        for name in sorted(expected.keys() | found.keys()):
            if found.get(name) != expected.get(name):
                is_, should_be = found.get(name, "that of no file"), expected.get(name, "no such file")
                what = f"{DATA}/{dataset}/{name}: its md5 is {is_}, but DVC has {should_be} in {source}"
                raise InspoError(f"{what}; what its remote holds is damaged, push it again")
    return into


def data_hashes(repo: str, rev: str, datasets: list[str], remote: str | None = None) -> dict[str, str]:
    """DVC's md5 of the folder of each of ``datasets`` at that revision, as in ``dvc.lock``, from DVC's listings alone.

    Raises InspoError as :func:`fetch` does.
    """
    with _opened(repo, rev, remote) as source:
        return {dataset: folder_hash(source.files(dataset)) for dataset in datasets}


def origin_of(repo: str, rev: str, folder: Path) -> dict[str, str]:
    """Where the fetched ``folder`` comes from, for the tags of a run: no credentials in it."""
    return {"data_repo": shown(repo), "data_rev": rev, "data_md5": folder_hash(file_hashes(folder))}


def file_hashes(folder: Path) -> dict[str, str]:
    """The md5 of every file below ``folder``, by its relative name."""
    hashes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "md5").hexdigest()
    return hashes


def folder_hash(hashes: Mapping[str, str]) -> str:
    """DVC's hash of a folder whose files have the md5 ``hashes``: the md5 of its listing, and ``.dir``."""
    listing = [{"md5": hashes[name], "relpath": name} for name in sorted(hashes)]
    return hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"


class _Source:
    """An open repository at a revision."""

    def __init__(self, repository: "Repo", name: str):
        self._repository, self._index, self._name = repository, repository.index.data["repo"], name

    def __str__(self) -> str:
        return self._name

    def files(self, dataset: str) -> dict[str, str]:
        """The md5 that DVC has for each file of ``data/<dataset>``, by its name in there."""
        key = (DATA, dataset)
        files: dict[str, str] = {}
        for tracked, inside in ((key[:1], f"{dataset}/"), (key, "")):  # data/ as a whole, or this folder by itself
            if tracked in self._index and (known := self._index[tracked].hash_info) and known.isdir:
                hashes = self._below(tracked)
                if folder_hash(hashes) != known.value:
                    what = f"the listing of {'/'.join(tracked)} in {self} is damaged: its md5 is not {known.value}"
                    raise InspoError(f"{what}; push it again")
                files |= {name.removeprefix(inside): value for name, value in hashes.items() if name.startswith(inside)}
        if not files:
            what = f"{DATA}/{dataset} is not a folder that DVC tracks in {self}"
            raise InspoError(f"{what}; name another revision, or track it with `dvc add`")
        return files

    def _below(self, folder: tuple[str, ...]) -> dict[str, str]:
        hashes = {}
        try:
            for key, entry in self._index.iteritems(prefix=folder):
                if entry.meta is None or not entry.meta.isdir:
                    if entry.hash_info is None or entry.hash_info.name != "md5":
                        raise InspoError(f"DVC has no md5 for {'/'.join(key)} in {self}; add it anew with a present version of DVC")
                    hashes["/".join(key[len(folder) :])] = entry.hash_info.value
        except InspoError:
            raise
        except Exception as error:  # each kind of remote fails with errors of its own
            self._fail(f"the listing of {'/'.join(folder)}", error)
        return hashes

    def download(self, dataset: str, place: Path) -> None:
        from dvc.fs.data import DataFileSystem

        data = DataFileSystem(index=self._index).fs
        for name in self.files(dataset):
            try:
                data.get_file(f"/{DATA}/{dataset}/{name}", str(_made(place / name)))
            except Exception as error:
                if getattr(error, "errno", None) == errno.ENOSPC:
                    raise
                self._fail(f"{DATA}/{dataset}/{name}", error)

    def _fail(self, what: str, error: BaseException) -> NoReturn:
        """Raise InspoError: the remote does not give ``what``."""
        remotes, name = self._repository.config["remote"], self._repository.config["core"].get("remote")
        if not name:
            raise InspoError(f"{self} has no default DVC remote to read {what} from; name one of its remotes") from error
        place = f"the DVC remote {name} of {self} ({shown(str(remotes[name]['url']))})"
        causes = list(_causes(error))
        text = " ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
        if any(isinstance(cause, PermissionError) for cause in causes) or any(word in text for word in REFUSED):
            advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what this kind of remote reads, to a user who may read it"
            raise InspoError(f"{place} refuses the credentials for {what}; {advice}") from error
        if isinstance(causes[-1], FileNotFoundError):
            raise InspoError(f"{place} does not have {what}; run `dvc push` where the data are") from error
        why = f"{type(causes[-1]).__name__}: {redact(' '.join(str(causes[-1]).split()))[:200]}"
        raise InspoError(f"{place} cannot be reached for {what} ({why}); check its address and the network") from error


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those behind it, the first one last."""
    behind: BaseException | None = error
    while behind:
        yield behind
        behind = behind.__cause__ or behind.__context__


@contextmanager
def _opened(repo: str, rev: str, remote: str | None) -> Iterator[_Source]:
    from dvc.repo.open_repo import clean_repos

    with tempfile.TemporaryDirectory() as scratch:
        before, tempfile.tempdir = tempfile.tempdir, scratch  # DVC leaves clones that failed where it made them
        nameless = "LOGNAME" not in os.environ
        if nameless:
            os.environ["LOGNAME"] = "inspo"  # a clone's log wants a name, and a container's numeric user has none
        try:
            with _open(repo, rev, remote, scratch) as repository:
                yield _Source(repository, f"{shown(repo)} at {rev}")
        finally:
            clean_repos()
            tempfile.tempdir = before
            if nameless:
                del os.environ["LOGNAME"]


def _open(repo: str, rev: str, remote: str | None, scratch: str) -> "Repo":
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    name = shown(repo)
    # DVC's own place for what it looks up again is shared by all users of a machine, and may not be writable.
    config = {"core": {"site_cache_dir": scratch}}
    try:
        repository = Repo.open(repo, rev=rev, config=config)
    except NotDvcRepoError as error:
        raise InspoError(f"{name} is not a DVC repository at {rev}; name one that has a folder .dvc") from error
    except Exception as error:  # each kind of address fails with errors of its own
        *_, first = _causes(error)
        if "unknown Git revision" in str(error):
            raise InspoError(f"{name} has no revision {rev!r}; push it there, or name another") from error
        why = f"{type(first).__name__}: {redact(' '.join(str(first).split()))[:200]}"
        raise InspoError(f"the repository {name} cannot be read ({why}); check its address, and that this machine may read it") from error
    core, remotes = repository.config["core"], repository.config["remote"]
    if remote:
        if remote not in remotes:
            raise InspoError(f"{name} at {rev} has no DVC remote {remote!r}; it has {', '.join(sorted(remotes)) or 'none'}")
        core["remote"] = remote
    if repository.url and (used := remotes.get(core.get("remote"))):
        # A remote that is a folder of the repository itself lies in DVC's clone, but DVC looks for it beside /.
        inside = Path(repository.scm.root_dir, used["url"].lstrip("/"))
        used["url"] = str(inside) if inside.is_dir() else used["url"]
    return repository
