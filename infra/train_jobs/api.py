"""The part of a cluster's API that TrainJobs are made and looked at with, each of its errors one line."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from governance.errors import RefusedError
from infra.errors import BackendUnavailableError, BadSettingError
from infra.train_jobs.manifest import GROUP, VERSION

_PLURAL: Final = "trainjobs"
_TIMEOUT_S: Final = 30.0
_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_HINT: Final = "the run's service account, or the kubeconfig, has a token that is not valid; then run it again"  # noqa: S105
_RIGHTS_HINT: Final = "the run's service account needs create, get, list and delete of trainjobs; docs/KUBEFLOW.md has the Role"
_NO_TRAINER_HINT: Final = "install Kubeflow Trainer 2, or leave `train_job` out of the cluster's file and compile again"


class ClusterUnreachableError(BackendUnavailableError):
    """The cluster's API does not answer, or only that it cannot: another time it may."""


@dataclass(frozen=True)
class Connection:
    """A client of a cluster, and the namespace that it works in."""

    client: Any
    namespace: str


class TrainJobApi:
    """TrainJobs of one namespace.

    Args:
        connect: Opens a connection; once, and again where a token is no longer accepted, since whoever renews it writes it anew.

    Raises:
        BadSettingError: There is no cluster to connect to.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection = connect()

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self._connection.namespace

    def create(self, manifest: Mapping[str, Any]) -> bool:
        """Makes a TrainJob, and returns whether there was none of its name.

        Raises:
            BackendUnavailableError: The cluster does not answer, or has no Kubeflow Trainer.
            RefusedError: It does not accept the token, or who has it may not do this.
            BadSettingError: It does not accept the TrainJob.
        """
        body = dict(manifest)
        status = self._request("POST", self._at(), body=body, passing=(409,))[0]
        return status != 409

    def read(self, name: str) -> dict[str, Any] | None:
        """Returns a TrainJob, or None where there is none; the errors are those of `create`."""
        status, found = self._request("GET", self._at(name), passing=(404,))
        return None if status == 404 else found

    def listed(self, selector: str) -> list[dict[str, Any]]:
        """Returns the TrainJobs with some labels; the errors are those of `create`."""
        items = self._request("GET", self._at(), query={"labelSelector": selector})[1].get("items")
        return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []

    def delete(self, name: str) -> None:
        """Has a TrainJob end, and all its pods before it; one that is gone is left alone. The errors are those of `create`."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        self._request("DELETE", self._at(name), body=options, passing=(404,))

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Returns a TrainJob's pods, or none where these may not be read."""
        return self._told("pods", {"labelSelector": f"jobset.sigs.k8s.io/jobset-name={name}"})

    def warnings(self) -> list[dict[str, Any]]:
        """Returns the namespace's events that warn, or none where these may not be read."""
        return self._told("events", {"fieldSelector": "type=Warning", "limit": "200"})

    def _told(self, what: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        try:
            found = self._request("GET", f"/api/v1/namespaces/{self.namespace}/{what}", query=query)[1].get("items")
        except (BackendUnavailableError, RefusedError, BadSettingError):
            return []  # it would only have said more
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    def _at(self, name: str = "") -> str:
        """Returns the path of the namespace's TrainJobs, or of one of them."""
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{_PLURAL}" + (f"/{name}" if name else "")

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        passing: tuple[int, ...] = (),
    ) -> tuple[int, dict[str, Any]]:
        status, answer = self._sent(method, path, query, body)
        if status == 401:
            self._connection = self._connect()
            status, answer = self._sent(method, path, query, body)
        if not 200 <= status < 300 and status not in passing:
            raise self._refusal(status, answer)
        if not isinstance(answer, dict):
            raise BackendUnavailableError(f"what answers at {self._host} is no cluster's API", hint="check the kubeconfig")
        return status, answer

    def _sent(self, method: str, path: str, query: Mapping[str, str] | None, body: Any) -> tuple[int, Any]:
        from kubernetes.client.exceptions import ApiException

        client = self._connection.client
        with self._reached():
            try:
                answer = client.call_api(
                    path,
                    method,
                    query_params=list((query or {}).items()),
                    header_params={"Accept": "application/json", "Content-Type": "application/json"},
                    body=body,
                    auth_settings=["BearerToken"],
                    _preload_content=False,
                    _request_timeout=_TIMEOUT_S,
                )[0]
                return int(answer.status), _json(answer.data)
            except ApiException as error:
                return int(error.status or 0), _json(error.body)

    @property
    def _host(self) -> str:
        return str(self._connection.client.configuration.host)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (HTTPError, OSError) as error:
            raise ClusterUnreachableError(
                f"the cluster's API at {self._host} does not answer", hint="run it again when it does: finished work is kept"
            ) from error

    def _refusal(self, status: int, answer: Any) -> Exception:
        said = " ".join(str(answer.get("message") or "").split())[:400] if isinstance(answer, dict) else ""
        told = f": {said}" if said else ""
        if status == 401:
            return RefusedError(f"the cluster does not accept the token (HTTP 401){told}", hint=_TOKEN_HINT)
        if status in {400, 422} or (status == 403 and "admission webhook" in said):
            return BadSettingError(f"the cluster does not accept the TrainJob (HTTP {status}){told}", hint="correct `train_job`")
        if status == 403:
            return RefusedError(f"the cluster refuses it (HTTP 403){told}", hint=_RIGHTS_HINT)
        if status == 404:
            return BackendUnavailableError("the cluster knows no TrainJobs (HTTP 404)", hint=_NO_TRAINER_HINT)
        return ClusterUnreachableError(
            f"the cluster's API answers HTTP {status}{told}", hint="run it again later: finished work is kept"
        )


def connect(kubeconfig: str = "") -> Connection:
    """Connects to a cluster: the one that a kubeconfig names, that of the pod this runs in, or that of the user's kubeconfig.

    Args:
        kubeconfig: The file; looked for as said if empty.

    Raises:
        BadSettingError: None of them can be used.
    """
    from kubernetes import client, config
    from yaml import YAMLError

    configuration = client.Configuration()
    configuration.retries = 0  # whoever asks decides
    try:
        if not kubeconfig and (_POD / "token").is_file():
            config.load_incluster_config(client_configuration=configuration)
            namespace = (_POD / "namespace").read_text(encoding="utf-8").strip()
        else:
            where = kubeconfig or None
            config.load_kube_config(config_file=where, client_configuration=configuration)
            namespace = config.list_kube_config_contexts(config_file=where)[1]["context"].get("namespace", "default")
    except (config.ConfigException, YAMLError, OSError, ValueError, KeyError, TypeError) as error:
        raise BadSettingError(
            f"there is no cluster to train on: {' '.join(str(error).split())[:300]}",
            hint="run it in a pod of the cluster, or name a kubeconfig in KUBECONFIG",
        ) from error
    return Connection(client.ApiClient(configuration), str(namespace))


def _json(data: object) -> Any:
    try:
        return json.loads(data if isinstance(data, bytes | str) else b"")
    except ValueError:
        return None
