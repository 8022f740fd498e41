"""YAML and JSON are read in one way: as DVC reads them, or not at all; a refusal is one sentence that can be read."""

import json
import random
from pathlib import Path

import pytest
from ruamel.yaml import YAML, YAMLError

from inspo_core import code_hashes
from inspo_core.config.reading import load_params
from inspo_core.errors import InspoError
from inspo_core.files import read_json
from inspo_core.parsing import dump_yaml, parse_json, parse_yaml
from pipelines.placement import load_placement

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
SCALARS = """
010 08 00 -0 +12 +010 0o17 0O17 0o8 -0o17 0x1f 0X1F -0x1F 0b11 -0b1 1_000 0_7 _1 +_1 1__0 0x_1 0o1_7
1. .5 -.5 1e5 1e-05 1.e3 -.5e1 1.5E+3 1e 1e+ 12e03 1_0.5 ._5 1.0_ 0.1_0e3 .inf +.inf -.INF .nan -.NaN 1:30 190:20:30.15
no yes on off y n No ON true True TRUE tRue ~ null Null NULL nULL 2026-01-01 2026-02-30 0001-99-99 2001-12-14t21:59:43.10-05:00 = <<
""".split()


def refusal(call, *arguments) -> str:
    with pytest.raises(InspoError) as raised:
        call(*arguments)
    sentence = str(raised.value)
    assert "\n" not in sentence and len(sentence) < 1200, sentence
    return sentence


def saved(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


# Two readers of one file


def test_a_value_is_read_as_dvc_reads_it_or_refused():
    rng, refused, same = random.Random(0), 0, 0
    made = ("".join(rng.choice("0123_.-+eExobaf:nyTt") for _ in range(rng.randint(1, 8))) for _ in range(4000))
    for text in [*SCALARS, *made]:
        if text.endswith(":") or text == "-":  # the beginning of something else
            continue
        try:
            found = parse_yaml(text, "x")
        except InspoError:
            refused += 1
            continue
        try:
            theirs = YAML(typ="safe", pure=True).load(text)
        except (YAMLError, ValueError) as error:
            pytest.fail(f"{text}: {found!r}, and DVC refuses it: {error}")
        assert (type(found), repr(found)) == (type(theirs), repr(theirs)), text
        same += 1
    assert refused > 10 and same > 3000
    for ambiguous in ("1_000", "0b11", "2026-02-30", "-0x1F", "<<", "="):
        assert refusal(parse_yaml, f"a: 1\nb: {ambiguous}", "x.yaml").startswith(f"x.yaml, line 2: {ambiguous} is ambiguous")


def test_a_key_twice_is_refused_wherever_it_stands(tmp_path, monkeypatch):
    gamma = next(line for line in TEXT.splitlines() if line.startswith("  gamma:"))
    line = TEXT.splitlines().index(gamma) + 2
    twice = saved(tmp_path, "params.yaml", TEXT.replace(gamma, f"{gamma}\n  gamma: 0.5"))
    assert refusal(load_params, twice) == f"{twice}, line {line}: the key 'gamma' is there twice in one mapping; keep one of them"
    source = saved(tmp_path, "source.yaml", TEXT.replace("    xor_b: {", "    xor_a: {", 1))
    assert "the key 'xor_a' is there twice" in refusal(load_params, source)
    experiment = saved(tmp_path, "experiment.yaml", f"base: {ROOT}/params.yaml\nexperiment: {{name: a}}\nexperiment: {{name: b}}\n")
    assert refusal(load_params, experiment).startswith(f"{experiment}, line 3: the key 'experiment' is there twice")
    placement = saved(tmp_path, "placement.yaml", "defaults:\n  memory: {limit: 1Gi}\n  memory: {request: 1Gi}\n")
    assert refusal(load_placement, placement).startswith(f"{placement}, line 3: the key 'memory' is there twice")
    assert "'train.gamma' is there twice" in refusal(load_params, ROOT / "params.yaml", ['{"train.gamma": 0.5, "train.gamma": 0.6}'])
    assert "'a' is there twice" in refusal(load_params, ROOT / "params.yaml", ["variants.x={a: 1, a: 2}"])
    record = saved(tmp_path, "run.json", '{"seed": 1, "config": {"x": 1, "x": 2}}')
    assert refusal(read_json, record).startswith(f"{record} is not valid JSON (the key 'x' is there twice in one object")
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, "code.yaml", "behavior: a\nbehavior: b\n")
    check = (code_hashes.check_code_hashes, load_params(ROOT / "params.yaml"), "behavior")
    assert refusal(*check).startswith("code.yaml, line 2: the key 'behavior' is there twice")


