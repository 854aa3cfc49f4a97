"""Clips as files that players open: MP4 (H.264), animated WebP and GIF; equal frames give equal bytes of one library version.

Frames are uint8 [frames height width 3], RGB. MP4 keeps colours at half the resolution (4:2:0, which every player knows) and
GIF at most 256 colours; animated WebP is written without loss.
"""

import io
import math
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import numpy as np
from PIL import Image

from model_core.data.media import Pixels
from model_core.errors import BadDataError

_CRF: Final = "14"
"""H.264's constant rate factor: 0 is without loss, 23 the usual. Small frames show artefacts early."""
_LOOKAHEAD: Final = "15"
"""Frames that the encoder looks ahead, and holds; the preset's fifty would be most of what it holds."""
_MAX_FPS: Final = 240


def encode_mp4(frames: Pixels, fps: float) -> bytes:
    """Encodes a clip as MP4 with one H.264 stream, its index in front, so that it plays while it loads.

    Raises:
        BadDataError: There are no frames, a side is odd, or `fps` is none.
    """
    _check(frames, fps)
    with TemporaryDirectory() as folder:  # the index moves to the front by a second pass over a real file
        path = Path(folder) / "clip.mp4"
        with Mp4Writer(path, fps) as writer:
            writer.write(frames)
        return path.read_bytes()


class Mp4Writer:
    """Writes a clip as MP4 with one H.264 stream as its frames come; the file is whole once the context is left.

    What is held are the few frames that the encoder looks ahead, and of every other its place in the file. However the frames are
    divided among calls, the bytes are the same.

    Args:
        path: The file to write.
        fps: Frames a second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._container: Any = None
        self._stream: Any = None

    def write(self, frames: Pixels) -> None:
        """Appends frames, all of one size.

        Raises:
            BadDataError: There are no frames, a side is odd, or `fps` is none.
        """
        import av

        _check(frames, self._fps)
        if self._container is None:
            self._open(*frames.shape[1:3])
        for pixels in frames:
            self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

    def __enter__(self) -> Self:
        """Returns the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finishes the file; after an error it is left as it is."""
        if self._container is None:
            return
        with self._container:
            if kind is None:
                self._container.mux(self._stream.encode(None))

    def _open(self, height: int, width: int) -> None:
        import av

        if height % 2 or width % 2:
            raise BadDataError(
                f"H.264 needs even sides, and the clip is {width}x{height} pixels", hint="choose the format webp or gif"
            )
        rate = Fraction(self._fps).limit_denominator(1001)
        options = {"movflags": "faststart", "fflags": "bitexact"}
        self._container = av.open(str(self._path), "w", format="mp4", options=options)
        how = {"crf": _CRF, "preset": "slow", "rc-lookahead": _LOOKAHEAD, "flags": "bitexact"}
        self._stream = self._container.add_stream("libx264", rate=rate, options=how)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_count = 1  # the bytes depend on how many threads share the work


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


def frame_a_second(frames: Pixels, fps: float, *, begin: int = 0) -> Pixels:
    """Returns the frame with which each second begins, of frames that are a clip's from some place on.

    Args:
        frames: Frames of a clip.
        fps: Frames a second.
        begin: The place of the first of them in the clip.
    """
    last = begin + len(frames)
    starts = (round(second * fps) for second in range(max(0, math.floor(begin / fps) - 1), math.ceil(last / fps) + 2))
    return frames[[start - begin for start in starts if begin <= start < last]]


def filmstrip(frames: Pixels, num_shown: int = 8) -> Pixels:
    """Returns evenly spaced frames side by side, uint8 [height num_shown*width 3], the first and the last among them."""
    places = np.linspace(0, len(frames) - 1, min(num_shown, len(frames))).round().astype(int)
    return np.concatenate(list(frames[places]), axis=1)


def _check(frames: Pixels, fps: float) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise BadDataError(f"a clip of shape {list(frames.shape)} and type {frames.dtype} cannot be written")
    if not 0 < fps <= _MAX_FPS:
        raise BadDataError(f"a clip of {fps} frames a second cannot be written", hint=f"above 0, at most {_MAX_FPS}")
