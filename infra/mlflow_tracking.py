"""The tracking port of a step on MLflow: calls return at once, a background thread imports MLflow and writes in batches.

Files go to the run's artifact location directly, whatever kind of store that is; a server before MLflow only records the run.
"""

import json
import queue
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from governance.errors import GovernanceError
from infra.errors import InfraError
from infra.mlflow_client import connect, ensure_experiment
from infra.mlflow_errors import unavailable
from infra.objects.store import Store, open_store

ParentRun = str | None | Callable[[], str | None]

_MAX_METRICS = 1000  # MLflow's bounds on one batch and on one value
_MAX_PARAMS = 100
_MAX_VALUE_LENGTH = 6000
_MAX_NAME_LENGTH = 250
_MAX_DIGEST_LENGTH = 36
_NOT_IN_NAMES = re.compile(r"[^\w.\-/]")
_PAUSE_S = 1.0  # between batches, so that a fast loop costs few transactions
_FINISHED = "FINISHED"
_FINISH_TIMEOUT_S = {_FINISHED: 300.0, "FAILED": 20.0, "KILLED": 20.0}


@dataclass(frozen=True, kw_only=True)
class _Params:
    values: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Metrics:
    values: Mapping[str, float]
    step: int
    time_ms: int


@dataclass(frozen=True, kw_only=True)
class _Artifact:
    path: Path
    folder: str


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    subjects: Mapping[str, str]


_Operation = _Params | _Metrics | _Artifact | _Inputs


