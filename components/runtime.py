"""The one place where a step meets tracking, lineage, audit, metrics and reuse, whichever engine runs it.

`run_step` fingerprints the step, reuses an earlier output whose digests still verify, or runs the step between its
observers. Nothing heavy is imported before it is known that there is work to do.
"""

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.cluster_training import is_clusters, train_on_cluster
from components.fingerprint import fingerprint
from components.observers import MetricsObserver, ProgressObserver, TrackingObserver
from components.ports import Ports, RequestMaker, StepReport, Watermarker
from components.recorder import Recorder
from components.specs import STEPS, StepSpec
from components.step_context import StepContext, StepResult
from components.store import ArtifactRef, WorkFolder, artifact_digest
from governance.errors import IntegrityError
from infra.errors import BackendUnavailableError, BadSettingError
from infra.home import Home
from infra.locking import lock
from infra.processes import terminate_as_interrupt
from infra.runs import StepError, find_completed_step
from infra.source_digest import source_digest
from infra.withdrawal_reach import require_none_behind
from infra.withdrawals import require_nothing_withdrawn

if TYPE_CHECKING:
    from pydantic import BaseModel

StepFunction = Callable[[Any, Mapping[str, Path], Mapping[str, Path], Ports], StepReport]

# The steps whose code a model package names, beside the one that trained it.
_PACKAGED = ("validate_data", "encode_latents", "evaluate", "register_model")
_TRAINERS = {"finetune": "finetune_dit"}
_USUAL_TRAINER = "train_dit"
_IMPORTER = "import_checkpoint"


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The run that a step belongs to."""

    home: Home
    run_id: str
    pipeline: str
    actor: str


def run_step(
    run: RunContext,
    step: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    *,
    declared: Mapping[str, str] | None = None,
    part: int | None = None,
    maker: RequestMaker | None = None,
) -> dict[str, ArtifactRef]:
    """Runs one step, or reuses what the same work made before.

    Args:
        run: The run that the step belongs to.
        step: The step's name.
        config: The step's configuration; unknown keys are refused.
        inputs: Folders by input name.
        declared: Digests by input name that the producers declared; an input that differs is refused.
        part: Which part of the step's work it is, where a run does the step several times over.
        maker: Makes requests, for the step that needs it.

    Returns:
        The outputs, by name.

    Raises:
        IntegrityError: An input is not what its producer declared.
        BadSettingError: The configuration is not the step's.
        RefusedError: Its data hold withdrawn items.
        Exception: Whatever the step raises, after it has been recorded.
    """
    spec = STEPS[step]
    context = _context(run, spec, _parse_config(spec, config, run.pipeline), inputs, part)
    recorder = Recorder(context)
    progress = ProgressObserver(context)
    metrics = MetricsObserver(context)
    recorder.started()
    try:
        _check_inputs(context, declared or {})
        with lock(context.work.lock_path):
            reused = _verified_reuse(context, recorder)
            if reused is not None:
                recorder.reused(reused)
                metrics.ended("reused", work_s=0.0)
                progress.ended("reused", str(reused.get("summary", "")))
                return _references(context, reused)
            return _execute(context, recorder, progress, metrics, maker)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        problem = describe_error(error)
        problem = replace(problem, diagnosis=run.home.settings.redact(problem.diagnosis))
        progress.ended(status, problem.diagnosis)
        recorder.failed(status, problem, getattr(error, "facts", {}))
        metrics.ended(status, work_s=0.0)
        raise


def describe_error(error: BaseException) -> StepError:
    """Returns the one line, the hint and the exit code that a person gets for an error."""
    if isinstance(error, KeyboardInterrupt):
        return StepError(diagnosis="interrupted", hint="run the same command again: finished steps are reused", exit_code=130)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StepError(
            diagnosis=f"no space left on the disk while writing {error.filename or 'an output'}",
            hint="free some space and run the same command again: finished work is kept",
            exit_code=BackendUnavailableError.exit_code,
        )
    exit_code = getattr(error, "exit_code", None)
    if isinstance(exit_code, int):
        return StepError(diagnosis=str(error), hint=str(getattr(error, "hint", "")), exit_code=exit_code)
    return StepError(
        diagnosis=f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:500]}",
        hint="the step's log has the traceback",
    )


def _context(
    run: RunContext, spec: StepSpec, config: "BaseModel", inputs: Mapping[str, Path], part: int | None = None
) -> StepContext:
    references = {
        name: ArtifactRef(kind=kind, digest=artifact_digest(kind, inputs[name]), path=inputs[name])
        for name, kind in spec.kinds(inputs.keys()).items()
    }
    code_digest = source_digest(spec.module)
    mark = fingerprint(step=spec.name, code_digest=code_digest, config=config.model_dump(mode="json"), inputs=references)
    return StepContext(
        home=run.home,
        run_id=run.run_id,
        pipeline=run.pipeline,
        actor=run.actor,
        spec=spec,
        config=config,
        inputs=references,
        code_digest=code_digest,
        fingerprint=mark,
        work=WorkFolder(run.home.work / mark),
        part=part,
    )


def _parse_config(spec: StepSpec, config: Mapping[str, Any], pipeline: str) -> "BaseModel":
    from pydantic import ValidationError

    made = spec.config_class()
    values = dict(config)
    if "code_digests" in made.model_fields and not values.get("code_digests"):
        packaged = (_IMPORTER,) if spec.name == _IMPORTER else (*_PACKAGED, _TRAINERS.get(pipeline, _USUAL_TRAINER))
        values["code_digests"] = {step: source_digest(STEPS[step].module) for step in packaged}
    try:
        return made.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([spec.name, *map(str, first["loc"])])
        raise BadSettingError(f"{where}: {first['msg']}", hint=f"see components/{spec.name}/README.md") from error


def _check_inputs(context: StepContext, declared: Mapping[str, str]) -> None:
    _check_declared(context, declared)
    _check_withdrawn(context)


def _check_declared(context: StepContext, declared: Mapping[str, str]) -> None:
    for name, digest in declared.items():
        found = context.inputs[name].digest
        if found != digest:
            raise IntegrityError(
                f"{context.spec.name}: input {name} has digest {found[:12]}, its producer declared {digest[:12]}",
                hint="it was changed after it was made; run the pipeline again to make it anew",
            )


def _check_withdrawn(context: StepContext) -> None:
    """Refuses to learn from withdrawn items, or to pass off as fresh what was learned from them; a finished model may be used."""
    for name, reference in context.inputs.items():
        if reference.kind == "dataset":
            require_nothing_withdrawn(context.home.database, reference.path)
        elif reference.kind == "latents" or name == "base":
            require_none_behind(context.home.database, reference.subject, f"input {name}")


def _verified_reuse(context: StepContext, recorder: Recorder) -> dict[str, Any] | None:
    with context.home.database.read() as connection:
        earlier = find_completed_step(connection, context.fingerprint)
    if earlier is None or not context.work.is_finished or not earlier.record["facts"].get("final", True):
        return None
    problems = context.work.mismatches(earlier.record["outputs"])
    if not problems:
        return earlier.record
    kept = context.work.quarantine(context.home.quarantine)
    recorder.tampered(problems, kept)
    return None


def _execute(
    context: StepContext,
    recorder: Recorder,
    progress: ProgressObserver,
    metrics: MetricsObserver,
    maker: RequestMaker | None,
) -> dict[str, ArtifactRef]:
    tracking = TrackingObserver(context)
    status = "FAILED"
    try:
        progress.port.update(0, 0, "loading libraries")
        tracking.start()
        run = _function(context)
        began = time.monotonic()
        report = _run(context, run, tracking, progress, metrics, maker)
        work_s = time.monotonic() - began
        tracking.ended(report)
        result = _result(context, report, work_s=work_s)
        context.work.publish()
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow_run_id = tracking.finish(status)
    recorder.completed(result, mlflow_run_id=mlflow_run_id)
    if result.report.facts.get("final", True):
        context.work.discard_scratch()
    metrics.ended("completed", work_s=result.work_s, values=result.report.metrics)
    progress.ended("completed", result.report.summary)
    return _references(context, result.record())


def _run(
    context: StepContext,
    run: StepFunction,
    tracking: TrackingObserver,
    progress: ProgressObserver,
    metrics: MetricsObserver,
    maker: RequestMaker | None,
) -> StepReport:
    outputs = context.work.begin(context.spec.outputs)
    ports = Ports(
        tracking=tracking.port,
        progress=progress.port,
        metrics=metrics,
        scratch=context.work.scratch,
        cache=context.home.step_cache(context.spec.name),
        registry=tracking.registry() if "package" in context.spec.outputs else None,
        watermarker=_watermarker(context) if context.spec.name == "generate_media" else None,
        maker=maker,
    )
    with terminate_as_interrupt():
        return run(context.config, {name: reference.path for name, reference in context.inputs.items()}, outputs, ports)


def _function(context: StepContext) -> StepFunction:
    """Returns what does the step's work: its own function, or machines of a cluster, for which nothing heavy is imported here."""
    if is_clusters(context):
        return lambda _config, _inputs, outputs, ports: train_on_cluster(context, outputs, ports)
    found: StepFunction = import_module(context.spec.module).run
    return found


def _watermarker(context: StepContext) -> Watermarker:
    """Returns what marks pixels; its key is no input of the step, so that no digest and no folder has it."""
    from infra.watermark import open_watermarker

    return open_watermarker(context.home, context.inputs["package"].digest)


def _result(context: StepContext, report: StepReport, *, work_s: float) -> StepResult:
    outputs = {
        name: ArtifactRef(
            kind=kind,
            digest=artifact_digest(kind, context.work.partial_output(name)),
            path=context.work.output(name),
        )
        for name, kind in context.spec.outputs.items()
    }
    return StepResult(context=context, report=report, outputs=outputs, work_s=work_s)


def _references(context: StepContext, record: Mapping[str, Any]) -> dict[str, ArtifactRef]:
    return {
        name: ArtifactRef(kind=reference["kind"], digest=reference["digest"], path=context.work.output(name))
        for name, reference in record["outputs"].items()
    }
