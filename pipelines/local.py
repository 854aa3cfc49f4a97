"""Runs a pipeline on this machine, through kfp.local, and keeps the run's record."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from components.runtime import describe_error
from infra.backends import check_backends
from infra.errors import HomeBusyError
from infra.home import Home
from infra.locking import try_lock
from infra.processes import group_is_alive, stop_group
from infra.progress import told_parts
from infra.run_records import begin_run, end_dead_runs, end_run, lock_path, set_mlflow_run
from infra.runs import StepError, get_steps
from infra.settings import child_environment
from infra.witnesses import sign_and_publish
from pipelines.arguments import pipeline_arguments, resolve_model
from pipelines.batch_run import hand_out
from pipelines.graph import IMPORT_STEP, PIPELINES, shown_names, shown_steps, step_of
from pipelines.outcome import describe_outcome, write_report
from pipelines.params import GenerationParams, PipelineParams
from pipelines.recorded import status_of
from pipelines.runners import Runner, check_runner, open_runner
from pipelines.views import RunOutcome, RunView, view_run

if TYPE_CHECKING:
    from infra.mlflow_tracking import MlflowTracking

_POLL_S = 0.2
_PATIENCE_S = 60.0

OnView = Callable[[RunView], None]


@dataclass(frozen=True, kw_only=True)
class _Run:
    home: Home
    run_id: str
    pipeline: str
    params: PipelineParams
    actor: str
    on_view: OnView
    started: float
    runner: str
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.home.run_folder(self.run_id)

    def show(self) -> None:
        steps = shown_steps(self.pipeline)
        self.on_view(view_run(self.folder, run_id=self.run_id, pipeline=self.pipeline, steps=steps, started=self.started))


def run_pipeline(
    home: Home,
    pipeline: str,
    params: PipelineParams,
    *,
    runner: str = "subprocess",
    actor: str,
    on_view: OnView = lambda _: None,
) -> RunOutcome:
    """Runs a pipeline to its end.

    Args:
        home: The home; only one pipeline runs in it at a time.
        pipeline: ``training``, ``codec``, ``finetune`` or ``generation``.
        params: Its parameters.
        runner: What runs the steps: ``subprocess``, or ``docker`` for containers in docker or podman.
        actor: The identity that runs it.
        on_view: Called about five times a second with how far the run has come.

    Returns:
        The outcome, also where a step failed.

    Raises:
        HomeBusyError: Another pipeline is running in this home.
        BadSettingError: There is no such runner.
        RefusedError: The pipeline ends with a signature, and the key for it was revoked; or what it was to start from may not be
            learnt from any more.
        UnknownSubjectError: There is no such version to start from.
        IntegrityError: The version to start from is not what was registered.
        KeyboardInterrupt: The run was interrupted; that is recorded.
    """
    check_runner(runner)
    if "register_model" in PIPELINES[pipeline]:
        home.require_signing_key()
    params, given = resolve_model(home, params)
    with _only_run(home) as home_lock:
        end_dead_runs(home)
        run = _Run(
            home=home,
            run_id=str(uuid.uuid4()),
            pipeline=pipeline,
            params=params,
            actor=actor,
            on_view=on_view,
            started=time.time(),
            runner=runner,
            given=given,
        )
        with try_lock(lock_path(home, run.run_id)) as run_lock:
            if run_lock is None:
                raise HomeBusyError(f"run {run.run_id} is locked", hint="try again")
            begin_run(
                home, run_id=run.run_id, pipeline=pipeline, runner=runner, params=params.model_dump(mode="json"), actor=actor
            )
            return _run_to_end(run, locks=(home_lock, run_lock))


@contextmanager
def _only_run(home: Home) -> Iterator[int]:
    with try_lock(home.path / "locks" / "pipeline") as descriptor:
        if descriptor is None:
            raise HomeBusyError(
                f"another pipeline is running in {home.path}",
                hint="`groundswell runs list` shows it; wait for it, or use another --home",
            )
        yield descriptor


def _run_to_end(run: _Run, *, locks: tuple[int, int]) -> RunOutcome:
    problem: StepError | None = None
    tracking = _ParentTracking(run)
    try:
        check_backends(run.home.settings)
        with open_runner(run.runner, run.home, pipeline=run.pipeline, run_id=run.run_id) as runner:
            arguments = _arguments(run)
            tracking.start()
            problem = _run_worker(run, runner, arguments, locks=locks)
        tracking.finish(status_of(problem))
    except BaseException as error:
        problem = describe_error(error)
        tracking.finish(status_of(problem))
        raise
    finally:
        wall_s = time.time() - run.started - _import_s(run)
        end_run(run.home, run_id=run.run_id, status=status_of(problem), error=problem, wall_s=wall_s)
        shutil.rmtree(run.folder / "request", ignore_errors=True)  # what was asked for is nobody's to keep
        run.show()
    _, missed = sign_and_publish(run.home)
    outcome = replace(describe_outcome(run.home, run.run_id), warnings=tuple(missed))
    if outcome.status != "completed":
        return outcome
    if isinstance(run.params, GenerationParams):
        outcome = hand_out(run.home, run.params, outcome)
    return replace(outcome, report=write_report(run.home, outcome))


def _import_s(run: _Run) -> float:
    """Returns how long the import of the dataset took, which is work and not overhead."""
    view = view_run(run.folder, run_id=run.run_id, pipeline=run.pipeline, steps=(IMPORT_STEP,), started=run.started)
    return view.steps[0].elapsed_s


def _arguments(run: _Run) -> dict[str, str]:
    """Returns the pipeline's arguments; the view goes on while what it runs on is brought to hand."""
    done = threading.Event()
    viewer = threading.Thread(target=_show_until, args=(run, done), daemon=True)
    viewer.start()
    try:
        return {**pipeline_arguments(run.home, run.run_id, run.params, actor=run.actor), **run.given}
    finally:
        done.set()
        viewer.join()


