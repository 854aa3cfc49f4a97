"""How fast a run computes, and how near that is to what the machine can do."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from model_core.training.clip_lengths import mean_items
from model_core.training.config import TrainingConfig
from model_core.transformer.config import TransformerConfig
from model_core.transformer.flops import forward_flops

TRAINING_PASSES = 3
"""The backward pass multiplies twice as much as the forward one: gradients of inputs and of weights (Kaplan 2020, §2.1)."""

MatmulShape = tuple[int, int, int]
"""Rows, inner width and columns of a product of two matrices."""
MatmulPeak = Callable[[MatmulShape, torch.device, torch.dtype], float]
"""Returns the FLOP/s that a device reaches in a product."""

_MAX_SIDE = 4096
_MAX_FLOPS = {"cpu": 2 * 10**9, "cuda": 2 * _MAX_SIDE**3}  # of one product: a tenth of a second, or less
_PRODUCTS_A_TIMING = {"cpu": 1, "cuda": 16}  # a GPU is waited for once after them all, so that they follow on each other


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Turns steps per second into the field's measures of speed.

    Attributes:
        images_per_step: Items a step, over all processes; the mean where steps differ.
        tokens_per_step: Their tokens.
        flops_per_step: Floating-point operations in the matmuls of forward and backward pass; not those that activation
            checkpointing does again.
        peak_flops_per_s: What all processes together reach in a large matmul; None where nobody measured it.
    """

    images_per_step: float
    tokens_per_step: int
    flops_per_step: int
    peak_flops_per_s: float | None = None

    def share_of_peak(self, steps_per_s: float) -> float | None:
        """Returns the model FLOPs utilisation (Chowdhery 2022, arXiv 2204.02311, appendix B), of the measured peak."""
        return steps_per_s * self.flops_per_step / self.peak_flops_per_s if self.peak_flops_per_s else None


def throughput_of(
    config: TrainingConfig,
    architecture: TransformerConfig,
    latent_shape: tuple[int, int, int, int],
    *,
    text_tokens: int = 0,
    peak_flops_per_s: float | None = None,
) -> Throughput:
    """Returns the measures of a run on latents [channels frames height width], and captions of so many tokens."""
    grid = architecture.grid(latent_shape)
    return Throughput(
        images_per_step=mean_items(config, latent_shape[1]),
        tokens_per_step=config.batch_size * math.prod(grid),
        flops_per_step=TRAINING_PASSES * forward_flops(architecture, grid, config.batch_size, text_tokens=text_tokens),
        peak_flops_per_s=peak_flops_per_s,
    )


def widest_matmul(architecture: TransformerConfig, latent_shape: tuple[int, int, int, int], num_items: int) -> MatmulShape:
    """Returns the shape of the product into an MLP's hidden layer for so many items, which is where most work is done."""
    return num_items * math.prod(architecture.grid(latent_shape)), architecture.hidden_size, architecture.mlp_width


def measured_matmul_peak(
    shape: MatmulShape,
    device: torch.device,
    dtype: torch.dtype,
    *,
    duration_s: float = 0.2,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the FLOP/s of the fastest of the products that fit into a duration, after one that warms up.

    They multiply normal numbers: a GPU draws less power, and so keeps a higher clock, where most bits stay the same. The numbers
    come from a generator of their own, so that measuring changes no random number of a training.

    Args:
        shape: Rows, inner width, columns; what would make it slow to measure and no faster is left out.
        device: Where to measure.
        dtype: What to multiply.
        duration_s: Seconds to measure for.
        clock: Seconds.
    """
    inner, columns = min(shape[1], _MAX_SIDE), min(shape[2], _MAX_SIDE)
    rows = min(shape[0], _MAX_SIDE, max(1, _MAX_FLOPS[device.type] // (2 * inner * columns)))
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(sides, generator=generator, device=device).to(dtype) for sides in ((rows, inner), (inner, columns))
    )
    product, count = left @ right, _PRODUCTS_A_TIMING[device.type]
    _finish(device)
    fastest, end = math.inf, clock() + duration_s
    while True:
        before = clock()
        for _ in range(count):
            torch.matmul(left, right, out=product)
        _finish(device)
        now = clock()
        fastest = min(fastest, max(now - before, 1e-9))
        if now >= end:
            return 2 * count * rows * inner * columns / fastest


def _finish(device: torch.device) -> None:
    """Waits for a device that computes while Python goes on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
