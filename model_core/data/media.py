"""Decoding of pictures that nobody has vouched for, and encoding that gives the same bytes for the same pixels.

A clip is kept as a filmstrip: its frames one below the other in one PNG file, which every viewer shows and nothing is lost in.

Shapes: pixels are uint8 [height width 3], RGB; the frames of a clip are uint8 [frames height width 3].
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from model_core.errors import BadDataError

MAX_PIXELS = 64_000_000
"""The largest picture that is decoded, in pixels; a larger one is refused before its pixels are unpacked."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

Pixels = npt.NDArray[np.uint8]


def decode_picture(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS, upright: bool = False) -> Pixels:
    """Decodes a still picture to RGB, laying what is transparent over white.

    Args:
        data: The bytes of a PNG, JPEG, WebP, GIF, BMP or TIFF file; of an animation the first frame is taken.
        name: What to call the picture in an error.
        max_pixels: The largest picture to decode.
        upright: Turn the picture as its EXIF orientation says.

    Returns:
        Pixels, uint8 [height width 3].

    Raises:
        BadDataError: The bytes are no picture of a known format, are cut short, or unpack to more than `max_pixels`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise _bomb(f"{name} unpacks to {width}x{height} pixels", max_pixels)
            picture.load()
            turned = ImageOps.exif_transpose(picture) if upright else picture
            return over_white(turned)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's own limit lies above ours, and is checked when it opens the file.
        raise _bomb(f"{name} cannot be decoded: {error}", max_pixels) from error
    except UnidentifiedImageError as error:
        raise BadDataError(f"{name} is not a picture of a known format", hint="use PNG, JPEG or WebP") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadDataError(f"{name} cannot be decoded: {error}", hint="the file is damaged or cut short; replace it") from error


def _bomb(diagnosis: str, max_pixels: int) -> BadDataError:
    hint = f"at most {max_pixels:,} pixels are decoded; shrink the picture, or remove it: it may be a decompression bomb"
    return BadDataError(diagnosis, hint=hint)


def over_white(picture: Image.Image) -> Pixels:
    """Returns a picture's RGB pixels, blended over white where it is transparent."""
    if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(canvas, rgba)
    return np.asarray(picture.convert("RGB"), dtype=np.uint8)


def square(pixels: Pixels, size: int) -> Pixels:
    """Returns the largest centred square of a picture, resampled to `size` x `size` pixels."""
    picture = Image.fromarray(pixels)
    if picture.size == (size, size):
        return pixels
    return np.asarray(ImageOps.fit(picture, (size, size), method=Image.Resampling.LANCZOS, centering=(0.5, 0.5)), dtype=np.uint8)


def encode_png(pixels: Pixels) -> bytes:
    """Encodes pixels as a PNG without any metadata: equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()


def encode_filmstrip(frames: Pixels) -> bytes:
    """Encodes the frames of a clip, [frames height width 3], as one PNG, the first on top: equal pixels give equal bytes."""
    return encode_png(frames.reshape(-1, *frames.shape[2:]))


def decode_filmstrip(data: bytes, num_frames: int, *, name: str) -> Pixels:
    """Decodes a filmstrip to uint8 [frames height width 3]; a picture is one of a single frame.

    Raises:
        BadDataError: As `decode_picture` does, or the picture's height is no multiple of the number of frames.
    """
    strip = decode_picture(data, name=name)
    height, width, _ = strip.shape
    if num_frames < 1 or height % num_frames:
        raise BadDataError(f"{name} is {width}x{height} pixels, which is no filmstrip of {num_frames} frames")
    return strip.reshape(num_frames, height // num_frames, width, 3)


def overview(frames: Pixels) -> Pixels:
    """Returns one picture that stands for frames, [frames height width 3]: the only one, or of a clip four in a square."""
    if len(frames) == 1:
        return frames.reshape(frames.shape[1:])
    first, second, third, last = frames[np.linspace(0, len(frames) - 1, 4).round().astype(int)]
    return np.concatenate([np.concatenate([first, second], axis=1), np.concatenate([third, last], axis=1)])
