"""Which changes make a run another run, and which do not."""

import json
import shutil
from pathlib import Path

import pytest

from inspo_core import fingerprint, stages
from inspo_core.algorithm_configs import ALGORITHM_CONFIGS
from inspo_core.config import load_params
from inspo_core.datasets import write_dataset
from inspo_core.datasets.build import SETS
from inspo_core.errors import InspoError
from inspo_core.evaluation import evaluation_fingerprint
from inspo_core.files import write_json
from inspo_core.fingerprint import STAGE_CODE, code_hash, hash_of, tree_hash

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Data, and what stands for models and a policy of two seeds: a fingerprint looks at their content alone."""
    place = tmp_path_factory.mktemp("inputs")
    write_dataset(SETS["xor_b"](), place / "data")
    digest = stages.content_hash(place / "data")
    for seed in (0, 1):
        write_json(place / f"behavior/seed_{seed}/run.json", {"stage": "behavior", "inputs": {"data": digest}})
        (place / f"behavior/seed_{seed}/behavior.safetensors").write_text(f"models {seed}")
    for name in ("policy.json", "policy.safetensors"):
        write_json(place / "train/seed_0" / name, name)
    write_json(place / "train/seed_0/run.json", {"fingerprint": "f" * 16, "config": {}})
    return place


@pytest.fixture
def place(inputs, tmp_path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(inputs, tmp_path / "inputs"))


@pytest.fixture
def names(place, monkeypatch):
    """``names(stage, algorithm, override, ...)``: the fingerprints of seeds 0 and 1."""

    def of(stage: str, algorithm: str = "inspo", *overrides: str, seeds: tuple[int, ...] = (0, 1)) -> list[str]:
        params, jobs = load_params(ROOT / "params.yaml", ["train.device=cpu", *overrides]), []
        monkeypatch.setattr(stages, "_run", lambda stage, function, found, *rest: jobs.extend(found))
        if stage == "behavior":
            stages.behavior_stage(params, "xor_b", place / "data", seeds, place / "out")
        else:
            stages.train_stage(params, "xor_b", algorithm, place / "data", place / "behavior", seeds, place / "out")
        return [job.fingerprint for job in jobs]

    return of


def test_a_name_is_16_digits_and_every_seed_has_its_own(names):
    found = [name for stage in ("behavior", "train") for name in names(stage)] + names("train", "bc")
    assert len(set(found)) == 6
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in found)
    assert names("train") == names("train") and names("train", seeds=(1,)) == names("train")[1:]


RELEVANT = [
    ("behavior", "inspo", "behavior.steps=100"),
    ("behavior", "inspo", "behavior.hidden=[8]"),
    ("behavior", "inspo", "train.device=auto"),
    ("train", "inspo", "train.alpha=0.3"),
    ("train", "inspo", "train.entropy_in_value=true"),
    ("train", "inspo", "train.iterations=7"),
    ("train", "inspo", "train.evaluate_every=3"),
    ("train", "bc", "train.learning_rate=0.003"),
    ("train", "bc", "train.policy_steps=3"),
    ("train", "bc", "train.iterations=7"),
]
IRRELEVANT = [
    ("behavior", "inspo", "behavior.steps=2000"),
    ("behavior", "inspo", "train.alpha=0.3"),
    ("behavior", "inspo", "train.checkpoint_every=3"),
    ("train", "inspo", "behavior.steps=100"),
    ("train", "inspo", "evaluate.episodes=3"),
    ("train", "inspo", "report.confidence=0.5"),
    ("train", "inspo", "experiment.name=another"),
    ("train", "inspo", "experiment.seeds=[3]"),
    ("train", "bc", "train.alpha=0.3"),
    ("train", "bc", "train.q=joint"),
    ("train", "bc", "report.bootstrap=7"),
]


@pytest.mark.parametrize("stage, algorithm, override", RELEVANT)
def test_a_parameter_that_the_stage_reads_changes_every_seed(names, stage, algorithm, override):
    assert not set(names(stage, algorithm, override)) & set(names(stage, algorithm))


@pytest.mark.parametrize("stage, algorithm, override", IRRELEVANT)
def test_any_other_parameter_changes_none(names, stage, algorithm, override):
    assert names(stage, algorithm, override) == names(stage, algorithm)


def test_a_variant_is_told_by_its_parameters_and_not_by_its_name(names):
    inspo, product = names("train", "inspo"), names("train", "inspo_product")
    assert not set(inspo) & set(product)
    assert names("train", "mine", "variants.mine={algorithm: inspo, behavior: product}") == product
    assert names("train", "mine", "variants.mine={algorithm: inspo}") == inspo


def test_other_data_change_every_seed(names, place):
    before = names("train"), names("behavior")
    write_dataset(SETS["xor_c"](), place / "data")
    with pytest.raises(InspoError, match="not that of behavior models of"):
        names("train")
    for record in place.glob("behavior/*/run.json"):
        write_json(record, {"stage": "behavior", "inputs": {"data": stages.content_hash(place / "data")}})
    assert not set(names("train")) & set(before[0]) and not set(names("behavior")) & set(before[1])


def test_the_name_and_origin_of_the_same_data_change_nothing(names, place):
    before = names("train"), names("behavior")
    meta = json.loads((place / "data/meta.json").read_text())
    write_json(place / "data/meta.json", meta | {"name": "other", "provenance": {"from": "elsewhere"}})
    assert (names("train"), names("behavior")) == before


def test_behavior_models_change_their_seed_alone(names, place):
    before = names("train")
    (place / "behavior/seed_1/behavior.safetensors").write_text("other models")
    after = names("train")
    assert after[0] == before[0] and after[1] != before[1]


def test_an_evaluation_depends_on_policy_game_and_its_own_parameters(place):
    params, policy = load_params(ROOT / "params.yaml"), place / "train/seed_0"
    name = evaluation_fingerprint("xor", policy, params.evaluate)
    assert name == evaluation_fingerprint(
        "xor", policy, load_params(ROOT / "params.yaml", ["report.bootstrap=7", "train.alpha=3"]).evaluate
    )
    assert name != evaluation_fingerprint("mne", policy, params.evaluate)
    assert name != evaluation_fingerprint("xor", policy, load_params(ROOT / "params.yaml", ["evaluate.seed=7"]).evaluate)
    (policy / "metrics.jsonl").write_text("{}")
    assert name == evaluation_fingerprint("xor", policy, params.evaluate)
    for file, content in [("policy.safetensors", '"other"'), ("run.json", '{"fingerprint": "other"}')]:
        kept = (policy / file).read_text()
        (policy / file).write_text(content)
        assert name != evaluation_fingerprint("xor", policy, params.evaluate)
        (policy / file).write_text(kept)
    assert name == evaluation_fingerprint("xor", policy, params.evaluate)


@pytest.fixture
def code(tmp_path, monkeypatch) -> Path:
    """A copy of the package, whose code the fingerprints take for ours."""
    shutil.copytree(ROOT / "inspo_core", tmp_path / "inspo_core")
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    return tmp_path / "inspo_core"


CHANGES = {
    "algorithms/inspo.py": {"train"},
    "algorithms/behavior_models.py": {"behavior", "train"},
    "algorithms/networks.py": {"behavior", "train", "evaluate"},
    "rollouts.py": {"train", "evaluate"},
    "envs/bridge.py": {"ingest", "train", "evaluate", "report"},
    "statistics.py": {"evaluate", "report"},
    "tracking/tracker.py": set(),
    "seeds.py": set(),
    "config.py": set(),
}


@pytest.mark.parametrize("file, stages_of_it", CHANGES.items())
def test_code_changes_the_stages_that_run_it(code, file, stages_of_it):
    before = {stage: code_hash(stage) for stage in STAGE_CODE}
    with open(code / file, "a") as source:
        source.write("CHANGED = True\n")
    assert {stage for stage in STAGE_CODE if code_hash(stage) != before[stage]} == stages_of_it


@pytest.mark.parametrize(
    ("file", "algorithms"),
    [
        ("algorithms/inspo.py", {"inspo"}),
        ("algorithms/mu.py", {"inspo"}),
        ("algorithms/mixing.py", {"icq", "omiga", "cfcql"}),
        ("algorithms/registry.py", set()),
        ("algorithms/networks.py", set(ALGORITHM_CONFIGS)),
        ("envs/bridge.py", set(ALGORITHM_CONFIGS)),
    ],
)
def test_code_of_an_algorithm_changes_no_other(code, file, algorithms):
    before = {name: code_hash("train", name) for name in ALGORITHM_CONFIGS}
    with open(code / file, "a") as source:
        source.write("CHANGED = True\n")
    assert {name for name in before if code_hash("train", name) != before[name]} == algorithms


def test_words_about_code_change_nothing(code):
    before = code_hash("train")
    source = code / "algorithms/inspo.py"
    text = source.read_text()
    source.write_text("# A comment.\n" + text.replace('"""One sweep over all agents."""', '"""Other words."""'))
    assert code_hash("train") == before
    source.write_text(text.replace("self._sweep += 1", "self._sweep += 2"))
    assert code_hash("train") != before


def test_byte_code_is_no_code(code):
    before = code_hash("train")
    (code / "algorithms/__pycache__").mkdir(exist_ok=True)
    (code / "algorithms/__pycache__/x.cpython-311.pyc").write_bytes(b"anything")
    assert code_hash("train") == before
    (code / "algorithms/new.py").touch()
    assert code_hash("train") != before


def test_a_tree_is_its_names_and_contents(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("content")
    first = tree_hash(tmp_path / "a")
    (tmp_path / "a/b/file").touch()
    (tmp_path / "a/empty").mkdir()
    assert tree_hash(tmp_path / "a") == first
    (tmp_path / "a/b").rename(tmp_path / "a/c")
    assert tree_hash(tmp_path / "a") != first
    with pytest.raises(InspoError, match=f"{tmp_path}/nothing is missing; run the stage that makes it first"):
        tree_hash(tmp_path / "nothing")


def test_a_hash_is_of_the_value_not_of_its_writing():
    assert hash_of({"a": 1, "b": [True, None]}) == hash_of({"b": [True, None], "a": 1})
    assert len({hash_of(value) for value in ({"a": 1}, {"a": "1"}, {"a": [1]}, {"a": 1.5}, {"b": 1})}) == 5
