"""Mean and standard deviation of latents, measured in one pass over any number of pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.codec.autoencoder import Codec
from model_core.device import exact_convolutions
from model_core.errors import BadDataError, BadModelError

_BATCH = 64
_SMALLEST_STD = 1e-6


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Count, mean and sum of squared deviations of each channel, in float64.

    Attributes:
        count: Numbers of a channel.
        mean: Their mean, [c].
        deviation: The sum of their squared deviations from it, [c].
    """

    count: int
    mean: Tensor
    deviation: Tensor

    def merge(self, other: "Moments") -> "Moments":
        """Returns the moments of both sets together (Chan, Golub & LeVeque 1983, The American Statistician 37(3), eq. 2.1)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * (other.count / count),
            deviation=self.deviation + other.deviation + delta.square() * (self.count * other.count / count),
        )

    @property
    def variance(self) -> Float[Tensor, "c"]:
        """The variance of each channel, of the set itself (divided by the count)."""
        return self.deviation / self.count


def moments(latents: Float[Tensor, "n c *k h w"]) -> Moments:
    """Returns the moments of one batch of latents."""
    values = latents.double()
    axes = (0, *range(2, values.ndim))
    mean = values.mean(dim=axes, keepdim=True)
    deviation = (values - mean).square().sum(dim=axes)
    return Moments(count=values.numel() // values.shape[1], mean=mean.flatten(), deviation=deviation)


@torch.no_grad()
@exact_convolutions()
def measure(codec: Codec, batches: Iterable[Float[Tensor, "n 3 *t H W"]]) -> Moments:
    """Returns the moments of the latents of pictures, before normalisation, keeping no more than a batch.

    Raises:
        BadDataError: There is no picture.
    """
    total: Moments | None = None
    for frames in batches:
        found = moments(codec.posterior(frames.to(codec.device)).mode())
        total = found if total is None else total.merge(found)
    if total is None:
        raise BadDataError("there is no picture to measure latents on", hint="the dataset's training split is empty")
    return total


def latent_statistics(codec: Codec, scales: Sequence[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each latent channel, before normalisation; each scale counts the same.

    Args:
        codec: Whose latents.
        scales: The training pictures at each scale, [n 3 H W]; clips, [n 3 t H W], for a codec that compresses in time.

    Raises:
        BadDataError: There is no picture.
        BadModelError: A channel is constant, so it cannot be normalised.
    """
    parts = [measure(codec, torch.split(frames, _batch(frames)) if len(frames) else ()) for frames in scales]
    means = torch.stack([part.mean for part in parts])  # [s c]
    mean = means.mean(0)
    variance = torch.stack([part.variance for part in parts]).mean(0) + (means - mean).square().mean(0)  # within and between
    std = variance.sqrt()
    if not bool((std > _SMALLEST_STD).all()):
        raise BadModelError(
            "a latent channel of the codec is constant", hint="use fewer latent channels, more data or a smaller KL weight"
        )
    return tuple(mean.tolist()), tuple(std.tolist())


def _batch(frames: Tensor) -> int:
    """Returns how many pictures, or how many clips of as many frames, are coded at a time."""
    return _BATCH if frames.ndim == 4 else max(1, _BATCH // frames.shape[2])
