"""Send a pipeline to a cluster: ``python -m pipelines.submit experiment|benchmark --host URL ...``."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.cli import add_algorithm, add_overrides, add_seeds
from inspo_core.command import Parser, run
from inspo_core.config.reading import load_params
from inspo_core.config.sections import Params, source_of
from inspo_core.errors import InspoError, quoted
from inspo_core.redaction import holds_secret
from pipelines.placement import Placement, load_placement

if TYPE_CHECKING:
    from pipelines.client import Kubeflow

PLACEMENT = Path(__file__).parent / "placements" / "cpu.yaml"
CRON = "0 0 3 * * 1-5"
LONGEST_ARGUMENT = 128 * 1024  # bytes, Linux's bound for one argument of a command, as which the report gets the plan
MANY_STEPS = 120  # of a run, whose state Argo keeps in one object of at most 1 MiB


def main() -> None:
    arguments = _parse()
    if arguments.image:
        os.environ["INSPO_IMAGE"] = arguments.image  # before components.image is imported
    params, placement = _params_of(arguments), load_placement(arguments.placement)
    kubeflow = None if arguments.dry_run else _connect(arguments)
    devices = {step: placement.device(step) for step in ("behavior", "train")}
    computes = ", ".join(f"{step} on {device}" for step, device in devices.items())
    print(f"# {computes}, as {arguments.placement} says; what was made on another device is made anew")
    job = _job_of(arguments, params, devices)
    with tempfile.TemporaryDirectory() as folder:
        package = _compiled(job, placement, Path(folder), cache=not arguments.no_cache)
        if kubeflow is None:
            _print_job(job, package)
            return
        what = (package, job.name, params.experiment.name, job.parameters, placement.service_account)
        if arguments.recurring:
            print(f"recurring run {kubeflow.schedule(*what, arguments.recurring)}: {job.name}, {arguments.recurring}")
            return
        run_id = kubeflow.start(*what)
    print(f"run {run_id}: {job.name}", flush=True)
    if arguments.watch:
        try:
            succeeded = kubeflow.watch(run_id)
        except KeyboardInterrupt:
            print(f"\nno longer watched; the run {run_id} goes on", file=sys.stderr)
            raise
        sys.exit(0 if succeeded else 1)


@dataclass(frozen=True)
class _Job:
    """What is sent: which pipeline, with which parameters; ``keys``: of its tasks, the cache keys of an experiment."""

    pipeline: str
    name: str
    parameters: dict[str, Any]
    keys: dict[str, str]


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="python -m pipelines.submit",
        description="Run a pipeline in a cluster; who asks is in KF_PIPELINES_TOKEN or KF_PIPELINES_COOKIES, or is a service account.",
        epilog="Before the first run, python -m pipelines.check looks for what it needs.",
    )
    common = Parser(add_help=False)
    common.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="parameter file (default: %(default)s)")
    add_overrides(common)
    common.add_argument("--data-repo", required=True, metavar="URL", help="git repository with data/<dataset> in DVC, as pods reach it")
    common.add_argument("--data-rev", required=True, metavar="REV", help="its branch, tag or full commit hash; sent as the commit")
    common.add_argument("--data-remote", default="", metavar="NAME", help="DVC remote to read from (default: the repository's)")
    add_server(common)
    common.add_argument("--name", metavar="NAME", help="of the run (default: what it runs)")
    common.add_argument("--recurring", metavar="CRON", help=f"times to run at, seconds first, e.g. {CRON!r}")
    common.add_argument("--no-cache", action="store_true", help="run every step again; finished seeds are found in the shared store")
    common.add_argument("--watch", action="store_true", help="follow the run; exit status 0: succeeded, 1: failed")
    common.add_argument("--dry-run", action="store_true", help="print the compiled pipeline and the keys of its tasks, and send nothing")
    pipelines = parser.add_subparsers(dest="pipeline", required=True)
    experiment = pipelines.add_parser("experiment", parents=[common], help="one dataset, one algorithm, several seeds")
    experiment.add_argument("--dataset", required=True, metavar="NAME", help="a key of ingest.sources in the parameters")
    add_algorithm(experiment)
    add_seeds(experiment)
    benchmark = pipelines.add_parser("benchmark", parents=[common], help="experiment.datasets x .algorithms x .seeds of the parameters")
    benchmark.add_argument("--seeds-per-task", type=int, metavar="N", help="seeds that one pod trains (default: all)")

    arguments = parser.parse_args()
    given = [("--data-repo", arguments.data_repo), ("--name", arguments.name), *(("--set", change) for change in arguments.overrides)]
    for option, text in given:
        _refuse_secret(option, text)
    check_server(arguments, needed=not arguments.dry_run)
    if arguments.recurring and len(arguments.recurring.split()) != 6:
        raise InspoError(f"--recurring is {quoted(arguments.recurring)}, expected six fields, seconds first, such as {CRON!r}")
    if arguments.recurring and (arguments.watch or not arguments.name):
        raise InspoError("--recurring makes a schedule: give it a --name, and leave out --watch")
    if arguments.pipeline == "benchmark" and arguments.seeds_per_task is not None and arguments.seeds_per_task < 1:
        raise InspoError(f"--seeds-per-task is {arguments.seeds_per_task}, expected a whole number from 1")
    return arguments


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add ``--image``, ``--placement``, ``--host`` and ``--namespace``: what runs, how and where."""
    parser.add_argument("--image", metavar="NAME", help="image of every step, best by digest (default: INSPO_IMAGE, or inspo:<version>)")
    parser.add_argument("--placement", type=Path, default=PLACEMENT, metavar="FILE", help="what runs where (default: placements/cpu.yaml)")
    parser.add_argument("--host", default=os.environ.get("KF_PIPELINES_ENDPOINT"), metavar="URL", help="(default: KF_PIPELINES_ENDPOINT)")
    parser.add_argument("--namespace", metavar="NS", help="where to run; for a Kubeflow of several users")


