"""A run in this process: recorded from begin to end, and shown while it goes on."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from components.runtime import RunContext, describe_error
from infra.home import Home
from infra.locking import try_lock
from infra.run_records import begin_run, end_run, lock_path
from infra.runs import StepError
from pipelines.views import RunView, view_run

INTERRUPTED = 130
_POLL_S = 0.2

OnView = Callable[[RunView], None]


@contextmanager
def recorded_run(
    home: Home, *, pipeline: str, runner: str, params: Mapping[str, Any], actor: str, inputs: Iterable[str] = ()
) -> Iterator[RunContext]:
    """Records a run around a block: begun before it, and completed, failed or interrupted after it.

    Args:
        home: The home.
        pipeline: The pipeline's name.
        runner: What runs it: ``in-process`` or ``dvc``.
        params: Its parameters.
        actor: The identity that runs it.
        inputs: Subjects of the artifacts that it is given.

    Yields:
        The run.
    """
    run_id = str(uuid.uuid4())
    with try_lock(lock_path(home, run_id)):
        began = time.monotonic()
        begin_run(home, run_id=run_id, pipeline=pipeline, runner=runner, params=params, actor=actor, inputs=inputs)
        problem: StepError | None = None
        try:
            yield RunContext(home=home, run_id=run_id, pipeline=pipeline, actor=actor)
        except BaseException as error:
            problem = describe_error(error)
            raise
        finally:
            end_run(home, run_id=run_id, status=status_of(problem), error=problem, wall_s=time.monotonic() - began)


def status_of(problem: StepError | None) -> str:
    """Returns the status of a run that ended with this problem, or without one."""
    if problem is None:
        return "completed"
    return "interrupted" if problem.exit_code == INTERRUPTED else "failed"


@contextmanager
def shown(run: RunContext, *, steps: tuple[str, ...], on_view: OnView) -> Iterator[None]:
    """Shows how far a run has come, about five times a second, for as long as the block runs, and once after it.

    Args:
        run: The run.
        steps: Its steps.
        on_view: Called from a thread of its own, and at the end from this one.
    """
    began = time.time()
    done = threading.Event()

    def view() -> None:
        on_view(view_run(run.home.run_folder(run.run_id), run_id=run.run_id, pipeline=run.pipeline, steps=steps, started=began))

    def show() -> None:
        while not done.wait(_POLL_S):
            view()

    viewer = threading.Thread(target=show, daemon=True)
    viewer.start()
    try:
        yield
    finally:
        done.set()
        viewer.join()
        view()
