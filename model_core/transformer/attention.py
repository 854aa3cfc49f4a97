"""Attention of tokens to each other and to a caption.

Shape legend: b batch, n tokens, d hidden size, h heads, k width of a head, m caption tokens, s samples.
"""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from model_core.transformer.config import Grid, TransformerConfig
from model_core.transformer.layout import TokenLayout
from model_core.transformer.norms import HeadNorm
from model_core.transformer.rope import rotate

Axes = Literal["all", "space", "time"]
"""Which of a sample's tokens attend to each other: ``all``, those of a frame (``space``), those of a place (``time``)."""


# The layouts in which attention runs over the axes, s samples of t frames of p places; a head at a place is as good as a head.
_VIEWS: dict[Axes, str] = {"all": "s h (t p) k", "space": "(s t) h p k", "time": "s (p h) t k"}


class Attention(nn.Module):
    """Multi-head self-attention within each sample."""

    def __init__(self, config: TransformerConfig, axes: Axes = "all") -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.axes = axes
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.q_norm = HeadNorm(config.head_dim) if config.qk_norm else None
        self.k_norm = HeadNorm(config.head_dim) if config.qk_norm else None
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, x: Float[Tensor, "b n d"], layout: TokenLayout, rotations: Float[Tensor, "n 1 p 2"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Returns each token's mixture of the others of its sample."""
        parts = self.qkv(x).chunk(3, dim=-1)  # side by side, as their gradients will be: no copy to bring them together
        q, k, v = (rearrange(part, "b n (h k) -> b n h k", h=self.num_heads) for part in parts)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotations is not None:
            q, k = rotate(q, rotations), rotate(k, rotations)
        runs = zip(layout.split(q), layout.split(k), layout.split(v), layout.runs, strict=True)
        mixed = layout.join([_attend(q, k, v, run.grid, self.axes) for q, k, v, run in runs])
        return self.proj(rearrange(mixed, "b n h k -> b n (h k)"))  # type: ignore[no-any-return]  # modules return Any


class CrossAttention(nn.Module):
    """Attention of tokens to the tokens of their sample's caption (Chen 2023, arXiv 2310.00426)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = nn.Linear(config.hidden_size, config.hidden_size)
        self.kv = nn.Linear(config.hidden_size, 2 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def keys_values(self, text: Float[Tensor, "s m d"]) -> Float[Tensor, "s m 2 h k"]:
        """Returns what tokens attend to: it depends on the caption alone, so one call serves every step of a sampler."""
        found: Tensor = rearrange(self.kv(text), "s m (two h k) -> s m two h k", two=2, h=self.num_heads)
        return found

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        keys_values: Float[Tensor, "s m 2 h k"],
        mask: Bool[Tensor, "s m"],
        layout: TokenLayout,
    ) -> Float[Tensor, "b n d"]:
        """Returns each token's mixture of its caption's tokens.

        Args:
            x: Tokens.
            keys_values: A caption a sample.
            mask: False at caption tokens that are not there; each sample has at least one.
            layout: Which tokens are which sample's.
        """
        q = rearrange(self.q(x), "b n (h k) -> b n h k", h=self.num_heads)
        counts = [run.count for run in layout.runs]
        parts = []
        for queries, memory, known in zip(
            layout.split(q), torch.split(keys_values, counts), torch.split(mask, counts), strict=True
        ):
            k, v = rearrange(memory, "s m two h k -> two s h m k")
            y: Tensor = functional.scaled_dot_product_attention(queries.transpose(1, 2), k, v, attn_mask=known[:, None, None])
            parts.append(y.transpose(1, 2))
        return self.proj(rearrange(layout.join(parts), "b n h k -> b n (h k)"))  # type: ignore[no-any-return]  # as above


def _attend(
    q: Float[Tensor, "s n h k"], k: Float[Tensor, "s n h k"], v: Float[Tensor, "s n h k"], grid: Grid, axes: Axes
) -> Float[Tensor, "s n h k"]:
    """Returns the mixtures of samples of one grid."""
    view, heads = _VIEWS[axes], q.shape[2]
    q, k, v = (rearrange(x, f"s (t p) h k -> {view}", t=grid[0]) for x in (q, k, v))
    y: Tensor = functional.scaled_dot_product_attention(q, k, v)
    mixed: Tensor = rearrange(y, f"{view} -> s (t p) h k", t=grid[0], h=heads)
    return mixed
