"""What a codec is trained to minimise."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from model_core.codec.autoencoder import Posterior


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms of `codec_loss`.

    Attributes:
        l1: Of the mean absolute error of pixels.
        mse: Of their mean squared error.
        gradient: Of the mean absolute error of differences between neighbours, which keeps outlines sharp.
        kl: Of the KL divergence to N(0, I), in nats a number of the latents.
    """

    l1: float = 1.0
    mse: float = 1.0
    gradient: float = 0.5
    kl: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class CodecLoss:
    """The loss of a batch.

    Attributes:
        total: What to minimise.
        reconstruction: Its part without the KL divergence.
        kl: The KL divergence, not weighted.
    """

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def gradient_loss(x: Float[Tensor, "n c H W"], y: Float[Tensor, "n c H W"]) -> Float[Tensor, ""]:
    """Returns the mean absolute error of differences between horizontal and between vertical neighbours."""
    error = x - y
    horizontal = (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
    vertical = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return horizontal + vertical


def codec_loss(
    frames: Float[Tensor, "n 3 H W"], reconstruction: Float[Tensor, "n 3 H W"], posterior: Posterior, weights: LossWeights
) -> CodecLoss:
    """Returns the evidence lower bound's two parts, with a reconstruction term that people's eyes agree with more."""
    error = (
        weights.l1 * functional.l1_loss(reconstruction, frames)
        + weights.mse * functional.mse_loss(reconstruction, frames)
        + weights.gradient * gradient_loss(reconstruction, frames)
    )
    kl = posterior.kl()
    return CodecLoss(total=error + weights.kl * kl, reconstruction=error, kl=kl)
