"""What a step tells the machines that train for it, and what these tell it: files in a folder that all of them share.

Whoever launches writes ``task.json``; the first process writes progress, figures and outputs, and ``result.json`` last. What is
read of the folder is parsed, bounded and held against digests.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.ports import StepReport
from governance.errors import IntegrityError
from infra.errors import InfraError
from infra.gpu_usage import GpuUsage

_MAX_BYTES: Final = 64 << 20
_MAX_LINE: Final = 64 << 10
_FOLDER: Final = "train-job"
_CURRENT: Final = "current"


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_Kind = TypeVar("_Kind", bound=BaseModel)


class TrainingTask(_Told):
    """What is to be done; its places are those that the machines see.

    Attributes:
        step: The step.
        code_digest: The digest of its source.
        config: Its configuration.
        inputs: Folders by input name.
        outputs: Names of what it makes.
        scratch: The folder for checkpoints.
        num_processes: How many processes are to meet.
    """

    format: Literal["groundswell-training-task/1"] = "groundswell-training-task/1"
    step: str
    code_digest: str
    config: dict[str, Any]
    inputs: dict[str, Path]
    outputs: tuple[str, ...]
    scratch: Path
    num_processes: int = Field(ge=1)


class TrainingDone(_Told):
    """What came of it.

    Attributes:
        metrics: As of `StepReport`.
        summary: Likewise.
        facts: Likewise.
        artifacts: Likewise.
        digests: Digests of the outputs' folders by name.
        accelerator: What computed.
    """

    metrics: dict[str, float]
    summary: str
    facts: dict[str, Any]
    artifacts: dict[str, tuple[str, ...]]
    digests: dict[str, str]
    accelerator: str

    def report(self, facts: Mapping[str, Any]) -> StepReport:
        """Returns the step's report, with facts of whoever launched it."""
        found = {**self.facts, **facts}
        return StepReport(metrics=self.metrics, summary=self.summary, facts=found, artifacts=self.artifacts)


class TrainingWords(_Told):
    """Why a process ended.

    Attributes:
        diagnosis: One line.
        hint: One line.
        exit_code: Of the step.
        is_final: Whether trying again cannot help.
    """

    diagnosis: str = Field(max_length=2000)
    hint: str = Field(max_length=2000)
    exit_code: int
    is_final: bool


class Figures(_Told):
    """Figures of a training step."""

    step: int
    figures: dict[str, float]


class TrainingProgress(BaseModel):
    """How far the machines have come, of what `infra.progress.ProgressFile` writes.

    Attributes:
        completed: Units of work done.
        total: Units of work in all; 0 while unknown.
        description: What is being done.
        fields: Figures to show beside the bar.
        updated: When they wrote it, in seconds since the epoch by their clock.
    """

    completed: int = Field(ge=0)
    total: int = Field(ge=0)
    description: str = Field(max_length=200)
    fields: dict[Literal["loss", "steps_per_s", "seconds_left"], float]
    updated: float


class TrainingGpus(_Told):
    """How busy the GPUs of a machine are, as `infra.gpu_usage.GpuSampler` writes it.

    Attributes:
        sampled: When they were looked at, in seconds since the epoch.
        gpus: Those that tell.
    """

    sampled: float
    gpus: tuple[GpuUsage, ...]


class TaskFolder:
    """The folder of one attempt.

    Args:
        path: The folder; it is called as the attempt is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.task, self.progress, self.figures = path / "task.json", path / "progress.json", path / "figures.jsonl"
        self._result = path / "result.json"

    @classmethod
    def of(cls, scratch: Path, name: str) -> "TaskFolder":
        """Returns the folder of an attempt at the work that has this scratch folder."""
        return cls(scratch / _FOLDER / name)

    def output(self, name: str) -> Path:
        """Returns where an output is written."""
        return self.path / "outputs" / name

    def begin(self, task: TrainingTask) -> None:
        """Makes the folder anew, and its attempt the current one."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        _write(self.task, task.model_dump_json(indent=2))
        _write(self.path.parent / _CURRENT, self.path.name)

    @property
    def is_current(self) -> bool:
        """Whether no other attempt has been begun since, which a machine that was cut off would not be told otherwise."""
        try:
            return (self.path.parent / _CURRENT).read_text(encoding="utf-8") == self.path.name
        except OSError:
            return False

    def read_task(self) -> TrainingTask:
        """Returns what is to be done.

        Raises:
            IntegrityError: It is not there, or nothing that a step has written.
        """
        return self._read(self.task, TrainingTask)

    def finish(self, done: TrainingDone) -> None:
        """Says that all is written."""
        _write(self._result, done.model_dump_json())

    def withdraw(self) -> None:
        """Takes back that all is written."""
        self._result.unlink(missing_ok=True)

    @property
    def is_finished(self) -> bool:
        """Whether all is written."""
        return self._result.is_file()

    def read_result(self) -> TrainingDone:
        """Returns what came of it; the errors are those of `read_task`."""
        return self._read(self._result, TrainingDone)

    def tell(self, words: TrainingWords, who: str) -> None:
        """Says why a process ended."""
        _write(self.path / f"words-{who}.json", words.model_dump_json())

    def words(self) -> TrainingWords | None:
        """Returns why the processes ended, as the one says that can say it best."""
        found = [self._read(path, TrainingWords) for path in sorted(self.path.glob("words-*.json"))]
        return min(found, key=lambda one: not one.is_final, default=None)

    def read_progress(self) -> TrainingProgress | None:
        """Returns how far the machines have come, where they have told."""
        return _glanced(self.progress, TrainingProgress)

    def gpus(self, machine: int) -> Path:
        """Returns where a machine says how busy its GPUs are.

        Args:
            machine: Its number among those that train, from 0.
        """
        return self.path / f"gpus-{machine}.json"

    def read_gpus(self, machine: int) -> TrainingGpus | None:
        """Returns how busy a machine's GPUs are, where it has told."""
        return _glanced(self.gpus(machine), TrainingGpus)

    def figures_after(self, offset: int) -> Iterator[tuple[Figures, int]]:
        """Yields figures that were told after a place in their file, each with the place that follows; a half line waits."""
        try:
            file = self.figures.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(offset)
            while (line := file.readline(_MAX_LINE)).endswith(b"\n"):
                offset += len(line)
                try:
                    yield Figures.model_validate_json(line), offset
                except ValidationError:
                    continue

    def _read(self, path: Path, kind: type[_Kind]) -> _Kind:
        try:
            with path.open("rb") as file:
                return kind.model_validate_json(file.read(_MAX_BYTES))
        except (OSError, ValidationError) as error:
            raise IntegrityError(
                f"{path} is nothing that training on a cluster has written", hint="run it again: it goes on from its checkpoint"
            ) from error


def _glanced(path: Path, kind: type[_Kind]) -> _Kind | None:
    """Returns what only shows how it goes, where it is there and whole."""
    try:
        with path.open("rb") as file:
            return kind.model_validate_json(file.read(_MAX_LINE))
    except (OSError, ValidationError):
        return None


def error_of(words: TrainingWords) -> InfraError:
    """Returns the error of another machine as this one's."""
    error = InfraError(words.diagnosis, hint=words.hint)
    error.exit_code = words.exit_code
    return error


def as_line(figures: Figures) -> str:
    """Returns figures as a line of their file."""
    return json.dumps(figures.model_dump()) + "\n"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)  # noqa: PTH105 - atomic on purpose
