"""params.yaml and the classes agree; what does not fit is named, with what would."""

import json
import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from inspo_core.algorithms.configs import BCConfig
from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.config.learners import learner_of, own_keys
from inspo_core.config.reading import load_params
from inspo_core.config.sections import LoopConfig, Params, SourceConfig, TrainConfig
from inspo_core.errors import InspoError

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "params.yaml"
TEXT = FILE.read_text()
SECTIONS = {name: field.annotation for name, field in Params.model_fields.items() if name != "variants"}
BLOCKS = {name: own_keys(name) for name in ALGORITHMS}
# Where a key stands in the file, with the class that says what it may be.
KEYS = [((section, key), model) for section, model in SECTIONS.items() for key in model.model_fields]
OWN_KEYS = [(("train", name, key), ALGORITHMS[name].config) for name, keys in BLOCKS.items() for key in keys]


def line_of(*place: str) -> int:
    """The number of the line at which the key stands."""
    number, lines = -1, TEXT.splitlines()
    for depth, key in enumerate(place):
        number = next(at for at in range(number + 1, len(lines)) if re.match(rf"{'  ' * depth}{key}:", lines[at]))
    return number


def comment_of(*place: str) -> str:
    """The comment beside the key, or else above it; empty if there is none."""
    number, lines = line_of(*place), TEXT.splitlines()
    beside, above = lines[number].partition(" # ")[2], lines[number - 1].strip()
    return beside.strip() or (above[1:].strip() if above.startswith("#") else "")


def without(*place: str) -> dict:
    """What the file says, less one key."""
    values = inner = yaml.safe_load(TEXT)
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return values


def saved(tmp_path: Path, values: dict) -> Path:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "params.yaml"


def test_the_file_holds_every_parameter_and_no_other():
    values = yaml.safe_load(TEXT)
    assert list(values) == list(Params.model_fields)
    for section, model in SECTIONS.items():
        assert set(values[section]) == set(model.model_fields) | (set(BLOCKS) if section == "train" else set()), section
    for name, keys in BLOCKS.items():
        assert list(values["train"][name]) == keys, name


def test_what_is_read_is_what_is_written():
    values = yaml.safe_load(TEXT)
    for source in values["ingest"]["sources"].values():
        source["options"] = {}
    assert load_params(FILE).model_dump() == values


@pytest.mark.parametrize(("place", "model"), KEYS + OWN_KEYS, ids=[".".join(place) for place, _ in KEYS + OWN_KEYS])
def test_every_parameter_has_a_comment_that_names_its_choices(place, model):
    comment = comment_of(*place)
    assert len(comment) > 3
    annotation = model.model_fields[place[-1]].annotation
    if get_origin(annotation) is Literal:
        shown = comment + TEXT.splitlines()[line_of(*place)].partition("#")[0]  # the value itself counts
        assert not [choice for choice in get_args(annotation) if choice not in shown]


def test_there_are_no_defaults_in_code_but_for_the_options_of_a_format(tmp_path):
    def optional(model: type[BaseModel]) -> set[str]:
        return {name for name, field in model.model_fields.items() if not field.is_required()}

    models = {**SECTIONS, **{name: entry.config for name, entry in ALGORITHMS.items()}}
    assert {name: optional(model) for name, model in models.items() if optional(model)} == {}
    assert optional(Params) == set() and optional(SourceConfig) == {"options"}
    for place, _ in KEYS + OWN_KEYS:
        with pytest.raises(InspoError, match=rf"params.yaml: parameter {'.'.join(place)} is missing$"):
            load_params(saved(tmp_path, without(*place)))


def written(tmp_path: Path, old: str, new: str) -> Path:
    """params.yaml with one change."""
    assert TEXT.count(old) == 1
    (tmp_path / "params.yaml").write_text(TEXT.replace(old, new))
    return tmp_path / "params.yaml"


