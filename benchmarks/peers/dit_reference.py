"""The DiT of Peebles & Xie 2022 (arXiv 2212.09748) for square pictures, as a peer and an oracle: torch alone, nothing of ours.

Written from the paper's §3.2 and from the names and shapes in the published DiT-XL/2 weights: a convolution for patches, fixed
sines and cosines for positions, cosines before sines for timesteps, a row beyond the labels for none, norms at 1e-6 without
weights, a GELU by tanh, and the variance beside the prediction. Names and shapes of its state dict are the published ones.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}
"""Depth, hidden size and heads by name (table 1)."""


def frequency_embedding(t: Tensor, dim: int = 256, max_period: float = 10_000.0) -> Tensor:
    """Returns cosines, then sines of timesteps [b] as [b dim]."""
    half = dim // 2
    rates = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t[:, None].float() * rates[None]
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


def fixed_positions(dim: int, side: int) -> Tensor:
    """Returns sines and cosines of column, then of row, for a square of tokens [1 side*side dim]."""
    quarter = dim // 4
    rates = 1.0 / 10_000.0 ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    rows, columns = torch.meshgrid(
        torch.arange(side, dtype=torch.float64), torch.arange(side, dtype=torch.float64), indexing="ij"
    )
    halves = []
    for coordinate in (columns.reshape(-1), rows.reshape(-1)):
        angles = coordinate[:, None] * rates[None]
        halves += [torch.sin(angles), torch.cos(angles)]
    return torch.cat(halves, dim=1).float()[None]


class PatchEmbed(nn.Module):
    """A picture's patches as tokens, by a convolution whose stride is its size."""

    def __init__(self, patch: int, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Returns [b n dim] for [b channels height width]."""
        return self.proj(x).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """A timestep as a vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """Returns [b dim] for [b]."""
        return self.mlp(frequency_embedding(t))


class LabelEmbedder(nn.Module):
    """A label as a vector; the row after the last label means none."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, dim)

    def forward(self, labels: Tensor) -> Tensor:
        """Returns [b dim] for [b]."""
        return self.embedding_table(labels)


class Attention(nn.Module):
    """Multi-head self-attention, with torch's fused kernel or step by step."""

    def __init__(self, dim: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Returns [b n dim] for the same."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q * (d // self.heads) ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
    """Two layers around a GELU."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, width), nn.GELU(approximate="tanh"), nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Returns [b n dim] for the same."""
        return self.fc2(self.act(self.fc1(x)))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Block(nn.Module):
    """A block with adaLN-Zero (figure 3)."""

    def __init__(self, dim: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(dim, heads, fused=fused)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns [b n dim] for tokens and a condition [b dim]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate1.unsqueeze(1) * self.attn(_modulate(self.norm1(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(_modulate(self.norm2(x), shift2, scale2))


class FinalLayer(nn.Module):
    """Tokens to patches."""

    def __init__(self, dim: int, patch: int, channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(dim, patch * patch * channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Returns [b n patch*patch*channels]."""
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(_modulate(self.norm_final(x), shift, scale))


class ReferenceDiT(nn.Module):
    """The whole network.

    Args:
        input_size: Side of the latents.
        patch_size: Side of a patch.
        in_channels: Channels of the latents.
        hidden_size: Width.
        depth: Number of blocks.
        num_heads: Attention heads.
        num_classes: Labels known.
        learn_sigma: Whether the variance comes out after the prediction.
        fused_attention: torch's fused attention instead of two products and a softmax.
    """

    def __init__(
        self,
        *,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        num_classes: int = 1000,
        learn_sigma: bool = True,
        fused_attention: bool = True,
    ) -> None:
        super().__init__()
        self.patch_size, self.out_channels = patch_size, 2 * in_channels if learn_sigma else in_channels
        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size)
        self.pos_embed = nn.Parameter(fixed_positions(hidden_size, input_size // patch_size), requires_grad=False)
        self.blocks = nn.ModuleList(Block(hidden_size, num_heads, fused=fused_attention) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, patch_size, self.out_channels)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for linear layers and patches, 0.02 for embeddings, zero for modulations and output."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.data.flatten(1))
        nn.init.zeros_(self.x_embedder.proj.bias)
        for weight in (self.y_embedder.embedding_table.weight, self.t_embedder.mlp[0].weight, self.t_embedder.mlp[2].weight):
            nn.init.normal_(weight, std=0.02)
        zeroed = [self.final_layer.linear, self.final_layer.adaLN_modulation[1], *(b.adaLN_modulation[1] for b in self.blocks)]
        for layer in zeroed:
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Returns [b out_channels height width] for latents [b channels height width], timesteps [b] and labels [b]."""
        b, _, height, width = x.shape
        tokens = self.x_embedder(x) + self.pos_embed
        c = self.t_embedder(t) + self.y_embedder(y)
        for block in self.blocks:
            tokens = block(tokens, c)
        p = self.patch_size
        patches = self.final_layer(tokens, c).reshape(b, height // p, width // p, p, p, self.out_channels)
        return torch.einsum("nhwpqc->nchpwq", patches).reshape(b, self.out_channels, height, width)


def reference_dit(name: str, **options: object) -> ReferenceDiT:
    """Returns a network of the paper's table 1, such as ``DiT-S/2``."""
    size, patch = name.removeprefix("DiT-").split("/")
    depth, hidden_size, num_heads = SIZES[size]
    return ReferenceDiT(patch_size=int(patch), depth=depth, hidden_size=hidden_size, num_heads=num_heads, **options)  # type: ignore[arg-type]
