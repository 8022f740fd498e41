"""``submit --watch``: what it tells, and that the run goes on without it."""

import pipelines.client
from tests.pipelines.kubeflow_server import KubeflowServer
from tests.pipelines.submitting import EXPERIMENT, refused


def test_watching_tells_each_change_once_and_the_end(submit):
    def tasks(**states: str) -> dict:
        return {"task_details": [{"task_id": name, "display_name": name, "state": state} for name, state in states.items()]}

    server = KubeflowServer()
    server.states = [
        {"state": "PENDING"},
        {"state": "RUNNING", "run_details": tasks(**{"train-driver": "SUCCEEDED", "train": "RUNNING"})},
        503,
        {"state": "RUNNING", "run_details": tasks(ingest="SUCCEEDED", train="RUNNING")},
        {"state": "FAILED", "run_details": tasks(ingest="SUCCEEDED", train="FAILED"), "error": {"message": "train said no"}},
    ]
    with server.serve() as host:
        code, out, err = submit(*EXPERIMENT, "--host", host, "--watch")
    assert (code, err, server.problems) == (1, "", [])
    told = out[out.index("run r1: xor_c inspo") :].splitlines()[1:]
    assert told == [
        "run r1: PENDING",
        "  train: RUNNING",
        "run r1: RUNNING",
        "  ingest: SUCCEEDED",
        "  train: FAILED",
        "run r1: FAILED",
        "  train said no",
    ]


def test_an_interrupted_watch_leaves_the_run_alone(submit, monkeypatch):
    server = KubeflowServer()
    server.states = [{"state": "RUNNING"}]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipelines.client.time, "sleep", interrupt)
    with server.serve() as host:
        code, _, err = submit(*EXPERIMENT, "--host", host, "--watch")
    assert code == 130 and "the run r1 goes on" in err
    assert {method for method, *_ in server.requests[-1:]} == {"GET"}


def test_a_server_that_stays_away_is_not_waited_for_for_ever(submit, monkeypatch):
    monkeypatch.setattr(pipelines.client, "PATIENCE", 3)
    server = KubeflowServer()
    server.states = [503]
    with server.serve() as host:
        code, _, err = submit(*EXPERIMENT, "--host", host, "--watch")
    refused(code, err, "503", "the run r1 goes on")
    assert sum("/runs/" in target for _, target, *_ in server.requests) == 3


def test_a_token_that_expires_under_way_does_not_hide_that_the_run_goes_on(submit):
    server = KubeflowServer()
    server.states = [{"state": "RUNNING"}, 500, 429, 401]
    with server.serve() as host:
        code, _, err = submit(*EXPERIMENT, "--host", host, "--watch")
    refused(code, err, "401", "the run r1 goes on")
    assert sum("/runs/" in target for _, target, *_ in server.requests) == 4
