"""What the body of every Kubeflow component calls: the step's process, from kfp's artifacts to the runtime and back."""

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.handles import read_handle, write_handle
from components.runtime import RunContext, describe_error, run_step
from components.specs import STEPS
from components.store import ArtifactRef
from infra.home import Home
from infra.locking import is_locked
from infra.processes import exit_when
from infra.progress import tell_parts
from infra.run_records import lock_path, stop_path
from infra.runs import get_run
from infra.settings import Settings

_FAILED = 1


def run_component(
    step: str,
    *,
    home: str,
    run_id: str,
    params: str,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    part: str | None = None,
) -> Mapping[str, ArtifactRef]:
    """Runs a step inside a kfp component and passes on where what it made is, see `components.handles`.

    Outputs are kept under the home, by fingerprint, since kfp's own folders change with every run.

    Args:
        step: The step's name.
        home: The home's folder; kfp's ``pipeline_root`` lies in it.
        run_id: The run that the step belongs to.
        params: JSON: each step's configuration by the step's name.
        inputs: kfp artifacts by input name.
        outputs: kfp artifacts by output name.
        part: The part's number, for a step that a run does part by part.

    Returns:
        What it made.

    Raises:
        SystemExit: The step failed; what and why is recorded in the home and in the step's log.
    """
    number = None if part is None else int(part)
    name = step if number is None else f"{step}-{number:04d}"
    with step_process(name, home=home, run_id=run_id) as run:
        given = {name: read_handle(Path(artifact.path), run.home.path) for name, artifact in inputs.items()}
        made = run_step(
            run,
            step,
            _config(json.loads(params), step, number),
            {name: handle.folder for name, handle in given.items()},
            declared={name: handle.digest for name, handle in given.items() if handle.digest is not None},
            part=number,
        )
        pass_on(run.home, outputs, made)
    return made


def _config(params: Mapping[str, Any], step: str, part: int | None) -> dict[str, Any]:
    """Returns what a step is told; a step that does a share of another has what that one is told and it knows, and its part."""
    spec = STEPS[step]
    told = params.get(spec.whole, {})
    if not spec.share_of:
        return dict(told)
    known = {name: value for name, value in told.items() if name in spec.config_class().model_fields}
    return known if part is None else {**known, "part": part}


def begin_parts(step: str, numbers: list[str], *, home: str, run_id: str) -> list[str]:
    """Says, for whoever looks, in how many parts a run does a step, and returns their numbers, over which the pipeline loops."""
    tell_parts(Home.open(Settings.load(Path(home)), create=False).run_folder(run_id) / "progress", step, len(numbers))
    return numbers


@contextmanager
def step_process(step: str, *, home: str, run_id: str) -> Iterator[RunContext]:
    """Makes this process that of a step: what it prints goes to the step's log, and what fails ends it with an exit code.

    Args:
        step: What the step is called within its run.
        home: The home's folder.
        run_id: The run.

    Yields:
        The run.

    Raises:
        SystemExit: The block failed; what and why is recorded in the home and in the step's log.
    """
    opened = Home.open(Settings.load(Path(home)), create=False)
    _log_to(opened.run_folder(run_id) / "logs" / f"{step}.log")
    if opened.settings.images:
        _exit_with_run(opened, run_id)
    try:
        with opened.database.read() as connection:
            row = get_run(connection, run_id)
        yield RunContext(home=opened, run_id=run_id, pipeline=row.pipeline, actor=row.actor)
    except BaseException as error:  # noqa: BLE001 - recorded by the runtime; kfp wants an exit code
        told = f"{traceback.format_exc()}error: {describe_error(error).diagnosis}"
        print(opened.settings.redact(told), file=sys.stderr, flush=True)  # noqa: T201 - the step's log
        raise SystemExit(_FAILED) from None


def pass_on(home: Home, outputs: Mapping[str, Any], made: Mapping[str, ArtifactRef]) -> None:
    """Says in kfp's output artifacts where what a step made is."""
    for name, reference in made.items():
        write_handle(Path(outputs[name].path), home.path, reference)
        outputs[name].metadata.update({"digest": reference.digest, "kind": reference.kind})


def _exit_with_run(home: Home, run_id: str) -> None:
    """Ends this process, which no signal from outside its container reaches, when its run is stopped or its keeper is gone."""
    stop, held = stop_path(home, run_id), lock_path(home, run_id)
    can_see_locks = is_locked(held)  # not from a virtual machine
    exit_when(lambda: stop.exists() or (can_see_locks and not is_locked(held)))


def _log_to(path: Path) -> None:
    """Sends this process's output, and that of libraries below Python, to the step's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
