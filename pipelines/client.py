"""Kubeflow Pipelines as the submit command uses it: who we are, one run or a recurring one, and how a run ends."""

import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH, ServiceAccountTokenVolumeCredentials

from inspo_core.errors import InspoError

TOKEN, COOKIES = "KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIES"
ANSWER_SECONDS = 20
POLL_SECONDS = 5
PATIENCE = 60  # polls in a row without an answer, after which a run is watched no longer
SUCCEEDED = ("SUCCEEDED", "SKIPPED")
ENDED = (*SUCCEEDED, "FAILED", "CANCELED")


class Kubeflow:
    """The pipelines server at ``host``, asked on behalf of whom the environment names.

    In this order: a bearer token in ``KF_PIPELINES_TOKEN``, cookies in ``KF_PIPELINES_COOKIES``, the token of the pod's service account
    in the file that ``KF_PIPELINES_SA_TOKEN_PATH`` names (default: where Kubeflow mounts it), nobody. Tokens and cookies are never printed.

    Every method raises InspoError, in one sentence: no answer, token rejected, no such namespace, no Kubeflow there.

    Attributes:
        version: the release that the server says it is, or ``unknown``.
    """

    version: str

    def __init__(self, host: str, namespace: str | None = None):
        self._host, self._namespace = host.rstrip("/"), namespace
        self._credentials = _credentials()
        multi_user = self._probe()
        if multi_user and not namespace:
            raise InspoError(f"{host} serves several users, each in namespaces of their own: name yours with --namespace")
        if namespace and not multi_user:
            raise InspoError(f"{host} serves a single user and knows no namespaces, but --namespace is {namespace!r}: leave it out")
        with self._said(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about servers before 2.0
            self._client = kfp.Client(self._host, namespace=namespace or "", **self._credentials)

    def start(self, package: Path, name: str, group: str, parameters: dict[str, Any], service_account: str | None) -> str:
        """Run the compiled pipeline ``package`` once; ``group`` is Kubeflow's experiment, made if it is not there. Returns the run's id."""
        with self._said():
            experiment = self._client.create_experiment(group, namespace=self._namespace)
            run = self._client.run_pipeline(
                experiment.experiment_id, name, pipeline_package_path=str(package), params=parameters, service_account=service_account
            )
            return run.run_id

    def schedule(self, package: Path, name: str, group: str, parameters: dict[str, Any], service_account: str | None, cron: str) -> str:
        """Run ``package`` whenever ``cron`` says, one run at a time, and none for a time that was missed. Returns the schedule's id."""
        with self._said():
            experiment = self._client.create_experiment(group, namespace=self._namespace)
            recurring = self._client.create_recurring_run(
                experiment.experiment_id,
                name,
                cron_expression=cron,
                no_catchup=True,
                pipeline_package_path=str(package),
                params=parameters,
                service_account=service_account,
            )
            return recurring.recurring_run_id

    def run(self, run_id: str) -> Any:
        """The run as the server describes it, a ``V2beta1Run``."""
        with self._said():
            return self._client.get_run(run_id)

    def end(self, run_id: str) -> None:
        """Have the server end a run."""
        with self._said():
            self._client.terminate_run(run_id)

    def log(self, run_id: str, node: str) -> str:
        """What the pod of Argo's node ``node`` has printed."""
        self._refresh(self._api.configuration)
        with self._said():
            place = f"/apis/v1alpha1/runs/{run_id}/nodes/{node}/log"
            # Not JSON, which is all that the client makes of an answer; the answer itself it keeps.
            self._api.call_api(place, "GET", auth_settings=["Bearer"], _request_timeout=ANSWER_SECONDS)
            return self._api.last_response.data

    def watch(self, run_id: str) -> bool:
        """Print the states of a run and its steps as they change, until it has ended; whether it succeeded.

        A server that does not answer for a while is asked again, for ``PATIENCE`` times. Errors say that the run goes on.
        """
        state, silent = None, 0
        steps: dict[str, str] = {}
        while state not in ENDED:
            if state:
                time.sleep(POLL_SECONDS)
            try:
                with self._said():
                    run = self._client.get_run(run_id)
            except _NoAnswer as error:
                silent += 1
                if silent == PATIENCE:
                    raise InspoError(f"{error}; the run {run_id} goes on") from error
                state = state or "PENDING"
                continue
            except InspoError as error:  # a token that is no longer good
                raise InspoError(f"{error}; the run {run_id} goes on") from error
            silent = 0
            for task in (run.run_details and run.run_details.task_details) or []:
                name = task.display_name or ""
                if task.state and not name.endswith("-driver") and steps.get(task.task_id) != task.state:
                    steps[task.task_id] = task.state
                    print(f"  {name}: {task.state}", flush=True)
            if run.state != state:
                state = run.state
                print(f"run {run_id}: {state}", flush=True)
        if run.error and run.error.message:
            print(f"  {run.error.message}")
        return state in SUCCEEDED

    def _probe(self) -> bool:
        """Whether the server is a multi-user one. kfp.Client would ask five times, 5 s apart, and print headers."""
        configuration = kfp_server_api.Configuration(host=self._host)
        configuration.retries = False  # neither a second attempt nor a redirection to a page where a person would log in
        if "existing_token" in self._credentials:
            configuration.api_key = {"authorization": self._credentials["existing_token"]}
        self._refresh(configuration)
        configuration.api_key_prefix = {"authorization": "Bearer"}
        self._api = api = kfp_server_api.ApiClient(configuration, cookie=self._credentials.get("cookies"))
        with self._said():
            health = kfp_server_api.HealthzServiceApi(api).healthz_service_get_healthz(_request_timeout=ANSWER_SECONDS)
        if not api.last_response.data.lstrip().startswith("{"):  # of anything else, too, the client makes an object, an empty one
            raise self._is_something_else()
        self.version = json.loads(api.last_response.data).get("tag_name") or "unknown"
        return bool(health.multi_user)

    def _refresh(self, configuration: kfp_server_api.Configuration) -> None:
        if "credentials" in self._credentials:
            self._credentials["credentials"].refresh_api_key_hook(configuration)

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turn what the client raises into sentences."""
        try:
            yield
        except kfp_server_api.ApiException as error:
            raise self._refusal(error.status, _message(error)) from error
        except AttributeError as error:  # the client stumbles over its own report of a failed TLS handshake
            if not isinstance(error.__context__, kfp_server_api.ApiException):
                raise
            raise _NoAnswer(f"cannot reach {self._host}: {_first_line(str(error.__context__.reason))}; check --host") from error
        except urllib3.exceptions.HTTPError as error:
            reason = _first_line(str(getattr(error, "reason", None) or error)).rpartition(": ")[2]
            raise _NoAnswer(f"cannot reach {self._host}: {reason}; check --host, and the port-forward if there is one") from error

    def _refusal(self, status: int, message: str) -> InspoError:
        login = f"set {TOKEN} or {COOKIES} in the environment"
        if status == 401 or (status == 403 and not self._namespace):
            asked = f"rejected the token or cookie: get a new one and {login}" if self._credentials else f"wants to know who asks: {login}"
            return InspoError(f"{self._host} {asked} ({status}: {message})")
        if status == 403:
            namespace = f"no access to namespace {self._namespace!r}"
            return InspoError(f"{self._host} gives {namespace} (403: {message}): does it exist, and is it yours?")
        if 300 <= status < 400:
            return InspoError(f"{self._host} leads to a page where a person logs in: {login}")
        if status >= 502:
            return _NoAnswer(f"{self._host} passes nothing on to Kubeflow Pipelines ({status}: {message}): is it running?")
        if status == 404:
            return self._is_something_else(message)
        if status in (429, 500):
            return _NoAnswer(f"{self._host} could not do it now ({status}: {message})")
        return InspoError(f"{self._host} refused the request ({status}: {message})")

    def _is_something_else(self, message: str = "") -> InspoError:
        said = f" ({message})" if message else ""
        return InspoError(f"{self._host} answers, but not as Kubeflow Pipelines 2 does{said}: check --host, and its path if it has one")


class _NoAnswer(InspoError):
    """Nobody there, for now."""


def _credentials() -> dict[str, Any]:
    """What kfp.Client is to be given so that the server knows us."""
    if token := os.environ.get(TOKEN):
        return {"existing_token": token}
    if cookies := os.environ.get(COOKIES):
        return {"cookies": cookies}
    path = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    if path and not os.access(path, os.R_OK):
        raise InspoError(f"cannot read the service account's token {path}, which {KF_PIPELINES_SA_TOKEN_ENV} names")
    if path or os.access(KF_PIPELINES_SA_TOKEN_PATH, os.R_OK):
        return {"credentials": ServiceAccountTokenVolumeCredentials(path)}
    return {}


def _message(error: kfp_server_api.ApiException) -> str:
    try:
        return _first_line(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return error.reason or "no reason given"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
