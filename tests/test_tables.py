"""What installed packages bring to the tables: a game, a format and an algorithm, found by their entry points."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from inspo_core.envs import GAMES
from inspo_core.errors import InspoError
from tests.lab import ROOT, Lab

TABLE = """
from inspo_core.algorithms.configs import BCConfig
from inspo_core.algorithms.table import AlgorithmEntry
from inspo_core.datasets.formats.table import Format
from inspo_core.envs.table import Game
from inspo_core.section import Positive, Section


class Options(Section):
    worth: float = Positive


class StubbornConfig(BCConfig):
    held: float = Positive


SIZES = {"n_agents": 2, "n_actions": 2, "observation_size": 1, "state_size": 1, "time_limit": 1}
HARVEST = Game(target="harvest.work:Harvest", **SIZES, arguments={"worth": 3.0}, episodes_at_once=2, libraries=("harvest",))
BERRIES = Format(target="harvest.work:read", options=Options)
STUBBORN = AlgorithmEntry(target="harvest.work:Stubborn", config=StubbornConfig)
NOTHING = {"target": "harvest.work:Harvest"}
"""

WORK = """
import json
from dataclasses import replace

import numpy as np

from inspo_core.algorithms.bc import BC
from inspo_core.datasets.build import SETS
from inspo_core.envs.one_step import OneStepGame


class Harvest(OneStepGame):
    def __init__(self, spec, worth):
        super().__init__(spec, lambda actions: worth * (actions.sum(axis=1) == 1), best=worth)


def read(raw, name, game, options):
    plays = np.array(json.loads((raw / "plays.json").read_text()))
    rewards = (options.worth * (plays.sum(axis=1) == 1)).astype(np.float32)
    yield replace(SETS["xor_b"](), name=name, env=game, actions=plays, rewards=rewards)


class Stubborn(BC):
    def iterate(self):
        return super().iterate() | {"held": self._config.held}
"""

ENTRY_POINTS = {"inspo.games": "harvest = harvest.table:HARVEST", "inspo.formats": "berries = harvest.table:BERRIES"}
ENTRY_POINTS["inspo.algorithms"] = "stubborn = harvest.table:STUBBORN"


def installed(place: Path, entry_points: dict[str, str], table: str = TABLE) -> dict[str, str]:
    """A package ``harvest`` in ``place`` as an installer leaves it there; the environment in which it is found."""
    (place / "harvest").mkdir(parents=True)
    for name, text in {"__init__": "", "table": table, "work": WORK}.items():
        (place / f"harvest/{name}.py").write_text(text)
    information = place / "harvest-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: harvest\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text("".join(f"[{group}]\n{line}\n" for group, line in entry_points.items()))
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{place}"}


def python(code: str, environment: dict[str, str]) -> str:
    """What ``code`` prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_entries_of_a_package_stand_in_the_tables_and_need_neither_torch_nor_their_own_work(tmp_path):
    code = """
import json, sys
from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.config.learners import own_keys
from inspo_core.datasets.formats.table import FORMATS
from inspo_core.envs.table import GAMES
found = [list(GAMES)[-1], list(FORMATS)[-1], list(ALGORITHMS)[-1], own_keys("stubborn"), GAMES["harvest"].rules["arguments"]]
print(json.dumps([found, [name for name in ("torch", "harvest.work") if name in sys.modules]]))
"""
    found, loaded = json.loads(python(code, installed(tmp_path, ENTRY_POINTS)))
    assert found == ["harvest", "berries", "stubborn", ["policy_steps", "held"], {"worth": 3.0}] and loaded == []


