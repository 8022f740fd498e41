"""The train stage: several seeds as one batched model, and games that cannot be played here."""

from pathlib import Path

import pytest

from inspo_core.datasets import write_dataset
from inspo_core.datasets.build import SETS
from tests.lab import ROOT, Lab, contents, wait_until

NO_GAME = ("--set", "train.evaluate_every=0")
# A game of an installed package, whose simulator is not installed.
PACKAGE = {
    "harvest_table.py": """
from inspo_core.envs.table import Game
HARVEST = Game(target="harvest_simulator:Harvest", n_agents=2, n_actions=2, observation_size=1, state_size=1, time_limit=1)
""",
    "harvest-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: harvest\nVersion: 1.0\n",
    "harvest-1.0.dist-info/entry_points.txt": "[inspo.games]\nharvest = harvest_table:HARVEST\n",
}


def test_seeds_are_batched_by_default_with_the_bytes_of_processes_side_by_side(lab, undisturbed):
    """With one worker all seeds of a process are one batched model, so their checkpoints lie side by side."""
    unbatched = contents(undisturbed("bridge_optimal"))
    process = lab.start("components.train", *lab.train_arguments("bridge_optimal", "inspo", "0,1"), INSPO_WORKERS="1")
    wait_until(lambda: len(lab.checkpoints()) == 2 or process.poll() is not None)
    assert process.poll() is None, "they came one after the other"
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert contents(lab.place / "train") == unbatched


@pytest.fixture
def of_a_package(lab, tmp_path_factory) -> dict[str, str]:
    """The environment in which the package is installed; ``data`` in the lab's folder are of its game."""
    place = tmp_path_factory.mktemp("packages")
    for name, text in PACKAGE.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    write_data(lab, "harvest")
    return {"PYTHONPATH": f"{ROOT}:{place}"}


def write_data(lab: Lab, game: str) -> None:
    """Episodes like XOR's, said to be of ``game``: ``data`` in the lab's folder."""
    dataset = SETS["xor_b"]()
    write_dataset(type(dataset)(**{**vars(dataset), "env": game}), lab.place / "data")


def run(lab: Lab, stage: str, *arguments: object, **environment: str):
    source = ("--set", 'ingest.sources.xor_b={"format": "native", "env": "harvest"}')
    return lab.run(f"components.{stage}", "--dataset", "xor_b", *arguments, *source, **environment)


def test_a_game_that_cannot_be_imported_is_ingested_and_trained_on_and_its_evaluation_refused(lab, of_a_package):
    run(lab, "ingest", "--raw", "data", "--out", "ingested", **of_a_package).succeeded()
    run(lab, "behavior", "--data", "ingested", "--seeds", "0", "--out", "behavior", **of_a_package).succeeded()
    train = ("--algorithm", "bc", "--data", "ingested", "--behavior", "behavior", "--seeds", "0", "--out", "train")
    run(lab, "train", *train, *NO_GAME, **of_a_package).succeeded()
    assert (lab.place / "train/seed_0/policy.safetensors").exists() and not list(lab.place.glob("checkpoints/*"))
    evaluate = ("--algorithm", "bc", "--train", "train", "--seeds", "0", "--out", "evaluate")
    before = lab.outputs()
    run(lab, "evaluate", *evaluate, **of_a_package).refused("harvest_simulator")
    run(lab, "train", *train, **of_a_package).refused("harvest_simulator")  # which would play it for the curves
    assert lab.outputs() == before


def test_training_without_evaluations_needs_no_entry_in_the_table(lab):
    write_data(lab, "harvest")
    lab.run("components.behavior", "--dataset", "xor_b", "--data", "data", "--seeds", "0", "--out", "behavior").succeeded()
    places = {"data": Path("data"), "behavior": Path("behavior")}
    lab.train("xor_b", "bc", "0", *NO_GAME, **places).succeeded()
    evaluate = ("--algorithm", "bc", "--train", "train", "--seeds", "0", "--out", "evaluate")
    before = lab.outputs()
    run(lab, "evaluate", *evaluate).refused("parameter ingest.sources.xor_b.env is 'harvest': there is no game 'harvest'")
    lab.train("xor_b", "bc", "0", **places).refused("env of the dataset is 'harvest': there is no game 'harvest'")
    assert lab.outputs() == before
