"""Mean, spread and tails of latents, shard by shard: in memory is one shard, however many there are.

Shape legend: n items, c latent channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model_core.data.latents import read_shard, shard_name

_AXES = (0, 2, 3, 4)
_SMALLEST_STD = 1e-12


@dataclass(frozen=True, kw_only=True)
class ChannelMoments:
    """Of each channel, over items, frames and places: mean, standard deviation and kurtosis (3 for a normal distribution)."""

    mean: Float[Tensor, "c"]
    std: Float[Tensor, "c"]
    kurtosis: Float[Tensor, "c"]


def channel_moments(folder: Path, chosen: Bool[Tensor, "n"]) -> ChannelMoments:
    """Returns the moments of the chosen items among latents whose shards are written.

    Two passes, because sums of powers of values that are far from zero leave nothing of a small spread.

    Args:
        folder: Of the latents.
        chosen: Which items, in the order in which they were written; at least one.

    Raises:
        BadDataError: A shard is missing or damaged.
    """
    count, total = 0, torch.zeros(())
    for latents in _shards(folder, chosen):
        count += latents.numel() // latents.shape[1]
        total = total + latents.sum(dim=_AXES)
    mean = total / count
    squares, fourths = torch.zeros_like(mean), torch.zeros_like(mean)
    for latents in _shards(folder, chosen):
        powers = (latents - mean.view(-1, 1, 1, 1)).square()
        squares += powers.sum(dim=_AXES)
        fourths += powers.square().sum(dim=_AXES)
    std = (squares / count).sqrt()
    return ChannelMoments(mean=mean, std=std, kurtosis=fourths / count / std.clamp_min(_SMALLEST_STD).pow(4))


def _shards(folder: Path, chosen: Bool[Tensor, "n"]) -> Iterator[Float[Tensor, "m c f h w"]]:
    """Yields the chosen items of each shard that has some, in double precision."""
    start = number = 0
    while start < len(chosen):
        latents = read_shard(folder / shard_name(number))
        wanted = chosen[start : start + len(latents)]
        start, number = start + len(latents), number + 1
        if bool(wanted.any()):
            yield latents[wanted].double()