def check_server(arguments: argparse.Namespace, needed: bool = True) -> None:
    """Raises InspoError: ``--host`` or ``--image`` holds a secret, or the former is no address although it is ``needed``."""
    for option, text in (("--host", arguments.host), ("--image", arguments.image or os.environ.get("INSPO_IMAGE"))):
        _refuse_secret(option, text)
    if needed and not re.match(r"https?://", arguments.host or ""):
        raise InspoError(f"--host is {quoted(arguments.host)}, expected the address of Kubeflow Pipelines, https://... or http://...")


def _refuse_secret(option: str, text: str | None) -> None:
    if holds_secret(text or ""):
        raise InspoError(f"{option} holds a user name, password or token: leave it out, git and the cluster read those from secrets")


def _connect(arguments: argparse.Namespace) -> "Kubeflow":
    from pipelines.client import Kubeflow

    return Kubeflow(arguments.host, arguments.namespace)


def _params_of(arguments: argparse.Namespace) -> Params:
    """The parameters of every step; an experiment's dataset, algorithm and seeds are in there like a benchmark's."""
    overrides = list(arguments.overrides)
    if arguments.pipeline == "experiment":
        chosen = {"experiment.datasets": [arguments.dataset], "experiment.algorithms": [arguments.algorithm]}
        overrides.append(json.dumps(chosen | ({"experiment.seeds": arguments.seeds} if arguments.seeds else {})))
    params = load_params(arguments.params, overrides)
    for dataset in params.experiment.datasets:
        source_of(dataset, params.ingest.sources)
    return params


