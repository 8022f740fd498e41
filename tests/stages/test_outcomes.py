"""What a benchmark's tasks leave when seeds fail: the others count, and the report hears why."""

import json

from inspo_core.records import write_record
from inspo_core.running.shared_store import SharedStore
from inspo_core.stages.outcomes import PlannedDataset, gather
from tests.lab import contents

PLAN = [
    {
        "dataset": "xor_b",
        "behavior": "b",
        "runs": [
            {"algorithm": "inspo", "seeds": [0, 1], "train": "t", "evaluate": "e"},
            {"algorithm": "icq", "seeds": [0], "train": "never", "evaluate": "ran"},
        ],
    }
]


def planned(plan: list[dict]) -> list[PlannedDataset]:
    return [PlannedDataset.model_validate(of_dataset) for of_dataset in plan]


def test_seeds_that_failed_are_told_with_their_reasons(lab, tmp_path):
    models = tmp_path / "behavior"
    recorded = {"INSPO_STORE": str(tmp_path / "store")}
    of_data = ["--dataset", "xor_b", "--seeds", "[0.0, 1.0, 2.0]"]
    lab.run("components.behavior", *of_data, "--data", lab.data("xor_b"), "--out", models, "--record", "b", **recorded).succeeded()
    (models / "seed_1/behavior.safetensors").write_bytes(b"damaged")
    (models / "seed_2/run.json").unlink()  # as if it had failed

    trained = lab.train("xor_b", "inspo", "0,1,2", "--record", "t", behavior=models, **recorded).succeeded()
    assert "warning: train xor_b inspo: 1 of 2 seeds failed; seed 1: " in trained.stderr
    run = ["--dataset", "xor_b", "--algorithm", "inspo", "--seeds", "0,1,2"]
    lab.run("components.evaluate", *run, "--train", "train", "--out", "evaluate", "--record", "e", **recorded).succeeded()

    missing = gather(planned(PLAN), SharedStore(recorded["INSPO_STORE"]), tmp_path / "evaluations", tmp_path / "trainings")
    assert list(missing) == [("xor_b", "inspo", 1), ("xor_b", "icq", 0)]
    reasons = list(missing.values())
    assert "behavior.safetensors is not what was written there" in reasons[0] and "ended without a word" in reasons[1]
    assert contents(tmp_path / "evaluations/xor_b/inspo/seed_0") == contents(lab.place / "evaluate/seed_0")
    assert contents(tmp_path / "trainings/xor_b/inspo/seed_0") == contents(lab.place / "train/seed_0")
    assert sorted(path.name for path in (tmp_path / "evaluations/xor_b/inspo").iterdir()) == ["seed_0"]


def test_a_run_that_two_names_share_is_gathered_under_each(tmp_path):
    store, variant = SharedStore(str(tmp_path / "store")), {"algorithm": "same", "seeds": [0], "train": "st", "evaluate": "se"}
    made = {"dataset": "copy", "algorithm": "inspo", "variant": "default", "seed": 0}
    for stage, more in (("train", {}), ("evaluate", {"train_fingerprint": "train"})):
        (tmp_path / stage).mkdir()
        write_record(tmp_path / stage, made | more | {"fingerprint": stage})
        store.keep(stage, stage, tmp_path / stage)
    for key in ("e", "se"):
        store.write_record(key, {"seeds": {"0": "evaluate"}, "failures": {}})

    plan = [PLAN[0] | {"runs": [PLAN[0]["runs"][0] | {"seeds": [0]}, variant]}]
    assert gather(planned(plan), store, tmp_path / "evaluations", tmp_path / "trainings") == {}
    for place in ("evaluations", "trainings"):
        for name, its_variant in (("inspo", "default"), ("same", "same")):
            record = json.loads((tmp_path / place / "xor_b" / name / "seed_0/run.json").read_text())
            assert record == record | made | {"dataset": "xor_b", "variant": its_variant}


def test_a_summary_is_of_the_seeds_that_finished(lab, tmp_path):
    recorded = {"INSPO_STORE": str(tmp_path / "store")}
    lab.train("xor_b", "bc", "0,1").succeeded()
    run = ["--dataset", "xor_b", "--algorithm", "bc", "--seeds", "0,1", "--train", "train", "--out", "evaluate"]
    lab.run("components.evaluate", *run).succeeded()
    summary = lab.place / "evaluate/summary.json"
    assert json.loads(summary.read_text())["return_greedy"]["seeds"] == 2

    (lab.place / "train/seed_1/policy.safetensors").write_bytes(b"damaged")
    described = {"outputs": {"outputFile": str(tmp_path / "output.json"), "artifacts": {}}}
    more = ["--record", "e", "--set", "evaluate.episodes=3", "--executor-input", json.dumps({"inputs": {}} | described)]
    done = lab.run("components.evaluate", *run, *more, **recorded).succeeded()
    assert "warning: evaluate xor_b bc: 1 of 2 seeds failed; seed 1: " in done.stderr and (tmp_path / "output.json").exists()
    assert json.loads(summary.read_text())["return_greedy"]["seeds"] == 1

    (lab.place / "train/seed_0/policy.safetensors").write_bytes(b"damaged")
    none = lab.run("components.evaluate", *run, *more, "--set", "evaluate.episodes=4", **recorded)
    assert none.code == 2 and "none of the seeds [0, 1] has a result: " in none.stderr and not summary.exists()


def test_a_task_of_which_every_seed_failed_has_failed(lab, tmp_path):
    recorded = {"INSPO_STORE": str(tmp_path / "store")}
    bad = lab.train("xor_b", "inspo", "0,1", "--record", "t", "--set", "train.learning_rate=1e30", **recorded)
    assert bad.code == 2 and "none of the seeds [0, 1] has a result: " in bad.stderr
    assert set(SharedStore(recorded["INSPO_STORE"]).read_record("t")["failures"]) == {"0", "1"}
    lab.train("xor_b", "bc", "0", "--record", "t").refused("--record needs a shared store; set INSPO_STORE")


def test_the_executor_hears_what_was_written(lab, tmp_path):
    def described(name: str, type_: str) -> tuple[dict, list[str]]:
        artifact = {"name": name, "uri": f"/runs/{name}", "type": {"schemaTitle": type_}, "metadata": {"kept": 1}}
        outputs = {"outputFile": str(tmp_path / f"{name}.json"), "artifacts": {name: {"artifacts": [artifact]}}}
        return artifact, ["--executor-input", json.dumps({"inputs": {}, "outputs": outputs})]

    policies, option = described("policies", "system.Model")
    lab.train("xor_b", "bc", "0", *option).succeeded()
    assert json.loads((tmp_path / "policies.json").read_text()) == {"artifacts": {"policies": {"artifacts": [policies]}}}

    _, option = described("evaluations", "system.Metrics")
    run = ["--dataset", "xor_b", "--algorithm", "bc", "--seeds", "0", "--train", "train", "--out", "evaluate"]
    lab.run("components.evaluate", *run, *option).succeeded()
    (artifact,) = json.loads((tmp_path / "evaluations.json").read_text())["artifacts"]["evaluations"]["artifacts"]
    summary = json.loads((lab.place / "evaluate/summary.json").read_text())
    assert artifact["metadata"] == {"kept": 1} | {f"{metric}_iqm": values["iqm"] for metric, values in summary.items()}
    lab.train("xor_b", "bc", "0", "--executor-input", "{}").refused("--executor-input is '{}', expected Kubeflow's JSON")
