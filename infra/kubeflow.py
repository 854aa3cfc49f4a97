"""The adapter to a Kubeflow Pipelines server: a run is begun there, and followed.

It speaks the v2beta1 API through the client that was generated from the server's own description. `kfp.Client` stands on the same
one, and adds what a command line must not have: prints, files in the user's folder, half a minute of attempts with a wrong token.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from governance.errors import RefusedError
from infra.errors import BackendUnavailableError, BadSettingError

_TIMEOUT_S: Final = 30.0
_MAX_TOKEN_BYTES: Final = 64 << 10
GONE: Final = "GONE"
"""The state of a run that the server does not know any more."""
_ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED", GONE})


@dataclass(frozen=True, kw_only=True)
class RemoteTask:
    """A task of a run there: its name and its state, such as ``RUNNING``."""

    name: str
    state: str


@dataclass(frozen=True, kw_only=True)
class RemoteRun:
    """A run as the server tells of it.

    Attributes:
        state: Such as ``RUNNING`` or ``SUCCEEDED``.
        error: What went wrong, as far as the server knows.
        tasks: Its tasks, those that only group others included.
    """

    state: str
    error: str = ""
    tasks: tuple[RemoteTask, ...] = field(default=())

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in _ENDED


class KubeflowServer:
    """A Kubeflow Pipelines server.

    Args:
        host: Its URL, the path of its API's proxy included.
        namespace: The namespace of the user's profile, where there are several users.
        token_file: A file with the bearer token, read anew for each request, since whoever renews it writes it anew.

    Raises:
        BadSettingError: The URL or the file cannot be used.
    """

    def __init__(self, host: str, *, namespace: str = "", token_file: Path | None = None) -> None:
        import kfp_server_api

        parts = urlsplit(host)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise BadSettingError(f"{host!r:.200} is no URL of a server", hint="write --host https://kubeflow.example/pipeline")
        self.host = host.rstrip("/")
        self.name = parts.hostname
        self._namespace = namespace
        configuration = kfp_server_api.Configuration(host=self.host)
        configuration.retries = 1
        if token_file is not None:
            configuration.api_key["authorization"] = read_token(token_file)
            configuration.api_key_prefix["authorization"] = "Bearer"
            configuration.refresh_api_key_hook = _refresh(token_file)
        client = kfp_server_api.ApiClient(configuration)
        self._experiments = kfp_server_api.ExperimentServiceApi(client)
        self._runs = kfp_server_api.RunServiceApi(client)
        self._api = kfp_server_api

    def begin(self, package: Mapping[str, Any], arguments: Mapping[str, str], *, experiment: str, name: str) -> str:
        """Begins a run, and returns the server's id of it.

        Args:
            package: The compiled pipeline: its specification, and that of its platforms.
            arguments: The pipeline's arguments.
            experiment: The group of runs that it belongs to, which is made where there is none.
            name: What it is called there.

        Raises:
            BackendUnavailableError: The server does not answer, or not as one of Kubeflow Pipelines.
            RefusedError: It does not accept the token, or who has it may not do this.
            BadSettingError: It does not accept the pipeline.
        """
        with self._translated():
            run = self._api.V2beta1Run(
                experiment_id=self._experiment(experiment),
                display_name=name,
                pipeline_spec=dict(package),
                runtime_config=self._api.V2beta1RuntimeConfig(parameters=dict(arguments)),
            )
            made = self._runs.run_service_create_run(run=run, _request_timeout=_TIMEOUT_S)
            return _told(made.run_id)

    def look(self, run_id: str) -> RemoteRun:
        """Returns how far a run has come, `GONE` where the server knows nothing of it; the errors are those of `begin`."""
        with self._translated():
            try:
                run = self._runs.run_service_get_run(run_id=run_id, _request_timeout=_TIMEOUT_S)
            except self._api.ApiException as error:
                if error.status == 404 and (said := _message(error.body)):  # a server of another kind answers with a page
                    return RemoteRun(state=GONE, error=said)
                raise
            details = run.run_details.task_details if run.run_details else None
            return RemoteRun(
                state=_told(run.state),
                error=" ".join(str(run.error.message).split()) if run.error and run.error.message else "",
                tasks=tuple(RemoteTask(name=str(one.display_name), state=str(one.state)) for one in details or ()),
            )

    def _experiment(self, name: str) -> str:
        predicate = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
        found = self._experiments.experiment_service_list_experiments(
            filter=json.dumps(predicate), namespace=self._namespace, page_size=2, _request_timeout=_TIMEOUT_S
        )
        for one in found.experiments or ():
            if one.display_name == name:
                return _told(one.experiment_id)
        asked = self._api.V2beta1Experiment(display_name=name, namespace=self._namespace)
        made = self._experiments.experiment_service_create_experiment(experiment=asked, _request_timeout=_TIMEOUT_S)
        return _told(made.experiment_id)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from kfp_server_api.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            raise self._refusal(int(error.status or 0), _message(error.body)) from error
        except (HTTPError, OSError) as error:
            raise BackendUnavailableError(
                f"no Kubeflow Pipelines answers at {self.host}", hint="check --host, and whether this machine reaches it"
            ) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise BackendUnavailableError(
                f"what answers at {self.host} is no Kubeflow Pipelines",
                hint="name its API in --host, such as https://kubeflow.example/pipeline; a page to log in asks for --token-file",
            ) from error

    def _refusal(self, status: int, said: str) -> Exception:
        told = f": {said}" if said else ""
        if status == 401:
            return RefusedError(
                f"{self.name} does not accept the token (HTTP 401){told}",
                hint="it may have expired: get a new one into --token-file",
            )
        if status == 403:
            return RefusedError(
                f"{self.name} refuses it (HTTP 403){told}", hint="ask for the right to run pipelines in --namespace"
            )
        if status == 400:
            return BadSettingError(
                f"{self.name} does not accept it (HTTP 400){told}", hint="check --namespace, and compile again"
            )
        return BackendUnavailableError(f"{self.name} answers HTTP {status}{told}", hint="check --host, or try again later")


def read_token(path: Path) -> str:
    """Reads a bearer token.

    Raises:
        BadSettingError: The file cannot be read, others can read it, or it holds no token.
    """
    hint = "a token file has one line, and is readable by its owner alone (chmod 600)"
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise BadSettingError(f"the token file {path} cannot be read: {error.strerror}", hint=hint) from error
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        raise BadSettingError(f"the token file {path} is readable by others", hint=hint)
    token = data.decode("ascii", errors="replace").strip()
    if not token or len(data) > _MAX_TOKEN_BYTES or not token.isprintable() or " " in token or "\ufffd" in token:
        raise BadSettingError(f"{path} holds no token", hint=hint)
    return token


def _refresh(token_file: Path) -> Callable[[Any], None]:
    def refresh(configuration: Any) -> None:
        configuration.api_key["authorization"] = read_token(token_file)

    return refresh


def _told(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("the answer lacks what every answer has")
    return value


def _message(body: object) -> str:
    """Returns what a server says of an error in one line; nothing of a page."""
    text = body.decode("utf-8", errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        stored = json.loads(text)
    except ValueError:
        return ""
    said = stored.get("message") or stored.get("error") if isinstance(stored, dict) else ""
    return " ".join(str(said or "").split())[:300]
