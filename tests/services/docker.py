"""The project's image in a Docker engine of its own: no registry, and nothing that is left running.

Needs root and Debian's packages docker.io, iptables and mmdebstrap (scripts/test-services.sh). ``DOCKER_HOST`` names an engine to be
used instead, which then gets the base image from its registry. Images and layers are kept below ``CACHE`` for the next run of the
tests, of any checkout; those older than ``KEPT`` are removed. Tests that run side by side share the engine.
"""

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.lab import ROOT, Done, group_members
from tests.services.tools import require, wait_for

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inspo-tests" / "docker"
KEPT = "168h"
# What python:3.11-slim is, made of Debian's packages.
BASE_RECIPE = [
    "mmdebstrap",
    "--quiet",
    "--variant=minbase",
    "--include=python3,python3-venv,python3-pip,ca-certificates",
    '--customize-hook=ln -s python3 "$1/usr/bin/python" && rm "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
    "bookworm",
]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
INDEX_SETTINGS = r"PIP_(EXTRA_)?INDEX_URL|PIP_DEFAULT_TIMEOUT|UV_(DEFAULT_|EXTRA_)?INDEX(_URL)?|UV_HTTP_TIMEOUT"


class Docker:
    """An engine, and the project's image in it.

    Attributes:
        host: what ``DOCKER_HOST`` must be to reach the engine.
        commit: the commit that is checked out, with which the image is labelled.
        image: the image's tag, named after its content; what ``INSPO_IMAGE`` must be for pipelines to run it.
        bases: the build arguments with which the project's Dockerfile builds there.
    """

    def __init__(self, host: str, bases: Mapping[str, str]):
        self.host, self.bases = host, bases
        self.commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
        self.image = self.build(COMMIT=self.commit)

    def command(self, *arguments: object, timeout: float = 300) -> Done:
        """Run ``docker`` and wait."""
        return _docker(self.host, *arguments, timeout=timeout)

    def run(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        volumes: Mapping[Path, str] | None = None,
        user: str | None = None,
        options: tuple[str, ...] = (),
        image: str | None = None,
        timeout: float = 300,
    ) -> Done:
        """``docker run --rm`` the image with these arguments of its entry point, and wait.

        ``volumes``: places here and where they are in the container; ``options``: more of ``docker run``'s, such as ``--network=host``.
        """
        name = f"inspo-{uuid.uuid4().hex[:12]}"
        asked = ["--name", name, *options]
        asked += [part for variable, value in (env or {}).items() for part in ("--env", f"{variable}={value}")]
        asked += [part for here, there in (volumes or {}).items() for part in ("--volume", f"{here}:{there}")]
        asked += ["--user", user] if user else []
        try:
            return self.command("run", "--rm", *asked, image or self.image, *arguments, timeout=timeout)
        except BaseException:
            self.command("rm", "--force", name)
            raise

    def build(self, checkout: Path = ROOT, **arguments: str) -> str:
        """Build a checkout's Dockerfile with these build arguments; the tag, which is named after the image's content."""
        given = [f"--build-arg={name}={value}" for name, value in (self.bases | arguments).items()]
        # Docker takes the value of a variable that is named alone from the environment.
        given += [f"--build-arg={name}" for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy")]
        with tempfile.TemporaryDirectory() as scratch:
            identity = Path(scratch) / "identity"
            self.command("build", "--network=host", f"--iidfile={identity}", *given, checkout, timeout=1800).succeeded()
            digest = identity.read_text().strip().removeprefix("sha256:")
        tag = f"inspo:{digest[:12]}"
        self.command("tag", digest, tag).succeeded()
        return tag


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """An engine with the project's image, built from the working tree."""
    if host := os.environ.get("DOCKER_HOST"):
        require(["docker"], "docker.io")
        yield Docker(host, {})
        return
    require(["dockerd", "docker", "iptables", "mmdebstrap"], "docker.io iptables mmdebstrap")
    if os.geteuid() != 0:
        sentence = "a Docker engine is started by root alone; set DOCKER_HOST to one that runs, such as unix:///var/run/docker.sock"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(sentence)
    with _engine() as host:
        yield Docker(host, _bases(host))


def _docker(host: str, *arguments: object, timeout: float = 300) -> Done:
    process = subprocess.Popen(
        ["docker", *map(str, arguments)],
        env=os.environ | {"DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return Done.of(process, timeout)


@contextmanager
def _engine() -> Iterator[str]:
    """The host of an engine that is started for its first user and stopped by its last."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "users", "a") as users:
        with _one_at_a_time():
            place = _running() or _start()
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield _host(place)
        finally:
            with _one_at_a_time():
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass  # others use it
                else:
                    _stop(place)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with open(CACHE / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _host(place: Path) -> str:
    return f"unix://{place}/docker.sock"


def _running() -> Path | None:
    """The folder of the engine that runs, which ``CACHE`` links to; what one left that was killed is removed."""
    place = (CACHE / "running").resolve()
    if place.is_dir():
        if _docker(_host(place), "version").code == 0:
            return place
        _remove(place)
    return None


def _start() -> Path:
    place = Path(tempfile.mkdtemp(prefix="inspo-docker-"))
    (CACHE / "running").unlink(missing_ok=True)  # of an engine before the machine was started again
    (CACHE / "running").symlink_to(place)
    folders = [f"--data-root={CACHE / 'data'}", f"--exec-root={place / 'exec'}", f"--pidfile={place / 'pid'}"]
    with open(place / "log", "w") as log:
        subprocess.Popen(
            ["dockerd", *folders, f"--host={_host(place)}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    wait_for("dockerd", lambda: _docker(_host(place), "version").code == 0, place / "log")
    return place


def _stop(place: Path) -> None:
    _docker(_host(place), "image", "prune", "--all", "--force", f"--filter=until={KEPT}")
    pid = int((place / "pid").read_text())
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 60
    while group_members(pid):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    with suppress(ChildProcessError):  # started by other tests
        os.waitpid(pid, 0)
    _remove(place)
    (CACHE / "running").unlink()


def _remove(place: Path) -> None:
    """Remove an engine's folder, and what it left mounted there."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    subprocess.run(["umount", *(point for point in mounted if Path(point).is_relative_to(place))], check=False, capture_output=True)
    shutil.rmtree(place)


def _bases(host: str) -> dict[str, str]:
    """BASE and BUILD_BASE: a plain Python, and the same with this machine's certificates and way to packages."""
    base = f"inspo-base:{hashlib.sha256(' '.join(BASE_RECIPE).encode()).hexdigest()[:12]}"
    with _one_at_a_time(), tempfile.TemporaryDirectory() as scratch:
        if _docker(host, "image", "inspect", base).code != 0:
            tree = Path(scratch) / "base.tar"
            subprocess.run([*BASE_RECIPE, tree], check=True, stdin=subprocess.DEVNULL)
            _docker(host, "import", "--change=ENV LANG=C.UTF-8", '--change=CMD ["python3"]', tree, base).succeeded()
        build_base = f"{base}-build"
        context = Path(scratch) / "context"
        _write_build_base(context, base)
        _docker(host, "build", f"--tag={build_base}", context).succeeded()
    return {"BASE": base, "BUILD_BASE": build_base}


def _write_build_base(context: Path, base: str) -> None:
    """Write the recipe of an image that finds packages as this machine does: its certificates, wheels and settings of pip and uv."""
    context.mkdir()
    shutil.copyfile(os.environ.get("SSL_CERT_FILE") or CERTIFICATES, context / "certificates")
    (context / "wheels").mkdir()
    for link in re.split(r"[\s,]+", os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS") or ""):
        if link and Path(link).is_dir():
            shutil.copytree(link, context / "wheels", dirs_exist_ok=True)
    settings = {name: value for name, value in os.environ.items() if re.fullmatch(INDEX_SETTINGS, name)}
    settings |= {"PIP_CERT": CERTIFICATES, "SSL_CERT_FILE": CERTIFICATES, "PIP_FIND_LINKS": "/wheels", "PIP_ROOT_USER_ACTION": "ignore"}
    lines = [f"FROM {base}", f"COPY certificates {CERTIFICATES}", "COPY wheels /wheels"]
    lines += [f'ENV {name}="{value}"' for name, value in settings.items()]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