WRONG = [
    ("  gamma: 0.99", "  gama: 0.99", "unknown parameter train.gama; did you mean gamma?"),
    ("evaluate:\n", "evalute:\n", "unknown parameter evalute; did you mean evaluate?"),
    ("  bootstrap: ", "  xyz: 3\n  bootstrap: ", "unknown parameter report.xyz; known: confidence, bootstrap"),
    (
        "xor_a: {format: native, env: xor}",
        "xor_a: {format: native, env: xor, timeout_at: 5}",
        "unknown parameter ingest.sources.xor_a.timeout_at; known: format, env, options",
    ),
    (
        "xor_a: {format: native, env: xor}",
        "xor_a: {format: native, env: xor, options: 5}",
        "parameter ingest.sources.xor_a.options is 5: input should be a valid dictionary",
    ),
    ("  check_every: 100 ", "  check_every: 300 ", "behavior.check_every is 300: expected a divisor of behavior.steps, 2000"),
    ("  gamma: 0.99", "  gamma: high", "train.gamma is 'high': input should be a valid number"),
    ("  gamma: 0.99", "  gamma: 1.5", "train.gamma is 1.5: input should be less than 1"),
    ("  gamma: 0.99", "  gamma: .nan", "train.gamma is nan: input should be a finite number"),
    ("  gamma: 0.99", "  gamma: true", "train.gamma is True: input should be a valid number"),
    ("  iterations: 50", "  iterations: 50.5", "train.iterations is 50.5: input should be a valid integer"),
    ("  iterations: 50", "  iterations: '50'", "train.iterations is '50': input should be a valid integer"),
    ("entropy_in_value: false", "entropy_in_value: 1", "parameter train.inspo.entropy_in_value is 1: input should be a valid boolean"),
    ("  seeds: [0, 1, 2, 3, 4]", "  seeds: [0, 1, 2, 1]", "experiment.seeds is [0, 1, 2, 1]: 1 is listed more than once"),
    ("  seeds: [0, 1, 2, 3, 4]", "  seeds: [0, -1]", "experiment.seeds.1 is -1: input should be greater than or equal to 0"),
    ("  seeds: [0, 1, 2, 3, 4]", "  seeds: []", "experiment.seeds is []: list should have at least 1 item"),
    (
        "  algorithms: [inspo, bc]",
        "  algorithms: [inspo, inspo_joint]",
        "no algorithm or variant 'inspo_joint'; did you mean inspo_joint_q",
    ),
    ("{algorithm: inspo, order: fixed}", "{order: fixed}", "parameter variants.inspo_fixed_order.algorithm is missing"),
    ("    target_kl: 0.5 ", "    target_k: 0.5 ", "unknown parameter train.inspo.target_k; did you mean target_kl?"),
    ("    target_kl: 0.5 ", "    target_kl: 0.5\n    target_k: 0.5 ", "unknown parameter train.inspo.target_k; did you mean target_kl?"),
    (
        "    target_kl: 0.5 ",
        "    target_kl: 0.5\n    gamma: 0.5 ",
        "unknown parameter train.inspo.gamma; known: policy_steps, initial_policy, ",
    ),
    ("  bc:\n", "  bcc:\n", "unknown parameter train.bcc; did you mean bc"),
    ("  bc:\n    policy_steps: 50 ", "  bc: 50 ", "parameter train.bc is 50: expected the block of bc, with policy_steps"),
    (
        "{algorithm: inspo, order: fixed}",
        "{algorithm: nspo}",
        "parameter variants.inspo_fixed_order.algorithm is 'nspo': there is no algorithm 'nspo'; did you mean inspo?",
    ),
    (
        "{algorithm: inspo, order: fixed}",
        "{algorithm: inspo, ordre: fixed}",
        "inspo has no parameter variants.inspo_fixed_order.ordre; did you mean order?",
    ),
    (
        "{algorithm: inspo, order: fixed}",
        "{algorithm: bc, order: fixed}",
        "bc has no parameter variants.inspo_fixed_order.order; known here: ",
    ),
    (
        "{algorithm: inspo, order: fixed}",
        "{algorithm: inspo, order: sorted}",
        "parameter variants.inspo_fixed_order.order is 'sorted': input should be 'random' or 'fixed'",
    ),
    ("  inspo_fixed_order:", "  bc:", "variants.bc: expected a name "),
    ("  inspo_fixed_order:", "  fixed/order:", "variants.fixed/order: expected a name "),
    ("\nreport:\n", "\nreport: [1]\nrest:\n", "parameter report is [1]: input should be a valid"),
    ("\nreport:\n", "\nreport: {\n", "is not valid YAML"),
]


@pytest.mark.parametrize("old, new, words", WRONG)
def test_what_does_not_fit_is_named(tmp_path, old, new, words):
    path = written(tmp_path, old, new)
    with pytest.raises(InspoError) as raised:
        load_params(path)
    assert str(raised.value).startswith(str(path)) and words in str(raised.value) and "\n" not in str(raised.value)


