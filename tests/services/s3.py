"""A real S3 server: Ceph's RADOS gateway on one in-memory object store, on loopback."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.services.tools import free_port, listens, require, stop, wait_for

PACKAGES = "ceph-mon ceph-osd radosgw ceph-common"
PROGRAMS = ["monmaptool", "ceph-mon", "ceph-osd", "ceph", "radosgw", "radosgw-admin"]

# One machine, no authentication inside: without it Ceph's default mode of messages ("secure") never connects.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
ms mon client mode = crc
ms mon service mode = crc
ms mon cluster mode = crc
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
log file = {folder}/$name.log
run dir = {folder}
admin socket = {folder}/$name.asok
pid file =
mon data avail warn = 1
mon data avail crit = 1
rgw frontends = beast endpoint=127.0.0.1:{port}
"""


class S3:
    """The server; it has one user."""

    key, secret = "testkey", "testsecret"

    def __init__(self, endpoint: str):
        self.endpoint = endpoint

    def environment(self, **changes: str) -> dict[str, str]:
        """AWS's variables, with which every client finds the server."""
        credentials = {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}
        return credentials | {"AWS_ENDPOINT_URL": self.endpoint, "AWS_DEFAULT_REGION": "us-east-1"} | changes

    def client(self) -> Any:
        """boto3's client."""
        import boto3

        credentials = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret, "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.endpoint, **credentials)

    def bucket(self) -> str:
        """A new bucket's name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def objects(self, bucket: str, prefix: str = "") -> list[str]:
        """The keys below ``prefix``."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]


@pytest.fixture(scope="session")
def s3(tmp_path_factory) -> Iterator[S3]:
    require(PROGRAMS, PACKAGES)
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    fsid, v1, v2 = str(uuid.uuid4()), free_port(), free_port()
    (folder / "ceph.conf").write_text(CONFIGURATION.format(fsid=fsid, v1=v1, v2=v2, folder=folder, port=port))
    environment = os.environ | {"CEPH_CONF": str(folder / "ceph.conf")}

    def call(*command: str) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    with ExitStack() as running:

        def start(name: str, *command: str) -> Path:
            """Start a daemon, to be stopped at the end; returns where it writes what it says."""
            said = folder / f"{name}.out"
            with open(said, "wb") as log:
                streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                process = subprocess.Popen(command, env=environment, start_new_session=True, **streams)
            running.callback(stop, process)
            return said

        monitor = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
        call("monmaptool", "--create", "--addv", "a", monitor, "--fsid", fsid, str(folder / "monmap"))
        call("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
        said = start("mon", "ceph-mon", "-f", "-i", "a")
        wait_for("Ceph's monitor", lambda: listens(v2), said)
        disk = str(uuid.uuid4())
        call("ceph", "osd", "new", disk)
        call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        said = start("osd", "ceph-osd", "-f", "-i", "0")
        wait_for("Ceph's object store", lambda: "1 up" in call("ceph", "osd", "stat"), said)
        said = start("rgw", "radosgw", "-f", "-n", "client.rgw")
        wait_for("Ceph's gateway", lambda: listens(port), said)
        call("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", f"--access-key={S3.key}", f"--secret-key={S3.secret}")
        yield S3(f"http://127.0.0.1:{port}")
