"""Rotary positions along frames, height and width (Su 2021, arXiv 2104.09864), from the grid at hand: no weight knows the grid.

A head's width is pairs of numbers. Each pair belongs to one axis and turns with the token's coordinate on it, so that the product
of a query and a key depends on the difference of their coordinates alone. Frame 0 does not turn the pairs of time: a clip of one
frame is a picture.

Shape legend: b batch, n tokens, h heads, p pairs of a head (half its width); rotations are [n 1 p 2], a cosine and a sine each.
"""

import functools

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from model_core.transformer.config import Grid

_BASE = 10_000.0


def pairs_per_axis(head_dim: int) -> tuple[int, int, int]:
    """Returns how many pairs of a head turn with frame, row and column: a quarter or a little more with the frame."""
    pairs = head_dim // 2
    space = max(1, 3 * pairs // 8)
    return pairs - 2 * space, space, space


def axis_frequencies(pairs: int, *, stretch: float = 1.0) -> Float[Tensor, "pairs"]:
    """Returns radians a token for each pair of an axis, from 1 down towards 1/10,000.

    With a stretch s the base is multiplied by ``s^(p / (p - 1))``: the fastest pair turns as before and keeps neighbours apart,
    the slowest turns s times slower, so on an axis s times longer it covers the angles known from training ("NTK-aware" scaling;
    Peng 2023, arXiv 2309.00071).

    Args:
        pairs: Number of frequencies p.
        stretch: s, the axis's length over that in training; 1 for no change.
    """
    base = _BASE * stretch ** (pairs / (pairs - 1)) if pairs > 1 else _BASE
    return base ** (-torch.arange(pairs, dtype=torch.float64, device="cpu") / pairs)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # a table made while sampling serves training too
def grid_rotations(
    grid: Grid, head_dim: int, trained_grid: Grid | None = None, device: torch.device | None = None
) -> Float[Tensor, "n 1 p 2"]:
    """Returns, for each token of a grid in `patchify`'s order, cosines and sines of the angles by which a head's pairs turn.

    Args:
        grid: Tokens along frames, height and width.
        head_dim: Width of a head.
        trained_grid: The grid that longer axes are scaled down to; None for no scaling.
        device: Where the rotations are wanted, the CPU if not given; a table is computed once for each.
    """
    angles = []
    for axis, pairs in enumerate(pairs_per_axis(head_dim)):
        stretch = max(1.0, grid[axis] / trained_grid[axis]) if trained_grid else 1.0
        turns = torch.outer(torch.arange(grid[axis], dtype=torch.float64, device="cpu"), axis_frequencies(pairs, stretch=stretch))
        before, after = ([1] * axis, [1] * (2 - axis))
        angles.append(turns.view(*before, grid[axis], *after, pairs).expand(*grid, pairs))
    every = torch.cat(angles, dim=-1).flatten(0, 2).unsqueeze(1)  # [n 1 p]
    return torch.stack([every.cos(), every.sin()], dim=-1).to(device or "cpu", torch.float32)


def rotate(x: Float[Tensor, "b n h dim"], rotations: Float[Tensor, "#n 1 p 2"]) -> Float[Tensor, "b n h dim"]:
    """Turns the pairs of every head by the rotations of its token.

    A compiler gets the products of real numbers, since inductor fuses no complex ones. Without one, the same memory seen as
    complex numbers takes one pass in place of five.
    """
    pairs = rearrange(x.float(), "b n h (p two) -> b n h p two", two=2)
    turned = _turned(pairs, rotations) if torch.compiler.is_compiling() else _turned_as_complex(pairs, rotations)
    return turned.flatten(-2).to(x.dtype)


def _turned(pairs: Float[Tensor, "b n h p 2"], rotations: Float[Tensor, "#n 1 p 2"]) -> Float[Tensor, "b n h p 2"]:
    """Returns ``(x cos - y sin, x sin + y cos)`` of each pair (x, y)."""
    (x, y), (cos, sin) = pairs.unbind(-1), rotations.unbind(-1)
    return torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1)


def _turned_as_complex(pairs: Float[Tensor, "b n h p 2"], rotations: Float[Tensor, "#n 1 p 2"]) -> Float[Tensor, "b n h p 2"]:
    """Returns ``(x + i y)(cos + i sin)`` of each pair (x, y)."""
    return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotations))