def test_files_that_are_no_parameters(tmp_path):
    for content, words in [
        (None, "No such file"),
        (b"- 1\n", "must hold one mapping"),
        (b"\xff\xfe\xfa", "is not valid YAML"),
        (b"", "must hold one"),
    ]:
        path = tmp_path / "params.yaml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InspoError, match=words):
            load_params(path)
    with pytest.raises(InspoError, match="cannot read the parameters .*: Is a directory"):
        load_params(tmp_path)


def test_overrides():
    params = load_params(
        FILE,
        [
            "train.inspo.alpha=0.25",
            "train.hidden=[8, 8]",
            " train.inspo.q = joint",
            '{"train.inspo.beta": 2, "evaluate.episodes": 7}',
            "train.inspo.alpha=0.5",
        ],
    )
    config = learner_of("inspo", params).config
    assert (config.alpha, config.hidden, config.q, config.beta) == (0.5, [8, 8], "joint", 2.0)  # the last one counts
    assert params.evaluate.episodes == 7
    assert load_params(FILE, ["ingest.sources.xor_a.env=mne"]).ingest.sources["xor_a"].env == "mne"
    expected = load_params(FILE).model_dump()
    expected["train"]["inspo"]["alpha"] = 0.25
    assert load_params(FILE, ["train.inspo.alpha=0.25"]).model_dump() == expected


def test_whole_numbers_of_kubeflow_are_integers():
    overrides = {
        "train.iterations": 3.0,
        "train.hidden": [8.0, 8.0],
        "train.cql.alpha": 1.0,
        "variants.mine": {"algorithm": "cql", "alpha": 2.0},
    }
    params = load_params(FILE, [json.dumps(overrides)])
    found = [params.train.iterations, params.train.hidden[0], params.train.blocks["cql"]["alpha"], learner_of("mine", params).config.alpha]
    assert found == [3, 8, 1.0, 2.0] and [type(value) for value in found] == [int, int, float, float]


@pytest.mark.parametrize(
    "number, value", [("1e-05", 1e-5), ("5e-4", 5e-4), ("1.5E-3", 1.5e-3), ("1e+1", 10.0), ("2.e-2", 0.02), ("+3e-1", 0.3)]
)
def test_numbers_as_dvc_writes_them(tmp_path, number, value):
    assert load_params(FILE, [f"train.learning_rate={number}"]).train.learning_rate == value
    assert load_params(FILE, [json.dumps({"train.hidden": [8]}), f"train.inspo.alpha={number}"]).train.blocks["inspo"]["alpha"] == value
    old = next(line for line in TEXT.partition("\ntrain:\n")[2].splitlines() if line.startswith("  learning_rate: "))
    assert load_params(written(tmp_path, old, f"  learning_rate: {number}")).train.learning_rate == value


@pytest.mark.parametrize(
    "override, words",
    [
        ("train.gama=1", "--set train.gama: there is no such parameter in .*params.yaml; did you mean gamma?"),
        ("train.inspo.alhpa=1", "--set train.inspo.alhpa: there is no such parameter in .*params.yaml; did you mean alpha?"),
        ("train.inspo.gamma=1", "--set train.inspo.gamma: there is no such parameter"),
        ("trian.gamma=1", "--set trian.gamma: .*; did you mean train?"),
        ("alpha=1", "--set alpha: there is no such parameter"),
        ("train.gamma.x=1", "--set train.gamma.x: there is no such parameter"),
        ("train.hidden.0=1", "--set train.hidden.0: there is no such parameter"),
        ("train.hidden=[64, 0]", "train.hidden.1 is 0: input should be greater than 0"),
        ('{"train.zeta": 1}', "--set train.zeta: there is no such parameter"),
        ("train.gamma", "--set 'train.gamma' is not section.key=value nor a JSON object"),
        ('{"train.gamma": 1', r"^--set '{\"train.gamma\": 1' is not valid JSON \(Expecting ',' delimiter"),
        ("train.hidden=[1", "^--set 'train.hidden=\\[1' is not valid YAML: expected ',' or ']', .*, line 1$"),
        ("train.inspo.alpha=", "train.inspo.alpha is None: input should be a valid number"),
        ("train.inspo.alpha=0", "train.inspo.alpha is 0: input should be greater than 0"),
        ('{"train.cql.alpha": NaN}', "train.cql.alpha is nan: input should be a finite number"),
        ("train=3", "parameter train is 3: input should be a valid dictionary"),
        ("variants.inspo_product.alhpa=1", "inspo has no parameter variants.inspo_product.alhpa; did you mean alpha?"),
        ("variants.inspo_produkt.alpha=1", "--set variants.inspo_produkt.alpha: .*; did you mean inspo_product"),
    ],
)
def test_overrides_that_do_not_fit(override, words):
    with pytest.raises(InspoError, match=words) as raised:
        load_params(FILE, [override])
    assert "\n" not in str(raised.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InspoError) as raised:
        load_params(FILE, ["train.gamma=x", "evaluate.episodes=0"])
    assert "train.gamma is 'x'" in str(raised.value) and "evaluate.episodes is 0" in str(raised.value)
    with pytest.raises(InspoError) as raised:
        load_params(FILE, ["train.inspo.alpha=x", "train.inspo.q=0"])
    assert "train.inspo.alpha is 'x'" in str(raised.value) and "train.inspo.q is 0" in str(raised.value)


