"""A Kubeflow Pipelines server in a thread that knows eight requests and takes nothing that KFP 2.17's own definitions do not."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kfp_server_api
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

API = "/apis/v2beta1"
QUERIES = {  # what a request's address may ask for, from the API's definitions
    "GET healthz": set(),
    "GET experiments": {"page_token", "page_size", "sort_by", "filter", "namespace"},
    "POST experiments": set(),
    "POST runs": {"experiment_id"},
    "GET runs/": {"experiment_id"},
    "POST runs/:terminate": {"experiment_id"},
    "POST recurringruns": set(),
}
OF_TYPE = {"str": (str, int), "bool": bool, "int": int, "float": (int, float), "datetime": str, "object": object}  # int64 is str there
OF_PARAMETER = {"STRING": str, "LIST": list, "STRUCT": dict}


class KubeflowServer:
    """What it was asked lies in ``requests``; what was wrong with that in ``problems``; ``states`` are told one after the other."""

    def __init__(self, *, token: str | None = None, cookies: str | None = None, namespaces: tuple[str, ...] = ()):
        self.token, self.cookies, self.namespaces = token, cookies, namespaces
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.problems: list[str] = []
        self.runs: list[Any] = []
        self.recurring: list[Any] = []
        self.experiments: list[Any] = []
        self.logs: dict[str, str] = {}  # of a run's nodes in Argo
        self.states: list[dict[str, Any] | int] = [{"state": "SUCCEEDED"}]  # a number: the HTTP status of a failure

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Run the server; yields its address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any] | str]:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        content = json.loads(body) if body else None
        self.requests.append((method, target, headers, content))
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthenticated: who is this?\nstack trace")
        if self.cookies and headers.get("Cookie") != self.cookies:
            return _status(401, "Unauthenticated: who is this?")
        if log := re.fullmatch(r"/apis/v1alpha1/runs/r1/nodes/(.+)/log", parts.path):
            return (200, self.logs[log[1]]) if log[1] in self.logs else _status(500, f"no pod of {log[1]}")
        name = f"{method} {parts.path.removeprefix(API + '/')}"
        kind = re.sub(r"^POST runs/.+:terminate$", "POST runs/:terminate", re.sub(r"^GET runs/.+", "GET runs/", name))
        form = "application/json" if method == "POST" else headers.get("Content-Type")
        if kind not in QUERIES or not query.keys() <= QUERIES[kind] or headers.get("Content-Type") != form:
            self.problems.append(f"{method} {target} {headers}")
            return _status(404, "no such request")
        namespace = query.get("namespace") or (content or {}).get("namespace")
        if "experiments" in kind and (namespace or "") not in (self.namespaces or ("",)):
            return _status(403, f"PermissionDenied: User is not authorized in namespace {namespace}")
        try:
            return 200, self._answers(kind, name, content)
        except Unfit as error:
            self.problems.append(str(error))
            return _status(400, str(error))

    def _answers(self, kind: str, name: str, content: Any) -> dict[str, Any]:
        if kind == "GET healthz":
            return {"commit_sha": "unknown", "tag_name": "2.17.0", "multi_user": bool(self.namespaces)}
        if kind == "POST runs/:terminate":
            return {}
        if kind == "GET experiments":
            return {"experiments": [experiment.to_dict() for experiment in self.experiments]} if self.experiments else {}
        if kind == "POST experiments":
            experiment = decoded(content, "V2beta1Experiment")
            experiment.experiment_id = "e1"
            self.experiments.append(experiment)
            return content | {"experiment_id": "e1"}
        if kind == "GET runs/":
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            if isinstance(state, int):
                raise Down(state)
            decoded(state, "V2beta1Run")
            return {"run_id": name.removeprefix("GET runs/"), **state}
        run = decoded(content, "V2beta1Run" if kind == "POST runs" else "V2beta1RecurringRun")
        if run.experiment_id not in [experiment.experiment_id for experiment in self.experiments]:
            raise Unfit(f"there is no experiment {run.experiment_id}")
        check_pipeline(run)
        if kind == "POST runs":
            self.runs.append(run)
            return content | {"run_id": "r1"}
        self.recurring.append(run)
        return content | {"recurring_run_id": "s1"}


class Unfit(Exception):
    """Not as the API's definitions say."""


class Down(Exception):
    """A proxy's answer for a server that is not there."""


def decoded(content: Any, kind: str) -> Any:
    """``content`` as the model ``kind`` of KFP's API. Raises Unfit: an unknown field or a value of another type, at any depth."""
    _check(content, kind, kind)
    return kfp_server_api.ApiClient().deserialize(SimpleNamespace(data=json.dumps(content)), kind)


def _check(value: Any, kind: str, place: str) -> None:
    if value is None:
        return
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        parts = [(item, inner[1], f"{place}[]") for item in _of(value, list, place)]
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        parts = [(item, inner[1], f"{place}.{name}") for name, item in _of(value, dict, place).items()]
    elif kind in OF_TYPE:
        _of(value, OF_TYPE[kind], place)
        return
    else:
        model = getattr(kfp_server_api.models, kind)
        if allowed := getattr(model, "allowable_values", None):
            if value not in allowed:
                raise Unfit(f"{place} is {value!r}, expected one of {allowed}")
            return
        types = {model.attribute_map[name]: inner for name, inner in model.openapi_types.items()}
        if unknown := _of(value, dict, place).keys() - types.keys():
            raise Unfit(f"{place} has no {', '.join(unknown)}")
        parts = [(item, types[name], f"{place}.{name}") for name, item in value.items()]
    for part in parts:
        _check(*part)


def _of(value: Any, kind: Any, place: str) -> Any:
    if not isinstance(value, kind):
        raise Unfit(f"{place} is {value!r}, expected {kind}")
    return value


def check_pipeline(run: Any) -> None:
    """Raises Unfit unless the run brings a pipeline of Kubeflow's form, and just the parameters that this has."""
    try:
        spec = json_format.ParseDict(run.pipeline_spec["pipeline_spec"], PipelineSpec())
        platform = json_format.ParseDict(run.pipeline_spec["platform_spec"], PlatformSpec())
        for settings in json_format.MessageToDict(platform.platforms["kubernetes"])["deploymentSpec"]["executors"].values():
            json_format.ParseDict(settings, KubernetesExecutorConfig())
    except (KeyError, json_format.ParseError) as error:
        raise Unfit(f"pipeline_spec: {error}") from error
    inputs = json_format.MessageToDict(spec.root.input_definitions)["parameters"]
    given = run.runtime_config.parameters
    missing = [name for name, one in inputs.items() if name not in given and not one.get("isOptional")]
    if missing or given.keys() - inputs.keys():
        raise Unfit(f"parameters {sorted(given)}, expected {sorted(inputs)}")
    for name, value in given.items():
        _of(value, OF_PARAMETER[inputs[name]["parameterType"]], name)


def _status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"error": message, "code": code, "message": message, "details": []}


def _handler(kubeflow: KubeflowServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                headers = {name.title(): value for name, value in self.headers.items()}  # names come in any case
                code, content = kubeflow.answer(self.command, self.path, headers, body)
            except Down as error:
                code, content = _status(error.args[0], "upstream connect error")
            plain = isinstance(content, str)
            text = (content if plain else json.dumps(content, default=str)).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if plain else "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _do

        def log_message(self, *_: object) -> None:
            pass

    return Handler
