"""Vectors that condition every block: the timestep, the label, the caption."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from model_core.conditioning.whitening import fit_whitening
from model_core.transformer.positions import sinusoid

_INIT_STD = 0.02
_WHITENED_STD = 0.4


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
        # Sentence embeddings have length 1; at a root mean square of 1 they weigh as much as the other conditions.
        self.scale = math.sqrt(text_dim)
        self.mlp = nn.Sequential(nn.Linear(text_dim, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))
        self.null = nn.Parameter(torch.empty(hidden_size))
        nn.init.normal_(self.null, std=_INIT_STD)

    def forward(self, text: Float[Tensor, "b dim"], text_mask: Bool[Tensor, "b"]) -> Float[Tensor, "b d"]:
        """Returns one vector a caption, the null vector where the mask is False."""
        return torch.where(text_mask[:, None], self.mlp(text * self.scale), self.null)

    @torch.no_grad()
    def whiten(self, captions: Float[Tensor, "n dim"], generator: torch.Generator) -> None:
        """Draws the first layer anew so that it starts by reading what tells these captions apart, each difference alike.

        Its features are random mixtures of the captions' whitened embeddings. From there it is trained like any other.

        Args:
            captions: Embeddings of the training items' captions; with fewer than two, or all the same, nothing is done.
            generator: Source of the mixtures.
        """
        if len(captions) < 2:
            return
        weight, bias = self.mlp.get_parameter("0.weight"), self.mlp.get_parameter("0.bias")  # [d dim], [d]
        whitening = fit_whitening(captions.numpy(), max_directions=len(weight))
        mean, directions = torch.from_numpy(whitening.mean).to(weight), torch.from_numpy(whitening.directions).to(weight)
        num_directions = directions.shape[1]
        if num_directions == 0:
            return
        mixtures = torch.randn(len(weight), num_directions, generator=generator).to(weight)
        reading = (_WHITENED_STD / math.sqrt(num_directions)) * mixtures @ directions.T
        weight.copy_(reading / self.scale)
        bias.copy_(-reading @ mean)


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
