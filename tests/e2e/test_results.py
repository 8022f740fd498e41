"""The commands of the page of results with fewer seeds and sweeps: what they write, and that InSPO is where the page says it is."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.lab import ROOT, Done, Lab

pytestmark = pytest.mark.slow
FEW = ["--set", "experiment.datasets=[xor_c]", "--set", "experiment.seeds=[0,1]", "--set", "train.iterations=25"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shared) -> Path:
    """A folder with the runs of both experiments and the page."""
    lab = Lab(tmp_path_factory.mktemp("results"), shared)
    shutil.copyfile(ROOT / "params.yaml", lab.place / "params.yaml")
    shutil.copytree(ROOT / "experiments", lab.place / "experiments")
    (lab.place / "data").symlink_to(shared / "data")
    lab.track()

    def ends_well(*command: object) -> None:
        assert Done.of(lab.start(*command), timeout=1800).code == 0

    ends_well("pipelines.local", "experiments/headline.yaml", *FEW)
    variants = "experiment.algorithms=[inspo, inspo_simultaneous]"
    ends_well("pipelines.local", "experiments/ablations.yaml", *FEW, "--set", variants)
    ends_well("inspo_core.publish.page", "runs/headline", "runs/ablations", "--out", "docs/results.md")
    return lab.place


def mean_returns(runs: Path, experiment: str, metric: str) -> pd.Series:
    """Over the seeds, by algorithm, of variants by variant."""
    rows = pd.read_csv(runs / "runs" / experiment / "report/results.csv").query("metric == @metric")
    named = rows.variant.where(rows.variant != "default", rows.algorithm)
    return rows.groupby(named).value.mean()


def test_inspo_solves_what_values_that_are_mixed_cannot(runs):
    sampled = mean_returns(runs, "headline", "return_sampled")
    assert len(sampled) == 9 and sampled["inspo"] >= 0.98 and sampled["inspo"] >= sampled.max() - 0.02
    assert (sampled[["bc", "icq", "omiga", "cfcql"]] < 0.6).all()


def test_the_page_has_every_table_figure_and_origin(runs):
    page = (runs / "docs/results.md").read_text()
    for section in ("## headline", "## ablations", "### Where the runs of headline come from", "### Where the runs of ablations come from"):
        assert f"\n{section}\n" in page
    for algorithm in ("alberdice", "optidice", "omar", "inspo_simultaneous"):
        assert algorithm in page
    figures = {path.name for path in (runs / "docs/figures").iterdir()}
    assert {"headline-profiles.png", "headline-curves_sampled.png", "ablations-differences.png"} <= figures
    assert all(f"(figures/{name})" in page for name in figures)
    assert "python -m pipelines.local experiments/headline.yaml --set 'experiment.datasets=[xor_c]'" in page
