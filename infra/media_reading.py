"""What a picture or clip is by its bytes, its pixels and its looks; for files of unknown origin, within bounds.

The digest of the pixels is a SHA-256 over the line ``groundswell-pixels-1 FORMAT WIDTH HEIGHT`` and then each frame's samples,
row by row: of pictures as RGB, or RGBA where a pixel is not opaque; of clips the planes as the decoder gives them. Two files that
show the same samples have the same digest, whatever metadata or lossless compression they have. Samples are not colours: colour
profiles and orientation tags are not looked at.
"""

import errno
import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from governance.credentials.fingerprint import frame_indices, join_hashes
from governance.credentials.media_kind import MediaKind, sniff
from governance.errors import BadRecordError
from infra.frame_sample import FrameSample

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 256 << 20
MAX_FRAME_PIXELS = 1 << 26
MAX_FRAMES = 20_000
MAX_PIXELS = 1 << 32
_EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
_HEAD = 16
_HASH_SIZE = 8
_HASH_INPUT = 32
_HINT = "name a whole PNG, JPEG, WebP, GIF or MP4 file"


@dataclass(frozen=True, kw_only=True)
class MediaFile:
    """A file's bytes, read once, so that every check is about the same ones.

    Attributes:
        path: Where it was.
        kind: What it is, by its first bytes.
        data: Its bytes.
        sha256: Their SHA-256.
    """

    path: Path
    kind: MediaKind
    data: bytes
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What is seen of a file.

    Attributes:
        sha256: The digest of its pixels, see above.
        fingerprint: Its perceptual fingerprint, see `governance.credentials.fingerprint`.
        num_frames: How many frames it has.
        width: In pixels.
        height: In pixels.
    """

    sha256: str
    fingerprint: str
    num_frames: int
    width: int
    height: int


def read_file(path: Path) -> MediaFile:
    """Reads a file that may be a picture or clip.

    Raises:
        BadRecordError: It is missing, no regular file (a symbolic link is none), too large, or of no known kind.
    """
    data = read_bytes(path, is_known=lambda head: sniff(head) is not None)
    kind = sniff(data[:_HEAD])
    if kind is None:
        raise BadRecordError(f"{path} changes while it is read", hint=_HINT)
    return MediaFile(path=path, kind=kind, data=data, sha256=hashlib.sha256(data).hexdigest())


def read_bytes(path: Path, *, is_known: Callable[[bytes], bool]) -> bytes:
    """Reads a file that may be a picture or clip, within bounds.

    Args:
        path: The file.
        is_known: Says whether a file with these first 16 bytes, or fewer, is read.

    Raises:
        BadRecordError: It is missing, no regular file (a symbolic link is none), too large, or not known.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ELOOP:
            raise BadRecordError(f"{path} is a symbolic link", hint="name the file that it leads to") from error
        raise BadRecordError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", hint=_HINT) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise BadRecordError(f"{path} is no regular file", hint=_HINT)
    with os.fdopen(descriptor, "rb") as file:
        if not is_known(file.read(_HEAD)):
            raise BadRecordError(f"{path} is no picture or clip", hint=_HINT)
        if status.st_size > MAX_BYTES:
            raise BadRecordError(f"{path} has more than {MAX_BYTES >> 20} MiB", hint="longer clips are checked in parts")
        file.seek(0)
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BadRecordError(f"{path} grows while it is read", hint=_HINT)
    return data