def test_an_algorithm_sees_only_its_own_parameters():
    params = load_params(FILE)
    values, loop = params.train.model_dump(), LoopConfig.model_fields
    shared = {"hidden", "memory", "learning_rate", "learning_rate_schedule", "anneal_fraction", "batch_size"}
    assert set(learner_of("bc", params).config.model_dump()) == set(BCConfig.model_fields) == {*shared, "policy_steps"}
    for name, entry in ALGORITHMS.items():
        learner = learner_of(name, params)
        assert type(learner.config) is entry.config and not set(loop) & set(entry.config.model_fields)
        assert learner.config.model_dump().items() <= (values | values[name]).items()
        assert learner.loop.model_dump() == {key: values[key] for key in loop}
    read = {key for entry in ALGORITHMS.values() for key in entry.config.model_fields} | set(loop)
    assert set(TrainConfig.model_fields) <= read


def test_a_block_must_be_there_once_its_algorithm_is_used(tmp_path):
    values = without("train", "icq")
    assert "icq" not in load_params(saved(tmp_path, values)).train.blocks
    used = "parameter train.icq is None: expected the block of icq, with temperature, target_temperature"
    for override in ("experiment.algorithms=[bc, icq]", "variants.mine={algorithm: icq, gamma: 0.9}"):
        with pytest.raises(InspoError, match=used):
            load_params(saved(tmp_path, values), [override])


# Keys of earlier versions

OLD = {
    "alpha": "train.inspo.alpha",
    "pool_size": "train.inspo.pool_size",
    "behavior": "train.inspo.behavior_model",
    "omiga_alpha": "train.omiga.alpha",
    "icq_target_temperature": "train.icq.target_temperature",
    "cfcql_mixing_width": "train.cfcql.mixing_width",
    "policy_steps": "train.inspo.policy_steps and train.bc.policy_steps",
    "checkpoint_every": "the environment variable INSPO_CHECKPOINT_EVERY, a setting of the machine",
}


@pytest.mark.parametrize(("old", "new"), OLD.items(), ids=OLD)
def test_a_key_of_an_earlier_version_is_an_error_that_names_the_new_one(tmp_path, old, new):
    with pytest.raises(InspoError) as raised:
        load_params(FILE, [f"train.{old}=1"])
    assert str(raised.value) == f"--set train.{old}: this parameter is now {new}"
    path = written(tmp_path, "  gamma: 0.99", f"  {old}: 1\n  gamma: 0.99")
    with pytest.raises(InspoError) as raised:
        load_params(path)
    assert str(raised.value) == f"{path}: parameter train.{old} is now {new}"


@pytest.mark.parametrize(
    ("algorithm", "old", "new"),
    [
        ("inspo", "behavior", "variants.mine.behavior_model"),
        ("omiga", "omiga_alpha", "variants.mine.alpha"),
        ("cfcql", "cfcql_mixing_width", "variants.mine.mixing_width"),
        ("inspo", "checkpoint_every", "the environment variable INSPO_CHECKPOINT_EVERY, a setting of the machine"),
    ],
)
def test_so_it_is_in_a_variant(tmp_path, algorithm, old, new):
    path = written(tmp_path, "\nvariants:\n", f"\nvariants:\n  mine: {{algorithm: {algorithm}, {old}: 1}}\n")
    with pytest.raises(InspoError) as raised:
        load_params(path)
    assert str(raised.value) == f"{path}: parameter variants.mine.{old} is now {new}"
    with pytest.raises(InspoError) as raised:
        load_params(FILE, [f"variants.mine={{algorithm: {algorithm}}}", f"variants.mine.{old}=1"])
    assert str(raised.value) == f"--set variants.mine.{old}: this parameter is now {new}"


