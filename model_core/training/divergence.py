"""Stops a run whose numbers are no longer finite, with what is needed to see why."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model_core.errors import BadDataError, TrainingDivergedError
from model_core.training.batch import Batch
from model_core.training.distributed import Distributed


def divergence(
    step: int,
    loss: float,
    gradient_norm: float,
    *,
    batch: Batch,
    gradients: Iterable[tuple[str, Tensor]],
    folder: Path,
    distributed: Distributed,
) -> BadDataError | TrainingDivergedError:
    """Returns the error that ends the run, after writing the step's inputs for a later look.

    Args:
        step: The step, from 0.
        loss: Its loss.
        gradient_norm: Norm of all its gradients.
        batch: Its inputs, of all processes together, on the CPU.
        gradients: This process's gradients by parameter name, in the network's order.
        folder: Where to write.
        distributed: This process's place; all have to call this.
    """
    for row, x_0 in zip(batch.rows, batch.x_0, strict=True):
        if not bool(torch.isfinite(x_0).all()):
            return BadDataError(f"latents of row {row} hold numbers that are not finite", hint="encode the dataset again")
    origin = first_not_finite(gradients, distributed)
    path = folder / f"diverged-step-{step:06d}.safetensors"
    if distributed.is_main:
        save_inputs(batch, path)
    return TrainingDivergedError(
        f"training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}"
        + (f", first gradient that is not finite {origin}" if origin else "")
        + f"; the step's inputs are in {path.name}",
        hint="lower learning_rate or raise warmup_steps",
    )


def first_not_finite(gradients: Iterable[tuple[str, Tensor]], distributed: Distributed) -> str | None:
    """Returns the parameter whose gradient was the first not to be finite: the backward pass goes from the network's end."""
    found = list(gradients)
    if not found:
        return None
    wrong = torch.stack([~torch.isfinite(gradient).all() for _, gradient in found]).to(torch.int32)
    places = distributed.total(wrong).nonzero().flatten().tolist()
    return found[places[-1]][0] if places else None


def save_inputs(batch: Batch, path: Path) -> None:
    """Writes the inputs of a step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    conditions = {name: tensor for name, tensor in vars(batch.condition).items() if tensor is not None}
    tensors = {"x_0": batch.x_0, "noise": batch.noise, "time": batch.time, "rows": torch.tensor(batch.rows)}
    if batch.counted is not None:
        tensors["counted"] = batch.counted
    save_file({**tensors, **conditions}, path)
