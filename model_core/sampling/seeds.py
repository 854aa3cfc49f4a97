"""One seed a picture, so that a picture does not depend on which others are made with it."""

import hashlib
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

SEED_BITS = 53


def image_seed(seed: int, index: int) -> int:
    """Returns the seed of the picture at a place in a request: 53 bits of SHA-256, exact as a JSON number."""
    digest = hashlib.sha256(f"groundswell-image/{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def window_seed(seed: int, index: int, part: str = "frames") -> int:
    """Returns the seed of a part of a window of a clip; the first window's frames have the clip's own."""
    if index == 0 and part == "frames":
        return seed
    digest = hashlib.sha256(f"groundswell-window/{seed}/{index}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def noise_source(
    seeds: Sequence[int], latent_shape: tuple[int, int, int, int]
) -> Callable[[], Float[Tensor, "batch channels frames height width"]]:
    """Returns a source of standard normal noise; each call draws anew, each sample's from its own seed alone."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw() -> Tensor:
        drawn = [torch.randn(latent_shape, generator=generator) for generator in generators]
        return torch.stack(drawn) if drawn else torch.empty((0, *latent_shape))

    return draw


def noise_for_seeds(
    seeds: Sequence[int], latent_shape: tuple[int, int, int, int]
) -> Float[Tensor, "batch channels frames height width"]:
    """Returns standard normal noise, each sample drawn from its own seed alone: the first that `noise_source` draws."""
    return noise_source(seeds, latent_shape)()
