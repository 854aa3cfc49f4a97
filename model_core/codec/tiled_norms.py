"""Group norms that use a whole picture's statistics while the picture is coded tile by tile.

A group norm subtracts the mean of a group of channels over the whole picture and divides by their spread (Wu & He 2018, arXiv
1803.08494, eq. 1-3). A tile alone has others, so it would be coded in other colours than its neighbours. Here the statistics of
each norm are gathered over all tiles before it is applied to any, one norm after the other, because what reaches a norm depends
on those before it. Memory still holds one tile only; the price is about half a pass over the picture for each norm.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model_core.codec.statistics import Moments, moments


class _Stopped(Exception):  # noqa: N818  # no error: it ends a pass where the next norm to measure is
    """What comes after a norm is not needed while it is measured."""


@dataclass(frozen=True, kw_only=True)
class MeasuredTile:
    """A tile to measure on.

    Attributes:
        source: What is coded, a clip of one frame.
        size: Height and width of the tile in latent positions.
        owned: The part (top, bottom, left, right) of the tile that no other tile counts, in latent positions.
    """

    source: Callable[[], Tensor]
    size: tuple[int, int]
    owned: tuple[int, int, int, int]


@dataclass(kw_only=True)
class _Measuring:
    """What is known so far."""

    found: dict[nn.GroupNorm, Moments] = field(default_factory=dict)
    norm: nn.GroupNorm | None = None
    total: Moments | None = None
    tile: MeasuredTile | None = None

    def apply(self, norm: nn.GroupNorm, inputs: tuple[Tensor], _own: Tensor) -> Tensor:
        """Normalises by the whole picture's statistics, or gathers them; a hook of each group norm."""
        (x,) = inputs
        if norm in self.found:
            return _normalise(norm, x, self.found[norm])
        self.norm = norm
        if self.tile is None:
            raise RuntimeError("a group norm was reached that no tile reached before")
        part = moments(_owned(x, self.tile).reshape(1, norm.num_groups, -1, 1))
        self.total = part if self.total is None else self.total.merge(part)
        raise _Stopped


@contextmanager
def whole_norms(network: nn.Module, code: Callable[[Tensor], Tensor], tiles: Sequence[MeasuredTile]) -> Iterator[None]:
    """Has the group norms of a network use the statistics of all tiles together; puts them back as they were afterwards.

    The network is changed meanwhile, so it cannot be used from another thread.

    Args:
        network: Whose group norms.
        code: Runs the network on a tile.
        tiles: The tiles of one frame; their owned parts make up the whole.
    """
    state = _Measuring()
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    hooks = [norm.register_forward_hook(state.apply) for norm in norms]
    try:
        while _measure_next(state, code, tiles):
            pass
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _measure_next(state: _Measuring, code: Callable[[Tensor], Tensor], tiles: Sequence[MeasuredTile]) -> bool:
    """Measures the next norm on all tiles; returns whether there was one."""
    for tile in tiles:
        state.tile = tile
        try:
            code(tile.source())
        except _Stopped:
            continue
        return False  # a tile came through: every norm is measured
    if state.norm is None or state.total is None:
        return False  # there is no tile
    state.found[state.norm] = state.total
    state.norm = state.total = state.tile = None
    return True


def _owned(x: Float[Tensor, "1 c h w"], tile: MeasuredTile) -> Float[Tensor, "1 c h_owned w_owned"]:
    """Returns the part of a tile's activations that the tile owns, at whatever resolution they are."""
    scale_y, scale_x = x.shape[2] / tile.size[0], x.shape[3] / tile.size[1]
    top, bottom, left, right = tile.owned
    return x[:, :, int(top * scale_y) : int(bottom * scale_y), int(left * scale_x) : int(right * scale_x)]


def _normalise(norm: nn.GroupNorm, x: Float[Tensor, "1 c h w"], found: Moments) -> Float[Tensor, "1 c h w"]:
    """Returns what the norm gives with the whole picture's statistics."""
    per_group = norm.num_channels // norm.num_groups
    mean = found.mean.repeat_interleave(per_group)
    scale = (found.variance + norm.eps).rsqrt().repeat_interleave(per_group)
    shift = -mean * scale
    if norm.affine:
        weight, bias = norm.weight.double(), norm.bias.double()
        scale, shift = scale * weight, shift * weight + bias
    normalised: Tensor = torch.addcmul(shift.to(x).view(-1, 1, 1), x, scale.to(x).view(-1, 1, 1))
    return normalised
