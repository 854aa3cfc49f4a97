"""Brings one number a sample into the shape of the samples."""

from jaxtyping import Float
from torch import Tensor


def per_sample(values: Float[Tensor, "batch"], like: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Returns values as [batch, 1, 1, ...] in the dtype and on the device of ``like``."""
    return values.to(like).view(-1, *(1,) * (like.ndim - 1))
