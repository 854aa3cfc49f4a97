import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model_core.codec.autoencoder import Codec
from model_core.codec.io import load_codec
from model_core.codec.tiled_norms import whole_norms
from model_core.codec.tiling import Tiling, decode_tiled, encode_tiled, receptive_radius, spans
from model_core.errors import BadDataError, BadModelError
from tests.model_core.codec.small import pictures, small_codec, small_config, small_kl_codec

SHIPPED = Path(__file__).parents[3] / "infra/codecs/openmoji-f4c8/codec"


def local_codec() -> Codec:
    """A codec without group norms, so that its receptive field is bounded."""
    return without_norms(small_codec(encoder_blocks=(0, 1, 0), decoder_blocks=(0, 0, 1)))


def without_norms(codec: Codec) -> Codec:
    codec = deepcopy(codec)
    for module in list(codec.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return codec.requires_grad_(requires_grad=False)


def gradient_picture(height: int, width: int) -> Tensor:
    """A picture whose brightness rises from left to right and whose colour changes from top to bottom, [1 3 1 H W]."""
    rows, columns = torch.linspace(-0.9, 0.9, height)[:, None], torch.linspace(-0.9, 0.9, width)[None]
    return torch.stack([columns.expand(height, width), rows.expand(height, width), (rows + columns) / 2])[None, :, None]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), tile=st.integers(1, 20), unit=st.integers(1, 4))
