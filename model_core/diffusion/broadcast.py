"""Brings one number a sample, or one a frame, into the shape of the samples."""

from jaxtyping import Float
from torch import Tensor


def per_sample(values: Float[Tensor, "batch *frames"], like: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Returns values in the dtype and on the device of ``like``: [batch, 1, 1, ...], or of frames [batch, 1, frames, 1, ...]."""
    if values.ndim == 1:
        return values.to(like).view(-1, *(1,) * (like.ndim - 1))
    return values.to(like).view(len(values), 1, -1, *(1,) * (like.ndim - 3))
