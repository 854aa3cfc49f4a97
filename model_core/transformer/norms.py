"""Normalisation of tokens and of attention heads, and its modulation by the condition.

Shape legend: b batch, n tokens, d hidden size; a modulation is [b 1 d] for a batch, [b t 1 d] for one with
timesteps of t places in time, [1 n d] for a packed sequence.
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


def modulate(
    x: Float[Tensor, "b n d"], shift: Float[Tensor, "b *places d"], scale: Float[Tensor, "b *places d"]
) -> Float[Tensor, "b n d"]:
    """Returns ``x (1 + scale) + shift``."""
    return torch.addcmul(shift, _by_place(x, shift), 1 + scale).view_as(x)


def gated(
    x: Float[Tensor, "b n d"], gate: Float[Tensor, "b *places d"], change: Float[Tensor, "b n d"]
) -> Float[Tensor, "b n d"]:
    """Returns ``x + gate change``."""
    return torch.addcmul(_by_place(x, gate), gate, _by_place(change, gate)).view_as(x)


def _by_place(x: Float[Tensor, "b n d"], modulation: Float[Tensor, "b *places d"]) -> Float[Tensor, "b ... d"]:
    """Returns tokens as the modulation broadcasts to them: [b t n/t d] where it has t places in time."""
    return x if modulation.ndim == 3 else x.reshape(len(x), modulation.shape[1], -1, x.shape[-1])