def test_text_that_looks_like_something_else_is_written_in_quotes():
    names = [*SCALARS, "1234567890123e45", "0812345678912345", "0123456701234567", "xor_c", "a1"]
    text = dump_yaml({name: name for name in names})
    assert parse_yaml(text, "x") == YAML(typ="safe", pure=True).load(text) == {name: name for name in names}
    assert "\na1: a1\n" in text


# What a parser for anything stumbles over

BOMB = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
HARD = {
    "a date that is none": "experiment: {seeds: [2026-02-30]}",
    "a date as a name": "experiment: {name: 0001-99-99}",
    "a number of 4400 digits": f"experiment: {{seeds: [{'9' * 4400}]}}",
    "nul in a path": 'base: "a\\0b.yaml"',
    "half a character": 'base: "\\ud800"',
    "900 brackets": "a: " + "[" * 900 + "]" * 900,
    "900 braces": "a: " + "{a: " * 900 + "}" * 900,
    "aliases of aliases": f"experiment:\n  {BOMB.replace(chr(10), chr(10) + '  ')}",
    "an alias of itself": "a: &a [*a]",
    "merged mappings": "a: &a {b: 1}\nc: {<<: [*a, *a]}",
    "a tag": "a: !!timestamp 2026-02-30",
    "a key that is a list": "[1]: 2",
    "a key that is a number": "train: {1: 2}",
    "two documents": "a: 1\n--- \nb: 2",
    "another version": "%YAML 1.1\n---\na: no",
    "a tabulator": "a:\n\t- 1",
    "a control character": "a: \x07",
    "a value of 100,000 characters": f"train: {'x' * 100_000}",
    "a key of 100,000 characters": f"{'x' * 100_000}: 1",
}


@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_parameters_and_placements_that_are_hard_to_read_are_refused(tmp_path, text):
    path = saved(tmp_path, "file.yaml", text)
    for read in (load_params, load_placement):
        assert refusal(read, path).startswith(str(path))


@pytest.mark.parametrize(
    "override",
    [
        "train.inspo.alpha=" + "[" * 3000,
        "train.inspo.alpha=" + "[" * 400 + "]" * 400,
        "{" + '"train":{' * 3000,
        '{"train.inspo.alpha": ' + "[" * 90 + "]" * 90 + "}",
        "train.inspo.alpha=" + "9" * 4400,
        '{"train.inspo.alpha": ' + "9" * 4400 + "}",
        '{"train.inspo.alpha": "' + "x" * 100_000 + '"}',
        '{"experiment.name": "\\ud800"}',
        '{"experiment.name": "a\\u0000"}',
        "train.inspo.alpha=2026-02-30",
        "x" * 100_000 + "=1",
        "x" * 100_000,
        "experiment.algorithms=[" + "x" * 100_000 + "]",
        "experiment.datasets=[" + "x" * 100_000 + "]",
    ],
    ids=range(14),
)
def test_so_are_overrides(override):
    refusal(load_params, ROOT / "params.yaml", [override])


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 60 + "]" * 60, "9" * 4400, '"\\ud800"', b"\xff", "{'a': 1}", "nul", ""])
def test_so_is_json(tmp_path, text):
    assert refusal(parse_json, text, "x.json").startswith("x.json is not valid JSON (")


def test_what_is_ordinary_is_read_as_ever():
    assert parse_json(json.dumps({"a": [1, -2.5, None, True, "ä", "😀"]}), "x") == {"a": [1, -2.5, None, True, "ä", "😀"]}
    text = "a: &a [1, two]\nb: *a\nc: |\n  no\nd: 'no'\ne:\n"
    assert parse_yaml(text, "x") == {
        "a": [1, "two"],
        "b": [1, "two"],
        "c": "no\n",
        "d": "no",
        "e": None,
    }
    assert parse_yaml("", "x") is None and parse_yaml("%YAML 1.2\n---\na: 1", "x") == {"a": 1}
