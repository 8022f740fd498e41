"""One small experiment that DVC has run, for all tests that only look at it or copy it."""

from pathlib import Path

import pytest

from tests.e2e.clone import Clone


@pytest.fixture(scope="session")
def first_run(tmp_path_factory) -> tuple[Clone, set[str]]:
    """A clone after ``dvc pull data.dvc`` and ``dvc repro``, and the stages that ran. Not to be changed."""
    clone = Clone.of_project(tmp_path_factory.mktemp("first") / "inspo")
    clone.dvc("pull", "data.dvc")
    stages = clone.repro()
    return clone, stages


@pytest.fixture
def finished(first_run) -> Clone:
    """The clone of the first run. Not to be changed."""
    return first_run[0]


@pytest.fixture
def copy(finished: Clone, tmp_path: Path) -> Clone:
    """A copy of the first run's clone, with an MLflow store of its own, to be changed; ``dvc.lock`` is committed in it."""
    copy = finished.copy(tmp_path / "copy")
    copy.commit()
    return copy
