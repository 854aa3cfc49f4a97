"""The adversarial part of a codec's training: a discriminator, its optimiser, and when they take part."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model_core.codec.checkpoint import moments_of, restore_moments
from model_core.codec.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    discriminator_hinge,
    generator_hinge,
    smallest_side,
)
from model_core.errors import BadModelError, TrainingDivergedError

_ADAM_BETAS = (0.5, 0.9)
_PREFIX = "discriminator"
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """How a discriminator takes part in a codec's training.

    Attributes:
        start_step: The first step in which it does; before, the codec learns from the other terms alone.
        weight: What the adaptive weight is multiplied by.
        width: Channels of the discriminator's first layer.
        num_layers: Its layers that halve the resolution.
        learning_rate: Of its Adam, constant.

    Raises:
        BadModelError: A value is out of range.
    """

    start_step: int
    weight: float = 0.8
    width: int = 64
    num_layers: int = 3
    learning_rate: float = 2e-4

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        if self.start_step < 0 or self.weight <= 0 or self.learning_rate <= 0:
            raise BadModelError("codec: the discriminator's start_step must not be negative, its weight and rate positive")
        if not 1 <= self.width <= 512 or not 1 <= self.num_layers <= 6:
            raise BadModelError(f"codec: a discriminator of width {self.width} and {self.num_layers} layers is out of range")


class Adversary:
    """A discriminator in training.

    Args:
        plan: How it takes part.
        crop_size: Side of the pictures it will judge.
        seed: Decides its first weights.
        device: Where it computes.

    Raises:
        BadModelError: The pictures are too small for it.
    """

    def __init__(self, plan: AdversarialTraining, *, crop_size: int, seed: int, device: torch.device = _CPU) -> None:
        if crop_size < smallest_side(plan.num_layers):
            raise BadModelError(
                f"crops of {crop_size} px are too small for a discriminator of {plan.num_layers} layers",
                hint=f"use crops of at least {smallest_side(plan.num_layers)} px, or fewer layers",
            )
        self.plan = plan
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = PatchDiscriminator(width=plan.width, num_layers=plan.num_layers).train().to(device)
        self.parameters = dict(self.network.named_parameters())
        self.optimiser = torch.optim.Adam(self.parameters.values(), lr=plan.learning_rate, betas=_ADAM_BETAS)

    def takes_part(self, step: int) -> bool:
        """Whether the discriminator counts, and learns, in a step (the first is 0)."""
        return step >= self.plan.start_step

    def codec_loss(
        self, reconstruction: Float[Tensor, "n 3 H W"], reconstruction_loss: Float[Tensor, ""], last_weight: nn.Parameter
    ) -> Float[Tensor, ""]:
        """Returns the weighted adversarial term of the codec's loss."""
        loss = generator_hinge(self.network(reconstruction))
        return self.plan.weight * adaptive_weight(reconstruction_loss, loss, last_weight) * loss

    def step(self, frames: Float[Tensor, "n 3 H W"], reconstruction: Float[Tensor, "n 3 H W"]) -> float:
        """Trains the discriminator on one batch and returns its loss.

        Raises:
            TrainingDivergedError: The loss is not finite.
        """
        loss = discriminator_hinge(self.network(frames), self.network(reconstruction.detach()))
        value = loss.item()
        if not torch.isfinite(loss):
            raise TrainingDivergedError(f"the discriminator's loss is {value}", hint="lower its learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimiser.step()
        return value

    def tensors(self) -> dict[str, Tensor]:
        """Returns the whole state, named for a checkpoint."""
        weights = {f"{_PREFIX}/{name}": tensor for name, tensor in self.network.state_dict().items()}
        return weights | moments_of(self.optimiser, self.parameters, prefix=f"{_PREFIX}/")

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `tensors` returned.

        Raises:
            KeyError: A tensor is missing.
            RuntimeError: A tensor has another shape.
        """
        for name, target in self.network.state_dict().items():
            target.copy_(tensors[f"{_PREFIX}/{name}"])
        restore_moments(self.optimiser, self.parameters, tensors, prefix=f"{_PREFIX}/")
