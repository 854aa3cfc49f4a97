"""Encoding and decoding pictures that are too large for memory, in overlapping tiles blended along linear ramps.

Each tile is coded on its own, so memory holds the picture, its latents and what one tile needs. Where tiles overlap, the weight
of one falls linearly as the other's rises, so that no edge shows. Near its own edges a tile lacks what lies beyond: a `margin`
of at least the codec's `receptive_radius` leaves that part out, and what is left equals coding the picture whole. Group norms
look farther than any margin, at the whole picture, so their statistics are gathered over all tiles first (`tiled_norms`). The
attention of a `KLAutoencoder` looks at its tile only; there a tiled picture differs a little from one coded whole.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.codec.autoencoder import Codec
from model_core.codec.config import CodecConfig, LatentConfig
from model_core.codec.kl_config import KLAutoencoderConfig
from model_core.codec.tiled_norms import MeasuredTile, whole_norms
from model_core.errors import BadDataError, BadModelError


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a picture is cut, counted in latent positions; a position is `factor` pixels wide.

    Attributes:
        tile: Side of a tile.
        overlap: What neighbouring tiles share, at least.
        margin: What is left out of a tile at each edge that lies inside the picture.
        whole_norms: Whether group norms use the statistics of the whole picture, which costs about half a pass over it for each
            norm; without, each tile has its own, which is faster and changes colours and contrast a little from tile to tile.

    Raises:
        BadModelError: The values do not fit together.
    """

    tile: int = 64
    overlap: int = 16
    margin: int = 0
    whole_norms: bool = True

    def __post_init__(self) -> None:
        """Refuses values that leave a position without a tile."""
        if not 0 <= 2 * self.margin <= self.overlap < self.tile:
            raise BadModelError(
                f"tiles of {self.tile} that share {self.overlap} with a margin of {self.margin} do not cover a picture",
                hint="the overlap is smaller than the tile and at least twice the margin",
            )


