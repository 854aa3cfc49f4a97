"""Normalisation of tokens and of attention heads, and its modulation by the condition.

Shape legend: b batch, n tokens, d hidden size; a modulation is [b 1 d] for a batch, [b n d] for one with a
timestep a frame, [1 n d] for a packed sequence.
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model_core.transformer.config import NormName

NORM_EPS: Final = 1e-6


def make_norm(name: NormName, dim: int) -> nn.Module:
    """Returns a norm without weights of its own: the condition's shift and scale stand in for them."""
    if name == "rms":
        return nn.RMSNorm(dim, elementwise_affine=False, eps=NORM_EPS)
    return nn.LayerNorm(dim, elementwise_affine=False, eps=NORM_EPS)


class HeadNorm(nn.Module):
    """A root mean square norm of each head's queries or keys, with weights, in single precision whatever comes in.

    It bounds the logits of attention, which otherwise grow in long training and in half precision.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, x: Float[Tensor, "b n h dim"]) -> Float[Tensor, "b n h dim"]:
        """Returns heads of a root mean square of 1 before the weights."""
        return (functional.rms_norm(x.float(), self.weight.shape, eps=NORM_EPS) * self.weight).to(x.dtype)


def modulate(x: Float[Tensor, "b n d"], shift: Float[Tensor, "b #n d"], scale: Float[Tensor, "b #n d"]) -> Float[Tensor, "b n d"]:
    """Returns ``x (1 + scale) + shift``."""
    return torch.addcmul(shift, x, 1 + scale)


def gated(x: Float[Tensor, "b n d"], gate: Float[Tensor, "b #n d"], change: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """Returns ``x + gate change``."""
    return torch.addcmul(x, gate, change)
