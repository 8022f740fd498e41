"""The Kubernetes API of one namespace in a thread: it has the objects that it is given, and answers in the API's own form."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

NAMESPACE = "kubeflow"
TOKEN = "token-of-the-test"
KINDS = {  # the last part but one of an object's path
    "namespaces": "Namespace",
    "serviceaccounts": "ServiceAccount",
    "secrets": "Secret",
    "configmaps": "ConfigMap",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "nodes": "Node",
    "pods": "Pod",
}


class KubernetesServer:
    """``objects``: those that are there, by kind and name; ``role``: rules of its service account; ``forbidden``: what nobody may see."""

    def __init__(self, role: list[dict[str, Any]]):
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.role = role
        self.forbidden: set[str] = set()
        self.requests: list[str] = []

    def add(self, kind: str, name: str, **fields: Any) -> None:
        self.objects[kind, name] = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}} | fields

    @contextmanager
    def serve(self, kubeconfig: Path) -> Iterator[None]:
        """Run the server, and write how kubectl finds it."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        write_kubeconfig(kubeconfig, f"http://127.0.0.1:{server.server_port}")
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, dict[str, Any]]:
        path, _, query = target.partition("?")
        self.requests.append(f"{method} {target}")
        place = f"/api/v1/namespaces/{NAMESPACE}"
        if path == f"/apis/authorization.k8s.io/v1/namespaces/{NAMESPACE}/localsubjectaccessreviews":
            return self._review(json.loads(body))
        found = re.fullmatch(rf"{place}/(\w+)(?:/([\w.-]+))?|/api/v1/(nodes|namespaces)(?:/([\w.-]+))?", path)
        if method != "GET" or not found:
            return _status(404, "NotFound", "the server could not find the requested resource")
        plural, name = found[1] or found[3], found[2] or found[4]
        if plural in self.forbidden:
            return _status(403, "Forbidden", f'{plural} is forbidden: User "me" cannot get resource "{plural}" in API group ""')
        kind = KINDS[plural]
        if name is None:
            items = [one for (of, _), one in self.objects.items() if of == kind]
            return 200, {"kind": f"{kind}List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}
        if (kind, name) not in self.objects:
            return _status(404, "NotFound", f'{plural} "{name}" not found')
        return 200, self.objects[kind, name]

    def _review(self, review: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked = review["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, [asked["resource"], asked.get("subresource")]))
        allowed = any(
            asked["verb"] in rule["verbs"]
            and asked.get("group", "") in rule["apiGroups"]
            and resource in rule["resources"]
            and ("resourceNames" not in rule or asked.get("name") in rule["resourceNames"])
            for rule in self.role
        )
        assert review["spec"]["user"] == f"system:serviceaccount:{NAMESPACE}:inspo-runner"
        return 201, review | {"kind": "LocalSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": {"allowed": allowed}}


def write_kubeconfig(path: Path, address: str) -> None:
    named = [("clusters", "cluster", {"server": address}), ("users", "user", {"token": TOKEN})]
    named.append(("contexts", "context", {"cluster": "test", "user": "test"}))
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "test"}
    path.write_text(yaml.safe_dump(config | {plural: [{"name": "test", kind: value}] for plural, kind, value in named}))


def _status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _handler(cluster: KubernetesServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                code, content = cluster.answer(self.command, self.path, body)
            else:
                code, content = _status(401, "Unauthorized", "Unauthorized")
            text = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _do

        def log_message(self, *_: object) -> None:
            pass

    return Handler