def test_weights_cover_an_axis_and_sum_to_one(data: st.DataObject, tile: int, unit: int) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    tiling = Tiling(tile=tile, overlap=overlap, margin=data.draw(st.integers(0, overlap // 2)))
    length = data.draw(st.integers(1, 90))
    total, owned = torch.zeros(length * unit, dtype=torch.float64), []
    for span in spans(length, tiling, unit):
        assert len(span.weights) == (span.stop - span.start) * unit == min(tile, length) * unit
        assert float(span.weights.min()) >= 0
        total[span.start * unit : span.stop * unit] += span.weights
        owned += range(span.start + span.owned[0], span.start + span.owned[1])
    assert owned == list(range(length))  # each position by one tile
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)


def test_ramps_are_linear_and_leave_margins_out() -> None:
    first, second = spans(14, Tiling(tile=10, overlap=6, margin=1))
    assert (first.start, second.start) == (0, 4)
    assert (first.owned, second.owned) == ((0, 7), (3, 10))
    assert first.weights.tolist() == pytest.approx([1, 1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125, 0])
    assert second.weights.tolist() == pytest.approx([0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("codec", [small_codec(), small_kl_codec()], ids=["compact", "autoencoder_kl"])
def test_a_picture_no_larger_than_a_tile_is_coded_whole(codec: Codec) -> None:
    clip = pictures(6, 16).view(2, 3, 3, 16, 16).transpose(1, 2)
    tiling = Tiling(tile=4, overlap=2)
    latents = encode_tiled(codec, clip, tiling)
    assert torch.equal(latents, codec.encode(clip))
    assert torch.equal(decode_tiled(codec, latents, tiling), codec.decode(latents))


@pytest.mark.parametrize(("height", "width"), [(96, 96), (72, 128), (16, 100)])
def test_with_the_receptive_field_as_margin_tiles_equal_the_whole(height: int, width: int) -> None:
    codec = local_codec()
    radius = receptive_radius(codec.config)
    tiling = Tiling(tile=2 * radius + 10, overlap=2 * radius + 2, margin=radius)
    pixels = torch.rand(1, 3, 1, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = codec.encode(pixels)
    assert max(whole.shape[-2:]) > tiling.tile
    torch.testing.assert_close(encode_tiled(codec, pixels, tiling), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decode_tiled(codec, whole, tiling), codec.decode(whole), atol=1e-5, rtol=1e-5)


def test_without_a_margin_the_inside_of_tiles_equals_the_whole() -> None:
    codec, pixels = local_codec(), pictures(1, 128).unsqueeze(2)
    radius, whole = receptive_radius(codec.config), codec.encode(pixels)  # type: ignore[arg-type]
    tiled = encode_tiled(codec, pixels, Tiling(tile=20, overlap=8))
    inside = slice(0, 12 - radius)  # the second tile starts at 12
    torch.testing.assert_close(tiled[..., inside, inside], whole[..., inside, inside], atol=1e-5, rtol=1e-5)
    assert float((tiled - whole).abs().max()) > 1e-4  # at the tiles' edges it does not


def reach(jacobian_row: Tensor, centre: int) -> int:
    """How far from a position an output depends on its input."""
    touched = jacobian_row.nonzero().flatten()
    return int((touched - centre).abs().max())


@pytest.mark.parametrize(
    "codec",
    [
        small_codec(encoder_blocks=(0, 1, 0), decoder_blocks=(0, 0, 1)),
        small_codec(encoder_blocks=(1, 0, 2), decoder_blocks=(1, 2, 0)),
        small_codec(encoder_blocks=(0, 0, 0), decoder_blocks=(0, 0, 0)),
        small_kl_codec(mid_block_add_attention=False, block_out_channels=(2, 2, 2)),
        small_kl_codec(mid_block_add_attention=False, block_out_channels=(2, 2), layers_per_block=2),
    ],
)
def test_the_receptive_radius_bounds_what_a_number_depends_on(codec: Codec) -> None:
    codec, f, middle = without_norms(codec), codec.config.factor, 40
    radius = receptive_radius(codec.config)
    pixels = torch.zeros(1, 3, 1, f, f * 81, requires_grad=True)
    codec.encode(pixels)[0, :, 0, 0, middle].sum().backward()
    far = reach(pixels.grad[0, :, 0].abs().sum(dim=(0, 1)).view(81, f).sum(1), middle)
    latents = torch.zeros(1, 4, 1, 1, 81, requires_grad=True)
    codec.pixels(latents[:, :, 0])[0, :, :, middle * f : middle * f + f].sum().backward()
    assert max(far, reach(latents.grad[0, :, 0].abs().sum(dim=(0, 1)), middle)) in {radius - 1, radius}


@pytest.mark.parametrize("changes", [{}, {"encoder_blocks": (1, 0, 1), "decoder_blocks": (0, 1, 0)}])
def test_with_the_whole_picture_s_norms_tiles_equal_the_whole(changes: dict[str, object]) -> None:
    codec = small_codec(**changes).requires_grad_(requires_grad=False)
    radius = receptive_radius(codec.config)
    tiling = Tiling(tile=2 * radius + 6, overlap=2 * radius + 2, margin=radius)
    pixels = gradient_picture(56, 120) + 0.05 * torch.randn(1, 3, 1, 56, 120, generator=torch.Generator().manual_seed(2))
    whole = codec.encode(pixels)
    torch.testing.assert_close(encode_tiled(codec, pixels, tiling), whole, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(decode_tiled(codec, whole, tiling), codec.decode(whole), atol=2e-5, rtol=1e-5)
    own = encode_tiled(codec, pixels, replace(tiling, whole_norms=False))
    assert float((own - whole).abs().max()) > 1e-3


def test_a_codec_is_left_as_it_was() -> None:
    codec, pixels = small_codec(), pictures(1, 32).unsqueeze(2)
    before = codec.encode(pixels)
    encode_tiled(codec, pixels, Tiling(tile=4, overlap=2))
    assert torch.equal(codec.encode(pixels), before)
    with pytest.raises(BadModelError, match="latents have shape"), whole_norms(codec, codec.decode, []):
        codec.decode(torch.zeros(1, 1, 1, 1, 1))
    assert not any(module._forward_hooks for module in codec.modules())


def test_a_kl_autoencoder_without_attention_is_tiled_exactly_too() -> None:
    codec = small_kl_codec(mid_block_add_attention=False, block_out_channels=(4, 8))
    radius = receptive_radius(codec.config)
    tiling = Tiling(tile=2 * radius + 20, overlap=2 * radius + 2, margin=radius)
    pixels = pictures(1, 160)[:, :, :16].unsqueeze(2)
    whole = codec.encode(pixels)
    torch.testing.assert_close(encode_tiled(codec, pixels, tiling), whole, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(decode_tiled(codec, whole, tiling), codec.decode(whole), atol=2e-5, rtol=1e-5)


def steps(difference: Tensor) -> float:
    """The largest step of a difference between neighbouring columns: a seam, where the difference changes from tile to tile."""
    return float((difference[..., 1:] - difference[..., :-1]).abs().max())


def test_seams_of_a_gradient_picture_are_bounded() -> None:
    codec, pixels = load_codec(SHIPPED), gradient_picture(64, 160)
    whole = codec.decode(codec.encode(pixels))
    found = {}
    for name, tiling in {
        "blended": Tiling(tile=24, overlap=16, margin=4),
        "own norms": Tiling(tile=24, overlap=16, margin=4, whole_norms=False),
        "cut": Tiling(tile=24, overlap=0, whole_norms=False),
    }.items():
        found[name] = steps(decode_tiled(codec, encode_tiled(codec, pixels, tiling), tiling) - whole)
    assert found["blended"] < 1e-3  # a step of 8 bits is 8e-3
    assert found["blended"] < 0.1 * found["own norms"] <= 0.1 * found["cut"]


@pytest.mark.parametrize("codec", [small_codec(), small_kl_codec()], ids=["compact", "autoencoder_kl"])
def test_frames_and_items_are_tiled_one_by_one(codec: Codec) -> None:
    frames, tiling = pictures(4, 24), Tiling(tile=4, overlap=1)
    clip = frames.view(2, 2, 3, 24, 24).transpose(1, 2)  # two clips of two frames
    together = encode_tiled(codec, clip, tiling)
    alone = torch.cat([encode_tiled(codec, frame[None, :, None], tiling) for frame in frames])
    assert torch.equal(together.transpose(1, 2).reshape(alone.squeeze(2).shape), alone.squeeze(2))
    decoded = decode_tiled(codec, together, tiling)
    assert decoded.shape == clip.shape
    assert torch.equal(decoded[1, :, 1], decode_tiled(codec, alone[3:], tiling)[0, :, 0])
    assert float(decoded.abs().max()) <= 1


def test_a_tile_s_side_bounds_what_is_coded_at_once() -> None:
    codec, largest = small_codec(), []
    encode, decode = codec.encode, codec.decode

    def watch(code: object) -> object:
        def watched(x: Tensor) -> Tensor:
            largest.append(math.prod(x.shape))
            return code(x)  # type: ignore[operator]

        return watched

    codec.encode, codec.decode = watch(encode), watch(decode)  # type: ignore[method-assign, assignment]
    tiling = Tiling(tile=8, overlap=2)
    latents = encode_tiled(codec, torch.zeros(2, 3, 2, 64, 96), tiling)
    assert max(largest) == 3 * 32 * 32
    largest.clear()
    decode_tiled(codec, latents, tiling)
    assert max(largest) == 4 * 8 * 8


@pytest.mark.parametrize("shape", [(1, 3, 1, 30, 32), (1, 3, 1, 32, 3), (1, 3, 1, 0, 32), (1, 1, 1, 32, 32), (3, 32, 32)])
def test_pictures_that_cannot_be_tiled_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadDataError):
        encode_tiled(small_codec(), torch.zeros(shape), Tiling(tile=4, overlap=2))


@pytest.mark.parametrize("size", [16, 64])
def test_pixels_and_latents_that_are_not_finite_are_refused(size: int) -> None:
    pixels = torch.zeros(1, 3, 1, size, size)
    pixels[0, 0, 0, -1, -1] = float("nan")
    with pytest.raises(BadDataError, match="finite"):
        encode_tiled(small_codec(), pixels, Tiling(tile=4, overlap=2))
    with pytest.raises(BadDataError, match="finite"):
        decode_tiled(small_codec(), torch.full((1, 4, 1, size // 4, size // 4), math.inf), Tiling(tile=4, overlap=2))


@pytest.mark.parametrize("shape", [(1, 3, 1, 8, 8), (1, 4, 8, 8), (1, 4, 1, 0, 8)])
def test_latents_that_cannot_be_tiled_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadDataError):
        decode_tiled(small_codec(), torch.zeros(shape), Tiling(tile=4, overlap=2))


@pytest.mark.parametrize(("tile", "overlap", "margin"), [(8, 8, 0), (8, -1, 0), (8, 2, 2), (0, 0, 0), (8, 4, -1)])
def test_tiles_that_cover_nothing_are_refused(tile: int, overlap: int, margin: int) -> None:
    with pytest.raises(BadModelError, match="cover"):
        Tiling(tile=tile, overlap=overlap, margin=margin)


def test_a_radius_is_at_least_what_the_last_convolutions_see() -> None:
    assert receptive_radius(small_config()) >= 2
