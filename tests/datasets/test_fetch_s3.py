"""The project's sample data in a DVC remote in a real S3 store, as a pod reads them."""

import shutil
from pathlib import Path

import pytest

from inspo_core.datasets.fetch import data_hashes, fetch, file_hashes
from inspo_core.errors import InspoError
from tests.datasets.test_fetch import call
from tests.lab import ROOT, contents
from tests.services.s3 import S3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(s3: S3) -> str:
    return s3.bucket()


@pytest.fixture(scope="module")
def repository(tmp_path_factory, s3: S3, bucket: str) -> Path:
    """A clone of the project whose ``.dvc/config`` names a remote in S3; the sample data lie beside it, and no longer in it."""
    place = tmp_path_factory.mktemp("repository") / "inspo"
    call(place.parent, "git", "clone", "-q", str(ROOT), str(place))
    call(place, "dvc", "pull", "-q", "data.dvc")
    call(place, "dvc", "remote", "add", "-q", "-d", "bucket", f"s3://{bucket}/dvc")
    call(place, "dvc", "remote", "modify", "-q", "bucket", "endpointurl", s3.endpoint)
    call(place, "dvc", "push", "-q", "data.dvc", **s3.environment())
    call(place, "git", "rm", "-qr", "dvcstore")
    call(place, "git", "commit", "-qam", "a remote in S3")
    shutil.move(place / "data", place.parent / "data")
    shutil.rmtree(place / ".dvc/cache")
    assert s3.key not in (place / ".dvc/config").read_text()
    return place


@pytest.fixture
def as_user(monkeypatch, s3: S3) -> None:
    for name, value in s3.environment().items():
        if name != "AWS_ENDPOINT_URL":  # .dvc/config says where it is
            monkeypatch.setenv(name, value)


def test_the_sample_data_come_back(repository, as_user, tmp_path):
    address = f"file://{repository}"
    for dataset in ("xor_b", "mne_balanced"):
        fetch(dataset, address, "HEAD", None, tmp_path / dataset)
        assert contents(tmp_path / dataset) == contents(repository.parent / "data" / dataset)
    assert data_hashes(address, "HEAD", ["xor_b"]) == data_hashes(str(ROOT), "HEAD", ["xor_b"], "sample")


def refused(repository: Path, place: Path, *words: str) -> None:
    with pytest.raises(InspoError) as error:
        fetch("xor_b", f"file://{repository}", "HEAD", "bucket", place / "out")
    said = str(error.value)
    assert all(word in said for word in words) and "\n" not in said and list(place.iterdir()) == [], said


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_wrong_key_is_refused(repository, as_user, tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "wrong")
    refused(repository, tmp_path, "the DVC remote bucket of", "refuses the credentials for", "set AWS_ACCESS_KEY_ID")


def test_no_key_is_refused(repository, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    refused(repository, tmp_path, "refuses the credentials for")


def test_a_missing_and_a_damaged_object_are_named(repository, as_user, tmp_path, s3, bucket):
    sample = repository.parent / "data/xor_b"
    md5 = file_hashes(sample)["rewards.npy"]
    key = f"dvc/files/md5/{md5[:2]}/{md5[2:]}"
    s3.client().put_object(Bucket=bucket, Key=key, Body=b"damaged")
    refused(repository, tmp_path, "data/xor_b/rewards.npy: its md5 is", f"but DVC has {md5}")
    s3.client().delete_object(Bucket=bucket, Key=key)
    refused(repository, tmp_path, "does not have data/xor_b/rewards.npy", "dvc push")
    s3.client().upload_file(str(sample / "rewards.npy"), bucket, key)


def test_a_remote_that_is_not_there_is_named(repository, as_user, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    elsewhere = shutil.copytree(repository, tmp_path / "elsewhere")
    call(elsewhere, "dvc", "remote", "modify", "-q", "bucket", "endpointurl", "http://127.0.0.1:9")
    call(elsewhere, "git", "commit", "-qam", "moved")
    (tmp_path / "empty").mkdir()
    refused(elsewhere, tmp_path / "empty", "the DVC remote bucket of", "cannot be reached for")
