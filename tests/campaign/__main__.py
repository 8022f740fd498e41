"""``python -m tests.campaign kills|inputs|resources|sample|replay``: docs/reliability.md says what each tries."""

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.campaign.inputs import Tally, attempt, load_case, save_case
from tests.campaign.targets import TARGETS, try_target


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description="Kills, mutated inputs and resource faults.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, count, what in (
        ("kills", 20, "kill processes of the small project at seeded moments, go on, and compare with an undisturbed run"),
        ("inputs", 200, "give every target mutated inputs; the count is a target's"),
        ("resources", 100, "full disks, limits, databases that fail, two commands at once; the count is the most that are tried"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
        command.add_argument("--count", type=int, default=count, help="(default: %(default)s)")
        command.add_argument("--out", type=Path, help="folder for what is kept of the tries (default: a new temporary one)")
        command.add_argument(
            "--only", action="append", default=[], metavar="NAME", help="this target, check or number of a try; may be repeated"
        )
    sample = commands.add_parser("sample", help="show some of the accepted inputs, to be looked at")
    sample.add_argument("file", type=Path, help="accepted.jsonl of a run of inputs")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--count", type=int, default=100)
    replay = commands.add_parser("replay", help="try an input again that inputs has kept")
    replay.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "sample":
        return show_sample(arguments.file, arguments.seed, arguments.count)
    if arguments.command == "replay":
        return replay_case(arguments.folder.absolute())
    out = (arguments.out or Path(tempfile.mkdtemp(prefix="inspo-campaign-"))).absolute()
    out.mkdir(parents=True, exist_ok=True)
    print(f"what is kept of the tries: {out}", flush=True)
    if arguments.command == "inputs":
        return run_inputs(arguments.seed, arguments.count, out, arguments.only)
    if arguments.command == "kills":
        from tests.campaign.kills import run_kills

        return run_kills(arguments.seed, arguments.count, out, [int(number) for number in arguments.only])
    from tests.campaign.resources import run_resources

    return run_resources(arguments.seed, arguments.count, out, arguments.only)


def run_inputs(seed: int, count: int, out: Path, only: list[str]) -> int:
    if unknown := set(only) - set(TARGETS):
        raise SystemExit(f"no such target: {', '.join(sorted(unknown))}; there are: {', '.join(TARGETS)}")
    tallies, began = [], time.monotonic()
    with open(out / "accepted.jsonl", "w") as accepted:
        for name in only or TARGETS:
            # What Hypothesis draws depends on the modules that are loaded: a process of its own makes it the target's alone.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                tally, lines = process.submit(try_target, name, seed, count, out).result()
            tallies.append(tally)
            accepted.writelines(json.dumps(line) + "\n" for line in lines)
            print(f"{name}: {tally.tries} inputs, {sum(tally.kinds.values())} faults", file=sys.stderr, flush=True)
    print(f"\nSeed {seed}, {time.monotonic() - began:.0f} s. Inputs that were accepted and found consistent: {out / 'accepted.jsonl'}\n")
    print_inputs(tallies)
    for tally in tallies:
        for kind, (number, case, outcome) in tally.first.items():
            kept = save_case(tally.target.replace(" ", "-"), number, case, outcome, out / "faults")
            print(f"\n{kind}: {tally.kinds[kind]} times, first number {number}: python -m tests.campaign replay {kept}")
            print(f"    {case.what[:200]}")
    return int(any(tally.kinds for tally in tallies))


def print_inputs(tallies: list[Tally]) -> None:
    columns = ["target", "inputs", "accepted, consistent", "refused, rightly", "other exceptions", "hangs", "inconsistent"]
    columns += ["half-written or elsewhere", "sentences that say too little or too much"]
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
    total = [0] * 8
    for tally in tallies:
        broken = ("half-written", "left over", "outside")
        named = [tally.count("exception"), tally.count("hang"), tally.count("inconsistent"), tally.count(*broken)]
        sentences = sum(tally.kinds.values()) - sum(named)
        row = [tally.tries, tally.accepted, tally.refused, *named, sentences]
        total = [one + other for one, other in zip(total, row)]
        print(f"| {tally.target} | {' | '.join(map(str, row))} |")
    print(f"| sum | {' | '.join(map(str, total))} |")


def show_sample(file: Path, seed: int, count: int) -> int:
    lines = file.read_text().splitlines()
    for line in sorted(random.Random(seed).sample(range(len(lines)), min(count, len(lines)))):
        found = json.loads(lines[line])
        print(
            f"{found['target']} {found['number']}: {found['what'][:300]}"
            + (f"\n    said: {found['said'].strip()}" if found["said"].strip() else "")
        )
    return 0


def replay_case(folder: Path) -> int:
    name, case = load_case(folder)
    target = next(kind for key, kind in TARGETS.items() if key.replace(" ", "-") == name)()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        base.mkdir()
        target.prepare(base)
        outcome = attempt(target, case, base, Path(scratch) / "try")
    print(f"{case.what[:400]}\n{outcome.kind} after {outcome.seconds:.1f} s\n{outcome.said[-2000:]}")
    print("\n".join(outcome.faults))
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
