"""A Kubeflow Pipelines server for tests: experiments and runs of the v2beta1 API over HTTP, which end as they are told to."""

import http.server
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

ROOT = "/pipeline/apis/v2beta1"


@dataclass
class KubeflowPipelines:
    """What the server has been asked for, and how its runs go.

    Attributes:
        url: Where it listens.
        token: The bearer token that it accepts; any or none where it is empty.
        states: The states that a run goes through, one a look; the last stays.
        error: What a run that failed says.
        at_end: Called with a run when it is first seen in its last state, as the exit handler is on a cluster.
        runs: The runs by id, as they were created.
        experiments: Their groups by id.
        broken: A status with which all is answered.
        faults: Statuses with which looks at a run are answered first, one each; status 0 hangs up.
    """

    url: str = ""
    token: str = ""
    states: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    error: str = ""
    at_end: Callable[[dict[str, Any], str], object] = lambda _run, _state: None
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    broken: tuple[int, bytes] | None = None
    faults: list[tuple[int, bytes]] = field(default_factory=list)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, Any]:
        if (method, path) == ("GET", "/experiments"):
            (predicate,) = json.loads(query["filter"][0])["predicates"]
            found = [one for one in self.experiments.values() if one["display_name"] == predicate["stringValue"]]
            return 200, {"experiments": found}
        if (method, path) == ("POST", "/experiments"):
            made = {**body, "experiment_id": str(uuid.uuid4())}
            self.experiments[made["experiment_id"]] = made
            return 200, made
        if (method, path) == ("POST", "/runs"):
            if body.get("experiment_id") not in self.experiments:
                return 400, {"code": 3, "message": "Invalid input error: the experiment does not exist"}
            made = {**body, "run_id": str(uuid.uuid4()), "state": "PENDING"}
            self.runs[made["run_id"]] = made
            return 200, made
        run = self.runs.get(path.removeprefix("/runs/"))
        return (404, {"code": 5, "message": "run not found"}) if run is None else (200, self._look(run))

    def _look(self, run: dict[str, Any]) -> dict[str, Any]:
        number = self.looks[run["run_id"]] = self.looks.get(run["run_id"], -1) + 1
        state = self.states[min(number, len(self.states) - 1)]
        if number == len(self.states) - 1:
            self.at_end(run, state)
        error = {"error": {"code": 1, "message": self.error}} if state == "FAILED" else {}
        tasks = [{"display_name": name, "state": state} for name in ("validate-data", "train-codec", "exit-handler-1")]
        return {**run, **error, "state": state, "run_details": {"task_details": tasks}}


@contextmanager
def kubeflow_pipelines() -> Iterator[KubeflowPipelines]:
    """Runs the server."""
    served = KubeflowPipelines()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            if served.broken is not None:
                self.reply(*served.broken)
            elif served.faults and parts.path.startswith(f"{ROOT}/runs/"):
                status, answer = served.faults.pop(0)
                if status:
                    self.reply(status, answer)
                else:
                    self.close_connection = True
            elif served.token and self.headers.get("authorization") != f"Bearer {served.token}":
                self.reply(401, json.dumps({"code": 16, "message": "Unauthenticated: the token has expired"}).encode())
            elif not parts.path.startswith(ROOT):
                self.reply(404, b"<html>no such page</html>")
            else:
                body = json.loads(data) if data else {}
                status, found = served.answer(self.command, parts.path.removeprefix(ROOT), parse_qs(parts.query), body)
                self.reply(status, json.dumps(found).encode())

        do_GET = do_POST = handle_any  # noqa: N815 - the names are http.server's

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}/pipeline"
        yield served
        server.shutdown()
