"""A cluster's API for tests: TrainJobs, pods and events over HTTP; TrainJobs are held to the published definition, if at hand.

What becomes of a TrainJob is a sequence of statuses as Kubeflow Trainer writes them, one a look; the last stays.
"""

import copy
import functools
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

NAMESPACE = "team"
TRAIN_JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
DEFINITION = Path(__file__).parents[2] / "shared" / "schemas" / "kubeflow-trainer" / "trainjobs.crd.yaml"
TIME = "2026-11-28T06:00:00Z"


def job_status(**counts: int) -> list[dict[str, Any]]:
    return [{"name": "node", "active": 0, "ready": 0, "succeeded": 0, "failed": 0, "suspended": 0, **counts}]


def condition(kind: str, reason: str, message: str, *, status: str = "True") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": TIME}


NEW: dict[str, Any] = {}
STARTING = {"jobsStatus": job_status(active=1)}
RUNNING = {"jobsStatus": job_status(active=1, ready=1)}
COMPLETE = {
    "conditions": [condition("Complete", "AllJobsCompleted", "jobset completed successfully")],
    "jobsStatus": job_status(succeeded=1),
}
FAILED = {
    "conditions": [condition("Failed", "FailedJobs", "jobset failed due to one or more job failures (first failed job: node-0)")],
    "jobsStatus": job_status(failed=1),
}
SUSPENDED = {
    "conditions": [condition("Suspended", "Suspended", "TrainJob is suspended")],
    "jobsStatus": job_status(suspended=1),
}
RESUMED = {
    "conditions": [condition("Suspended", "Resumed", "TrainJob is resumed", status="False")],
    "jobsStatus": job_status(active=1, ready=1),
}
UNSUPPORTED = {"conditions": [condition("Failed", "TrainingRuntimeNotSupported", "TrainingRuntime 'mpi' is not supported")]}


@functools.lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    definition = yaml.load(DEFINITION.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (one for one in definition["spec"]["versions"] if one["name"] == "v1alpha1")
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}
    return _strict(schema)


