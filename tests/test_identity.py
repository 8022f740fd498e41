"""Which changes make a run another run, and which do not: of identities, of a plan's keys and of what DVC's stages depend on."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inspo_core.errors import InspoError
from inspo_core.identity import WITHOUT_EFFECT, Code, Identity, check_planned, planned_key
from tests.code_copies import ROOT, copy_code

# Tells, of the code in the current folder, the name of every kind of run, each key of a plan and each entry of code.yaml.
NAMES = """
import json, sys
from pathlib import Path
from inspo_core.code_hashes import code_hashes
from inspo_core.config.learners import learner_of
from inspo_core.config.reading import load_params
from inspo_core.config.sections import source_of
from inspo_core.envs.table import GAMES
from inspo_core.stages import behavior, evaluate, ingest, report, train
from pipelines.plan import benchmark_plan

params = load_params(Path("params.yaml"), sys.argv[1:])
names = {}
def tell(name, identity):
    names[name] = [identity.fingerprint]
for dataset in ("xor_b", "mne_balanced", "bridge_mixed"):
    game = GAMES[source_of(dataset, params.ingest.sources).env]
    tell(f"ingest {dataset}", ingest.identity(dataset, source_of(dataset, params.ingest.sources), {"raw": "r"}))
    tell(f"evaluate {dataset}", evaluate.identity(params.evaluate, game, {"train": "t"}))
    for name in ("inspo", "bc", "omiga", "cql"):
        learner, inputs = learner_of(name, params), {"data": "d", "behavior": "b"}
        played = train.game_for_curves(learner, source_of(dataset, params.ingest.sources).env)
        tell(f"train {dataset} {name}", train.identity(learner, played, "cpu", 0, inputs))
tell("behavior", behavior.identity(params.behavior, "cpu", 0, {"data": "d"}))
tell("report", report.identity(params.report, {"evaluations": "e", "trainings": "t"}))

written = code_hashes(params)
of_dvc = {"behavior": [written["behavior"]], "report": [written["report"]]}
for dataset in ("xor_b", "mne_balanced", "bridge_mixed"):
    of_dvc[f"ingest {dataset}"] = [written["ingest"][dataset]]
    of_dvc[f"evaluate {dataset}"] = [written["evaluate"], written["games"][dataset]]
    for name in ("inspo", "bc", "omiga", "cql"):
        of_dvc[f"train {dataset} {name}"] = [written["train"][name], written["games"][dataset]]

chosen = {"experiment.datasets": ["xor_b", "mne_balanced", "bridge_mixed"], "experiment.algorithms": ["inspo", "bc", "omiga", "cql"]}
params = load_params(Path("params.yaml"), [json.dumps(chosen), *sys.argv[1:]])
plan = benchmark_plan(params, dict.fromkeys(params.experiment.datasets, "h"), {"behavior": "cpu", "train": "cpu"})
of_plan = {}
for item in plan:
    of_plan[f"ingest {item['dataset']}"] = [item["ingest"]]
    of_plan[f"behavior {item['dataset']}"] = [item["behavior"]]
    for run in item["runs"]:
        of_plan[f"train {item['dataset']} {run['algorithm']}"] = [run["train"]]
        of_plan[f"evaluate {item['dataset']} {run['algorithm']}"] = [run["evaluate"]]
