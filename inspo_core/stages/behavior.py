"""The stage ``behavior``: estimate the policies that collected a dataset, local clones and one joint model, for every seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inspo_core.config.sections import BehaviorSection, Params
from inspo_core.datasets.format import content_hash
from inspo_core.files import write_json
from inspo_core.identity import Identity, code_of
from inspo_core.running.processes import BatchableJob
from inspo_core.stages.seeded import Call, Stage, run_seeded

if TYPE_CHECKING:
    from inspo_core.algorithms.seed_batching import Fitter


def identity(config: BehaviorSection, device: str, seed: int, inputs: Mapping[str, str]) -> Identity:
    """What a seed's models are. ``device``: ``cpu`` or ``cuda``; ``inputs``: a hash of ``data``."""
    return Identity("behavior", {"seed": seed, **config.model_dump(), "device": device}, inputs, code_of("behavior"))


@dataclass(frozen=True, kw_only=True)
class BehaviorJob(BatchableJob):
    """Writes ``behavior.safetensors``, ``behavior.json``, ``metrics.jsonl``, ``metrics.json`` and ``run.json``."""

    data: Path  # a dataset in the native format
    config: BehaviorSection

    def run(self, fit: "Fitter | None" = None) -> None:
        from inspo_core.algorithms.behavior_estimation import BehaviorEstimation, split_episodes
        from inspo_core.algorithms.seed_batching import fit_alone
        from inspo_core.running.loop import run_loop
        from inspo_core.running.shared_store import METRICS
        from inspo_core.stages.artifacts import resident, save_behavior

        config, device = self.config, self.identity.section["device"]
        dataset, transitions = resident(self.data, device)
        split = split_episodes(dataset, config.held_out, self.seed, device)
        estimation = BehaviorEstimation(transitions, split, config, self.seed, device, fit or fit_alone)
        run_loop(estimation, config.steps // config.check_every, self.work, self.fingerprint)
        metrics = estimation.finish()
        with self.result() as aside:
            save_behavior(estimation.models, aside)
            (aside / METRICS).write_bytes((self.work / METRICS).read_bytes())
            write_json(aside / "metrics.json", metrics)


def behavior_stage(params: Params, dataset: str, data: Path, seeds: list[int], out: Path, call: Call = Call()) -> None:
    """Estimate the behavior policies of ``dataset`` for every seed: ``out/seed_<k>``."""
    config, digest = params.behavior, content_hash(data)
    computes = call.resolve_device(config.device, "behavior.device")
    labels = {"dataset": dataset, "algorithm": None, "variant": None}
    jobs = [
        BehaviorJob(
            seed=seed,
            identity=identity(config, computes, seed, {"data": digest}),
            labels=labels,
            out=out / f"seed_{seed}",
            data=data,
            config=config,
        )
        for seed in seeds
    ]
    stage = Stage("behavior", dataset, None, {"digest": digest, "source": str(data)}, config.steps // config.check_every, True)
    run_seeded(stage, jobs, params, out, call)