def _strict(schema: Any) -> Any:
    """Returns a structural schema that also refuses what a server would silently prune."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def problems_of(job: dict[str, Any]) -> list[str]:
    """What the definition has against a TrainJob; nothing where it is not at hand."""
    if not DEFINITION.is_file():
        return []
    from jsonschema import Draft202012Validator

    found = [
        f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in Draft202012Validator(_schema()).iter_errors(job)
    ]
    name = job["metadata"]["name"]
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(f"{name}-node-0-0") > 63:
        found.append(f"metadata.name: {name} is no name")
    for key, value in job["metadata"].get("labels", {}).items():
        if not re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", value):
            found.append(f"metadata.labels.{key}: {value} is no label's value")
    return found


def require_definition() -> None:
    if not DEFINITION.is_file():
        pytest.skip("the published definition of TrainJobs is not beside the project")


@dataclass
class Cluster:
    """What the server has been asked for, and what becomes of it.

    Attributes:
        url: Where it listens.
        token: The token that it accepts.
        futures: What becomes of each TrainJob that is made, in order; of more than there are, as of the last.
        jobs: Those that there are, by name.
        made: Names of all that were made.
        deleted: Names of all that were deleted.
        pods: What it says of a TrainJob's pods, by its name; None where that may not be read.
        events: Its events.
        faults: Answers that requests get in order, in place of theirs; None lets one through.
        drop_after: Called with each request; a connection is cut after what it asks for was done, where it says so.
        status: Looks up a TrainJob's status, in place of `futures`.
        on_made: Called with each TrainJob that is made.
        on_deleted: Called with the name of each that is deleted.
        lingers: Looks for which a deleted one is still there.
        refuses: What an admission webhook says against a TrainJob.
    """

    url: str = ""
    token: str = "good"
    futures: list[Sequence[dict[str, Any]]] = field(default_factory=lambda: [[NEW, STARTING, RUNNING, COMPLETE]])
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    pods: dict[str, list[dict[str, Any]]] | None = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    faults: list[tuple[int, str] | None] = field(default_factory=list)
    drop_after: Callable[[str, str], bool] = lambda _method, _path: False
    status: Callable[[str], dict[str, Any]] | None = None
    on_made: Callable[[dict[str, Any]], object] = lambda _job: None
    on_deleted: Callable[[str], object] = lambda _name: None
    lingers: int = 1
    refuses: str = ""
    order: dict[str, int] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    going: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def kubeconfig(self, folder: Path, token: str | None = None) -> Path:
        """Writes a kubeconfig for it."""
        values = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": self.token if token is None else token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(values))
        return path

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path == f"/api/v1/namespaces/{NAMESPACE}/pods":
            name = query["labelSelector"][0].removeprefix("jobset.sigs.k8s.io/jobset-name=")
            return refusal(403, "pods is forbidden") if self.pods is None else (200, {"items": self.pods.get(name, [])})
        if path == f"/api/v1/namespaces/{NAMESPACE}/events":
            return refusal(403, "events is forbidden") if self.pods is None else (200, {"items": self.events})
        if path == TRAIN_JOBS:
            return self._make(body) if method == "POST" else self._list(query)
        name = path.removeprefix(f"{TRAIN_JOBS}/")
        if name not in self.jobs:
            return refusal(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')
        if method == "DELETE":
            assert body["propagationPolicy"] == "Foreground"
            self.deleted.append(name)
            self.going[name] = self.lingers
            self.on_deleted(name)
            return 200, self.jobs[name]
        return self._look(name)

    def _make(self, job: dict[str, Any]) -> tuple[int, Any]:
        name = job["metadata"]["name"]
        if name in self.jobs:
            return refusal(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        if self.refuses:
            return refusal(403, f'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: {self.refuses}')
        if problems := problems_of(job):
            self.wrong += problems
            return refusal(422, problems[0])
        self.jobs[name] = copy.deepcopy(job)
        self.looks[name] = -1
        self.order[name] = len(self.made)
        self.made.append(name)
        self.on_made(job)
        return 201, job

    def _list(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        key, _, value = query["labelSelector"][0].partition("=")
        found = [name for name, one in self.jobs.items() if one["metadata"]["labels"].get(key) == value]
        return 200, {"items": [self.with_status(name) for name in found]}

    def _look(self, name: str) -> tuple[int, Any]:
        if name in self.going:
            self.going[name] -= 1
            if self.going[name] < 0:
                del self.going[name], self.jobs[name]
                return refusal(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')
        self.looks[name] += 1
        return 200, self.with_status(name)

    def with_status(self, name: str) -> dict[str, Any]:
        job = copy.deepcopy(self.jobs[name])
        if name in self.going:
            job["metadata"]["deletionTimestamp"] = TIME
        if self.status is not None:
            status = self.status(name)
        else:
            future = self.futures[min(self.order[name], len(self.futures) - 1)]
            status = future[min(max(self.looks[name], 0), len(future) - 1)]
        job |= {"status": status} if status else {}
        self.wrong += problems_of(job)
        return job


def refusal(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status}


@contextmanager
def kubernetes_cluster() -> Iterator[Cluster]:
    """Runs the server."""
    served = Cluster()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet

        def handle_any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            fault = served.faults.pop(0) if served.faults else None
            if fault is not None:
                self.reply(fault[0], fault[1].encode())
            elif self.headers.get("authorization") != f"Bearer {served.token}":
                self.reply(401, json.dumps(refusal(401, "Unauthorized")[1]).encode())
            else:
                status, found = served.answer(self.command, parts.path, parse_qs(parts.query), json.loads(data) if data else None)
                if served.drop_after(self.command, parts.path):
                    self.close_connection = True
                else:
                    self.reply(status, json.dumps(found).encode())

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the names are http.server's

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        yield served
        server.shutdown()
    assert served.wrong == []
