"""Reading the tensors of a codec, from safetensors only, and checking each before it is used."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model_core.codec.autoencoder import Codec
from model_core.errors import BadModelError


def read_tensors(path: Path, *, hint: str) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file.

    Raises:
        BadModelError: The file is missing, cut short or of another kind, such as a pickle under this name.
    """
    if not path.is_file():
        raise BadModelError(f"{path} does not exist", hint=hint)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise BadModelError(f"{path} is no complete safetensors file: {error}", hint="get the codec again") from error
    return tensors


def load_weights(
    codec: Codec, tensors: Mapping[str, Tensor], path: Path, *, dtypes: Collection[torch.dtype] = (torch.float32,)
) -> Codec:
    """Puts tensors into a codec and returns it frozen, in evaluation mode.

    Args:
        codec: A codec of the right architecture.
        tensors: What a file held.
        path: That file, for diagnoses.
        dtypes: Types that the tensors may have; the codec's stay float32.

    Raises:
        BadModelError: A tensor is missing, unknown, of another shape or type, or holds a number that is not finite.
    """
    expected = codec.state_dict()
    if odd := sorted(set(tensors) ^ set(expected)):
        what = "missing" if odd[0] in expected else "unknown"
        raise BadModelError(
            f"{path}: tensors missing or unknown, such as {odd[0]!r} ({what})", hint="config.json belongs to another codec"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype not in dtypes:
            raise BadModelError(f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}, expected {list(expected[name].shape)}")
        if not bool(tensor.isfinite().all()):
            raise BadModelError(f"{path}: {name} holds a number that is not finite")
    codec.load_state_dict(dict(tensors))
    return codec.eval().requires_grad_(requires_grad=False)
