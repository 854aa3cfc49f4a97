"""What generated samples are written as: pictures and clips, and an overview of all of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from components.generate_media.formats import MediaFormat
from governance.digest import sha256_file
from model_core.data.media import encode_png
from model_core.data.video import encode_gif, encode_mp4, encode_webp, filmstrip
from model_core.errors import BadDataError

GRID_NAME = "grid.png"
_GRID_GAP = 2
_CLIPS: Mapping[str, Callable[[np.ndarray, float], bytes]] = {"mp4": encode_mp4, "webp": encode_webp, "gif": encode_gif}


def chosen_format(asked: MediaFormat | None, num_frames: int) -> MediaFormat:
    """Returns the format of samples of so many frames: what was asked for, PNG for pictures and MP4 for clips otherwise.

    Raises:
        BadDataError: It is none for such samples.
    """
    if asked is None:
        return "png" if num_frames == 1 else "mp4"
    if (asked == "png") != (num_frames == 1):
        fitting = ["png"] if num_frames == 1 else [name for name in get_args(MediaFormat) if name != "png"]
        noun = "pictures" if num_frames == 1 else "clips"
        raise BadDataError(f"the model makes {noun}, which cannot be {asked}", hint=f"choose {', '.join(fitting)}")
    return asked


def write_media(
    samples: np.ndarray,
    seeds: list[int],
    label: str | None,
    *,
    watermark_ids: list[str | None],
    fps: float,
    media_format: MediaFormat,
    folder: Path,
) -> list[dict[str, Any]]:
    """Writes samples, uint8 [n frames height width 3], and the overview; returns what media.json lists.

    The same pixels give the same bytes, and no file says more than its pixels.
    """
    stem = "image" if media_format == "png" else "clip"
    media = []
    for index, (frames, seed, watermark_id) in enumerate(zip(samples, seeds, watermark_ids, strict=True)):
        path = folder / f"{stem}-{index:06d}.{media_format}"
        path.write_bytes(encode_png(frames[0]) if media_format == "png" else encode_clip(frames, fps, media_format))
        media.append({"file": path.name, "sha256": sha256_file(path), "seed": seed, "label": label, "watermark_id": watermark_id})
    overview = samples[:, 0] if samples.shape[1] == 1 or not len(samples) else np.stack([filmstrip(one) for one in samples])
    Image.fromarray(grid(overview)).save(folder / GRID_NAME, format="PNG")
    return media


def enlarged(frames: np.ndarray, factor: int) -> np.ndarray:
    """Returns frames, uint8 [... height width 3], so many times as high and as wide, by a Lanczos filter of three lobes."""
    if factor == 1:
        return frames
    *count, height, width, channels = frames.shape
    size = (factor * width, factor * height)
    flat = frames.reshape(-1, height, width, channels)
    large = np.empty((len(flat), size[1], size[0], channels), dtype=np.uint8)
    for index, frame in enumerate(flat):
        large[index] = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
    return large.reshape(*count, size[1], size[0], channels)


def encode_clip(frames: np.ndarray, fps: float, media_format: MediaFormat) -> bytes:
    """Returns a clip as the bytes of a file."""
    return _CLIPS[media_format](frames, fps)


def grid(images: np.ndarray) -> np.ndarray:
    """Returns pictures [n h w 3] on white, as many side by side as make it about a square; room for one where there is none."""
    num_images, height, width, _ = images.shape
    count = max(num_images, 1)
    columns = min(count, max(1, round(np.ceil(np.sqrt(count * height / width)))))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + _GRID_GAP) + _GRID_GAP, columns * (width + _GRID_GAP) + _GRID_GAP, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top = _GRID_GAP + index // columns * (height + _GRID_GAP)
        left = _GRID_GAP + index % columns * (width + _GRID_GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet
