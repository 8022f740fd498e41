"""params.yaml and the classes agree; what does not fit is named, with what would."""

import json
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from inspo_core.algorithm_configs import ALGORITHM_CONFIGS, BCConfig, InSPOConfig, LoopConfig, TrainConfig
from inspo_core.config import Params, SourceConfig, algorithm_config, learner_of, load_params, loop_config
from inspo_core.errors import InspoError

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "params.yaml"
TEXT = FILE.read_text()
SECTIONS = {name: field.annotation for name, field in Params.model_fields.items() if name != "variants"}


def comment_of(key: str, section: str) -> str:
    """The comment beside ``key`` in its section, or else above it; empty if there is none."""
    lines = TEXT.partition(f"\n{section}:\n")[2].splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith(f"  {key}:"))
    before, _, beside = lines[number].partition(" # ")
    above = lines[number - 1].strip() if number else ""
    return beside.strip() or (above[1:].strip() if above.startswith("#") else "")


KEYS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


def test_the_file_holds_every_parameter_and_no_other():
    values = yaml.safe_load(TEXT)
    assert list(values) == list(Params.model_fields)
    for section, model in SECTIONS.items():
        assert set(values[section]) == set(model.model_fields), section


def test_what_is_read_is_what_is_written():
    params = load_params(FILE)
    values = yaml.safe_load(TEXT)
    for source in values["ingest"]["sources"].values():
        source.setdefault("timeout_at", None)
    assert params.model_dump() == values


@pytest.mark.parametrize("section, key", KEYS)
def test_every_parameter_has_a_comment_that_names_its_choices(section, key):
    comment = comment_of(key, section)
    assert len(comment) > 3
    annotation = SECTIONS[section].model_fields[key].annotation
    if get_origin(annotation) is Literal:
        shown = comment + TEXT.partition(f"\n{section}:\n")[2].partition(f"  {key}:")[2].partition("#")[0]  # the value itself counts
        assert not [choice for choice in get_args(annotation) if choice not in shown]


def test_there_are_no_defaults_in_code_but_for_a_quirk_of_some_sources():
    def optional(model: type[BaseModel]) -> set[str]:
        return {name for name, field in model.model_fields.items() if not field.is_required()}

    assert {name: optional(model) for name, model in SECTIONS.items() if optional(model)} == {}
    assert optional(Params) == set() and optional(SourceConfig) == {"timeout_at"}
    for section, key in KEYS:
        values = yaml.safe_load(TEXT)
        del values[section][key]
        with pytest.raises(ValidationError, match=rf"{section}.{key}\n.*Field required"):
            Params.model_validate(values)


def written(tmp_path: Path, old: str, new: str) -> Path:
    """params.yaml with one change."""
    assert TEXT.count(old) == 1
    (tmp_path / "params.yaml").write_text(TEXT.replace(old, new))
    return tmp_path / "params.yaml"


WRONG = [
    ("  gamma: 0.99", "  gama: 0.99", "unknown parameter train.gama; did you mean gamma?"),
    ("  gamma: 0.99", "  gama: 0.99", "parameter train.gamma is missing"),
    ("evaluate:\n", "evalute:\n", "unknown parameter evalute; did you mean evaluate?"),
    ("  bootstrap: ", "  xyz: 3\n  bootstrap: ", "unknown parameter report.xyz; known here: confidence, bootstrap"),
    (
        "xor_a: {format: native, env: xor}",
        "xor_a: {format: native, env: xor, timeout: 5}",
        "ingest.sources.xor_a.timeout; did you mean timeout_at?",
    ),
    (
        "xor_a: {format: native, env: xor}",
        "xor_a: {format: hdf, env: xor}",
        "ingest.sources.xor_a.format is 'hdf': input should be 'native' or 'alberdice'",
    ),
    ("  check_every: 100 ", "  check_every: 300 ", "behavior.check_every is 300: expected a divisor of behavior.steps, 2000"),
    ("  gamma: 0.99", "  gamma: high", "train.gamma is 'high': input should be a valid number"),
    ("  gamma: 0.99", "  gamma: 1.5", "train.gamma is 1.5: input should be less than 1"),
    ("  gamma: 0.99", "  gamma: .nan", "train.gamma is nan: input should be a finite number"),
    ("  gamma: 0.99", "  gamma: true", "train.gamma is True: input should be a valid number"),
    ("  iterations: 50", "  iterations: 50.5", "train.iterations is 50.5: input should be a valid integer"),
    ("  iterations: 50", "  iterations: '50'", "train.iterations is '50': input should be a valid integer"),
    ("entropy_in_value: false", "entropy_in_value: 1", "train.entropy_in_value is 1: input should be a valid boolean"),
    ("  seeds: [0, 1, 2, 3, 4]", "  seeds: [0, 1, 2, 1]", "experiment.seeds is [0, 1, 2, 1]: 1 is listed more than once"),
    ("  seeds: [0, 1, 2, 3, 4]", "  seeds: [0, -1]", "experiment.seeds.1 is -1: input should be greater than or equal to 0"),
    ("  seeds: [0, 1, 2, 3, 4]", "  seeds: []", "experiment.seeds is []: list should have at least 1 item"),
    ("  algorithms: [inspo, bc]", "  algorithms: [inspo, inspo_joint]", "no algorithm or variant 'inspo_joint'; did you mean inspo_joint_q"),
    ("{algorithm: inspo, order: fixed}", "{order: fixed}", "parameter variants.inspo_fixed_order.algorithm is missing"),
    ("{algorithm: inspo, order: fixed}", "{algorithm: nspo}", "variants.inspo_fixed_order.algorithm is 'nspo': expected one of inspo, "),
    (
        "{algorithm: inspo, order: fixed}",
        "{algorithm: inspo, ordre: fixed}",
        "inspo has no parameter variants.inspo_fixed_order.ordre; did you mean order?",
    ),
    ("{algorithm: inspo, order: fixed}", "{algorithm: bc, order: fixed}", "bc has no parameter variants.inspo_fixed_order.order; known here: "),
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
        ["train.alpha=0.25", "train.hidden=[8, 8]", " train.q = joint", '{"train.beta": 2, "evaluate.episodes": 7}', "train.alpha=0.5"],
    )
    assert (params.train.alpha, params.train.hidden, params.train.q) == (0.5, [8, 8], "joint")  # the last one counts
    assert (params.train.beta, params.evaluate.episodes) == (2.0, 7)
    assert load_params(FILE, ["ingest.sources.xor_a.env=mne"]).ingest.sources["xor_a"].env == "mne"
    unchanged = load_params(FILE).model_dump()
    assert load_params(FILE, ["train.alpha=0.25"]).model_dump() == {**unchanged, "train": {**unchanged["train"], "alpha": 0.25}}


def test_whole_numbers_of_kubeflow_are_integers():
    params = load_params(FILE, [json.dumps({"train.iterations": 3.0, "train.hidden": [8.0, 8.0], "train.alpha": 1.0})])
    assert (params.train.iterations, params.train.hidden, params.train.alpha) == (3, [8, 8], 1.0)
    assert [type(value) for value in (params.train.iterations, params.train.hidden[0], params.train.alpha)] == [int, int, float]


@pytest.mark.parametrize(
    "number, value", [("1e-05", 1e-5), ("5e-4", 5e-4), ("1.5E-3", 1.5e-3), ("1e+1", 10.0), ("2.e-2", 0.02), ("+3e-1", 0.3)]
)
def test_numbers_as_dvc_writes_them(tmp_path, number, value):
    assert load_params(FILE, [f"train.learning_rate={number}"]).train.learning_rate == value
    assert load_params(FILE, [json.dumps({"train.hidden": [8]}), f"train.alpha={number}"]).train.alpha == value
    old = next(line for line in TEXT.partition("\ntrain:\n")[2].splitlines() if line.startswith("  learning_rate: "))
    assert load_params(written(tmp_path, old, f"  learning_rate: {number}")).train.learning_rate == value


