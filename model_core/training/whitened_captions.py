"""Training on captions whitened, and the weights that read them as they are.

A pooled embedding is given to the network as what tells the training items' captions apart, each difference at one scale and the
captions at length 1 on average. Captions that are built alike have most of their length in common; an optimiser's steps on the
weights that read it would drown what the captions differ in. What the network's first layer has learnt for whitened captions is
an exact linear map of the captions themselves, so that in the end it is folded into that layer: nothing but the weights tells
that a model was trained so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.conditioning.whitening import fit_whitening
from model_core.transformer.embedders import TextEmbedder

_MAX_DIRECTIONS = 128
_WEIGHT, _BIAS = "text_embedder.mlp.0.weight", "text_embedder.mlp.0.bias"


@dataclass(frozen=True, kw_only=True)
class WhitenedCaptions:
    """A linear map of captions' embeddings to whitened ones of the same width, zero where there is nothing left to tell.

    Attributes:
        mean: Mean of the training items' embeddings.
        directions: Maps centred embeddings to whitened ones.
    """

    mean: Float[Tensor, " dim"]
    directions: Float[Tensor, "dim dim"]

    @classmethod
    def fit(cls, captions: Float[Tensor, "n dim"]) -> "WhitenedCaptions | None":
        """Fits the map to the captions of the items to train on, deterministically; None where they tell nothing apart."""
        if len(captions) < 2:
            return None
        found = fit_whitening(captions.numpy(), max_directions=_MAX_DIRECTIONS)
        dim, num_directions = found.directions.shape
        if num_directions == 0:
            return None
        directions = torch.zeros(dim, dim, dtype=torch.float64)
        directions[:, :num_directions] = torch.from_numpy(found.directions) / math.sqrt(num_directions)
        return cls(mean=torch.from_numpy(found.mean), directions=directions)

    def __call__(self, captions: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """Returns embeddings whitened."""
        return ((captions.double() - self.mean) @ self.directions).to(captions.dtype)

    def folded(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns weights that answer to captions as these, by name, answer to whitened ones."""
        weight, bias = weights[_WEIGHT].double(), weights[_BIAS].double()
        reading = weight @ self.directions.T
        offset = bias - TextEmbedder.scale_of(len(self.mean)) * reading @ self.mean
        return {**weights, _WEIGHT: reading.to(weights[_WEIGHT].dtype), _BIAS: offset.to(weights[_BIAS].dtype)}
