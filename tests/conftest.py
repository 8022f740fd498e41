"""What the tests of the commands share."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import Lab, make_shared
from tests.services.docker import docker as docker
from tests.services.mlflow_server import mlflow_server as mlflow_server
from tests.services.postgres import postgres as postgres
from tests.services.s3 import s3 as s3


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """Data and parameters; not to be changed."""
    place = tmp_path_factory.mktemp("shared")
    make_shared(place)
    return place


@pytest.fixture
def lab(tmp_path, shared) -> Lab:
    return Lab(tmp_path, shared)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, shared) -> Callable[[str], Path]:
    """The folder of InSPO's seeds 0 and 1, trained on a dataset side by side and without a stop: not to be changed."""

    @functools.cache
    def trained(dataset: str) -> Path:
        lab = Lab(tmp_path_factory.mktemp("undisturbed"), shared)
        lab.train(dataset, "inspo", "0,1").succeeded()
        return lab.place / "train"

    return trained
