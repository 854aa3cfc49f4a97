"""A picture or clip of unknown origin, made the size, length and pace of what a model makes, within bounds.

Each frame is cut to its middle square and resampled. A clip is sampled at the model's pace, as an import of videos does it: at
each sample's time the frame is taken that is shown then, and where the clip is over, its last frame stays. A picture is a still
clip.

Shapes: frames are uint8 [frames size size 3], RGB.
"""

import io
import math
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from model_core.data.media import MAX_PIXELS, Pixels, decode_picture, over_white, square
from model_core.errors import BadDataError

MAX_FRAMES: Final = 20_000
MAX_ALL_PIXELS: Final = 1 << 32
_BEGINNINGS: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"\x1aE\xdf\xa3": "video/webm",
}
_CONTAINERS: Final = {"video/mp4": "mp4", "video/webm": "matroska", "video/avi": "avi"}
"""What a clip is read as; guessing would let a file be a list of others to be opened."""
_ANIMATIONS: Final = ("GIF", "WEBP", "PNG")
_USUAL_DURATION_S: Final = 0.1
"""How long players show a frame of an animation that says no duration."""
_USUAL_FPS: Final = 25.0
_SLACK_S: Final = 1e-6
_HINT: Final = "name a whole PNG, JPEG, WebP, GIF, MP4, WebM or AVI file"
_RAISED: Final = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    ArithmeticError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    UnidentifiedImageError,
)
"""Decoders of damaged files raise what they like."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a model makes.

    Attributes:
        size: Width and height of a frame, in pixels.
        num_frames: Frames, 1 for pictures.
        fps: Frames a second.
    """

    size: int
    num_frames: int
    fps: float


def media_type_of(head: bytes) -> str | None:
    """Returns the media type of a file by its first 16 bytes; None for what `fit_media` does not read."""
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"AVI ": "video/avi"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return next((kind for begin, kind in _BEGINNINGS.items() if head.startswith(begin)), None)


def fit_media(data: bytes, shape: Shape, *, name: str, num_last: int | None = None) -> Pixels:
    """Decodes a picture or clip, and makes it the shape of what a model makes.

    Args:
        data: The bytes of a PNG, JPEG, WebP, GIF, MP4, MOV, WebM, MKV or AVI file; told apart by their beginning.
        shape: What the model makes.
        name: What errors call the file.
        num_last: Begin with so many frames from the clip's end, which the last of them follows; with its beginning if not given.

    Returns:
        Frames, uint8 [num_frames size size 3].

    Raises:
        BadDataError: It is no picture or clip, is damaged, cut short or too large, changes its size, has no picture, is a clip
            where the model makes pictures, or is shorter than `num_last`.
    """
    with _decoding(name):
        timed = _timed_frames(data, name)
        found = list(_sampled(timed, shape, name) if num_last is None else _last(timed, shape, num_last, name))
    return np.stack(found + [found[-1]] * (shape.num_frames - len(found)))


def read_frames(data: bytes, *, name: str) -> Pixels:
    """Decodes a picture or clip as it is: uint8 [frames height width 3].

    Args:
        data: The bytes of a file that `fit_media` reads.
        name: What errors call it.

    Raises:
        BadDataError: It is no picture or clip, is damaged, cut short or too large, or changes its size.
    """
    with _decoding(name):
        return np.stack([frame for _, frame in _timed_frames(data, name)])


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Tells whatever decoders raise as bad data."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except _RAISED as error:
        if isinstance(error, BadDataError):
            raise
        raise BadDataError(f"{name} is no whole picture or clip: {error!s:.200}", hint=_HINT) from error


def _sampled(timed: Iterator[tuple[float, Pixels]], shape: Shape, name: str) -> Iterator[Pixels]:
    """Yields up to the model's number of samples from the beginning."""
    made = 0
    for count, frame in _samples(timed, shape):
        if shape.num_frames == 1 and made:
            raise _no_picture(name)
        for sample in repeat(frame, min(count, shape.num_frames - made)):
            yield sample
            made += 1
        if made == shape.num_frames > 1:
            return