print(json.dumps({"identities": names, "dvc": of_dvc, "plan": of_plan}))
"""


class Copy:
    """The project's code in a folder of its own, to be changed."""

    def __init__(self, place: Path, of: Path = ROOT):
        self.place = copy_code(place, of)

    def names(self, *overrides: str, **environment: str) -> dict[str, dict[str, list[str]]]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INSPO_")}
        done = subprocess.run(
            [sys.executable, "-c", NAMES, *overrides],
            cwd=self.place,
            env=inherited | {"PYTHONPATH": str(self.place), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.place / file
        assert path.read_text().count(old) >= 1, f"{file} has no {old!r}"
        path.write_text(path.read_text().replace(old, new))

    def append(self, file: str, text: str) -> None:
        with open(self.place / file, "a") as opened:
            opened.write(text)

    def move(self, old: str, new: str) -> None:
        """A module to another place, with all that names it."""
        (self.place / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.place / old, self.place / new)
        before, after = (name.removesuffix(".py").replace("/", ".") for name in (old, new))
        for path in self.place.rglob("*.py"):
            text = path.read_text()
            if (changed := re.sub(rf"\b{re.escape(before)}\b", after, text)) != text:
                path.write_text(changed)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Copy:
    return Copy(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def untouched(original) -> dict[str, dict[str, list[str]]]:
    return original.names()


@pytest.fixture
def copy(original, tmp_path) -> Copy:
    return Copy(tmp_path / "copy", original.place)


def changed(before: dict[str, list[str]], after: dict[str, list[str]]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


GAME = """
from inspo_core.envs.matrix import MatrixGame
import numpy as np
def made(spec):
    return MatrixGame(spec, np.eye(2))
"""
NOTHING = {
    "a new file among the games": lambda copy: copy.append("inspo_core/envs/new.py", GAME),
    "a new game in the table": lambda copy: (
        copy.append("inspo_core/envs/new.py", GAME),
        copy.edit(
            "inspo_core/envs/table.py",
            '"xor": _one',
            '"made": _one_step("inspo_core.envs.new:made", 2, 2, best=1.0, random=0.5),\n        "xor": _one',
        ),
    ),
    "a new reader in the table": lambda copy: (
        copy.append("inspo_core/datasets/formats/new.py", "def read(raw, name, game, options):\n    return iter([])\n"),
        copy.edit(
            "inspo_core/datasets/formats/table.py",
            '"native": F',
            '"new": Format(target="inspo_core.datasets.formats.new:read"),\n        "native": F',
        ),
    ),
    "a new algorithm in the table": lambda copy: (
        copy.append("inspo_core/algorithms/new.py", "from inspo_core.algorithms.bc import BC\nclass New(BC):\n    pass\n"),
        copy.edit(
            "inspo_core/algorithms/table.py",
            '"bc": A',
            '"new": AlgorithmEntry(target="inspo_core.algorithms.new:New", config=configs.BCConfig),\n        "bc": A',
        ),
    ),
    "a new figure in the table": lambda copy: (
        copy.append("inspo_core/report/more.py", "def draw(results, comparisons):\n    return None\n"),
        copy.edit(
            "inspo_core/report/figure_table.py",
            '"returns": F',
            '"more": FigureEntry(target="inspo_core.report.more:draw", title="More", caption="More."),\n        "returns": F',
        ),
    ),
    "a comment": lambda copy: copy.edit("inspo_core/algorithms/networks.py", "import math\n", "import math  # of numbers\n"),
    "a docstring": lambda copy: copy.edit("inspo_core/envs/matrix.py", '"""``payoff`` has', '"""So: ``payoff`` has'),
    "a moved network": lambda copy: copy.move("inspo_core/algorithms/networks.py", "inspo_core/nets/stacked.py"),
    "a moved game": lambda copy: copy.move("inspo_core/envs/matrix.py", "inspo_core/games/payoffs.py"),
    "a moved algorithm": lambda copy: copy.move("inspo_core/algorithms/omiga.py", "inspo_core/algorithms/values/omiga.py"),
    "a sentence of an error": lambda copy: copy.edit("inspo_core/datasets/validation.py", "expected two names", "expected names, two"),
    "what progress looks like": lambda copy: copy.edit("inspo_core/running/progress.py", "PLAIN_SECONDS = 10.0", "PLAIN_SECONDS = 20.0"),
    "a description of how a reference was obtained": lambda copy: copy.edit(
        "inspo_core/envs/table.py", '_PAYOFFS = "best', '_PAYOFFS = "the best'
    ),
}


@pytest.mark.parametrize("what", NOTHING)
def test_renames_nothing(copy, untouched, what):
    NOTHING[what](copy)
    assert copy.names() == untouched


@pytest.mark.parametrize(
    "environment",
    [
        {"INSPO_CHECKPOINT_EVERY": "3"},
        {"INSPO_WORKERS": "1", "INSPO_BATCHED_SEEDS": "2"},
        {"INSPO_IMAGE": "elsewhere/inspo:2"},
        {"INSPO_DELIVERY_PATIENCE": "7"},
    ],
)
def test_settings_of_the_machine_and_the_images_name_rename_nothing(copy, untouched, environment):
    assert copy.names(**environment) == untouched


TRAIN = {f"train {dataset} {name}" for dataset in ("xor_b", "mne_balanced", "bridge_mixed") for name in ("inspo", "bc", "omiga", "cql")}
ON_XOR = {f"train xor_b {name}" for name in ("inspo", "bc", "omiga", "cql")} | {"evaluate xor_b"}
ON_MNE = {name.replace("xor_b", "mne_balanced") for name in ON_XOR}
ON_BRIDGE = {name.replace("xor_b", "bridge_mixed") for name in ON_XOR}
EVALUATE = {"evaluate xor_b", "evaluate mne_balanced", "evaluate bridge_mixed"}
EXACTLY = {
    "a shared network": (
        lambda copy: copy.edit(
            "inspo_core/algorithms/networks.py", "x = affine(leaves[layer + 1], x if", "x = affine(leaves[layer + 1], -x if"
        ),
        TRAIN | EVALUATE | {"behavior"},
    ),
    "one algorithm": (
        lambda copy: copy.edit("inspo_core/algorithms/omiga.py", "largest = z.detach().amax()", "largest = 2 * z.detach().amax()"),
        {name for name in TRAIN if name.endswith("omiga")},
    ),
    "what values share": (
        lambda copy: copy.edit(
            "inspo_core/algorithms/learner.py",
            "self._networks[name].parameters, self._target_rate",
            "self._networks[name].parameters, 2 * self._target_rate",
        ),
        {name for name in TRAIN if name.endswith(("omiga", "cql"))},
    ),
    "InSPO's critics": (
        lambda copy: copy.edit(
            "inspo_core/algorithms/inspo/critics.py", "next_v.clamp(max=value_limit)", "next_v.clamp(max=2 * value_limit)"
        ),
        {name for name in TRAIN if name.endswith("inspo")},
    ),
    "one game, which only its table names": (
        lambda copy: copy.edit("inspo_core/envs/matrix.py", "[[5.0, -20.0", "[[6.0, -20.0"),
        ON_MNE,
    ),
    "a game's rules in the table": (lambda copy: copy.edit("inspo_core/envs/table.py", "time_limit=50", "time_limit=60"), ON_BRIDGE),
    "what plays all games": (
        lambda copy: copy.edit(
            "inspo_core/envs/rollouts.py", "generator.gumbel(size=scores.shape)", "2 * generator.gumbel(size=scores.shape)"
        ),
        TRAIN | EVALUATE,
    ),
    "the card of a dataset": (
        lambda copy: copy.edit("inspo_core/datasets/card.py", "BINS = 30", "BINS = 31"),
        {"ingest xor_b", "ingest mne_balanced", "ingest bridge_mixed"},
    ),
    "the bootstrap": (lambda copy: copy.edit("inspo_core/statistics.py", "ddof=1", "ddof=0"), {"report"}),
    "one figure": (
        lambda copy: copy.edit("inspo_core/report/figures.py", "every = (4 * place % 20, 20)", "every = (5 * place % 20, 20)"),
        {"report"},
    ),
    "the page's template": (lambda copy: copy.edit("inspo_core/report/templates/page.html", "<html", "<html data-more"), {"report"}),
    "estimating behavior": (
        lambda copy: copy.edit("inspo_core/algorithms/behavior_estimation.py", "SLACK = 0.01", "SLACK = 0.02"),
        {"behavior"},
    ),
}


@pytest.mark.parametrize("what", EXACTLY)
def test_a_changed_line_renames_exactly_what_can_reach_it(copy, untouched, what):
    edit, expected = EXACTLY[what]
    edit(copy)
    now = copy.names()
    assert changed(untouched["identities"], now["identities"]) == expected
    assert changed(untouched["dvc"], now["dvc"]) == expected
    # A plan has keys where stages have content hashes: what is renamed renames what comes after it.
    of_plan = changed(untouched["plan"], now["plan"])
    first = {name.rpartition(" ")[0] if name.startswith("evaluate") else name for name in of_plan}
    assert {name for name in expected if name.startswith(("train", "evaluate"))} <= of_plan | first
    if not expected & {"behavior", "ingest xor_b"}:
        renamed = {name for name in expected if name.startswith("train")}
        evaluated = {name.replace("train", "evaluate") for name in renamed} | {
            name for name in untouched["plan"] if name.rpartition(" ")[0] in expected
        }
        assert of_plan == renamed | evaluated


def test_another_release_of_torch_renames_what_uses_it(copy, untouched, tmp_path):
    """As another build of the same release does not."""
    for release, expected in (("2.13.0+cu130", set()), ("9.9.0", TRAIN | EVALUATE | {"behavior"})):
        folder = tmp_path / f"site-{release}" / f"torch-{release}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {release}\n")
        now = copy.names(PYTHONPATH=f"{copy.place}:{folder.parent}")
        known = untouched if release != "2.13.0+cu130" else copy.names()
        if release.startswith("2.13.0") and torch_release() != "2.13.0":
            continue
        assert changed(known["identities"], now["identities"]) == expected == changed(known["dvc"], now["dvc"])


def torch_release() -> str:
    import importlib.metadata

    return importlib.metadata.version("torch").partition("+")[0]


RELEVANT = [
    ("train.inspo.alpha=0.3", {name for name in TRAIN if name.endswith("inspo")}),
    ("train.inspo.entropy_in_value=true", {name for name in TRAIN if name.endswith("inspo")}),
    ("train.bc.policy_steps=3", {name for name in TRAIN if name.endswith("bc")}),
    ("train.gamma=0.5", {name for name in TRAIN if not name.endswith("bc")}),
    ("train.iterations=7", TRAIN),
    ("train.evaluate_every=3", TRAIN),
    ("behavior.steps=100", {"behavior"}),
    ("behavior.hidden=[8]", {"behavior"}),
    ("evaluate.seed=7", EVALUATE),
    ("report.confidence=0.5", {"report"}),
    ("experiment.name=another", set()),
    ("experiment.seeds=[3]", set()),
    ("train.device=cpu", set()),  # auto, resolved
]


@pytest.mark.parametrize("override, expected", RELEVANT)
def test_a_parameter_renames_what_reads_it(copy, untouched, override, expected):
    assert changed(untouched["identities"], copy.names(override)["identities"]) == expected


def test_a_figure_that_is_not_asked_for_is_no_part_of_a_report(copy):
    others = "report.figures=[returns, scores]"
    before = copy.names(others)
    copy.edit("inspo_core/report/figures.py", "every = (4 * place % 20, 20)", "every = (5 * place % 20, 20)")
    assert copy.names(others) == before
    assert changed(before["identities"], copy.names("report.figures=[returns]")["identities"]) == {"report"}


def test_a_game_that_is_not_played_is_no_part_of_a_training(copy):
    before = copy.names("train.evaluate_every=0")
    copy.edit("inspo_core/envs/matrix.py", "[[0.0, 1.0]", "[[0.5, 1.0]")
    assert changed(before["identities"], copy.names("train.evaluate_every=0")["identities"]) == {"evaluate xor_b"}


def identity(**changes) -> Identity:
    whole = {"stage": "train", "section": {"seed": 0}, "inputs": {"data": "d"}, "code": Code("c" * 64, {"torch": "2.13.0"})}
    return Identity(**whole | changes)


def test_a_fingerprint_is_16_digits_of_all_that_counts():
    found = {
        made.fingerprint
        for made in (
            identity(),
            identity(stage="behavior"),
            identity(section={"seed": 1}),
            identity(inputs={"data": "e"}),
            identity(code=Code("e" * 64, {"torch": "2.13.0"})),
            identity(code=Code("c" * 64, {"torch": "2.14.0"})),
        )
    }
    assert len(found) == 6 and all(len(name) == 16 and int(name, 16) >= 0 for name in found)
    assert identity().fingerprint == identity().fingerprint


def test_a_step_refuses_other_code_than_it_was_planned_with():
    here, other = Code("c" * 64, {"torch": "2.13.0"}), Code("c" * 64, {"torch": "2.14.0"})
    check_planned(planned_key("what", here), here)
    check_planned("", here)
    with pytest.raises(InspoError, match=r"planned with code [0-9a-f]{16}, and what is installed here is another \(code .*torch 2.13.0\)"):
        check_planned(planned_key("what", other), here)


def test_code_without_effect_is_really_there():
    for name in WITHOUT_EFFECT:
        place = ROOT / name.partition(":")[0].replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").exists(), name
