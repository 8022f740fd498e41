"""The ingest stage as a function: what lands in its output, that it repeats itself, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspo_core.config.reading import load_params
from inspo_core.config.sections import IngestConfig, SourceConfig
from inspo_core.datasets import EpisodeDataset, content_hash, read_dataset, write_dataset
from inspo_core.datasets.build import SETS, bridge_mixed
from inspo_core.datasets.card import describe, write_card
from inspo_core.errors import InspoError
from inspo_core.files import tree_hash
from inspo_core.stages.ingest import identity, ingest_stage
from tests.lab import NOWHERE, ROOT, contents, identities

PARAMS = load_params(ROOT / "params.yaml")
SOURCES = {
    "mixed": SourceConfig(format="native", env="bridge"),
    "c": SourceConfig(format="native", env="xor"),
    "folder": SourceConfig(format="alberdice", env="bridge", options={"timeout_at": 3}),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Records go to the test's folder, and no further."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)


def ingest(name: str, raw: Path, out: Path, sources: dict[str, SourceConfig] = SOURCES) -> dict[str, Any]:
    return ingest_stage(PARAMS.model_copy(update={"ingest": IngestConfig(sources=sources)}), name, raw, out)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("raw")
    write_dataset(bridge_mixed(), directory / "mixed")
    write_dataset(SETS["xor_c"](), directory / "c")
    return directory


def test_output_is_the_dataset_under_its_new_name_with_card_and_run(raw, tmp_path):
    returned = ingest("mixed", raw / "mixed", tmp_path / "out")
    dataset = read_dataset(tmp_path / "out")
    assert dataset.name == returned["name"] == "mixed"
    assert content_hash(tmp_path / "out") == content_hash(raw / "mixed")
    run = json.loads((tmp_path / "out/run.json").read_text())
    section = {"dataset": "mixed", "format": "native", "env": "bridge", "options": {}}
    assert run["fingerprint"] == identity("mixed", SOURCES["mixed"], {"raw": tree_hash(raw / "mixed")}).fingerprint
    assert run["config"] == section and run["stage"] == "ingest" and run["dataset"] == "mixed"
    card = json.loads((tmp_path / "out/card/card.json").read_text())
    assert card == returned
    assert card["content_hash"] == content_hash(tmp_path / "out")
    returns = dataset.episode_returns()
    assert card["returns"]["mean"] == pytest.approx(returns.mean(), abs=1e-6) and card["returns"]["min"] == pytest.approx(returns.min())
    assert (card["n_episodes"], card["n_transitions"]) == (1000, dataset.n_transitions)
    assert card["terminated_episodes"] + card["truncated_episodes"] == 1000 and card["truncated_episodes"] >= 470
    assert sum(card["returns"]["histogram"]["counts"]) == 1000
    text = (tmp_path / "out/card/card.md").read_text()
    for words in ("# Dataset mixed", "1,000", card["content_hash"], "licence", "(returns.png)"):
        assert words in text


def test_whatever_the_provenance_says_is_one_cell_of_the_card(raw, tmp_path):
    provenance = {"so|urce": "one\ntwo | three", "é": ["ü"]}
    write_dataset(replace(read_dataset(raw / "c"), provenance=provenance), tmp_path / "other")
    assert ingest("c", tmp_path / "other", tmp_path / "out")["provenance"] == provenance
    lines = (tmp_path / "out/card/card.md").read_text(encoding="utf-8").splitlines()
    assert r"| so\|urce | one two \| three |" in lines and "| é | ['ü'] |" in lines


def test_the_same_input_gives_the_same_bytes_the_picture_too(raw, tmp_path):
    ingest("mixed", raw / "mixed", tmp_path / "one")
    ingest("mixed", raw / "mixed", tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_is_done_already_is_not_done_again(raw, tmp_path, capsys):
    first = ingest("c", raw / "c", tmp_path / "out")
    before = identities(tmp_path / "out")
    assert ingest("c", raw / "c", tmp_path / "out") == first
    assert "ingest c: done already" in capsys.readouterr().out and identities(tmp_path / "out") == before


FILES = ["rewards.npy", "meta.json", "run.json", "card/card.json", "card/card.md", "card/returns.png"]


@pytest.mark.parametrize("name", FILES)
def test_what_misses_a_file_is_made_anew(raw, tmp_path, capsys, name):
    ingest("c", raw / "c", tmp_path / "out")
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    ingest("c", raw / "c", tmp_path / "out")
    assert "done already" not in capsys.readouterr().out and contents(tmp_path / "out") == whole


@pytest.mark.parametrize("name", FILES[:4])
def test_what_was_cut_off_is_made_anew(raw, tmp_path, capsys, name):
    ingest("c", raw / "c", tmp_path / "out")
    whole, path = contents(tmp_path / "out"), tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:20])
    ingest("c", raw / "c", tmp_path / "out")
    assert "done already" not in capsys.readouterr().out and contents(tmp_path / "out") == whole


def test_other_raw_files_or_another_name_are_not_what_was_done(raw, tmp_path, capsys):
    sources = {name: SourceConfig(format="native", env="xor") for name in ("c", "other")}
    write_dataset(SETS["xor_d"](), tmp_path / "d")
    for name, files in (("c", raw / "c"), ("c", tmp_path / "d"), ("other", tmp_path / "d")):
        ingest(name, files, tmp_path / "out", sources)
        assert read_dataset(tmp_path / "out").name == name and content_hash(tmp_path / "out") == content_hash(files)
    assert "done already" not in capsys.readouterr().out


def test_card_counts_duplicates_and_says_where_few_returns_lie(raw, tmp_path):
    ingest("c", raw / "c", tmp_path / "c")
    card = json.loads((tmp_path / "c/card/card.json").read_text())
    assert card["distinct_episodes"] == 3 and card["duplicate_rate"] == pytest.approx(1 - 3 / 480)
    assert card["returns"]["histogram"] == {"values": [0.0, 1.0], "counts": [160, 320]}
    assert card["lengths"] == {"mean": 1.0, "min": 1, "max": 1}


def test_values_that_decide_a_scale_are_warned_of_and_on_the_card(raw, tmp_path, capsys):
    dataset = read_dataset(raw / "mixed")
    rewards, observations = dataset.rewards.copy(), dataset.observations.copy()
    rewards[dataset.episode_offsets[700] + 3], observations[dataset.episode_offsets[800] + 800 + 2, 1, 4] = -7.6e37, -3e38
    write_dataset(replace(dataset, rewards=rewards, observations=observations), tmp_path / "spoilt")
    card = ingest("mixed", tmp_path / "spoilt", tmp_path / "out")
    warnings = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: MLflow")]
    assert warnings == [f"warning: mixed: {remark}" for remark in card["remarks"]]
    assert warnings[0].startswith("warning: mixed: rewards: one is -7.6e+37 in episode 700, step 3, ")
    assert warnings[1].startswith("warning: mixed: observations: feature 4 of agent 1 is -3e+38 in episode 800, step 2, ")
    for remark in card["remarks"]:
        assert remark in (tmp_path / "out/card/card.md").read_text()
    assert ingest("mixed", raw / "mixed", tmp_path / "sound")["remarks"] == []


@pytest.mark.parametrize("rewards", [[5.0] * 4, [0.0, 1.0, 1.0, 2.0], list(np.linspace(-3, 3, 40))])
def test_the_picture_shows_every_episode(rewards, tmp_path):
    import matplotlib.image

    count = len(rewards)
    dataset = EpisodeDataset(
        "d", "xor", 2, np.ones((2 * count, 2, 1), dtype=np.float32), None, None, np.zeros((count, 2), dtype=np.int64),
        np.array(rewards, dtype=np.float32), np.ones(count, dtype=bool), np.zeros(count, dtype=bool), None, np.arange(count + 1),
    )  # fmt: skip
    card = describe(dataset, "0" * 64)
    assert sum(card["returns"]["histogram"]["counts"]) == count
    write_card(card, tmp_path)
    picture = matplotlib.image.imread(tmp_path / "returns.png")[..., :3]
    blue = np.abs(picture - np.array([0x3B, 0x6E, 0xA8]) / 255).max(axis=2) < 0.02
    assert 0.02 < blue.mean() < 0.6


def test_alberdice_folders_are_ingested(tmp_path):
    lengths = np.array([3, 2])
    filled = np.arange(4) <= lengths[:, None]
    arrays = {
        "obs": np.ones((2, 4, 2, 8), dtype=np.float32),
        "state": np.ones((2, 4, 8), dtype=np.float32),
        "actions": np.zeros((2, 4, 2, 1), dtype=np.int64),
        "avail_actions": np.ones((2, 4, 2, 5), dtype=np.int32),
        "reward": np.ones((2, 4, 1), dtype=np.float32),
        "terminated": (np.arange(4) == lengths[:, None] - 1).astype(np.uint8)[..., None],
        "filled": filled.astype(np.int64)[..., None],
    }
    (tmp_path / "raw").mkdir()
    for key, array in arrays.items():
        np.save(tmp_path / "raw" / f"{key}.npy", array)
    ingest("folder", tmp_path / "raw", tmp_path / "out")
    dataset = read_dataset(tmp_path / "out")
    assert dataset.episode_returns().tolist() == [3, 2] and dataset.truncations.tolist() == [False, False, True, False, False]
    assert "AlberDICE" in (tmp_path / "out/card/card.md").read_text()


def refused(name: str, raw: Path, out: Path, sources: dict = SOURCES) -> str:
    with pytest.raises(InspoError) as caught:
        ingest(name, raw, out, sources)
    assert not out.exists() and "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_dataset(raw, tmp_path):
    assert "ingest.sources has no dataset 'mixd'" in refused("mixd", raw / "mixed", tmp_path / "out")


def test_missing_raw_files(tmp_path):
    for name in ("mixed", "folder"):
        assert f"{tmp_path / 'raw'} is missing" in refused(name, tmp_path / "raw", tmp_path / "out")


def test_data_of_another_game(raw, tmp_path):
    assert "was collected in the game 'xor', but the parameters say 'bridge'" in refused("mixed", raw / "c", tmp_path / "out")
    write_dataset(replace(read_dataset(raw / "c"), env="x" * 100_000), tmp_path / "long")
    assert len(refused("c", tmp_path / "long", tmp_path / "out")) < 400 + len(str(tmp_path))
    unknown = {"c": SourceConfig(format="native", env="chess")}
    assert "there is no game 'chess'" in refused("c", raw / "c", tmp_path / "out", unknown)


def test_an_unknown_format(raw, tmp_path):
    unknown = {"c": SourceConfig(format="natif", env="xor")}
    message = refused("c", raw / "c", tmp_path / "out", unknown)
    assert "parameter ingest.sources.c.format is 'natif': there is no format 'natif'; did you mean native?" in message


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("n_actions", "n_actions is 6"),
        ("observations", "observation size is 9"),
        ("states", "state size is 9"),
        ("agents", "n_agents is 1"),
    ],
)
def test_sizes_that_do_not_fit_the_game(raw, tmp_path, field, words):
    dataset = read_dataset(raw / "mixed")
    changes = {
        "n_actions": {"n_actions": 6},
        "observations": {"observations": np.repeat(dataset.observations, 2, axis=2)[..., :9]},
        "states": {"states": np.repeat(dataset.states, 2, axis=1)[..., :9]},
        "agents": {"observations": dataset.observations[:, :1], "actions": dataset.actions[:, :1]},
    }
    write_dataset(replace(dataset, **changes[field]), tmp_path / "other")
    message = refused("mixed", tmp_path / "other", tmp_path / "out")
    assert f"{tmp_path / 'other'}: {words}, but the game bridge has" in message


@pytest.mark.parametrize(
    ("name", "format", "options", "words"),
    [
        ("mixed", "native", {"timeout_at": 50}, "unknown parameter ingest.sources.mixed.options.timeout_at"),
        ("folder", "alberdice", {"timeoutat": 3}, "unknown parameter ingest.sources.folder.options.timeoutat; did you mean timeout_at?"),
        ("folder", "alberdice", {"timeout_at": 0}, "parameter ingest.sources.folder.options.timeout_at is 0: "),
    ],
)
def test_options_that_the_format_has_not(raw, tmp_path, name, format, options, words):
    sources = {name: SourceConfig(format=format, env="bridge", options=options)}
    assert words in refused(name, raw / "mixed", tmp_path / "out", sources)


def test_a_folder_of_something_else_is_not_replaced(raw, tmp_path):
    (tmp_path / "out").mkdir()
    ingest("c", raw / "c", tmp_path / "out")  # it was empty
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out/xor").mkdir(parents=True)
    (tmp_path / "out/xor/notes.txt").write_text("mine")
    before = contents(tmp_path / "out")
    with pytest.raises(InspoError, match="out would be replaced as a whole, but .* holds no run.json or meta.json; name another"):
        ingest("c", raw / "c", tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_failing_run_leaves_the_last_good_output(raw, tmp_path):
    ingest("c", raw / "c", tmp_path / "out")
    before = tree_hash(tmp_path / "out")
    with pytest.raises(InspoError):
        ingest("c", raw / "mixed", tmp_path / "out")
    assert tree_hash(tmp_path / "out") == before
