"""Has a training step's work done by a cluster's machines in place of its own process, and checks what they make.

Whoever launches holds the work's lock and keeps the record; the machines see the inputs and the folder for checkpoints alone.
"""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from components.ports import Ports, StepReport
from components.step_context import StepContext
from components.store import artifact_digest
from components.training_task import TaskFolder, TrainingDone, TrainingTask, error_of
from governance.errors import IntegrityError
from infra.gpu_usage import usage_path, write_samples
from infra.train_jobs.api import TrainJobApi, connect
from infra.train_jobs.manifest import TrainJobWork, in_home
from infra.train_jobs.plan import TrainJobPlan, read_plan
from infra.train_jobs.watch import LastWords, TrainJobRunner
from model_core.errors import BadModelError

TRAINERS: Final = frozenset({"train_dit", "finetune_dit"})
"""The steps that can be done so."""

_SAMPLED_WITHIN_S: Final = 60.0
_COMMAND: Final = ("python3", "-m", "torch.distributed.run", "-m", "components.training_worker")


def train_on_cluster(context: StepContext, outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Trains by a TrainJob, as the step would by itself; the outputs lie where it would have written them.

    Args:
        context: The step.
        outputs: Empty folders by output name.
        ports: Tracking, progress, metrics, and the folder for checkpoints.

    Raises:
        BackendUnavailableError: The cluster does not answer, does not begin the work, or loses its machines every time.
        RefusedError: The cluster does not accept the token, or what is asked of it.
        BadSettingError: The plan is none, an input is not in the home, or the cluster does not accept the TrainJob.
        IntegrityError: What the machines made is not what they say, or no model.
        InfraError: What went wrong on the machines.
    """
    settings = context.home.settings
    plan = read_plan(settings.train_job)
    shared = _Shared(context, plan, ports)
    runner = TrainJobRunner(TrainJobApi(lambda: connect(settings.kubeconfig)), plan, say=shared.say)
    done = runner.run(shared.work, shared)
    result = shared.take_over(done.name, outputs)
    runner.clear(done.name)
    job = plan.job
    facts = {
        "name": done.name,
        "attempt": done.attempt,
        "num_nodes": job.num_nodes,
        "processes_per_node": job.num_processes_per_node,
        "accelerator": result.accelerator,
        "image": plan.image,
    }
    return result.report({"train_job": facts})


class _Shared:
    """The folder that this process and the machines share; implements `infra.train_jobs.watch.Shared`."""

    def __init__(self, context: StepContext, plan: TrainJobPlan, ports: Ports) -> None:
        self._context, self._plan, self._ports = context, plan, ports
        home = context.home.path
        self._mount = PurePosixPath(plan.mount)
        self._inputs = {name: in_home(reference.path, home) for name, reference in context.inputs.items()}
        self._scratch = in_home(ports.scratch, home)
        self._offset: dict[str, int] = {}
        self._passed_on: float | None = None  # when the machines of this attempt wrote the progress that was passed on last

    @property
    def work(self) -> TrainJobWork:
        """What a TrainJob is to do."""
        context = self._context
        return TrainJobWork(
            run_id=context.run_id,
            pipeline=context.pipeline,
            step=context.spec.name,
            fingerprint=context.fingerprint,
            command=_COMMAND,
            reads=tuple(self._inputs.values()),
            writes=self._scratch,
            folder=lambda name: self._seen(TaskFolder.of(Path(self._scratch), name).path),
        )

    def say(self, line: str) -> None:
        """Tells what goes on in the step's log, and in place of its progress until its machines tell of theirs."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        if self._passed_on is None:
            self._ports.progress.update(0, 0, line)

    def wait(self, line: str) -> None:
        """Says in place of the step's progress that machines are still waited for."""
        self._ports.progress.update(0, 0, line)

    def prepare(self, name: str) -> None:
        """Writes what the machines are to do."""
        context, self._passed_on = self._context, None
        task = TrainingTask(
            step=context.spec.name,
            code_digest=context.code_digest,
            config=context.config.model_dump(mode="json"),
            inputs={key: Path(self._seen(place)) for key, place in self._inputs.items()},
            outputs=tuple(context.spec.outputs),
            scratch=Path(self._seen(self._scratch)),
            num_processes=self._plan.job.num_processes,
        )
        self._folder(name).begin(task)

    def relay(self, name: str) -> None:
        """Passes on their figures, how busy their GPUs are, and how far they have come where they have said so anew.

        So a step whose machines hang has said nothing since they last did.
        """
        folder = self._folder(name)
        for told, offset in folder.figures_after(self._offset.get(name, 0)):
            self._offset[name] = offset
            self._ports.tracking.log_metrics(told.figures, step=told.step)
            for figure, value in told.figures.items():
                self._ports.metrics.gauge(f"training_{figure}", value)
        self._relay_gpus(folder)
        if (told_of := folder.read_progress()) is not None and told_of.updated != self._passed_on:
            self._passed_on = told_of.updated
            self._ports.progress.update(told_of.completed, told_of.total, told_of.description, **told_of.fields)

    def _relay_gpus(self, folder: TaskFolder) -> None:
        """Passes on the GPUs of all machines that still sample, each called by its machine's number and its own."""
        since = time.time() - _SAMPLED_WITHIN_S
        read = ((machine, folder.read_gpus(machine)) for machine in range(self._plan.job.num_nodes))
        told = [(machine, one) for machine, one in read if one is not None and one.gpus and one.sampled >= since]
        if not told:
            return
        gpus = [replace(gpu, gpu=f"{machine}:{gpu.gpu}") for machine, one in told for gpu in one.gpus]
        with suppress(OSError):  # a full disk is told by those whose files matter
            write_samples(usage_path(self._context.progress_path), gpus, sampled=min(one.sampled for _, one in told))

    def has_result(self, name: str) -> bool:
        """Whether the machines have written all."""
        folder = self._folder(name)
        return folder.is_finished and all(folder.output(output).is_dir() for output in self._context.spec.outputs)

    def last_words(self, name: str) -> LastWords | None:
        """Returns why the machines ended, where they have told."""
        words = self._folder(name).words()
        return LastWords(error=error_of(words), is_final=words.is_final) if words is not None else None

    def take_over(self, name: str, outputs: Mapping[str, Path]) -> TrainingDone:
        """Checks what the machines made, and puts it where the step's outputs are; what does not hold is made again."""
        folder = self._folder(name)
        done = folder.read_result()
        for output, target in outputs.items():
            made = folder.output(output)
            try:
                self._require_as_made(made, output, done.digests.get(output, "none"), name)
                _require_model(made)
            except (IntegrityError, BadModelError):
                folder.withdraw()
                raise
            target.rmdir()
            os.replace(made, target)  # noqa: PTH105 - a rename within one volume
        return done

    def _require_as_made(self, made: Path, output: str, said: str, name: str) -> None:
        found = artifact_digest(self._context.spec.outputs[output], made)
        if found != said:
            raise IntegrityError(
                f"{output} of the TrainJob {name} has digest {found[:12]}, its machines say {said[:12]}",
                hint="run it again: it goes on from its last checkpoint",
            )

    def _folder(self, name: str) -> TaskFolder:
        return TaskFolder.of(self._ports.scratch, name)

    def _seen(self, place: PurePosixPath | Path) -> str:
        return (self._mount / place).as_posix()


def _require_model(folder: Path) -> None:
    """Refuses what does not open as a model: its configuration, and every weight by name, shape and finiteness."""
    from model_core.transformer.model_config import read_model_config
    from model_core.transformer.weights import load_weights

    load_weights(read_model_config(folder).transformer(), folder)


def is_clusters(context: StepContext) -> bool:
    """Whether a step's work is the cluster's machines'."""
    return bool(context.home.settings.train_job) and context.spec.name in TRAINERS
