"""Transformer blocks with adaLN-Zero conditioning (Peebles & Xie 2022, arXiv 2212.09748, §3.2 and figure 3).

Shape legend: b batch, n tokens, d hidden size. Names of parameters are the DiT reference's.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_NORM_EPS = 1e-6


def modulate(x: Float[Tensor, "b n d"], shift: Float[Tensor, "b d"], scale: Float[Tensor, "b d"]) -> Float[Tensor, "b n d"]:
    """Returns ``x (1 + scale) + shift``, scale and shift the same for all tokens of a sample."""
    return torch.addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1))


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Returns each token's mixture of the others."""
        q, k, v = rearrange(self.qkv(x), "b n (three heads dim) -> three b heads n dim", three=3, heads=self.num_heads)
        y = functional.scaled_dot_product_attention(q, k, v)  # [b heads n dim]
        return self.proj(rearrange(y, "b heads n dim -> b n (heads dim)"))  # type: ignore[no-any-return]  # modules return Any


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, hidden_size: int, mlp_ratio: float) -> None:
        super().__init__()
        width = int(hidden_size * mlp_ratio)
        self.fc1 = nn.Linear(hidden_size, width)
        self.fc2 = nn.Linear(width, hidden_size)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Returns the tokens, each transformed on its own."""
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))  # type: ignore[no-any-return]  # as above


class AdaLNZeroBlock(nn.Module):
    """Attention and MLP, shifted, scaled and gated by the condition; gates start at zero, so the block starts as the identity."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=_NORM_EPS)
        self.attn = Attention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=_NORM_EPS)
        self.mlp = Mlp(hidden_size, mlp_ratio)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))  # the reference's name

    def forward(self, x: Float[Tensor, "b n d"], c: Float[Tensor, "b d"]) -> Float[Tensor, "b n d"]:
        """Returns the tokens after both sublayers."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)  # each [b d]
        x = torch.addcmul(x, gate1.unsqueeze(1), self.attn(modulate(self.norm1(x), shift1, scale1)))
        return torch.addcmul(x, gate2.unsqueeze(1), self.mlp(modulate(self.norm2(x), shift2, scale2)))


class FinalLayer(nn.Module):
    """Tokens to patches; starts at zero, so an untrained network predicts zero."""

    def __init__(self, hidden_size: int, patch_dim: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=_NORM_EPS)
        self.linear = nn.Linear(hidden_size, patch_dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))  # the reference's name

    def forward(self, x: Float[Tensor, "b n d"], c: Float[Tensor, "b d"]) -> Float[Tensor, "b n patch"]:
        """Returns one patch a token."""
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)  # each [b d]
        return self.linear(modulate(self.norm_final(x), shift, scale))  # type: ignore[no-any-return]  # as above
