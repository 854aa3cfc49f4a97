"""A clip for a lineage report, as a picture: some of its frames, taken only where the clip is the one that was recorded."""

import base64
import io
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from governance.credentials.fingerprint import frame_indices
from governance.credentials.media_kind import MediaKind
from governance.errors import BadRecordError
from governance.lineage_report.model import Picture
from infra.media_reading import read_file, read_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

_COLUMNS = 4
_FRAME_PIXELS = 160
_GAP = 2


def read_filmstrip(path: Path, *, sha256: str, pixels_sha256: str | None = None) -> Picture | None:
    """Returns up to 8 evenly spaced frames of a clip in reading order; None where it is not the clip or cannot be decoded.

    Args:
        path: Where the clip may be.
        sha256: The digest that it must have.
        pixels_sha256: The digest that its pixels may have instead: the clip as it was before it was handed out.
    """
    try:
        file = read_file(path)
        if file.kind not in {MediaKind.MP4, MediaKind.WEBP, MediaKind.GIF} or (file.sha256 != sha256 and pixels_sha256 is None):
            return None
        seen = read_pixels(file.kind, file.data)
    except BadRecordError:
        return None
    if file.sha256 != sha256 and seen.sha256 != pixels_sha256:
        return None
    chosen = frame_indices(seen.num_frames)
    frames = list(_frames(file.kind, file.data, set(chosen)))
    caption = f"{len(chosen)} of the clip's {seen.num_frames} frames, row by row"
    where = "" if file.sha256 == sha256 else "; pixel by pixel, the file itself is not here"
    uri = "data:image/png;base64," + base64.b64encode(_sheet(frames)).decode()
    return Picture(caption=caption + where, data_uri=uri, sha256=file.sha256, pixelated=seen.width <= _FRAME_PIXELS)


def _frames(kind: MediaKind, data: bytes, chosen: set[int]) -> "Iterator[Image]":
    """Yields some frames of a clip that was decoded before, so that its bounds are known."""
    from PIL import Image

    if kind is MediaKind.MP4:
        av: Any = import_module("av")
        with av.open(io.BytesIO(data), mode="r", format="mp4") as container:
            for index, frame in enumerate(container.decode(container.streams.video[0])):
                if index in chosen:
                    yield _small(frame.to_image())
        return
    with Image.open(io.BytesIO(data), formats=[kind.name]) as image:
        for index in sorted(chosen):
            image.seek(index)
            yield _small(image.convert("RGB"))


def _small(frame: Any) -> "Image":
    frame.thumbnail((_FRAME_PIXELS, _FRAME_PIXELS))
    small: Image = frame
    return small


def _sheet(frames: "list[Image]") -> bytes:
    """Returns frames side by side, so many a row, as PNG."""
    from PIL import Image

    width, height = frames[0].size
    columns = min(_COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), "white")
    for index, frame in enumerate(frames):
        sheet.paste(frame, (index % columns * (width + _GAP), index // columns * (height + _GAP)))
    out = io.BytesIO()
    sheet.save(out, format="PNG")
    return out.getvalue()
