"""Checkpoints of a codec's training: the moments of optimisers as tensors, and one safetensors file written atomically."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from model_core.errors import BadModelError

CHECKPOINT_NAME = "codec-checkpoint.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def moments_of(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], *, prefix: str = ""
) -> dict[str, Tensor]:
    """Returns the state of an Adam optimiser, named after its parameters; empty before its first step."""
    return {
        f"{prefix}{key}/{name}": value
        for name, parameter in parameters.items()
        if parameter in optimiser.state
        for key, value in optimiser.state[parameter].items()
    }


def restore_moments(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor], *, prefix: str = ""
) -> None:
    """Takes over what `moments_of` returned.

    Raises:
        KeyError: Some moments are there and others missing.
        RuntimeError: A tensor has another shape.
    """
    if not any(f"{prefix}step/{name}" in tensors for name in parameters):
        optimiser.state.clear()
        return
    for name, parameter in parameters.items():
        step, *averages = (tensors[f"{prefix}{key}/{name}"] for key in _MOMENTS)
        # In the parameter's own layout in memory: arithmetic in another would round otherwise.
        first, second = (torch.empty_like(parameter, requires_grad=False).copy_(average) for average in averages)
        optimiser.state[parameter] = {"step": step, "exp_avg": first, "exp_avg_sq": second}


def write_checkpoint(folder: Path, tensors: Mapping[str, Tensor], *, plan: str) -> None:
    """Writes a checkpoint of the training with this digest, atomically."""
    partial = folder / f"{CHECKPOINT_NAME}.partial"
    with partial.open("wb") as file:
        file.write(save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, {"plan": plan}))
        os.fsync(file.fileno())
    partial.replace(folder / CHECKPOINT_NAME)


def read_checkpoint(path: Path, *, plan: str) -> dict[str, Tensor] | None:
    """Returns the tensors of a checkpoint, or none where it is of another training.

    Raises:
        BadModelError: The checkpoint is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("plan") != plan:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> BadModelError:
    """Returns the error of a checkpoint that cannot be used."""
    return BadModelError(f"checkpoint {path} is damaged: {error}", hint="remove it to train from the start")
