"""Checkpoints of a training run: one safetensors file with the state as JSON in its header, replaced atomically."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model_core.errors import BadModelError

CHECKPOINT_NAME = "checkpoint.safetensors"
_STATE_KEY = "state"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped; data order and random numbers follow from seed and step.

    Attributes:
        step: Steps done.
        work: What is being trained, on what, and how: a checkpoint goes only with the same work.
        tensors: Weights, averaged weights, optimiser moments, losses, by name.
    """

    step: int
    work: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint under a temporary name and renames it, so that a kill leaves the one before or this one, whole."""
    state = {"step": checkpoint.step, "work": checkpoint.work}
    partial = path.with_name(path.name + ".partial")
    save_file(dict(checkpoint.tensors), partial, metadata={_STATE_KEY: json.dumps(state, sort_keys=True)})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        BadModelError: It is missing, truncated, or no safetensors file with our state.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[_STATE_KEY])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no mapping
        return Checkpoint(step=int(state["step"]), work=state["work"], tensors=tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BadModelError(
            f"{path} is not a readable training checkpoint: {error}", hint="remove it to train from the beginning"
        ) from error
