"""An exponential moving average of the weights, which is what samples are made with."""

from collections.abc import Sequence

import torch
from torch import Tensor


def ema_decay_at(step: int, decay: float) -> float:
    """Returns ``min(decay, (1 + step) / (10 + step))`` for a step counted from 0, so that early weights are forgotten."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(ema: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """Sets ``ema = decay ema + (1 - decay) weights``, all tensors in one call."""
    torch._foreach_lerp_(list(ema), list(weights), 1 - decay)
