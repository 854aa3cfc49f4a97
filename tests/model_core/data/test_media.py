"""Pictures that nobody has vouched for."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from model_core.data.media import decode_picture, encode_png, square
from model_core.errors import BadDataError


def png_claiming(width: int, height: int) -> bytes:
    """Returns a PNG of a few hundred bytes whose header promises any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + chunk(b"IEND", b"")


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def test_encoding_and_decoding_gives_the_same_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert (decode_picture(encode_png(pixels), name="a") == pixels).all()
    assert encode_png(pixels) == encode_png(pixels.copy())


def test_transparent_pixels_become_white() -> None:
    picture = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    picture.putpixel((1, 0), (255, 0, 0, 255))
    assert decode_picture(encoded(picture), name="a").tolist() == [[[255, 255, 255], [255, 0, 0]]]


def test_a_palette_with_transparency_becomes_white() -> None:
    picture = Image.new("P", (1, 1), 0)
    picture.putpalette([10, 20, 30])
    assert decode_picture(encoded(picture, transparency=0), name="a").tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("keep", [0, 7, 30, 60, 200])
def test_a_truncated_png_is_named(keep: int) -> None:
    whole = encode_png(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    with pytest.raises(BadDataError, match=r"flags/3\.png"):
        decode_picture(whole[:keep], name="flags/3.png")


@pytest.mark.parametrize("size", [(8_001, 8_000), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_unpacks(size: tuple[int, int]) -> None:
    with pytest.raises(BadDataError, match=r"b\.png") as caught:
        decode_picture(png_claiming(*size), name="b.png")
    assert "64,000,000 pixels" in caught.value.hint


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(BadDataError, match="not a picture"):
        decode_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", name="a.eps")


def test_exif_orientation_is_applied_when_asked() -> None:
    picture = Image.new("RGB", (4, 2), "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture, "JPEG", exif=exif)
    assert decode_picture(data, name="a", upright=True).shape == (4, 2, 3)
    assert decode_picture(data, name="a").shape == (2, 4, 3)


def test_square_keeps_the_middle() -> None:
    pixels = np.zeros((4, 12, 3), dtype=np.uint8)
    pixels[:, 4:8] = 200
    assert (square(pixels, 4) == 200).all()
    assert square(pixels, 8).shape == (8, 8, 3)
