"""A folder of videos with a `metadata.jsonl`, as `image_folder` reads it: each is cut into clips of one length and pace.

A video is sampled at the dataset's pace, each frame cut to its middle square and resampled. A clip never spans a cut: where two
samples that follow each other differ suddenly as a whole, a new scene begins. What is left of a scene after whole clips is left
out. Sound is dropped, and the source of each item says so.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from model_core.data.importers.image_folder import (
    METADATA_NAME,
    MetadataLine,
    check_unique,
    file_state,
    folder_item,
    read_metadata,
)
from model_core.data.importers.plan import ImportPlan, Item, choose
from model_core.data.media import MAX_PIXELS, Pixels, encode_filmstrip, square
from model_core.errors import BadDataError

SUFFIXES: Final = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
ANIMATION_SUFFIXES: Final = (".gif",)
_FORMATS: Final = {".mkv": "matroska", ".webm": "matroska", ".avi": "avi", ".gif": "gif"}
"""What a file is read as by its name; MP4 otherwise. Guessing would let a file be a list of others to be opened."""
DEFAULT_FRAMES: Final = 16
DEFAULT_FPS: Final = 8.0
MAX_FRAMES: Final = 512
MAX_VIDEO_FRAMES: Final = 50_000
"""The longest video that is read, in frames as they are stored."""

_THUMBNAIL: Final = 16
_CUT_LEVELS: Final = 28.0
_CUT_TIMES_USUAL: Final = 4.0
_SLACK_S: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class VideoRenderer:
    """Makes a clip from a part of a video.

    Attributes:
        folder: What the files' names are relative to.
        size: Width and height of a frame.
        num_frames: Frames of the clip.
        fps: Frames a second of the clip.
    """

    folder: str
    size: int
    num_frames: int
    fps: float

    def __call__(self, item: Item) -> bytes:
        """Returns the item's frames as the bytes of a filmstrip."""
        part = json.loads(item.locator)
        times = part["start_s"] + np.arange(self.num_frames) / self.fps
        frames: list[Pixels] = []
        shown: Pixels | None = None
        for time_s, picture in _frames(Path(self.folder) / part["file"], part["file"]):
            while shown is not None and len(frames) < self.num_frames and times[len(frames)] < time_s - _SLACK_S:
                frames.append(square(shown, self.size))
            if len(frames) == self.num_frames:
                break
            shown = picture
        while shown is not None and len(frames) < self.num_frames:
            frames.append(square(shown, self.size))
        if not frames:
            raise BadDataError(f"{part['file']} has no frames any more", hint="it was changed while it was imported; start again")
        return encode_filmstrip(np.stack(frames))


def is_video_folder(folder: Path, *, frames: int | None) -> bool:
    """Returns whether a folder's `metadata.jsonl` names videos; GIFs are videos where a number of frames is asked for.

    Raises:
        BadDataError: The file is malformed, or names pictures beside videos.
    """
    suffixes = SUFFIXES if frames is None else SUFFIXES + ANIMATION_SUFFIXES
    names = [line.file_name for _, line in read_metadata(folder / METADATA_NAME)]
    videos = [name for name in names if name.lower().endswith(suffixes)]
    if videos and len(videos) < len(names):
        other = next(name for name in names if name not in set(videos))
        raise BadDataError(
            f"{folder / METADATA_NAME} names videos such as {videos[0]!r} and others such as {other!r}",
            hint="a dataset holds either clips or pictures: make two folders",
        )
    return bool(videos)


def plan_video_folder(
    folder: Path,
    *,
    size: int = 32,
    categories: Sequence[str] | None = None,
    limit: int | None = None,
    frames: int = DEFAULT_FRAMES,
    fps: float = DEFAULT_FPS,
) -> ImportPlan:
    """Plans an import of a folder of videos; each is read through once to find its scenes.

    Args:
        folder: The folder.
        size: Width and height of each frame, in pixels.
        categories: Which labels to take; all when None.
        limit: How many clips to take at most.
        frames: Frames a clip.
        fps: Frames a second of the clips, whatever the videos have.

    Raises:
        BadDataError: As for folders of pictures; or a video has no picture, no frames, too many, or cannot be decoded.
    """
    if not 2 <= frames <= MAX_FRAMES or not 0 < fps <= 240:
        raise BadDataError(
            f"clips of {frames} frames at {fps} a second cannot be made", hint=f"2 to {MAX_FRAMES} frames, up to 240"
        )
    lines = list(read_metadata(folder / METADATA_NAME))
    check_unique(folder, lines)
    chosen = [(number, line) for number, line in lines if categories is None or line.label in set(categories)]
    found = [item for number, line in chosen for item in _clips_of(folder, number, line, frames, fps)]
    if not found:
        raise BadDataError(
            f"no video of {folder} is as long as {frames} frames at {fps:g} a second without a cut", hint="ask for fewer frames"
        )
    return ImportPlan(
        name=folder.resolve().name,
        importer="video-folder",
        options={
            "categories": None if categories is None else sorted(set(categories)),
            "limit": limit,
            "size": size,
            "frames": frames,
            "fps": fps,
        },
        attribution=f"Imported from the folder {folder.resolve().name!r}; each item's licence and source stand in the manifest.",
        image_size=size,
        num_frames=frames,
        fps=fps,
        items=choose(found, limit),
        render=VideoRenderer(folder=str(folder), size=size, num_frames=frames, fps=fps),
        source_state=" ".join(file_state(folder / line.file_name) for _, line in chosen),
    )


