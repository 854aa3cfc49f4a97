"""Tells numbers from what is none, item by item: NaN must not pass for a picture or a latent."""

import torch
from jaxtyping import Shaped
from torch import Tensor


def first_not_finite(items: Shaped[Tensor, "batch *rest"]) -> int | None:
    """Returns the place of the first item that holds a number that is not finite, None where there is none."""
    finite = torch.isfinite(items).flatten(1).all(dim=1)  # [batch]
    return None if bool(finite.all()) else int((~finite).nonzero()[0])
