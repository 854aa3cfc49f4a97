"""Clips as files that players open: MP4 (H.264), animated WebP and GIF; equal frames give equal bytes of one library version.

Frames are uint8 [frames height width 3], RGB. MP4 keeps colours at half the resolution (4:2:0, which every player knows) and
GIF at most 256 colours; animated WebP is written without loss.
"""

import io
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from PIL import Image

from model_core.data.media import Pixels
from model_core.errors import BadDataError

_CRF: Final = "14"
"""H.264's constant rate factor: 0 is without loss, 23 the usual. Small frames show artefacts early."""
_MAX_FPS: Final = 240


def encode_mp4(frames: Pixels, fps: float) -> bytes:
    """Encodes a clip as MP4 with one H.264 stream, its index in front, so that it plays while it loads.

    Raises:
        BadDataError: There are no frames, a side is odd, or `fps` is none.
    """
    import av

    _check(frames, fps)
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise BadDataError(
            f"H.264 needs even sides, and the clip is {width}x{height} pixels", hint="choose the format webp or gif"
        )
    rate = Fraction(fps).limit_denominator(1001)
    options = {"movflags": "faststart", "fflags": "bitexact"}
    with TemporaryDirectory() as folder:  # the index moves to the front by a second pass over a real file
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", format="mp4", options=options) as container:
            _encode_h264(container, frames, rate)
        return path.read_bytes()


def _encode_h264(container: Any, frames: Pixels, rate: Fraction) -> None:
    import av

    stream = container.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": "slow", "flags": "bitexact"})
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.thread_count = 1  # the bytes depend on how many threads share the work
    for pixels in frames:
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    container.mux(stream.encode(None))


def encode_webp(frames: Pixels, fps: float) -> bytes:
    """Encodes a clip as animated WebP without loss, played over and over.

    Raises:
        BadDataError: There are no frames, or `fps` is none.
    """
    return _animation(frames, fps, "WEBP", lossless=True, quality=80, method=4, minimize_size=False)


def encode_gif(frames: Pixels, fps: float) -> bytes:
    """Encodes a clip as GIF of at most 256 colours a frame, played over and over; its clock counts hundredths of a second.

    Raises:
        BadDataError: There are no frames, or `fps` is none.
    """
    return _animation(frames, fps, "GIF", disposal=1)


def _animation(frames: Pixels, fps: float, name: str, **how: object) -> bytes:
    _check(frames, fps)
    pictures = [Image.fromarray(pixels) for pixels in frames]
    buffer = io.BytesIO()
    pictures[0].save(buffer, format=name, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, **how)
    return buffer.getvalue()


def filmstrip(frames: Pixels, num_shown: int = 8) -> Pixels:
    """Returns evenly spaced frames side by side, uint8 [height num_shown*width 3], the first and the last among them."""
    places = np.linspace(0, len(frames) - 1, min(num_shown, len(frames))).round().astype(int)
    return np.concatenate(list(frames[places]), axis=1)


def _check(frames: Pixels, fps: float) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise BadDataError(f"a clip of shape {list(frames.shape)} and type {frames.dtype} cannot be written")
    if not 0 < fps <= _MAX_FPS:
        raise BadDataError(f"a clip of {fps} frames a second cannot be written", hint=f"above 0, at most {_MAX_FPS}")
