"""Mutated parameters, experiments, overrides and placements."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from inspo_core.config.reading import load_params
from inspo_core.config.sections import Params
from pipelines.placement import load_placement
from tests.campaign.inputs import Case, Target
from tests.campaign.mutations import ODD, at, bytes_changed, changed, places
from tests.campaign.reading import dvc_reads, first_difference, merged, over
from tests.campaign.sentences import ways_to_say

ROOT = Path(__file__).resolve().parents[2]
FILE = "params.yaml"
DEFAULTS = ("options",)
NAME = re.compile(r"[\w-][\w.-]*")  # of what becomes a folder and a word of a command line


class _Dumper(yaml.SafeDumper):
    """Without aliases, which would hide a change in a repeated value."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dumped(tree: Any) -> bytes:
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=200).encode("utf-8", "surrogatepass")


def yaml_cases(name: str, content: bytes, below: tuple = ((),)) -> st.SearchStrategy[Case]:
    """Changes to the YAML file ``name``: four of five know its structure."""

    def structured(found: tuple[Any, list]) -> Case:
        tree, changes = found
        what, fields = "; ".join(map(str, changes)), sum((change.names for change in changes), ())
        ways = sum((ways_to_say(value) for change in changes if change.what != "remove" for value in (change.now, change.where[-1])), ())
        return Case(f"{name}: {what}", {name: dumped(tree)}, named=(name,), fields=fields, found=ways)

    trees = changed(yaml.safe_load(content), 3, below).map(structured)
    texts = bytes_changed(content).map(lambda found: Case(f"{name}: {found[1]}", {name: found[0]}, named=(name,)))
    return st.one_of(trees, trees, trees, trees, texts)


def wrong_name(params: Params) -> str | None:
    """A name among the parameters that becomes a folder and a part of a shell's command, and cannot be one."""
    names = [*params.experiment.datasets, *params.ingest.sources, *params.experiment.algorithms, *params.variants]
    return next((f"the name {name!r} leaves its folder or reaches a shell" for name in names if not NAME.fullmatch(name)), None)


class _Parameters(Target):
    """What loads a parameter file and keeps what was read."""

    file = FILE

    def prepare(self, place: Path) -> None:
        shutil.copyfile(ROOT / FILE, place / FILE)
        shutil.copytree(ROOT / "experiments", place / "experiments")

    def call(self, case: Case) -> None:
        self.read = load_params(Path(self.file), case.arguments or [])

    def check(self, case: Case, place: Path, said: str) -> str | None:
        try:
            written = merged(place / self.file)
        except Exception as error:
            return f"DVC refuses it ({type(error).__name__})"
        return first_difference(written, self.read.model_dump(mode="json"), DEFAULTS) or wrong_name(self.read)


class ParametersTarget(_Parameters):
    name = "params"

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        content = (place / FILE).read_bytes()
        heavy = [
            ("experiment",),
            ("ingest", "sources", "xor_c"),
            ("behavior",),
            ("train",),
            ("variants", "inspo_product"),
            ("evaluate",),
            ("report",),
        ]
        return st.one_of(yaml_cases(FILE, content), yaml_cases(FILE, content, tuple(heavy)))


class ExperimentsTarget(_Parameters):
    """A file with a base: the file, the name of the base, the base itself."""

    name = "experiments"
    file = "experiments/headline.yaml"

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        content = (place / self.file).read_bytes()
        tree = yaml.safe_load(content)
        bases = [
            "",
            ".",
            "..",
            "headline.yaml",
            "../experiments/headline.yaml",
            "nowhere.yaml",
            "a\0b.yaml",
            "/dev/null",
            "x" * 300,
            "ä.yaml",
            *ODD,
        ]
        named = st.sampled_from(bases).map(
            lambda base: Case(
                f"base is {str(base)[:60]!r}",
                {self.file: dumped(tree | {"base": base})},
                named=(self.file, str(base)[:40]),
                fields=("base",) if not isinstance(base, str) else (),
            )
        )
        base = yaml_cases(FILE, (place / FILE).read_bytes(), (("train",), ("experiment",), ("evaluate",)))
        return st.one_of(yaml_cases(self.file, content), yaml_cases(self.file, content), named, base.map(self._either))

    def _either(self, case: Case) -> Case:
        case.named = (*case.named, self.file)  # what is wrong in the base is seen in what was made of both
        return case