def _show_until(run: _Run, done: threading.Event) -> None:
    while not done.wait(_POLL_S):
        run.show()


def _run_worker(run: _Run, runner: Runner, arguments: dict[str, str], *, locks: tuple[int, int]) -> StepError | None:
    job = {"pipeline": run.pipeline, "home": str(run.home.path), "arguments": arguments, **runner.job}
    job_path = run.folder / "job.json"
    job_path.write_text(json.dumps(job, indent=2, sort_keys=True), encoding="utf-8")
    log_path = run.folder / "logs" / "pipeline.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = run.folder / "tmp"  # kfp leaves a folder for each step
    temporary.mkdir(exist_ok=True)
    with log_path.open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "pipelines.worker", str(job_path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**child_environment(), **runner.environment, "TMPDIR": str(temporary)},
            start_new_session=True,
            pass_fds=locks,
        )
    try:
        while worker.poll() is None:
            run.show()
            time.sleep(_POLL_S)
    finally:
        if worker.poll() is None or group_is_alive(worker.pid):
            stop_group(worker.pid, patience_s=_PATIENCE_S, sleep=partial(_reap, worker))
            worker.wait()
        runner.stop()
        _tidy(run)
        shutil.rmtree(temporary, ignore_errors=True)
    return _worker_error(run, worker.returncode, log_path)


def _reap(worker: "subprocess.Popen[bytes]", patience_s: float) -> None:
    """Waits for the worker; once it has ended, for what it has started."""
    if worker.poll() is not None:
        time.sleep(patience_s)
        return
    try:
        worker.wait(patience_s)
    except subprocess.TimeoutExpired:
        return


def _tidy(run: _Run) -> None:
    """Moves kfp's own folder of this run, which lies in the home, to the run's folder; drops those of runs that were killed."""
    folders = sorted(run.home.path.glob(f"groundswell-{run.pipeline}-*"))  # their names end with the time
    for killed in folders[:-1]:
        shutil.rmtree(killed, ignore_errors=True)
    for own in folders[-1:]:
        shutil.move(own, run.folder / "kfp")


def _worker_error(run: _Run, returncode: int, log_path: Path) -> StepError | None:
    with run.home.database.read() as connection:
        rows = {row.step: row for row in get_steps(connection, run.run_id)}
    for step in PIPELINES[run.pipeline]:
        found = [row for name, row in sorted(rows.items()) if step_of(name) == step]
        for row in found:
            if row.status in {"failed", "interrupted"} and row.error is not None:
                return StepError(diagnosis=row.error.diagnosis, hint=row.error.hint, exit_code=row.error.exit_code)
            if row.status == "running":
                return StepError(
                    diagnosis=f"{row.step}: its process was killed before it could say why",
                    hint="often too little memory; run the same command again: finished steps are reused and training resumes",
                )
        num_parts, told = sum("-" in row.step for row in found), told_parts(run.folder / "progress", step)
        if found and num_parts < told:
            return StepError(
                diagnosis=f"{step}: {told - num_parts} of its {told} parts ended before they could say why",
                hint="often too little memory; run the same command again: parts that are done are reused",
            )
        if not found or shown_names(step, (row.step for row in found))[-1] not in rows:
            return StepError(
                diagnosis=f"{step} never started{_last_line(run, step, log_path)}"
                if returncode in {0, 1}
                else f"the pipeline's process ended with {_ending(returncode)}",
                hint=f"see {log_path}",
            )
    return None


def _last_line(run: _Run, step: str, log_path: Path) -> str:
    """Returns what the step's process, or else the pipeline's, said last, to be appended to a diagnosis."""
    for path in (*sorted(log_path.parent.glob(f"{step}*.log")), log_path):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        if said := next((line.strip() for line in reversed(lines) if line.strip()), ""):
            return f": {run.home.settings.redact(said.removeprefix('error: '))[:300]}"
    return ""


def _ending(returncode: int) -> str:
    return f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"


class _ParentTracking:
    """The MLflow run that stands for the whole pipeline, made beside the first step's own work."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._tracking: MlflowTracking | None = None

    def start(self) -> None:
        from infra.mlflow_tracking import MlflowTracking

        run = self._run
        settings = run.home.settings
        self._tracking = MlflowTracking(
            settings.mlflow_tracking_uri,
            settings.artifact_root,
            f"groundswell-{run.pipeline}",
            f"{run.pipeline} {run.run_id[:8]}",
            None,
            {"groundswell.run_id": run.run_id, "groundswell.pipeline": run.pipeline},
        )
        self._tracking.start()
        threading.Thread(target=self._record, args=(self._tracking,), daemon=True).start()

    def _record(self, tracking: "MlflowTracking") -> None:
        mlflow_run_id = tracking.run_id()
        if mlflow_run_id is not None:
            set_mlflow_run(self._run.home, run_id=self._run.run_id, mlflow_run_id=mlflow_run_id)

    def finish(self, status: str) -> None:
        tracking, self._tracking = self._tracking, None
        if tracking is not None:
            tracking.log_metrics(describe_outcome(self._run.home, self._run.run_id).metrics)
            tracking.finish({"completed": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED"))
