"""The diffusion transformer: patchify, blocks with adaLN-Zero, unpatchify (Peebles & Xie 2022, arXiv 2212.09748).

Shape legend: b batch, c channels, n tokens, d hidden size.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from model_core.diffusion.condition import Condition
from model_core.errors import BadModelError
from model_core.transformer.blocks import AdaLNZeroBlock, FinalLayer
from model_core.transformer.config import TransformerConfig
from model_core.transformer.embedders import LabelEmbedder, TextEmbedder, TimestepEmbedder
from model_core.transformer.patchify import patchify, unpatchify
from model_core.transformer.positions import grid_positions


class DiT(nn.Module):
    """Predicts noise or velocity from noised latents, a timestep, a label and a caption.

    The condition of a block is the sum of the embeddings of timestep, label and caption.

    Args:
        config: The architecture.
        generator: Source of the initial weights; the global one if not given.
    """

    def __init__(self, config: TransformerConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        patch_dim = config.in_channels * math.prod(config.patch_size)
        self.x_embedder = nn.Linear(patch_dim, config.hidden_size)
        self.t_embedder = TimestepEmbedder(config.frequency_dim, config.hidden_size)
        self.y_embedder = LabelEmbedder(config.num_labels, config.hidden_size)
        self.text_embedder = TextEmbedder(config.text_dim, config.hidden_size) if config.text_dim else None
        self.blocks = nn.ModuleList(
            AdaLNZeroBlock(config.hidden_size, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.final_layer = FinalLayer(config.hidden_size, patch_dim)
        _initialise(self, generator)

    def forward(
        self,
        x_t: Float[Tensor, "b c frames height width"],
        timestep: Float[Tensor, "b"],
        labels: Int[Tensor, "b"],
        text: Float[Tensor, "b dim"],
        text_mask: Bool[Tensor, "b"],
    ) -> Float[Tensor, "b c frames height width"]:
        """Returns the prediction, of the shape of ``x_t``.

        Args:
            x_t: Noised latents, of any size that the patch divides.
            timestep: On the scale of 0 to 1,000.
            labels: Label indices, ``num_labels`` for none.
            text: Pooled caption embeddings.
            text_mask: False where there is no caption.

        Raises:
            BadModelError: Latents that are not 5-D, have other channels, or do not divide into patches.
        """
        if x_t.ndim != 5:
            raise BadModelError(f"latents have shape {list(x_t.shape)}, expected [batch, channels, frames, height, width]")
        grid = self.config.grid((x_t.shape[1], x_t.shape[2], x_t.shape[3], x_t.shape[4]))
        c = self.t_embedder(timestep) + self.y_embedder(labels)  # [b d]
        if self.text_embedder is not None:
            c = c + self.text_embedder(text, text_mask)
        x = self.x_embedder(patchify(x_t, self.config.patch_size))  # [b n d]
        x = x + grid_positions(grid, self.config.hidden_size).to(x)
        for block in self.blocks:
            x = block(x, c)
        return unpatchify(self.final_layer(x, c), self.config.patch_size, grid)

    def predict(self, x_t: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """Returns `forward` with the condition in one value."""
        prediction: Tensor = self(x_t, timestep, condition.labels, condition.text, condition.text_mask)
        return prediction

    @property
    def num_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())


def _initialise(model: DiT, generator: torch.Generator | None) -> None:
    """Draws every weight anew in order of name: Xavier for linear layers, 0.02 for embeddings, zero for gates and output."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "adaLN_modulation" in name or name.startswith("final_layer.linear"):
            nn.init.zeros_(parameter)
        elif parameter.ndim < 2 or name.startswith(("t_embedder", "y_embedder")):
            nn.init.normal_(parameter, std=0.02, generator=generator)
        else:
            nn.init.xavier_uniform_(parameter, generator=generator)
