"""What a sample is conditioned on: a label, a caption, both or neither (c and the null condition of THEORY.md)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from model_core.errors import BadDataError


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Conditions of a batch.

    Attributes:
        labels: Label indices; ``num_labels`` stands for no label.
        text: Pooled caption embeddings.
        text_mask: False where there is no caption; the embedding there is not read.
    """

    labels: Int[Tensor, "batch"]
    text: Float[Tensor, "batch dim"]
    text_mask: Bool[Tensor, "batch"]

    def __len__(self) -> int:
        """Returns the batch size."""
        return len(self.labels)

    def null(self, num_labels: int) -> "Condition":
        """Returns the null condition for as many samples: no label, no caption."""
        return Condition(
            labels=torch.full_like(self.labels, num_labels), text=self.text, text_mask=torch.zeros_like(self.text_mask)
        )

    def followed_by(self, other: "Condition") -> "Condition":
        """Returns both batches as one."""
        return Condition(
            labels=torch.cat([self.labels, other.labels]),
            text=torch.cat([self.text, other.text]),
            text_mask=torch.cat([self.text_mask, other.text_mask]),
        )

    def dropped(self, *, labels: Bool[Tensor, "batch"], text: Bool[Tensor, "batch"], num_labels: int) -> "Condition":
        """Returns the conditions without the labels and captions marked True."""
        return Condition(labels=self.labels.masked_fill(labels, num_labels), text=self.text, text_mask=self.text_mask & ~text)

    def with_text_noise(self, length: float, generator: torch.Generator) -> "Condition":
        """Returns the conditions with noise of about this length added to the embeddings, which are scaled to length 1 again."""
        if length == 0:
            return self
        noise = torch.randn(self.text.shape, generator=generator) * (length / max(1, self.text.shape[1]) ** 0.5)
        return Condition(labels=self.labels, text=functional.normalize(self.text + noise, dim=1), text_mask=self.text_mask)

    def require_valid(self, *, num_labels: int, text_dim: int) -> None:
        """Refuses conditions that a network of these dimensions cannot take.

        Raises:
            BadDataError: A label out of range, embeddings of another width, or one that is not finite.
        """
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) <= num_labels:
            wrong = [int(label) for label in self.labels.tolist() if not 0 <= label <= num_labels]
            raise BadDataError(
                f"label index {wrong[0]} is out of range", hint=f"the model knows {num_labels} labels, counted from 0"
            )
        if self.text.shape != (len(self), text_dim):
            raise BadDataError(f"caption embeddings have shape {list(self.text.shape)}, expected {[len(self), text_dim]}")
        if not bool(torch.isfinite(self.text).all()):
            raise BadDataError("a caption embedding holds a number that is not finite")


def drop_conditions(
    condition: Condition,
    *,
    num_labels: int,
    all_probability: float,
    label_probability: float,
    text_probability: float,
    generator: torch.Generator,
) -> Condition:
    """Drops labels and captions at random, so that one network learns every combination (Ho & Salimans 2022, algorithm 1).

    With ``all_probability`` both go (the null condition of P8); otherwise each goes on its own with its probability,
    so that a label alone and a caption alone are conditions that the network knows.
    """
    chance = torch.rand(3, len(condition), generator=generator)
    both = chance[0] < all_probability
    return condition.dropped(
        labels=both | (chance[1] < label_probability), text=both | (chance[2] < text_probability), num_labels=num_labels
    )