def read_pixels(kind: MediaKind, data: bytes, *, name: object = "the file", sample: FrameSample | None = None) -> Pixels:
    """Decodes a picture or clip.

    Args:
        kind: What it is.
        data: Its bytes.
        name: What errors call it.
        sample: Takes in the frames, too.

    Raises:
        BadRecordError: It is damaged, cut off, or has more pixels or frames than are looked at.
    """
    from PIL import UnidentifiedImageError
    from PIL.Image import DecompressionBombError, DecompressionBombWarning

    broken = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, OverflowError, MemoryError, ArithmeticError)
    bombs = (DecompressionBombError, DecompressionBombWarning, UnidentifiedImageError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", DecompressionBombWarning)
            return (_clip_pixels(data, sample) if kind is MediaKind.MP4 else _picture_pixels(kind, data, sample)).result()
    except (
        *broken,
        *bombs,
        TypeError,
        AttributeError,
        AssertionError,
        RuntimeError,
    ) as error:  # decoders of damaged files raise what they like
        raise BadRecordError(f"{name} is no whole {kind.name}: {error!s:.200}", hint=_HINT) from error


def perceptual_fingerprint(frames: Sequence["Image"]) -> str:
    """Returns the fingerprint of a picture, or of the frames of a clip.

    Args:
        frames: One picture, or up to 8 evenly spaced frames of a clip, see `frame_indices`.

    Raises:
        ValueError: There is none, or there are more.
    """
    import imagehash

    return join_hashes([str(imagehash.phash(frame, hash_size=_HASH_SIZE)) for frame in frames])


class _Seen:
    """Takes in frames: the digest of all of their samples, and what the fingerprint needs of each."""

    def __init__(self, sample: FrameSample | None) -> None:
        self._sample = sample
        self._digest = hashlib.sha256()
        self._small: list[Image] = []
        self._layout: tuple[str, int, int] | None = None

    def add(self, samples: bytes, layout: tuple[str, int, int], grey: "Image", colours: Callable[[], "Image"]) -> None:
        """Takes in a frame; of each, the fingerprint needs 32x32 pixels in grey."""
        from PIL.Image import Resampling

        if layout != self._layout:
            self._layout = layout
            self._digest.update("groundswell-pixels-1 {} {} {}\n".format(*layout).encode())
        self._digest.update(samples)
        self._small.append(grey.resize((_HASH_INPUT, _HASH_INPUT), Resampling.LANCZOS))
        if len(self._small) > MAX_FRAMES or len(self._small) * layout[1] * layout[2] > MAX_PIXELS:
            raise ValueError("it has too many frames")
        if self._sample is not None:
            self._sample.add(*layout[1:], colours)

    def result(self) -> Pixels:
        """Returns what was seen."""
        if self._layout is None:
            raise ValueError("it has no frames")
        chosen = [self._small[index] for index in frame_indices(len(self._small))]
        return Pixels(
            sha256=self._digest.hexdigest(),
            fingerprint=perceptual_fingerprint(chosen),
            num_frames=len(self._small),
            width=self._layout[1],
            height=self._layout[2],
        )


def _picture_pixels(kind: MediaKind, data: bytes, sample: FrameSample | None) -> _Seen:
    from PIL import Image

    seen = _Seen(sample)
    with Image.open(io.BytesIO(data), formats=[kind.name]) as image:
        _check_size(image.width, image.height)
        for frame in _frames(image):
            colours = _colours(frame)
            layout = (colours.mode, frame.width, frame.height)
            seen.add(colours.tobytes(), layout, frame.convert("L"), colours.copy)
    return seen


def _colours(frame: "Image") -> "Image":
    """Returns a frame as RGB, or as RGBA where a pixel is not opaque; as it is, where its samples are deeper or others."""
    if frame.mode not in _EIGHT_BIT or (frame.mode == "RGB" and "transparency" not in frame.info):
        return frame
    colours = frame.convert("RGBA")
    return colours.convert("RGB") if colours.getchannel("A").getextrema() == (255, 255) else colours


def _frames(image: Any) -> Iterator["Image"]:
    for index in range(min(getattr(image, "n_frames", 1), MAX_FRAMES + 1)):
        image.seek(index)
        image.load()
        yield image


def _clip_pixels(data: bytes, sample: FrameSample | None) -> _Seen:
    import av

    try:
        return _decoded(av, data, sample)
    except av.FFmpegError as error:  # some are no errors of the system
        raise ValueError(str(error)) from error


def _decoded(av: Any, data: bytes, sample: FrameSample | None) -> _Seen:
    from PIL import Image

    seen = _Seen(sample)
    with av.open(io.BytesIO(data), mode="r", format="mp4") as container:
        stream = container.streams.video[0]
        _check_size(stream.width, stream.height)
        for frame in container.decode(stream):
            _check_size(frame.width, frame.height)
            grey = Image.fromarray(frame.to_ndarray(format="gray"))
            layout = (frame.format.name, frame.width, frame.height)
            seen.add(frame.to_ndarray().tobytes(), layout, grey, frame.to_image)
    return seen


def _check_size(width: int, height: int) -> None:
    if not 0 < width * height <= MAX_FRAME_PIXELS:
        raise ValueError(f"{width}x{height} pixels are more than are looked at")
