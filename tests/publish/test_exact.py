"""The exact solver's rows: the right starts and temperatures, and what theory says of sequential and simultaneous updates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspo_core.config.learners import learner_of
from inspo_core.config.reading import load_params
from inspo_core.datasets import write_dataset
from inspo_core.datasets.build import SETS
from inspo_core.datasets.recording import concatenate
from inspo_core.errors import InspoError
from inspo_core.exact.behavior import behavior_of
from inspo_core.exact.games import make_game
from inspo_core.publish.exact import compare_updates, exact_line, settings_of, solve_seeds
from inspo_core.publish.page import write_page
from inspo_core.records import write_record
from inspo_core.report.figure_table import FIGURES
from inspo_core.report.results import read_results
from inspo_core.stages.report import write_report
from tests.lab import seal
from tests.report.tree import Tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config() -> dict:
    """The parameters of a training with the project's own defaults, fewer sweeps."""
    learner = learner_of("inspo", load_params(ROOT / "params.yaml", ["train.iterations=20"]))
    return {**learner.loop.model_dump(), **learner.config.model_dump()}


def test_an_episode_counts_as_often_as_it_was_drawn():
    xor, game = SETS["xor_c"](), make_game("xor")
    times = np.arange(xor.n_episodes) % 3
    whole = concatenate("twice", [xor, xor], {})
    np.testing.assert_allclose(behavior_of(game, xor, np.full(xor.n_episodes, 2)).mu, behavior_of(game, whole).mu)
    shares = behavior_of(game, xor, times).shares[0]
    expected = np.bincount(xor.actions @ [2, 1], weights=times, minlength=4)
    np.testing.assert_allclose(shares, expected / times.sum())


def test_temperatures_are_those_of_the_training_in_units_of_the_reward(config):
    settings = settings_of(config, 20.0)
    assert (settings.sweeps, settings.alpha, settings.alpha_final, settings.beta) == (20, 2.0, 0.4, 20.0)
    assert (settings.beta_schedule, settings.anneal_fraction, settings.entropy_in_value) == ("annealed", 0.5, False)
    assert settings_of({**config, "reward_scale": "none"}, 20.0).alpha == 0.1


def test_simultaneous_clones_run_in_circles_on_xor_and_sequential_ones_do_not(config):
    """Both agents begin alike, so that they change sides together: AA, BB, AA, ..."""
    lines = [exact_line(compared) for compared in compare_updates(SETS["xor_b"](), config, [0, 1, 2, 3])]
    assert [line[:3] for line in lines] == [
        ["xor_b", start, entropy] for start in ("random", "the clones") for entropy in ("annealed", "none")
    ]
    one, worst = "1.000<br>[1.000, 1.000]<br>1.000 ± 0.000", "-2.000<br>[-2.000, -2.000]<br>-2.000 ± 0.000"
    assert lines[3][3:] == [one, worst, one, worst, "sequential above", "0 and 4 of 4"]
    assert [line[3] for line in lines] == [one] * 4


def test_a_seed_is_a_start_of_its_own_that_both_updates_share(config):
    settings = replace(settings_of(config, 1.0), update="simultaneous", beta_schedule="none")
    together = solve_seeds(SETS["xor_b"](), settings, "random", [0, 1, 2, 3])
    alone = [solve_seeds(SETS["xor_b"](), settings, "random", [seed]).sampled[0] for seed in (0, 1, 2, 3)]
    assert together.sampled.tolist() == alone and len(set(np.round(alone, 3))) > 1


def test_one_seed_has_no_interval_and_other_games_no_exact_form(config):
    assert {exact_line(compared)[7] for compared in compare_updates(SETS["xor_b"](), config, [0])} == {"no interval"}
    with pytest.raises(InspoError, match="there is no exact form of the game 'bridge_partial'"):
        compare_updates(SETS["bridge_partial_optimal"](), config, [0])
    with pytest.raises(InspoError, match="alpha_schedule is 'tuned'"):
        compare_updates(SETS["xor_b"](), {**config, "alpha_schedule": "tuned"}, [0])


def test_the_page_has_the_rows_beside_the_ablation(tmp_path, config):
    config = dict(config)
    tree = Tree(tmp_path / "small", ["xor_c"], ["inspo", "inspo_simultaneous"], [0, 1, 2])
    write_dataset(SETS["xor_c"](), tree.root / "ingest/xor_c")

    def write_report_of(config: dict) -> None:
        for seed in (0, 1, 2):
            (folder := tree.root / f"behavior/xor_c/seed_{seed}").mkdir(parents=True, exist_ok=True)
            write_record(folder, {"fingerprint": f"behavior-{seed}"})
            seal(tree.trainings / f"xor_c/inspo/seed_{seed}", config=config)
        write_report(read_results(tree.evaluations, tree.trainings, tree.params()), tree.root / "report", list(FIGURES))

    out = tmp_path / "docs/results.md"
    write_report_of(config)
    write_page([tree.root], out)
    text = out.read_text()
    section = text.partition("### Sequential against simultaneous, exactly\n")[2].partition("\n### ")[0]
    rows = ["| " + " | ".join(exact_line(compared)) + " |" for compared in compare_updates(SETS["xor_c"](), config, [0, 1, 2])]
    assert "3 seeds; a seed is a bootstrap resample" in section and [line for line in section.splitlines() if line in rows] == rows
    assert f"`python -m inspo_core.publish.page {tree.root} --out {out}`" in section and "| Commit | Command |" in section
    write_report_of({**config, "alpha_schedule": "tuned"})
    write_page([tree.root], out)
    assert "No row for xor_c: alpha_schedule is 'tuned', expected fixed or annealed." in out.read_text()
    del config["order"], config["beta"]
    write_report_of(config)
    write_page([tree.root], out)
    assert "No row for xor_c: its trainings have no parameter beta, order; train them again." in out.read_text()