def test_parameters_do_not_change_under_way():
    params = load_params(FILE)
    with pytest.raises(ValidationError, match="frozen"):
        params.train.gamma = 0.5


# Variants


def test_a_variant_is_its_algorithm_with_other_parameters():
    params = load_params(FILE, ["variants.mine={algorithm: bc, iterations: 7, learning_rate: 1}", "variants.inspo_product.alpha=0.7"])
    default, product, mine = (learner_of(name, params) for name in ("inspo", "inspo_product", "mine"))
    assert (default.algorithm, default.variant, product.algorithm, product.variant) == ("inspo", "default", "inspo", "inspo_product")
    assert product.config.model_dump() == default.config.model_dump() | {"behavior_model": "product", "alpha": 0.7}
    assert product.loop == default.loop and mine.loop.iterations == 7
    assert mine.algorithm == "bc" and type(mine.config) is BCConfig and mine.config.learning_rate == 1.0


def test_every_variant_of_the_file_differs_in_one_thing_from_its_algorithm_or_another_variant():
    params = load_params(FILE)
    every = [{}, *(variant.changes for variant in params.variants.values())]
    for name, variant in params.variants.items():
        learner, default = learner_of(name, params), learner_of(variant.algorithm, params)
        differing = {key for key, value in learner.config.model_dump().items() if getattr(default.config, key) != value}
        assert differing == set(variant.changes) and learner.loop == default.loop, name
        assert any(len(variant.changes.items() ^ changes.items()) == 1 for changes in every), name


# Files that say only what differs from another


def overlay(place: Path, name: str, text: str) -> Path:
    place.mkdir(exist_ok=True)
    (place / name).write_text(text)
    return place / name


def test_a_base_is_replaced_key_by_key(tmp_path):
    (tmp_path / "params.yaml").write_text(TEXT)
    middle = overlay(
        tmp_path / "experiments", "middle.yaml", "base: ../params.yaml\ntrain: {inspo: {alpha: 0.5}}\nexperiment: {seeds: [7, 8]}\n"
    )
    top = overlay(
        tmp_path / "experiments",
        "top.yaml",
        "base: middle.yaml\nexperiment: {name: top}\nvariants: {mine: {algorithm: bc, batch_size: 9}}\n",
    )
    values = load_params(FILE).model_dump()
    train = values["train"] | {"inspo": values["train"]["inspo"] | {"alpha": 0.5}}
    expected = values | {"train": train, "experiment": values["experiment"] | {"seeds": [7, 8]}}
    assert load_params(middle).model_dump() == expected
    params = load_params(top, ["train.inspo.beta=0.25"])
    assert params.experiment.name == "top" and params.experiment.seeds == [7, 8]
    assert (params.train.blocks["inspo"]["alpha"], params.train.blocks["inspo"]["beta"]) == (0.5, 0.25)
    assert list(params.variants) == [*values["variants"], "mine"] and params.variants["mine"].changes == {"batch_size": 9}


@pytest.mark.parametrize(
    "text, words",
    [
        ("base: nothing.yaml\n", "cannot read the parameters {place}/nothing.yaml, the base of {place}/top.yaml: No such file"),
        ("base: top.yaml\n", "{place}/top.yaml: base is top.yaml, which leads back to itself"),
        ("base: other.yaml\n", "{place}/other.yaml: base is ../{name}/top.yaml, which leads back to itself"),
        ("base: [params.yaml]\n", "{place}/top.yaml: base is ['params.yaml'], expected the name of a parameter file"),
        ("train: {gamma: 1}\n", "{place}/top.yaml: parameter experiment is missing"),
        ("base: params.yaml\ntrain: {gama: 1}\n", "{place}/top.yaml: unknown parameter train.gama; did you mean gamma?"),
        ("base: params.yaml\ntrain: {alpha: 1}\n", "{place}/top.yaml: parameter train.alpha is now train.inspo.alpha"),
    ],
)
def test_a_base_that_does_not_fit(tmp_path, text, words):
    overlay(tmp_path, "params.yaml", TEXT)
    overlay(tmp_path, "other.yaml", f"base: ../{tmp_path.name}/top.yaml\n")
    with pytest.raises(InspoError) as raised:
        load_params(overlay(tmp_path, "top.yaml", text))
    assert str(raised.value).startswith(words.format(place=tmp_path, name=tmp_path.name)) and "\n" not in str(raised.value)