def _clips_of(folder: Path, number: int, line: MetadataLine, frames: int, fps: float) -> Iterator[Item]:
    whole = folder_item(folder, number, line)
    thumbnails, duration_s, sound = _look_through(folder / whole.locator, whole.locator, fps)
    for first in _starts(thumbnails, frames):
        start_s = round(first / fps, 6)
        yield Item(
            key=f"{whole.key}-{first:06d}",
            locator=json.dumps({"file": whole.locator, "start_s": start_s}, sort_keys=True),
            label=whole.label,
            caption=whole.caption,
            split=whole.split,  # all clips of a video are on one side
            licence=whole.licence,
            source=f"{whole.source}, from {start_s:g} s of {duration_s:.3g} s{', sound dropped' if sound else ''}",
        )


def _starts(thumbnails: Pixels, frames: int) -> Iterator[int]:
    """Yields where clips begin, counted in samples: one after the other within each scene."""
    jumps = np.abs(np.diff(thumbnails.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    usual = float(np.median(jumps)) if len(jumps) else 0.0
    cuts = [int(place) + 1 for place in np.flatnonzero(jumps > max(_CUT_LEVELS, _CUT_TIMES_USUAL * usual))]
    for begin, end in zip([0, *cuts], [*cuts, len(thumbnails)], strict=True):
        yield from range(begin, end - frames + 1, frames)


def _look_through(path: Path, name: str, fps: float) -> tuple[Pixels, float, bool]:
    """Returns thumbnails at the dataset's pace, [samples 16 16 3], how long the video is, and whether it has sound."""
    thumbnails: list[Pixels] = []
    last, last_s = None, 0.0
    for time_s, picture in _frames(path, name):
        while last is not None and len(thumbnails) / fps < time_s - _SLACK_S:
            thumbnails.append(last)
        last, last_s = square(picture, _THUMBNAIL), time_s
    if last is None:
        raise BadDataError(f"{name} holds no frames", hint="remove it from metadata.jsonl, or replace the file")
    while len(thumbnails) / fps <= last_s + _SLACK_S:
        thumbnails.append(last)
    with _opened(path, name) as container:
        sound = bool(container.streams.audio)
    return np.stack(thumbnails), last_s, sound


def _frames(path: Path, name: str) -> Iterator[tuple[float, Pixels]]:
    """Yields the frames of a video with their times from its first one, in seconds, uint8 [height width 3].

    Raises:
        BadDataError: It has no picture, too many or too large frames, or cannot be decoded.
    """
    import av

    with _opened(path, name) as container:
        if not container.streams.video:
            raise BadDataError(f"{name} has no picture, only other streams", hint="remove it from metadata.jsonl")
        stream = container.streams.video[0]
        first_s, count = None, 0
        try:
            for frame in container.decode(stream):
                count += 1
                if count > MAX_VIDEO_FRAMES:
                    raise BadDataError(f"{name} has more than {MAX_VIDEO_FRAMES:,} frames", hint="cut it into shorter videos")
                if frame.width * frame.height > MAX_PIXELS:
                    raise BadDataError(f"{name} has frames of {frame.width}x{frame.height} pixels", hint="make it smaller")
                time_s = float(frame.time) if frame.time is not None else (count - 1) / float(stream.average_rate or 25)
                first_s = time_s if first_s is None else first_s
                yield time_s - first_s, frame.to_ndarray(format="rgb24")
        except av.FFmpegError as error:
            raise BadDataError(
                f"{name} cannot be decoded after {count} frames: {error.strerror}",
                hint="the file is damaged or cut short; replace it",
            ) from error


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    """Opens a file as a video without following a link in its place; nothing but the file itself is read."""
    import av

    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise BadDataError(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        try:
            container = av.open(file, "r", format=_FORMATS.get(path.suffix.lower(), "mp4"))
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadDataError(f"{name} is no such video as its name says: {reason}", hint="use MP4, WebM or GIF") from error
        with container:
            yield container
