"""What a sample is conditioned on: a label, a caption, both or neither (c and the null condition of P5 to P8)."""

from dataclasses import dataclass, replace

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
        text_mask: False where there is no caption; the embedding and the states there are not read.
        text_states: States of the captions' tokens, for networks that attend to them.
        text_states_mask: False at places without a token.
    """

    labels: Int[Tensor, "batch"]
    text: Float[Tensor, "batch dim"]
    text_mask: Bool[Tensor, "batch"]
    text_states: Float[Tensor, "batch m width"] | None = None
    text_states_mask: Bool[Tensor, "batch m"] | None = None

    def __len__(self) -> int:
        """Returns the batch size."""
        return len(self.labels)

    def null(self, num_labels: int) -> "Condition":
        """Returns the null condition for as many samples: no label, no caption."""
        return replace(self, labels=torch.full_like(self.labels, num_labels), text_mask=torch.zeros_like(self.text_mask))

    def followed_by(self, other: "Condition") -> "Condition":
        """Returns both batches as one; captions' tokens are filled up to the longer number of them.

        Raises:
            BadDataError: Only one of the batches has token states.
        """
        states, states_mask = _joined_states(self, other)
        return Condition(
            labels=torch.cat([self.labels, other.labels]),
            text=torch.cat([self.text, other.text]),
            text_mask=torch.cat([self.text_mask, other.text_mask]),
            text_states=states,
            text_states_mask=states_mask,
        )

    def rows(self, indices: Int[Tensor, "chosen"]) -> "Condition":
        """Returns the conditions of chosen samples, in their order."""
        return Condition(
            labels=self.labels[indices],
            text=self.text[indices],
            text_mask=self.text_mask[indices],
            text_states=None if self.text_states is None else self.text_states[indices],
            text_states_mask=None if self.text_states_mask is None else self.text_states_mask[indices],
        )

    def to(self, device: torch.device) -> "Condition":
        """Returns the conditions with their tensors on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in vars(self).items() if tensor is not None})

    def dropped(self, *, labels: Bool[Tensor, "batch"], text: Bool[Tensor, "batch"], num_labels: int) -> "Condition":
        """Returns the conditions without the labels and captions marked True."""
        return replace(self, labels=self.labels.masked_fill(labels, num_labels), text_mask=self.text_mask & ~text)

    def with_text_noise(self, length: float, generator: torch.Generator) -> "Condition":
        """Returns the conditions with noise of about this length added to the pooled embeddings, scaled to length 1 again."""
        if length == 0:
            return self
        noise = torch.randn(self.text.shape, generator=generator) * (length / max(1, self.text.shape[1]) ** 0.5)
        return replace(self, text=functional.normalize(self.text + noise, dim=1))

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
        self._require_valid_states(text_dim)

    def _require_valid_states(self, text_dim: int) -> None:
        """Refuses token states of another number or width, or with a number that is not finite where a token is."""
        states, mask = self.text_states, self.text_states_mask
        if states is None:
            if mask is not None:
                raise BadDataError("a condition has a mask of caption tokens without their states")
            return
        if states.ndim != 3 or len(states) != len(self) or states.shape[2] != text_dim:
            raise BadDataError(f"caption token states have shape {list(states.shape)}, expected {[len(self), 'any', text_dim]}")
        if mask is not None and mask.shape != states.shape[:2]:
            raise BadDataError(f"the mask of caption tokens has shape {list(mask.shape)}, expected {list(states.shape[:2])}")
        read = states if mask is None else states[mask]
        if not bool(torch.isfinite(read).all()):
            raise BadDataError("a caption's token state holds a number that is not finite")


def _joined_states(first: Condition, second: Condition) -> tuple[Tensor | None, Tensor | None]:
    """Returns the token states and mask of two batches as one."""
    if first.text_states is None and second.text_states is None:
        return None, None
    if first.text_states is None or second.text_states is None:
        raise BadDataError("captions with token states cannot join captions without them")
    longest = max(first.text_states.shape[1], second.text_states.shape[1])
    states, masks = [], []
    for condition, found in ((first, first.text_states), (second, second.text_states)):
        mask = condition.text_states_mask
        known = torch.ones(found.shape[:2], dtype=torch.bool, device=found.device) if mask is None else mask
        missing = longest - found.shape[1]
        states.append(functional.pad(found, (0, 0, 0, missing)))
        masks.append(functional.pad(known, (0, missing)))
    return torch.cat(states), torch.cat(masks)


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
