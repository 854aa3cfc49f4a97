"""What a codec is trained to minimise."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from model_core.codec.autoencoder import Posterior
from model_core.codec.perceptual import PerceptualLoss
from model_core.errors import BadModelError


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms of `codec_loss`.

    Attributes:
        l1: Of the mean absolute error of pixels.
        mse: Of their mean squared error.
        gradient: Of the mean absolute error of differences between neighbours, which keeps outlines sharp.
        kl: Of the KL divergence to N(0, I).
        kl_unit: What that divergence is counted in: nats a number of the latents, or nats a number of the picture. The second is
            the weighting of latent diffusion (Rombach 2021, arXiv 2112.10752, appendix G), where both the errors and the
            divergence are summed over a picture, the divergence with weight 1e-6.
        perceptual: Of the distance in a frozen network's features.
    """

    l1: float = 1.0
    mse: float = 1.0
    gradient: float = 0.5
    kl: float = 1e-5
    kl_unit: Literal["latent", "pixel"] = "latent"
    perceptual: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CodecLoss:
    """The loss of a batch.

    Attributes:
        total: What to minimise.
        reconstruction: Its part without the KL divergence.
        kl: The KL divergence in the unit asked for, not weighted; zero for a posterior that has none.
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
    frames: Float[Tensor, "n 3 H W"],
    reconstruction: Float[Tensor, "n 3 H W"],
    posterior: Posterior,
    weights: LossWeights,
    perceptual: PerceptualLoss | None = None,
) -> CodecLoss:
    """Returns the evidence lower bound's two parts, with a reconstruction term that people's eyes agree with more.

    Args:
        frames: The pictures, or all frames of some clips.
        reconstruction: What the codec made of them.
        posterior: The posterior of the pictures or clips.
        weights: Weights of the terms.
        perceptual: The distance of the perceptual term, where it has a weight.

    Raises:
        BadModelError: The perceptual term has a weight but no network, or a deterministic codec's KL term has a weight.
    """
    error = (
        weights.l1 * functional.l1_loss(reconstruction, frames)
        + weights.mse * functional.mse_loss(reconstruction, frames)
        + weights.gradient * gradient_loss(reconstruction, frames)
    )
    if weights.perceptual > 0:
        if perceptual is None:
            raise BadModelError("the perceptual term has a weight, but there is no network for it")
        error = error + weights.perceptual * perceptual(frames, reconstruction)
    if posterior.log_variance is None and weights.kl == 0:
        return CodecLoss(total=error, reconstruction=error, kl=error.new_zeros(()))
    kl = posterior.kl() if weights.kl_unit == "latent" else posterior.nats().mean() / (frames.numel() / len(posterior.mean))
    return CodecLoss(total=error + weights.kl * kl, reconstruction=error, kl=kl)