def _job_of(arguments: argparse.Namespace, params: Params, devices: dict[str, str]) -> _Job:
    from inspo_core.datasets.fetch import data_hashes
    from pipelines.plan import benchmark_plan, experiment_keys

    repo, chosen = arguments.data_repo, params.experiment
    rev = _commit_of(repo, arguments.data_rev)
    hashes = data_hashes(repo, rev, chosen.datasets, arguments.data_remote or None)
    # Every section as a whole. Were it only what differs from a file here, a result would also depend on the file params.yaml in the image,
    # of which its key knows nothing.
    # As text: what is inside a dictionary Kubeflow hands over as doubles, and its local runner takes no null.
    overrides = json.dumps(params.model_dump(mode="json"))
    parameters = {"data_repo": repo, "data_rev": rev, "data_remote": arguments.data_remote, "overrides": overrides}
    changes = "".join(f" {change}" for change in arguments.overrides)
    if arguments.pipeline == "experiment":
        dataset, algorithm, seeds = chosen.datasets[0], chosen.algorithms[0], chosen.seeds
        keys = experiment_keys(params, dataset, algorithm, seeds, hashes[dataset], devices)
        parameters |= {"dataset": dataset, "algorithm": algorithm, "seeds": seeds}
        return _Job("experiment", arguments.name or f"{dataset} {algorithm}{changes}", parameters, keys)
    plan = benchmark_plan(params, hashes, devices, arguments.seeds_per_task)
    _check_size(plan)
    keys = {f"{stage} {item['dataset']}": item[stage] for item in plan for stage in ("ingest", "behavior")}
    for item in plan:
        for task in item["runs"]:
            where = f"{item['dataset']} {task['algorithm']} {','.join(map(str, task['seeds']))}"
            keys |= {f"{stage} {where}": task[stage] for stage in ("train", "evaluate")}
    size = ", ".join(counted(len(getattr(chosen, what)), what) for what in ("datasets", "algorithms", "seeds"))
    return _Job("benchmark", arguments.name or f"{size}{changes}", parameters | {"plan": plan}, keys)


def counted(number: int, plural: str) -> str:
    """``1 dataset``, ``2 datasets``."""
    return f"{number} {plural.removesuffix('s') if number == 1 else plural}"


def _check_size(plan: list[dict[str, Any]]) -> None:
    """Raises InspoError: a plan too long for Linux. Warns of one that may be too long for Argo."""
    smaller = "send fewer datasets or algorithms at a time, or more seeds a task (--seeds-per-task)"
    if (length := len(json.dumps(plan))) >= LONGEST_ARGUMENT:
        raise InspoError(f"the benchmark's plan has {length} bytes, of which a step's command takes {LONGEST_ARGUMENT}: {smaller}")
    if (steps := sum(2 + 2 * len(item["runs"]) for item in plan)) > MANY_STEPS:
        print(
            f"warning: the run has {steps} steps, and Kubeflow Pipelines as it is installed may lose a run of more than about {MANY_STEPS} "
            f"(docs/cluster.md, the size of a run): {smaller}",
            file=sys.stderr,
        )


def _commit_of(repo: str, rev: str) -> str:
    """The commit that ``rev`` is now: a branch may have moved when a pod reads it. Raises InspoError: no such repository, branch or tag."""
    if re.fullmatch(r"[0-9a-f]{40}", rev):
        return rev
    names = [f"refs/tags/{rev}^{{}}", f"refs/tags/{rev}", f"refs/heads/{rev}", rev]  # git's own order; ^{} is what an annotated tag is of
    command = ["git", "ls-remote", "--", repo, *names]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment)
    if done.returncode:
        raise InspoError(f"--data-repo {repo}: git cannot read it: {(done.stderr.strip().splitlines() or ['no reason given'])[0]}")
    commits = {name: commit for commit, name in (line.split("\t") for line in done.stdout.splitlines())}
    for name in names:
        if name in commits:
            return commits[name]
    raise InspoError(f"--data-rev is {quoted(rev)}, which is no branch or tag of {repo}, nor a full commit hash")


def _compiled(job: _Job, placement: Placement, folder: Path, cache: bool) -> Path:
    from kfp import compiler

    from pipelines.benchmark import benchmark
    from pipelines.experiment import experiment

    pipeline = experiment(placement, job.keys, cache) if job.pipeline == "experiment" else benchmark(placement, cache)
    compiler.Compiler().compile(pipeline, str(folder / "pipeline.yaml"))
    return folder / "pipeline.yaml"


def _print_job(job: _Job, package: Path) -> None:
    """The compiled pipeline, headed by what it would be run with; as a whole it is YAML too."""
    print(f"# {job.pipeline}: {job.name}")
    for name, key in job.keys.items():
        print(f"# key {name}: {key}")
    for name, value in job.parameters.items():
        print(f"# parameter {name}: {json.dumps(value)}")
    print(package.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    run(main)