@torch.no_grad()
def encode_tiled(codec: Codec, pixels: Float[Tensor, "b 3 t H W"], tiling: Tiling) -> Float[Tensor, "b c t h w"]:
    """Returns the normalised latents of clips with values in [-1, 1], each frame in tiles; no gradient is kept.

    A picture that is not larger than a tile gives exactly what `Codec.encode` gives.

    Raises:
        BadDataError: Not five dimensions with three channels, a side that the codec's factor does not divide, or a pixel that is
            not finite.
        BadModelError: The codec compresses in time.
    """
    _require_frame_by_frame(codec)
    factor = codec.config.factor
    if pixels.ndim != 5 or pixels.shape[1] != 3:
        raise BadDataError(f"pixels have shape {list(pixels.shape)}, expected [batch, 3, frames, height, width]")
    height, width = pixels.shape[-2:]
    if min(height, width) < factor or height % factor or width % factor:
        raise BadDataError(
            f"a picture of {width}x{height} cannot be encoded by a codec that divides by {factor}",
            hint=f"use sizes that are multiples of {factor}",
        )
    latents = pixels.new_empty(pixels.shape[0], codec.config.latent_channels, pixels.shape[2], height // factor, width // factor)
    if max(latents.shape[-2:]) <= tiling.tile:
        return codec.encode(pixels)
    return _code(codec, codec.encode, pixels, latents.zero_(), tiling, units=(factor, 1))


@torch.no_grad()
def decode_tiled(codec: Codec, latents: Float[Tensor, "b c t h w"], tiling: Tiling) -> Float[Tensor, "b 3 t H W"]:
    """Returns clips with values in [-1, 1] from normalised latents, each frame in tiles; no gradient is kept.

    Latents that are not larger than a tile give exactly what `Codec.decode` gives.

    Raises:
        BadDataError: Not five dimensions with the codec's channels, no position, or a number that is not finite.
        BadModelError: The codec compresses in time.
    """
    _require_frame_by_frame(codec)
    channels, factor = codec.config.latent_channels, codec.config.factor
    if latents.ndim != 5 or latents.shape[1] != channels or min(latents.shape[-2:]) < 1:
        raise BadDataError(f"latents have shape {list(latents.shape)}, expected [b, {channels}, frames, height, width]")
    if not bool(latents.isfinite().all()):
        raise BadDataError("a latent to decode is not a finite number")
    height, width = latents.shape[-2:]
    if max(height, width) <= tiling.tile:
        return codec.decode(latents)
    pixels = latents.new_zeros(latents.shape[0], 3, latents.shape[2], height * factor, width * factor)
    return _code(codec, codec.decode, latents, pixels, tiling, units=(1, factor))


def _require_frame_by_frame(codec: Codec) -> None:
    """Refuses a codec whose frames depend on each other.

    Raises:
        BadModelError: It is one.
    """
    if codec.config.temporal_factor != 1:
        raise BadModelError("a codec that compresses in time is not coded in tiles", hint="encode and decode whole frames")


def receptive_radius(config: LatentConfig) -> int:
    """Returns how many latent positions away a codec's convolutions look: the encoder's or the decoder's, the farther.

    Group norms and attention are left out: they look at all there is.
    """
    pixels = max(_kl_reach(config) if isinstance(config, KLAutoencoderConfig) else _compact_reach(config))
    return -(-pixels // config.factor)


def _compact_reach(config: LatentConfig) -> tuple[int, int]:
    """Returns how many pixels beyond a latent position the encoder and the decoder of a compact codec look."""
    if not isinstance(config, CodecConfig):
        raise TypeError(f"no reach is known for a {type(config).__name__}")
    halvings = sum(1 << level for level in range(config.num_levels - 1))
    encoder = 1 + _blocks_reach(config.encoder_blocks) + halvings + config.factor
    decoder = config.factor + _blocks_reach(config.decoder_blocks) + 1
    return encoder, decoder


def _kl_reach(config: KLAutoencoderConfig) -> tuple[int, int]:
    """Returns the same for a `KLAutoencoder`."""
    levels, layers = len(config.block_out_channels), config.layers_per_block
    resamplings = sum(1 << level for level in range(levels - 1))
    inner = 5 * config.factor  # two blocks in the middle, and the first or last convolution at the latents' resolution
    encoder = 1 + _blocks_reach((layers,) * levels) + resamplings + inner
    decoder = inner + _blocks_reach((layers + 1,) * levels) + resamplings + 1
    return encoder, decoder


def _blocks_reach(num_blocks: Sequence[int]) -> int:
    """Returns how many pixels the residual blocks of each level look to either side, full resolution first."""
    return sum(2 * blocks << level for level, blocks in enumerate(num_blocks))


@dataclass(frozen=True, kw_only=True)
class Span:
    """A tile along one axis, in latent positions.

    Attributes:
        start: Where it starts.
        stop: Where it ends.
        owned: The part, counted from its start, that no other tile owns: to the middle of what it shares with its neighbours.
        weights: Its weight at each number, [size], several numbers a position where that is asked for.
    """

    start: int
    stop: int
    owned: tuple[int, int]
    weights: Tensor


def _code(
    codec: Codec, code: Callable[[Tensor], Tensor], source: Tensor, target: Tensor, tiling: Tiling, *, units: tuple[int, int]
) -> Float[Tensor, "b c t h w"]:
    """Adds the coded tiles of each frame to `target`, weighted; `units` is what a latent position measures in either."""
    of_source, of_target = units
    rows, columns = (spans(side // of_target, tiling, of_target) for side in target.shape[-2:])
    places = [(row, column) for row in rows for column in columns]
    for item in range(source.shape[0]):
        for frame in range(source.shape[2]):
            picture = source[item : item + 1, :, frame : frame + 1]
            tiles = [_measured_tile(picture, row, column, of_source) for row, column in places]
            with whole_norms(codec, code, tiles) if tiling.whole_norms else nullcontext():
                for (row, column), tile in zip(places, tiles, strict=True):
                    coded = code(tile.source())[0, :, 0]  # [c h w]
                    weights = (row.weights[:, None] * column.weights).to(coded)  # [h w]
                    _part(target[item, :, frame], row, column, of_target).add_(weights * coded)
    return target


def _part(x: Tensor, row: Span, column: Span, unit: int) -> Tensor:
    """Returns the view of a tile, `unit` numbers a latent position."""
    return x[..., row.start * unit : row.stop * unit, column.start * unit : column.stop * unit]


def _measured_tile(picture: Tensor, row: Span, column: Span, unit: int) -> MeasuredTile:
    return MeasuredTile(
        source=lambda: _part(picture, row, column, unit),
        size=(row.stop - row.start, column.stop - column.start),
        owned=(*row.owned, *column.owned),
    )


def spans(length: int, tiling: Tiling, unit: int = 1) -> list[Span]:
    """Returns the tiles along an axis of so many latent positions, with weights for `unit` numbers a position.

    At each place the weights of all tiles sum to one; the last tile is moved back to end where the axis does.
    """
    side = min(tiling.tile, length)
    starts = [*range(0, length - side, tiling.tile - tiling.overlap), length - side]
    middles = [(after + before + side) // 2 for before, after in pairwise(starts)]
    width = max((tiling.overlap - 2 * tiling.margin) * unit, 1e-9)  # an edge where nothing is left to blend
    ramp = ((torch.arange(side * unit, dtype=torch.float64) + 0.5 - tiling.margin * unit) / width).clamp(0.0, 1.0)
    total, raw = torch.zeros(length * unit, dtype=torch.float64), []
    for start in starts:
        weights = torch.ones_like(ramp)
        if start > 0:
            weights = weights * ramp
        if start + side < length:
            weights = weights * ramp.flip(0)
        total[start * unit : (start + side) * unit] += weights
        raw.append(weights)
    return [
        Span(
            start=start,
            stop=start + side,
            owned=(first - start, last - start),
            weights=weights / total[start * unit : (start + side) * unit],
        )
        for start, weights, first, last in zip(starts, raw, (0, *middles), (*middles, length), strict=True)
    ]