def _last(timed: Iterator[tuple[float, Pixels]], shape: Shape, num_last: int, name: str) -> Iterator[Pixels]:
    """Returns the last samples of a clip."""
    kept: deque[Pixels] = deque(maxlen=num_last)
    for count, frame in _samples(timed, shape):
        kept.extend(repeat(frame, min(count, num_last)))
    if len(kept) < num_last:
        raise BadDataError(
            f"{name} has {len(kept)} frames at {shape.fps:g} a second, not {num_last}",
            hint="go on from fewer, or from a longer clip",
        )
    return iter(kept)


def _samples(timed: Iterator[tuple[float, Pixels]], shape: Shape) -> Iterator[tuple[int, Pixels]]:
    """Yields each frame that is shown at a sample's time, with how many samples show it; for pictures each frame."""
    shown: Pixels | None = None
    begun, made = 0.0, 0
    for begin_s, frame in timed:
        if shown is not None:
            reached = made + 1 if shape.num_frames == 1 else math.ceil((begin_s - _SLACK_S) * shape.fps)
            if reached > made:
                yield reached - made, square(shown, shape.size)
                made = reached
        shown, begun = frame, begin_s
    reached = made + 1 if shape.num_frames == 1 else math.floor((begun + _SLACK_S) * shape.fps) + 1
    if shown is not None and reached > made:
        yield reached - made, square(shown, shape.size)


def _timed_frames(data: bytes, name: str) -> Iterator[tuple[float, Pixels]]:
    """Returns the frames with their times from the first one, in seconds."""
    media_type = media_type_of(data[:16])
    if media_type is None:
        raise BadDataError(f"{name} is no picture or clip", hint=_HINT)
    if (container := _CONTAINERS.get(media_type)) is not None:
        return _bounded(_video(data, container, name), name)
    with Image.open(io.BytesIO(data), formats=(*_ANIMATIONS, "JPEG")) as picture:
        is_animation = picture.format in _ANIMATIONS and getattr(picture, "n_frames", 1) > 1
    if is_animation:
        return _bounded(_animation(data), name)
    return iter([(0.0, decode_picture(data, name=name, upright=True))])


def _animation(data: bytes) -> Iterator[tuple[float, Pixels]]:
    begin_s = 0.0
    with Image.open(io.BytesIO(data), formats=_ANIMATIONS) as picture:
        _require_size(picture.width, picture.height)
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            picture.load()
            yield begin_s, over_white(picture)
            begin_s += picture.info.get("duration", 0) / 1000 or _USUAL_DURATION_S


def _video(data: bytes, container: str, name: str) -> Iterator[tuple[float, Pixels]]:
    import av

    try:
        with av.open(io.BytesIO(data), mode="r", format=container) as opened:
            if not opened.streams.video:
                raise BadDataError(f"{name} has no picture, only other streams", hint=_HINT)
            stream: Any = opened.streams.video[0]
            _require_size(stream.width, stream.height)
            first_s = None
            for count, frame in enumerate(opened.decode(stream)):
                _require_size(frame.width, frame.height)
                time_s = float(frame.time) if frame.time is not None else count / float(stream.average_rate or _USUAL_FPS)
                first_s = time_s if first_s is None else first_s
                yield time_s - first_s, frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:  # some are no errors of the system
        raise ValueError(str(error)) from error


def _bounded(frames: Iterator[tuple[float, Pixels]], name: str) -> Iterator[tuple[float, Pixels]]:
    """Yields the frames of a clip as long as they are of one size, and not too many."""
    shape, count = None, 0
    for time_s, frame in frames:
        count += 1
        shape = shape or frame.shape
        if frame.shape != shape:
            raise BadDataError(f"{name} changes its size at frame {count}, counted from 1", hint="give a clip of one size")
        if count > MAX_FRAMES or count * shape[0] * shape[1] > MAX_ALL_PIXELS:
            raise BadDataError(
                f"{name} has too many frames", hint=f"cut it to {MAX_FRAMES:,} frames or fewer, or make it smaller"
            )
        yield time_s, frame
    if not count:
        raise BadDataError(f"{name} holds no frames", hint=_HINT)


def _require_size(width: int, height: int) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"frames of {width}x{height} pixels, of which at most {MAX_PIXELS:,} are decoded")


def _no_picture(name: str) -> BadDataError:
    return BadDataError(f"{name} is a clip, and the model makes pictures", hint="give one frame of it, as PNG")