class MlflowTracking:
    """Logs one MLflow run. What goes wrong is told once, by `finish`, and never disturbs the work that is logged.

    Args:
        tracking_uri: MLflow's store or server.
        artifact_root: Where a new experiment keeps its artifacts.
        experiment: The experiment's name; created if need be.
        run_name: The run's name.
        parent_run_id: The run that this one belongs under, or a function that finds it, called in the background.
        tags: Tags of the run.
        clock: Gives the time of metrics, in seconds since the epoch.
    """

    def __init__(
        self,
        tracking_uri: str,
        artifact_root: str,
        experiment: str,
        run_name: str,
        parent_run_id: ParentRun,
        tags: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tracking_uri = tracking_uri
        self._artifact_root = artifact_root
        self._experiment = experiment
        self._tags = {**tags, "mlflow.runName": run_name}
        self._parent_run_id = parent_run_id
        self._clock = clock
        self._waiting: queue.SimpleQueue[_Operation] = queue.SimpleQueue()
        self._unwritten: list[_Operation] = []
        self._logged_params: set[str] = set()
        self._spool: tempfile.TemporaryDirectory[str] | None = None
        self._num_spooled = 0
        self._thread: threading.Thread | None = None
        self._created = threading.Event()
        self._ending = threading.Event()
        self._status = _FINISHED
        self._mlflow_run_id: str | None = None
        self._error: Exception | None = None

    def start(self) -> None:
        """Begins to import MLflow and to create the run, in the background."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlflow-tracking", daemon=True)
            self._thread.start()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs parameters, keys dotted; the first value of a key stays, as MLflow wants it."""
        new = {_name(key): str(value)[:_MAX_VALUE_LENGTH] for key, value in _flat(params).items()}
        new = {key: value for key, value in new.items() if key not in self._logged_params}
        self._logged_params |= new.keys()
        self._waiting.put(_Params(values=new))

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Logs metrics, at a training step where there is one."""
        values = {_name(key): float(value) for key, value in metrics.items()}
        self._waiting.put(_Metrics(values=values, step=step or 0, time_ms=int(self._clock() * 1000)))

    def log_artifact(self, path: Path, *, folder: str = "") -> None:
        """Logs a copy of a file or folder, as it is now: it may be moved or changed as soon as this returns."""
        try:
            if self._spool is None:
                self._spool = tempfile.TemporaryDirectory(prefix="groundswell-mlflow-")
            self._num_spooled += 1
            copy = Path(self._spool.name) / str(self._num_spooled) / path.name
            copy.parent.mkdir()
            if path.is_dir():
                shutil.copytree(path, copy)
            else:
                shutil.copyfile(path, copy)
        except OSError as error:
            self._error = self._error or error
            return
        self._waiting.put(_Artifact(path=copy, folder=folder))

    def log_inputs(self, subjects: Mapping[str, str]) -> None:
        """Links the run to the artifacts that it was given.

        MLflow keeps a short digest of a dataset; the whole one is in the tag ``groundswell.digest``.

        Args:
            subjects: ``<kind>:<digest>`` by input name.
        """
        self._waiting.put(_Inputs(subjects=dict(subjects)))

    def run_id(self, timeout_s: float = 120.0) -> str | None:
        """Returns MLflow's id of the run, waiting until it is created; None if that failed or was never begun."""
        if self._thread is None:
            return None
        self._created.wait(timeout_s)
        return self._mlflow_run_id

    def finish(self, status: str) -> str | None:
        """Writes what is waiting, ends the run and returns MLflow's id of it.

        Args:
            status: How the run ended: ``FINISHED``, ``FAILED`` or ``KILLED``.

        Raises:
            BackendUnavailableError: Something could not be logged. Only for a run that finished: for another one its own
                error matters more.
        """
        if self._thread is None:
            return None
        self._status = status
        self._ending.set()
        self._thread.join(_FINISH_TIMEOUT_S[status])
        if self._thread.is_alive():
            self._error = self._error or TimeoutError(f"no answer within {_FINISH_TIMEOUT_S[status]:.0f} s")
        elif self._spool is not None:
            self._spool.cleanup()
        if self._error is not None and status == _FINISHED:
            if isinstance(self._error, (InfraError, GovernanceError)):
                raise self._error
            raise unavailable(self._tracking_uri, self._error) from self._error
        return self._mlflow_run_id

    def _work(self) -> None:
        try:
            client = connect(self._tracking_uri, self._artifact_root)
            info = self._create_run(client)
            self._mlflow_run_id = run_id = str(info.run_id)
            self._created.set()
            store = open_store(info.artifact_uri)
            self._try(store.check)  # imports what it needs beside the work, not at its end
            while not self._ending.wait(_PAUSE_S):
                self._try(lambda: self._write(client, run_id, store))
            self._write(client, run_id, store)
            client.set_terminated(run_id, self._status)
        except Exception as error:  # noqa: BLE001 - whatever it is, `finish` tells it
            self._error = self._error or error
        finally:
            self._created.set()

    def _create_run(self, client: Any) -> Any:
        parent = self._parent_run_id() if callable(self._parent_run_id) else self._parent_run_id
        tags = {**self._tags, "mlflow.parentRunId": parent} if parent else self._tags
        experiment_id = ensure_experiment(client, self._experiment, self._artifact_root)
        return client.create_run(experiment_id, start_time=int(self._clock() * 1000), tags=tags).info

    def _try(self, work: Callable[[], None]) -> None:
        """Does what can be done again: what fails now, since a server restarts, say, is told only if it fails at the end too."""
        try:
            work()
        except Exception:  # noqa: BLE001 - whatever it is, the last attempt tells it
            return

    def _write(self, client: Any, run_id: str, store: Store) -> None:
        self._unwritten += self._drain()
        self._write_batches(client, run_id, self._unwritten)
        logged = [operation for operation in self._unwritten if isinstance(operation, _Artifact)]
        files = {f"{one.folder}/{name}".lstrip("/"): path for one in logged for name, path in _files(one.path).items()}
        if files:
            store.put(files, lambda *_: None)
        self._unwritten.clear()

    def _write_batches(self, client: Any, run_id: str, operations: list[_Operation]) -> None:
        from mlflow.entities import Metric, Param

        params = [Param(key, value) for o in operations if isinstance(o, _Params) for key, value in o.values.items()]
        metrics = [
            Metric(key, v, o.time_ms, o.step) for o in operations if isinstance(o, _Metrics) for key, v in o.values.items()
        ]
        for start in range(0, len(params), _MAX_PARAMS):
            client.log_batch(run_id, params=params[start : start + _MAX_PARAMS])
        for start in range(0, len(metrics), _MAX_METRICS):
            client.log_batch(run_id, metrics=metrics[start : start + _MAX_METRICS])
        for operation in operations:
            if isinstance(operation, _Inputs) and operation.subjects:
                client.log_inputs(
                    run_id, datasets=[_dataset_input(name, subject) for name, subject in operation.subjects.items()]
                )

    def _drain(self) -> list[_Operation]:
        found: list[_Operation] = []
        while True:
            try:
                found.append(self._waiting.get_nowait())
            except queue.Empty:
                return found


def _dataset_input(name: str, subject: str) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = subject.rpartition(":")[2]
    dataset = Dataset(name, digest[:_MAX_DIGEST_LENGTH], "groundswell", json.dumps({"subject": subject}))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", name), InputTag("groundswell.digest", digest)])


def _files(path: Path) -> dict[str, Path]:
    """Returns a file, or the files of a folder, by their names as artifacts."""
    found = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return {one.relative_to(path.parent).as_posix(): one for one in found}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _name(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name)[:_MAX_NAME_LENGTH]
