"""A run on a Kubeflow cluster: recorded here, begun there, and followed to its end."""

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from components.runtime import describe_error
from governance.digest import sha256_file
from governance.errors import RefusedError
from infra.errors import BackendUnavailableError, BadSettingError
from infra.home import Home
from infra.kubeflow import KubeflowServer, RemoteRun
from infra.ledger import iter_entries
from infra.run_records import begin_run, end_run
from infra.runs import REMOTE_RUNNER, get_run
from pipelines.arguments import pipeline_arguments, resolve_model
from pipelines.cluster import Cluster
from pipelines.compiling import compile_pipeline, read_compiled
from pipelines.ending import record_run_end
from pipelines.graph import PIPELINES, asks_for_parts, whole_of
from pipelines.params import PipelineParams
from pipelines.recorded import status_of
from pipelines.views import RunView, StepView

_STATUSES: Final = {
    "RUNNING": "running",
    "SUCCEEDED": "completed",
    "SKIPPED": "reused",
    "FAILED": "failed",
    "CANCELED": "interrupted",
    "CANCELING": "interrupted",
}

OnView = Callable[[RunView], None]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A run that a cluster has taken.

    Attributes:
        run_id: Our id of it, by which everything is on record.
        remote_id: The cluster's.
        host: The cluster.
        pipeline: The pipeline.
        package_sha256: SHA-256 of the compiled pipeline.
    """

    run_id: str
    remote_id: str
    host: str
    pipeline: str
    package_sha256: str


def submit_pipeline(
    home: Home,
    pipeline: str,
    params: PipelineParams,
    server: KubeflowServer,
    *,
    package: Path | None = None,
    cluster: Cluster | None = None,
    actor: str,
) -> Submitted:
    """Begins a run on a cluster.

    Args:
        home: The home, whose database, keys and folder the steps share.
        pipeline: The pipeline.
        params: Its parameters.
        server: The cluster's server.
        package: The pipeline as it was compiled; compiled now if not given.
        cluster: What the steps get there, for a pipeline that is compiled now.
        actor: The identity that submits.

    Raises:
        IntegrityError: The compiled pipeline was changed.
        BadSettingError: It was compiled in another shape than the parameters ask for.
        BackendUnavailableError: The server does not answer.
        RefusedError: It does not accept the token.
    """
    with TemporaryDirectory() as folder:
        if package is None:
            package = Path(folder) / f"{pipeline}.yaml"
            compile_pipeline(pipeline, package, cluster=cluster, in_parts=asks_for_parts(params.step_configs()))
        read_compiled(package)
        spec, digest = _package(package), sha256_file(package)
    if asks_for_parts(params.step_configs()) and not _is_in_parts(spec):
        raise BadSettingError(
            "encode_latents.parts is more than 1, and the compiled file has the dataset encoded by one task",
            hint="compile it again with --encode-in-parts",
        )
    params, of_model = resolve_model(home, params)
    run_id = str(uuid.uuid4())
    values = params.model_dump(mode="json")
    begin_run(home, run_id=run_id, pipeline=pipeline, runner=REMOTE_RUNNER, params=values, actor=actor, host=server.name)
    try:
        given = pipeline_arguments(home, run_id, params, actor=actor) | of_model
        arguments = _there(home, given, _mount_of(spec))
        name = f"{pipeline} {run_id[:8]}"
        remote_id = server.begin(spec, arguments, experiment=f"groundswell-{pipeline}", name=name)
    except BaseException as error:
        problem = describe_error(error)
        end_run(home, run_id=run_id, status=status_of(problem), error=problem)
        raise
    with home.database.unit_of_work() as uow:
        details = {"host": server.name, "package_sha256": digest, "remote_id": remote_id}
        uow.append("run.submitted", f"run:{run_id}", details, actor=actor, run_id=run_id)
    return Submitted(run_id=run_id, remote_id=remote_id, host=server.host, pipeline=pipeline, package_sha256=digest)


def submitted(home: Home, run_id: str, server: KubeflowServer) -> Submitted:
    """Returns a run that was submitted before, to be followed again.

    Args:
        home: The home.
        run_id: The run.
        server: The server of its cluster.

    Raises:
        BadSettingError: It was never submitted, or to another host.
    """
    with home.database.read() as connection:
        row = get_run(connection, run_id)
    found = next(iter_entries(home.database, action="run.submitted", subject=f"run:{row.run_id}"), None)
    if found is None:
        raise BadSettingError(f"run {row.run_id[:8]} was not submitted to a cluster", hint="leave out --host")
    if server.name != row.host:
        raise BadSettingError(f"run {row.run_id[:8]} is on {row.host}, not on {server.name}", hint="name that one in --host")
    return Submitted(
        run_id=row.run_id,
        remote_id=str(found.details["remote_id"]),
        host=server.host,
        pipeline=row.pipeline,
        package_sha256=str(found.details["package_sha256"]),
    )


def follow(
    home: Home,
    run: Submitted,
    server: KubeflowServer,
    *,
    on_view: OnView,
    poll_s: float = 5.0,
    patience_s: float = 600.0,
) -> None:
    """Waits for the end of a run on a cluster, which its exit handler records; where that could not, it is recorded here.

    Args:
        home: The home.
        run: The run.
        server: The cluster's server.
        on_view: Called with how far it has come.
        poll_s: Seconds between two looks.
        patience_s: Seconds for which the server may fail to answer, or to accept the token, which somebody may renew meanwhile.

    Raises:
        BackendUnavailableError: The server does not answer any more; the run goes on.
        RefusedError: It does not accept the token any more; the run goes on.
    """
    began = answered = time.time()
    while True:
        try:
            remote = server.look(run.remote_id)
        except (BackendUnavailableError, RefusedError) as error:
            if time.time() - answered >= patience_s:
                again = f"`groundswell runs watch {run.run_id[:8]} --host {run.host}` follows it again"
                raise type(error)(f"{error.diagnosis}; the run may go on", hint=f"{error.hint}; {again}") from error
            time.sleep(poll_s)
            continue
        answered = time.time()
        on_view(_view(run, remote, elapsed_s=answered - began))
        if remote.has_ended:
            break
        time.sleep(poll_s)
    with home.database.read() as connection:
        is_recorded = get_run(connection, run.run_id).status != "running"
    if not is_recorded:
        record_run_end(str(home.path), run.run_id, state=remote.state, message=remote.error)


def _package(path: Path) -> dict[str, Any]:
    """Returns a compiled pipeline as the server takes it."""
    spec, *platforms = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    return {"pipeline_spec": spec, "platform_spec": platforms[0]} if platforms else dict(spec)


def _is_in_parts(package: dict[str, Any]) -> bool:
    return "comp-encode-part" in package.get("pipeline_spec", package).get("components", {})


def _mount_of(package: dict[str, Any]) -> str | None:
    """Returns where steps find the home, if the pipeline says that they mount it."""
    platforms = package.get("platform_spec", {}).get("platforms", {})
    executors = platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    return next((str(volume["mountPath"]) for one in executors.values() for volume in one.get("pvcMount", ())), None)


def _there(home: Home, arguments: dict[str, str], mount: str | None) -> dict[str, str]:
    """Returns arguments with the places in the home as they are called where it is mounted."""
    here = str(home.path)
    if mount is None:
        return arguments
    return {
        name: value
        if name == "params" or not (value == here or value.startswith(f"{here}{os.sep}"))
        else mount + value[len(here) :]
        for name, value in arguments.items()
    }


def _view(run: Submitted, remote: RemoteRun, *, elapsed_s: float) -> RunView:
    states: dict[str, list[str]] = {}
    for task in remote.tasks:
        states.setdefault(whole_of(task.name.replace("-", "_")), []).append(_STATUSES.get(task.state, "waiting"))
    views = tuple(_step_view(step, states.get(step, [])) for step in PIPELINES[run.pipeline])
    return RunView(run_id=run.run_id, pipeline=run.pipeline, elapsed_s=elapsed_s, steps=views)


def _step_view(step: str, states: list[str]) -> StepView:
    order = ("failed", "interrupted", "running", "waiting", "completed", "reused")
    state = next((one for one in order if one in states), "waiting")
    return StepView(name=step, status=state, description=json.dumps(len(states)) + " parts" if len(states) > 1 else "")
