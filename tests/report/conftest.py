"""Small trees of evaluations and trainings."""

from pathlib import Path

import pytest

from inspo_core.report.results import Results, read_results
from tests.report.tree import GAMES, Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Three datasets, two algorithms, five seeds."""
    return Tree(tmp_path, list(GAMES), ["inspo", "bc"], [0, 1, 2, 3, 4])


@pytest.fixture
def ablation(tmp_path: Path) -> Results:
    """Three datasets, InSPO and a variant of it, five seeds."""
    tree = Tree(tmp_path / "ablation", list(GAMES), ["inspo", "inspo_product"], [0, 1, 2, 3, 4])
    return read_results(tree.evaluations, tree.trainings, tree.params())
