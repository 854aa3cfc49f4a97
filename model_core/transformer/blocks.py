"""Transformer blocks with adaLN-Zero conditioning (Peebles & Xie 2022, arXiv 2212.09748, §3.2 and figure 3).

Shape legend: b batch, n tokens, d hidden size, s samples, t places in time where each has a timestep of its own.
Names of parameters are the DiT reference's where it has them.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from model_core.transformer.attention import Attention, CrossAttention
from model_core.transformer.config import TransformerConfig
from model_core.transformer.layout import TokenLayout
from model_core.transformer.mlp import make_mlp
from model_core.transformer.norms import gated, make_norm, modulate


class AdaLNZeroBlock(nn.Module):
    """Attention and MLP, shifted, scaled and gated by the condition; gates start at zero, so the block starts as the identity.

    Args:
        config: The architecture.
        long_skip: Whether the block also takes the tokens of its mirror image in the network's first half.
    """

    def __init__(self, config: TransformerConfig, *, long_skip: bool = False) -> None:
        super().__init__()
        width = config.hidden_size
        factorised, shared = config.attention == "factorised", config.modulation == "shared"
        self.skip = nn.Linear(2 * width, width) if long_skip else None
        self.norm1 = make_norm(config.norm, width)
        self.attn = Attention(config, "space" if factorised else "all")
        self.temporal_norm = make_norm(config.norm, width) if factorised else None
        self.temporal_attn = Attention(config, "time") if factorised else None
        self.cross_norm = make_norm(config.norm, width) if config.reads_text_states else None
        self.cross_attn = CrossAttention(config) if config.reads_text_states else None
        self.norm2 = make_norm(config.norm, width)
        self.mlp = make_mlp(config)
        vectors = config.modulations_per_block
        self.modulation_offset = nn.Parameter(torch.zeros(vectors * width)) if shared else None
        # The reference's name.
        self.adaLN_modulation = None if shared else nn.Sequential(nn.SiLU(), nn.Linear(width, vectors * width))
        self.num_vectors = vectors

    def modulation(self, c: Float[Tensor, "s *t d"], shared: Float[Tensor, "s *t kd"] | None) -> Float[Tensor, "s *t kd"]:
        """Returns shift, scale and gate of each sublayer side by side, from the condition or from what all blocks share."""
        if self.adaLN_modulation is not None:
            return self.adaLN_modulation(c)  # type: ignore[no-any-return]  # modules return Any
        if shared is None or self.modulation_offset is None:
            raise TypeError("a block with an offset needs the modulation that it is an offset to")
        return shared + self.modulation_offset

    def keys_values(self, text: Float[Tensor, "s m d"]) -> Float[Tensor, "s m 2 h k"]:
        """Returns a caption's tokens as the block's cross attention reads them."""
        if self.cross_attn is None:
            raise TypeError("this block has no cross attention")
        return self.cross_attn.keys_values(text)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        modulation: Float[Tensor, "s *t kd"],
        layout: TokenLayout,
        rotations: Float[Tensor, "n 1 p 2"] | None = None,
        keys_values: Float[Tensor, "s m 2 h k"] | None = None,
        text_mask: Bool[Tensor, "s m"] | None = None,
        skipped: Float[Tensor, "b n d"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Returns the tokens after all sublayers.

        Args:
            x: Tokens.
            modulation: Of each sample, or of each of its places in time, from `modulation`.
            layout: Which tokens are which sample's.
            rotations: Rotary positions of the tokens.
            keys_values: Each sample's caption, for cross attention.
            text_mask: False at caption tokens that are not there.
            skipped: Tokens of the block's mirror image, for a block with a long skip.
        """
        vectors = layout.per_token(modulation).chunk(self.num_vectors, dim=-1)  # each [b 1 d], [b t 1 d] or [1 n d]
        if self.skip is not None:
            if skipped is None:
                raise TypeError("a block with a long skip needs the tokens that skipped the middle")
            x = self.skip(torch.cat([x, skipped], dim=-1))
        shift, scale, gate = vectors[:3]
        x = gated(x, gate, self.attn(modulate(self.norm1(x), shift, scale), layout, rotations))
        if self.temporal_attn is not None and self.temporal_norm is not None and any(run.grid[0] > 1 for run in layout.runs):
            shift, scale, gate = vectors[6:]
            x = gated(x, gate, self._over_time(modulate(self.temporal_norm(x), shift, scale), layout, rotations))
        if self.cross_attn is not None and self.cross_norm is not None:
            x = x + self.cross_attn(self.cross_norm(x), keys_values, text_mask, layout)
        shift, scale, gate = vectors[3:6]
        return gated(x, gate, self.mlp(modulate(self.norm2(x), shift, scale)))

    def _over_time(
        self, x: Float[Tensor, "b n d"], layout: TokenLayout, rotations: Float[Tensor, "n 1 p 2"] | None
    ) -> Float[Tensor, "b n d"]:
        """Returns attention over time; a picture has no other frame to attend to, and gets zeros, packed with clips or alone."""
        if self.temporal_attn is None:
            raise TypeError("this block attends to everything at once")
        y: Tensor = self.temporal_attn(x, layout, rotations)
        if all(run.grid[0] > 1 for run in layout.runs):
            return y
        parts = zip(layout.split(y), layout.runs, strict=True)
        return layout.join([part if run.grid[0] > 1 else torch.zeros_like(part) for part, run in parts])


class FinalLayer(nn.Module):
    """Tokens to patches; starts at zero, so an untrained network predicts zero."""

    def __init__(self, config: TransformerConfig, patch_dim: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm_final = make_norm(config.norm, width)
        self.linear = nn.Linear(width, patch_dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))  # the reference's name

    def modulation(self, c: Float[Tensor, "s *t d"]) -> Float[Tensor, "s *t 2*d"]:
        """Returns shift and scale side by side."""
        return self.adaLN_modulation(c)  # type: ignore[no-any-return]  # as above

    def forward(
        self, x: Float[Tensor, "b n d"], modulation: Float[Tensor, "s *t 2*d"], layout: TokenLayout
    ) -> Float[Tensor, "b n patch"]:
        """Returns one patch a token."""
        shift, scale = layout.per_token(modulation).chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))  # type: ignore[no-any-return]  # as above
