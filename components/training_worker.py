"""One of the processes that train on several machines: ``torchrun -m components.training_worker FOLDER``.

torchrun tells each where the others are. They run the training step as one process would, and the first of them writes. None has
the home's keys, its database or MLflow: what they make is signed for and recorded by the step that had them begun.
"""

import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from components.ports import Ports, StepReport
from components.specs import STEPS
from components.store import artifact_digest
from components.training_task import Figures, TaskFolder, TrainingDone, TrainingTask, TrainingWords, as_line
from governance.errors import IntegrityError
from infra.errors import BadSettingError
from infra.gpu_usage import GpuSampler
from infra.processes import terminate_as_interrupt
from infra.progress import ProgressFile
from infra.source_digest import source_digest

_INTERRUPTED: Final = 130
_LOOK_S: Final = 2.0


class SupersededError(Exception):
    """Another attempt at the work has been begun: this one was cut off, and must not write any more."""


class _Told:
    """Tracking, metrics and progress of a process: the first one's go into the folder, the others' nowhere."""

    def __init__(self, folder: TaskFolder, *, is_main: bool) -> None:
        self._folder, self._is_main = folder, is_main
        self._progress = ProgressFile(folder.progress) if is_main else None
        self._looked_at = time.monotonic()

    def update(self, completed: int, total: int, description: str = "", **fields: float | str) -> None:
        if (now := time.monotonic()) - self._looked_at > _LOOK_S:
            self._looked_at = now
            if not self._folder.is_current:
                raise SupersededError
        if self._progress is not None:
            self._progress.update(completed, total, description, **fields)

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        if self._is_main:
            with self._folder.figures.open("a", encoding="utf-8") as file:
                file.write(as_line(Figures(step=step or 0, figures=dict(metrics))))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Whoever launched it has logged them."""

    def log_artifact(self, path: Path, *, folder: str = "") -> None:
        """The runtime logs what a step names in its report."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Whoever launched it makes gauges of the figures."""


def main(arguments: Sequence[str]) -> int:
    """Trains, and returns the exit code."""
    from model_core.training.distributed import WorkerLostError

    folder = TaskFolder(Path(arguments[0]))
    try:
        with terminate_as_interrupt():
            _work(folder, folder.read_task())
    except (KeyboardInterrupt, SupersededError):
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - told to whoever launched it
        traceback.print_exc()
        code = getattr(error, "exit_code", None)
        told = str(error) if isinstance(code, int) else f"unexpected {type(error).__name__}: {error}"
        words = TrainingWords(
            diagnosis=" ".join(told.split())[:1000],
            hint=str(getattr(error, "hint", "")) or "the log of the TrainJob's pods has the traceback",
            exit_code=code if isinstance(code, int) else 1,
            is_final=isinstance(code, int) and not isinstance(error, WorkerLostError),
        )
        folder.tell(words, f"{platform.node()}-{os.getpid()}")
        return words.exit_code
    return 0


def _work(folder: TaskFolder, task: TrainingTask) -> None:
    from model_core.device import select_device
    from model_core.training.distributed import joined_processes

    spec = STEPS[task.step]
    if (found := source_digest(spec.module)) != task.code_digest:
        raise IntegrityError(
            f"the machines have other code of {task.step} ({found[:12]}) than what began them ({task.code_digest[:12]})",
            hint="give both the same image, by `images` in the cluster's file",
        )
    config: Any = spec.config_class().model_validate(task.config)
    with joined_processes(select_device(config.device), strategy=config.strategy) as distributed:
        if distributed.world_size != task.num_processes:
            raise BadSettingError(
                f"{distributed.world_size} processes have met, {task.num_processes} were asked for",
                hint="name a training runtime of torch, which tells torchrun how many machines there are",
            )
        told = _Told(folder, is_main=distributed.is_main)
        outputs = {name: folder.output(name) for name in task.outputs}
        if distributed.is_main:
            for path in outputs.values():
                path.mkdir(parents=True)
        ports = Ports(tracking=told, progress=told, metrics=told, scratch=task.scratch)
        with _gpus_told(folder, is_first_here=distributed.place == 0):
            report: StepReport = import_module(spec.module).run(config, task.inputs, outputs, ports)
        if distributed.is_main:
            folder.finish(_done(report, {name: artifact_digest(spec.outputs[name], path) for name, path in outputs.items()}))


@contextmanager
def _gpus_told(folder: TaskFolder, *, is_first_here: bool) -> Iterator[None]:
    """Has one process of each machine tell how busy its GPUs are."""
    sampler = GpuSampler(folder.gpus(int(os.environ.get("GROUP_RANK", "0")))) if is_first_here else None
    try:
        yield
    finally:
        if sampler is not None:
            sampler.stop()


def _done(report: StepReport, digests: dict[str, str]) -> TrainingDone:
    return TrainingDone(
        metrics=dict(report.metrics),
        summary=report.summary,
        facts=dict(report.facts),
        artifacts=dict(report.artifacts),
        digests=digests,
        accelerator=_accelerator(),
    )


def _accelerator() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return f"none (processor: {platform.machine()}, {os.cpu_count()} cores)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
