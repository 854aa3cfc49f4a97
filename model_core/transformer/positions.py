"""Where a token stands, from the grid at hand: nothing of it is stored in the weights, so any size goes."""

import functools
import math

import torch
from jaxtyping import Float, Real
from torch import Tensor

_MAX_PERIOD = 10_000.0


def sinusoid(positions: Real[Tensor, "*n"], dim: int, *, cos_first: bool = False) -> Float[Tensor, "*n dim"]:
    """Returns sines and cosines of positions at ``dim / 2`` frequencies from 1 down to 1/10,000 (Vaswani 2017, §3.5).

    Args:
        positions: Any real numbers.
        dim: Even width of the embedding.
        cos_first: Cosines before sines, as the DiT reference embeds timesteps; positions have sines first.
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(_MAX_PERIOD) * torch.arange(half, dtype=torch.float64, device=positions.device) / half)
    angles = positions.to(torch.float64)[..., None] * frequencies  # [... half]
    parts = [angles.cos(), angles.sin()] if cos_first else [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=-1).to(torch.float32)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # a table made while sampling serves training too
def grid_positions(grid: tuple[int, int, int], dim: int, device: torch.device | None = None) -> Float[Tensor, "tokens dim"]:
    """Returns a position for each token of a grid (frames, height, width), in `patchify`'s order.

    One half of the width encodes the column, the other the row, as in the DiT reference; a frame's number is added over the full
    width as its difference from frame 0, so that a picture, a clip of one frame, has exactly the positions of a DiT for pictures.

    Args:
        grid: Tokens along frames, height and width.
        dim: Width of the embedding, a multiple of 4.
        device: Where the positions are wanted, the CPU if not given; a table is computed once for each.
    """
    t, h, w = (torch.arange(side, device="cpu") for side in grid)  # the same numbers on every device
    columns, rows = sinusoid(w, dim // 2), sinusoid(h, dim // 2)  # [w dim/2], [h dim/2]
    space = torch.cat([columns.expand(grid[1], -1, -1), rows[:, None].expand(-1, grid[2], -1)], dim=2)  # [h w dim]
    time = sinusoid(t, dim) - sinusoid(torch.zeros(1, device="cpu"), dim)  # [t dim]
    return (space + time[:, None, None]).reshape(-1, dim).to(device or "cpu")