def test_what_a_package_brings_is_ingested_trained_and_played_like_anything_else(lab: Lab, tmp_path):
    environment = installed(tmp_path / "site", ENTRY_POINTS)
    values = yaml.safe_load((lab.place / "params.yaml").read_text())
    values["ingest"]["sources"]["wood"] = {"format": "berries", "env": "harvest", "options": {"worth": 3.0}}
    values["train"] |= {"stubborn": {"policy_steps": 5, "held": 0.25}, "iterations": 4, "evaluate_every": 2, "learning_rate": 0.05}
    (lab.place / "params.yaml").write_text(yaml.safe_dump(values))
    raw = lab.place / "raw"
    raw.mkdir()
    (raw / "plays.json").write_text(json.dumps([[0, 1]] * 480))
    start = ["--dataset", "wood"]
    lab.run("components.ingest", *start, "--raw", raw, "--out", "wood", **environment).succeeded()
    card = json.loads((lab.place / "wood/card/card.json").read_text())
    assert (card["returns"]["min"], card["returns"]["max"]) == (3.0, 3.0)
    seeds = ["--data", "wood", "--seeds", "0"]
    lab.run("components.behavior", *start, *seeds, "--out", "behavior", **environment).succeeded()
    learner = [*start, "--algorithm", "stubborn", "--seeds", "0"]
    lab.run("components.train", *learner, "--data", "wood", "--behavior", "behavior", "--out", "train", **environment).succeeded()
    curve = [json.loads(line) for line in (lab.place / "train/seed_0/metrics.jsonl").read_text().splitlines()]
    assert len(curve) == 4 and {line["held"] for line in curve} == {0.25}
    lab.run("components.evaluate", *learner, "--train", "train", "--out", "evaluate", **environment).succeeded()
    metrics = json.loads((lab.place / "evaluate/seed_0/metrics.json").read_text())
    assert metrics["return_greedy"] == 3.0
    run = json.loads((lab.place / "evaluate/seed_0/run.json").read_text())
    assert run["env"] == "harvest"


@pytest.mark.parametrize(
    ("line", "table", "sentence"),
    [
        (
            "xor = harvest.table:HARVEST",
            TABLE,
            "entry point xor = harvest.table:HARVEST of harvest: another game has that name already; rename one of them",
        ),
        (
            "harvest = harvest.table:NOTHING",
            TABLE,
            "entry point harvest = harvest.table:NOTHING of harvest is dict, expected inspo_core.envs.table.Game",
        ),
        (
            "harvest = harvest.table:BERRIES",
            TABLE,
            "entry point harvest = harvest.table:BERRIES of harvest is Format, expected inspo_core.envs.table.Game",
        ),
        (
            "harvest = harvest.table:HARVEST",
            "import a_simulator_that_is_not_here\n",
            "entry point harvest = harvest.table:HARVEST of harvest cannot be loaded (ModuleNotFoundError: "
            "No module named 'a_simulator_that_is_not_here'); mend or remove the package",
        ),
        (
            "harvest = harvest.table:HARVEST",
            "HARVEST = 1 / 0\n",
            "entry point harvest = harvest.table:HARVEST of harvest cannot be loaded (ZeroDivisionError: division by zero); "
            "mend or remove the package",
        ),
        (
            "harvest = harvest.table:NONE",
            TABLE,
            "entry point harvest = harvest.table:NONE of harvest cannot be loaded (AttributeError: "
            "module 'harvest.table' has no attribute 'NONE'); mend or remove the package",
        ),
    ],
    ids=["a name that is taken", "no entry", "an entry of another table", "a broken import", "a broken module", "no such object"],
)
def test_a_package_that_does_not_fit_is_one_sentence(tmp_path, line, table, sentence):
    code = "from inspo_core.envs import make_env; from inspo_core.command import run; run(lambda: make_env('mne'))"
    environment = {**os.environ, **installed(tmp_path, {"inspo.games": line}, table)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {sentence}\n")


def test_a_package_that_does_not_fit_is_one_sentence_of_a_stage_too(lab: Lab, tmp_path):
    environment = installed(tmp_path / "site", {"inspo.algorithms": "bc = harvest.table:STUBBORN"})
    data = ["--data", lab.data("xor_b"), "--seeds", "0", "--out", "behavior"]
    lab.run("components.behavior", "--dataset", "xor_b", *data, **environment).refused("another algorithm has that name already")


def test_a_name_that_is_in_no_table_is_named_with_those_that_are_close():
    with pytest.raises(InspoError, match="^there is no game 'permutation'; did you mean permutation"):
        GAMES.entry("permutation")
    with pytest.raises(InspoError, match="^parameter ingest.sources.a.env is 'chess': there is no game 'chess'; known: xor, mne, xor3, "):
        GAMES.entry("chess", "parameter ingest.sources.a.env")
    assert "chess" not in GAMES and GAMES.get("chess") is None and len(GAMES) == len(list(GAMES))
