"""Vectors that condition every block: the timestep, the label, the caption."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from model_core.transformer.positions import sinusoid

_INIT_STD = 0.02


class TimestepEmbedder(nn.Module):
    """A timestep on the scale of 0 to 1,000 as a vector (Peebles & Xie 2022, §3.2)."""

    def __init__(self, frequency_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.frequency_dim = frequency_dim
        self.mlp = nn.Sequential(nn.Linear(frequency_dim, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))
        for layer in (self.mlp[0], self.mlp[2]):
            nn.init.normal_(layer.weight, std=_INIT_STD)  # type: ignore[arg-type]  # a linear layer's weight is a tensor

    def forward(self, timestep: Float[Tensor, "b *t"]) -> Float[Tensor, "b *t d"]:
        """Returns one vector a timestep."""
        return self.mlp(sinusoid(timestep, self.frequency_dim, cos_first=True))  # type: ignore[no-any-return]  # returns Any


class LabelEmbedder(nn.Module):
    """A label as a vector; the last row of the table stands for no label."""

    def __init__(self, num_labels: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_labels + 1, hidden_size)
        nn.init.normal_(self.embedding_table.weight, std=_INIT_STD)

    def forward(self, labels: Int[Tensor, "b"]) -> Float[Tensor, "b d"]:
        """Returns one vector a label."""
        return self.embedding_table(labels)  # type: ignore[no-any-return]  # as above


class TextEmbedder(nn.Module):
    """A pooled caption as a vector; a learned vector stands for no caption."""

    def __init__(self, text_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.scale = self.scale_of(text_dim)
        self.mlp = nn.Sequential(nn.Linear(text_dim, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))
        self.null = nn.Parameter(torch.empty(hidden_size))
        nn.init.normal_(self.null, std=_INIT_STD)

    @staticmethod
    def scale_of(text_dim: int) -> float:
        """Returns what an embedding of length 1 is multiplied by, so that it weighs as much as the other conditions."""
        return math.sqrt(text_dim)

    def forward(self, text: Float[Tensor, "b dim"], text_mask: Bool[Tensor, "b"]) -> Float[Tensor, "b d"]:
        """Returns one vector a caption, the null vector where the mask is False."""
        return torch.where(text_mask[:, None], self.mlp(text * self.scale), self.null)


class TextTokensEmbedder(nn.Module):
    """A caption's token states as tokens of the transformer's width; a learned token stands for no caption."""

    def __init__(self, text_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(text_dim, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))
        self.null = nn.Parameter(torch.empty(hidden_size))
        nn.init.normal_(self.null, std=_INIT_STD)

    def forward(
        self, states: Float[Tensor, "b m dim"], mask: Bool[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b m+1 d"], Bool[Tensor, "b m+1"]]:
        """Returns tokens to attend to and which of them are there: the null token exactly where a caption has no token.

        Args:
            states: Token states of an encoder; they are normalised, as encoders differ in scale.
            mask: False at places without a token.
        """
        known = torch.where(mask[..., None], states, 0.0)  # what a mask hides may be anything, also not finite
        tokens = self.mlp(functional.layer_norm(known, known.shape[-1:]))
        null = self.null.to(tokens.dtype).expand(len(states), 1, -1)
        return torch.cat([null, tokens], dim=1), torch.cat([~mask.any(dim=1, keepdim=True), mask], dim=1)
