"""A transformer's weights on disk: safetensors, never anything that is unpickled."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from model_core.errors import BadModelError
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT

WEIGHTS_NAME = "transformer.safetensors"


def save_weights(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Writes weights by parameter name; the same weights give the same bytes."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in sorted(weights.items())}
    (folder / WEIGHTS_NAME).write_bytes(save(tensors))


def load_weights(config: TransformerConfig, folder: Path) -> DiT:
    """Builds a transformer with the weights in a folder, frozen and in evaluation mode.

    Raises:
        BadModelError: The file is missing, truncated, no safetensors, of another architecture, or not finite.
    """
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise BadModelError(f"{path} does not exist", hint="a model is a folder made by the training pipeline")
    try:
        found = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise BadModelError(f"{path} is no complete safetensors file: {error}", hint="get the model again") from error
    with torch.device("meta"):  # without drawing weights that are about to be replaced
        model = DiT(config)
    model.to_empty(device="cpu")
    restore_tensors({name: parameter.data for name, parameter in model.named_parameters()}, found, source=path)
    for name, tensor in found.items():
        if not bool(torch.isfinite(tensor).all()):
            raise BadModelError(f"{path}: {name} holds a number that is not finite")
    return model.eval().requires_grad_(requires_grad=False)


def restore_tensors(into: Mapping[str, Tensor], found: Mapping[str, Tensor], *, source: Path) -> None:
    """Copies tensors into existing ones of the same names and shapes.

    Raises:
        BadModelError: A name is missing or left over, or a shape or kind of number differs.
    """
    if odd := sorted(set(into) ^ set(found)):
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise BadModelError(
            f"{source} holds other tensors than this architecture: {', '.join(odd[:3])}{more}",
            hint="the file belongs to another model",
        )
    for name, tensor in into.items():
        if tensor.shape != found[name].shape or tensor.dtype != found[name].dtype:
            raise BadModelError(
                f"{source}: {name} is {found[name].dtype} {list(found[name].shape)}, "
                f"expected {tensor.dtype} {list(tensor.shape)}",
                hint="the file belongs to another model",
            )
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(found[name])