@pytest.mark.parametrize(
    "override, words",
    [
        ("train.alhpa=1", "--set train.alhpa: there is no such parameter in .*params.yaml; did you mean alpha?"),
        ("trian.alpha=1", "--set trian.alpha: .*; did you mean train?"),
        ("alpha=1", "--set alpha: there is no such parameter"),
        ("train.alpha.x=1", "--set train.alpha.x: there is no such parameter"),
        ("train.hidden.0=1", "--set train.hidden.0: there is no such parameter"),
        ("train.hidden=[64, 0]", "train.hidden.1 is 0: input should be greater than 0"),
        ('{"train.zeta": 1}', "--set train.zeta: there is no such parameter"),
        ("train.alpha", "--set 'train.alpha' is not section.key=value nor a JSON object"),
        ('{"train.alpha": 1', "is not section.key=value nor a JSON object"),
        ("train.hidden=[1", "is not section.key=value nor a JSON object"),
        ("train.alpha=", "train.alpha is None: input should be a valid number"),
        ("train.alpha=0", "train.alpha is 0: input should be greater than 0"),
        ('{"train.alpha": NaN}', "train.alpha is nan: input should be a finite number"),
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
        load_params(FILE, ["train.alpha=x", "evaluate.episodes=0"])
    assert "train.alpha is 'x'" in str(raised.value) and "evaluate.episodes is 0" in str(raised.value)


def test_an_algorithm_sees_only_its_own_parameters():
    train = load_params(FILE).train
    assert (
        set(algorithm_config("bc", train).model_dump())
        == set(BCConfig.model_fields)
        == {"hidden", "memory", "learning_rate", "learning_rate_schedule", "anneal_fraction", "batch_size", "policy_steps"}
    )
    assert type(algorithm_config("inspo", train)) is InSPOConfig
    assert set(TrainConfig.model_fields) == set(LoopConfig.model_fields) | {
        name for config in ALGORITHM_CONFIGS.values() for name in config.model_fields
    }
    assert not set(LoopConfig.model_fields) & set(InSPOConfig.model_fields)
    for narrow in (algorithm_config("bc", train), algorithm_config("inspo", train), loop_config(train)):
        assert narrow.model_dump().items() <= train.model_dump().items()


def test_parameters_do_not_change_under_way():
    params = load_params(FILE)
    with pytest.raises(ValidationError, match="frozen"):
        params.train.alpha = 1.0


# Variants


def test_a_variant_is_its_algorithm_with_other_parameters():
    params = load_params(FILE, ["variants.mine={algorithm: bc, iterations: 7, learning_rate: 1}", "variants.inspo_product.alpha=0.7"])
    default, product, mine = (learner_of(name, params) for name in ("inspo", "inspo_product", "mine"))
    assert (default.algorithm, default.variant, product.algorithm, product.variant) == ("inspo", "default", "inspo", "inspo_product")
    assert product.config.model_dump() == default.config.model_dump() | {"behavior": "product", "alpha": 0.7}
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
    middle = overlay(tmp_path / "experiments", "middle.yaml", "base: ../params.yaml\ntrain: {alpha: 0.5}\nexperiment: {seeds: [7, 8]}\n")
    top = overlay(
        tmp_path / "experiments", "top.yaml", "base: middle.yaml\nexperiment: {name: top}\nvariants: {mine: {algorithm: bc, batch_size: 9}}\n"
    )
    values = load_params(FILE).model_dump()
    expected = values | {"train": values["train"] | {"alpha": 0.5}, "experiment": values["experiment"] | {"seeds": [7, 8]}}
    assert load_params(middle).model_dump() == expected
    params = load_params(top, ["train.beta=0.25"])
    assert params.experiment.name == "top" and params.experiment.seeds == [7, 8]
    assert (params.train.alpha, params.train.beta) == (0.5, 0.25)
    assert list(params.variants) == [*values["variants"], "mine"] and params.variants["mine"].changes == {"batch_size": 9}


@pytest.mark.parametrize(
    "text, words",
    [
        ("base: nothing.yaml\n", "cannot read the parameters {place}/nothing.yaml, the base of {place}/top.yaml: No such file"),
        ("base: top.yaml\n", "{place}/top.yaml: base is top.yaml, which leads back to itself"),
        ("base: other.yaml\n", "{place}/other.yaml: base is ../{name}/top.yaml, which leads back to itself"),
        ("base: [params.yaml]\n", "{place}/top.yaml: base is ['params.yaml'], expected the name of a parameter file"),
        ("train: {alpha: 1}\n", "{place}/top.yaml: parameter experiment is missing"),
        ("base: params.yaml\ntrain: {alhpa: 1}\n", "{place}/top.yaml: unknown parameter train.alhpa; did you mean alpha?"),
    ],
)
def test_a_base_that_does_not_fit(tmp_path, text, words):
    overlay(tmp_path, "params.yaml", TEXT)
    overlay(tmp_path, "other.yaml", f"base: ../{tmp_path.name}/top.yaml\n")
    with pytest.raises(InspoError) as raised:
        load_params(overlay(tmp_path, "top.yaml", text))
    assert str(raised.value).startswith(words.format(place=tmp_path, name=tmp_path.name)) and "\n" not in str(raised.value)
