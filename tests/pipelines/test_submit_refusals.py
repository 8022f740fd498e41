"""What the submit command does not take, and servers that do not take what it sends: one sentence each."""

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.pipelines.kubeflow_server import KubeflowServer
from tests.pipelines.submitting import EXPERIMENT, refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "train.inspo.alhpa=1"], ["train.inspo.alhpa", "did you mean alpha"]),
        (["--set", "train.inspo.alpha=much"], ["train.inspo.alpha is 'much'"]),
        (["--dataset", "xor_z"], ["no dataset 'xor_z'"]),
        (["--algorithm", "insop"], ["'insop'", "inspo"]),
        (["--placement", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--host", "pipelines.example"], ["--host is 'pipelines.example'", "https://"]),
        (["--host", "https://me:hunter2@pipelines.example"], ["--host holds a user name, password or token"]),
        (["--data-repo", "https://hunter2@git.example/data"], ["--data-repo holds"]),
        (["--data-repo", "https://me:x/hunter2@git.example/data"], ["--data-repo holds"]),
        (["--data-repo", "ssh://me:a hunter2@git.example/data"], ["--data-repo holds"]),
        (["--data-repo", "https://git.example/data?token=hunter2"], ["--data-repo holds"]),
        (["--set", "experiment.name=s3://me:hunter2@bucket"], ["--set holds"]),
        (["--recurring", "0 3 * * *", "--name", "nightly"], ["six fields"]),
        (["--recurring", "0 0 3 * * *"], ["--name"]),
        (["--recurring", "0 0 3 * * *", "--name", "nightly", "--watch"], ["--watch"]),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_sent(submit, arguments, words):
    server = KubeflowServer()
    with server.serve() as host:
        code, _, err = submit(*EXPERIMENT, "--host", host, *arguments)
    refused(code, err, *words)
    assert "hunter2" not in err and server.requests == []


def test_nobody_there(submit):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, so that nobody else listens there
        host = f"http://127.0.0.1:{held.getsockname()[1]}"
        refused(*submit(*EXPERIMENT, "--host", host)[::2], f"cannot reach {host}", "Connection refused")


def test_a_server_without_tls(submit):
    with KubeflowServer().serve() as host:
        refused(*submit(*EXPERIMENT, "--host", host.replace("http", "https"))[::2], "cannot reach https://", "SSL")


@pytest.mark.parametrize(("given", "words"), [("wrong", ["rejected the token"]), (None, ["who asks", "KF_PIPELINES_TOKEN"])])
def test_a_wrong_or_missing_token(submit, monkeypatch, given, words):
    if given:
        monkeypatch.setenv("KF_PIPELINES_TOKEN", given)
    server = KubeflowServer(token="right")
    with server.serve() as host:
        refused(*submit(*EXPERIMENT, "--host", host)[::2], *words, "401")
    assert len(server.requests) == 1, "it was asked again and again"


def test_a_service_account_without_its_token(submit, monkeypatch, tmp_path):
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "nowhere"))
    refused(*submit(*EXPERIMENT, "--host", "http://127.0.0.1:9")[::2], "nowhere", "KF_PIPELINES_SA_TOKEN_PATH")


@pytest.mark.parametrize(
    ("namespaces", "arguments", "words"),
    [
        (("team",), [], ["--namespace"]),
        (("team",), ["--namespace", "taem"], ["no access to namespace 'taem'", "does it exist"]),
        ((), ["--namespace", "team"], ["single user", "leave it out"]),
    ],
)
def test_a_missing_namespace(submit, namespaces, arguments, words):
    server = KubeflowServer(namespaces=namespaces)
    with server.serve() as host:
        refused(*submit(*EXPERIMENT, "--host", host, *arguments)[::2], *words)
    assert server.runs == []


@contextmanager
def something_else(status: int, content: bytes, **headers: str):
    """A server that is not Kubeflow and answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "content", "headers", "words"),
    [
        (200, b"<html>Welcome</html>", {"Content_Type": "text/html"}, ["not as Kubeflow Pipelines"]),
        (200, b'["welcome"]', {"Content_Type": "application/json"}, ["not as Kubeflow Pipelines"]),
        (404, b"not found", {}, ["not as Kubeflow Pipelines"]),
        (302, b"", {"Location": "/dex/auth?state=x"}, ["a person logs in", "KF_PIPELINES_COOKIES"]),
        (503, b"no healthy upstream", {}, ["503", "is it running"]),
    ],
)
def test_a_host_that_is_not_kubeflow(submit, status, content, headers, words):
    with something_else(status, content, **headers) as host:
        refused(*submit(*EXPERIMENT, "--host", host)[::2], *words)
