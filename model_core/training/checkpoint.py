"""Checkpoints of a training run: one safetensors file with the state as JSON in its header, replaced atomically."""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model_core.errors import BadModelError

CHECKPOINT_NAME = "checkpoint.safetensors"
FORMAT: Final = "groundswell-training/1"
_STATE_KEY = "state"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped; data order and random numbers follow from seed and step.

    Attributes:
        step: Steps done.
        work: What is being trained, on what, and how: a checkpoint goes only with the same work.
        tensors: Weights, averaged weights, optimiser moments, losses, by name; whole, however many processes trained.
    """

    step: int
    work: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint under a temporary name and renames it, so that a kill leaves the one before or this one, whole."""
    state = {"format": FORMAT, "step": checkpoint.step, "work": checkpoint.work}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(dict(checkpoint.tensors), partial, metadata={_STATE_KEY: json.dumps(state, sort_keys=True)})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        BadModelError: It is missing, truncated, of another format, or no safetensors file with our state.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[_STATE_KEY])
            step, work = _read_state(state)
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no mapping
        return Checkpoint(step=step, work=work, tensors=tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BadModelError(
            f"{path} is not a readable training checkpoint: {error}", hint="remove it to train from the beginning"
        ) from error


def _read_state(state: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Returns step and work."""
    if state["format"] != FORMAT:
        raise ValueError(f"its format is {state['format']!r}, not {FORMAT!r}")
    step, work = state["step"], state["work"]
    if type(step) is not int or step < 0 or not isinstance(work, dict):
        raise ValueError("its step or work is of a wrong type")
    return step, work


class CheckpointWriter:
    """Writes checkpoints on a thread while training goes on, one at a time.

    As a context it waits at the end for the one being written. An error of the thread is raised by the next call, or at the end
    where nothing else went wrong.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begins to write tensors that nobody changes any more, after waiting for the checkpoint before."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(checkpoint,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Waits until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            write_checkpoint(self._path, checkpoint)
        except BaseException as error:  # noqa: BLE001  # raised again by wait
            self._error = error

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.wait()
        elif self._thread is not None:
            self._thread.join()