class OverridesTarget(_Parameters):
    name = "overrides"

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        tree = yaml.safe_load((place / FILE).read_text())
        there = [".".join(where) for where in places(tree) if all(isinstance(part, str) for part in where)]
        keys = st.one_of(
            st.sampled_from(there),
            st.sampled_from(there),
            st.sampled_from(there).map(lambda key: key + "x"),
            st.sampled_from(
                [
                    "",
                    ".",
                    "train",
                    "train.",
                    ".train",
                    "train..alpha",
                    "variants.new.alpha",
                    "variants.new.algorithm",
                    "x" * 300,
                    "a\nb",
                    "ä",
                ]
            ),
        )
        texts = ["", " ", "[", "{", "[" * 900, "0x10", "1e-3", "1_000", "010", "1:30", "0o17", "yes", "~", "!!int 3", "&a [*a]",
                 "2026-02-30", "1 # x", "9" * 4400, "{a: 1, a: 2}", "\0", "- a", "a: b: c", "\t1"]  # fmt: skip
        values = st.one_of(
            st.sampled_from(texts),
            st.sampled_from(ODD).map(_flow),
            st.sampled_from(there).map(lambda key: _flow(at(tree, tuple(key.split("."))))),
        )
        single = st.tuples(keys, values).map(lambda pair: self._case(f"{pair[0]}={pair[1]}", (pair[0],)))
        objects = st.dictionaries(keys, st.sampled_from(ODD), min_size=1, max_size=3)
        several = objects.map(lambda chosen: self._case(json.dumps(chosen), tuple(chosen)))
        malformed = [
            "{",
            "{}",
            "[]",
            "train.alpha",
            "=",
            "=1",
            "{" * 3000,
            '{"train.gamma": 0.5, "train.gamma": 0.6}',
            '{"train.gamma": NaN}',
            "{1: 2}",
            " {",
        ]
        return st.one_of(single, single, several, st.sampled_from(malformed).map(lambda text: self._case(text, ())))

    def _case(self, text: str, keys: tuple[str, ...]) -> Case:
        last = tuple(part for key in keys for part in key.split(".")[-2:] if part)
        return Case(f"--set {text[:150]}", arguments=[text], named=("--set", FILE), fields=last)

    def check(self, case: Case, place: Path, said: str) -> str | None:
        (text,) = case.arguments or [""]
        expected = merged(place / FILE)
        try:
            if text.lstrip().startswith("{"):
                pairs = json.loads(text, object_pairs_hook=list)
                if len(dict(pairs)) < len(pairs):
                    return "a key of the object stands there twice"
            else:
                key, _, value = text.partition("=")
                pairs = [(key.strip(), dvc_reads(place / "override", value))]
        except Exception as error:
            return f"DVC or JSON refuses it ({type(error).__name__})"
        for key, value in pairs:
            for name in reversed(key.split(".")):
                value = {name: _plain(value)}
            expected = _set(expected, value)
        return first_difference(expected, self.read.model_dump(mode="json"), DEFAULTS) or wrong_name(self.read)


def _plain(value: Any) -> Any:
    """Pairs of JSON objects as mappings again."""
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        return {key: _plain(item) for key, item in value}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _set(tree: Any, path: Any) -> Any:
    """``tree`` with the one value that ``path`` leads to in its place, whole."""
    (key,) = path
    inner = path[key]
    if isinstance(inner, dict) and len(inner) == 1 and isinstance(tree.get(key), dict) and next(iter(inner)) in tree[key]:
        return {**tree, key: _set(tree[key], inner)}
    return {
        **tree,
        key: over(None, inner) if not isinstance(tree.get(key), dict) or not isinstance(inner, dict) else {**tree[key], **inner},
    }


def _flow(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**6).strip().removesuffix("\n...").strip()


class PlacementsTarget(Target):
    name = "placements"
    file = "gpu.yaml"

    def prepare(self, place: Path) -> None:
        shutil.copyfile(ROOT / "pipelines/placements" / self.file, place / self.file)

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        return yaml_cases(self.file, (place / self.file).read_bytes()).map(self._without_secrets)

    def _without_secrets(self, case: Case) -> Case:
        if any(word in case.what for word in ("secrets", "env", "PASSWORD", "ACCESS_KEY")):
            case.found = ()  # what stands there may be a secret, and is not repeated
        return case

    def call(self, case: Case) -> None:
        self.read = load_placement(Path(self.file))

    def check(self, case: Case, place: Path, said: str) -> str | None:
        try:
            written = dvc_reads(place / self.file)
        except Exception as error:
            return f"DVC's reader refuses it ({type(error).__name__})"
        return first_difference(written, self.read.model_dump(mode="json", exclude_unset=True))
