"""What the benchmark of the watermark marks: graphics on white, photographs, moving graphics, and videos."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_sample_images

from model_core.data.importers.openmoji import OpenmojiRenderer, plan_openmoji
from model_core.data.media import decode_picture
from model_core.errors import BadDataError
from model_core.watermark.frames import Frames

_PICTURES = {".png", ".jpg", ".jpeg"}
_MIN_SIDE = 200


def graphics(size: int, count: int, seed: int) -> list[Frames]:
    """Returns OpenMoji graphics drawn at a size, each uint8 [1 size size 3]."""
    plan = plan_openmoji(size=size)
    assert isinstance(plan.render, OpenmojiRenderer)
    chosen = np.random.default_rng(seed).choice(len(plan.items), count, replace=False)
    return [plan.render.pixels(Path(plan.render.folder) / plan.items[at].locator)[None] for at in chosen]


def photographs(size: int, count: int, seed: int, folder: Path | None) -> list[Frames]:
    """Returns square crops of photographs in turn, resampled to a size, each uint8 [1 size size 3].

    They are scikit-learn's two, and those of a folder.
    """
    sources = [*load_sample_images().images, *(_pictures_in(folder) if folder else [])]
    generator = np.random.default_rng(seed)
    return [_crop(sources[at % len(sources)], size, generator)[None] for at in range(count)]


def moving_graphics(size: int, count: int, num_frames: int, seed: int) -> list[Frames]:
    """Returns clips of a graphic that moves over white, each uint8 [frames size size 3]."""
    generator, half, clips = np.random.default_rng(seed), size // 2, []
    for sprite in graphics(half, count, seed):
        clip = np.full((num_frames, size, size, 3), 255, dtype=np.uint8)
        start, velocity = generator.uniform(0, half, 2), generator.uniform(-2, 2, 2)
        for at, frame in enumerate(clip):
            top, left = np.clip(start + velocity * at, 0, half).astype(int)
            frame[top : top + half, left : left + half] = sprite[0]
        clips.append(clip)
    return clips


def videos(size: int, count: int, num_frames: int, seed: int, folder: Path | None) -> list[Frames]:
    """Returns square cuts of a folder's mp4 files in turn, resampled to a size, each uint8 [frames size size 3]."""
    sources = [_frames_of(path) for path in sorted(folder.rglob("*.mp4"))] if folder else []
    sources = [frames for frames in sources if len(frames) >= num_frames]
    generator, clips = np.random.default_rng(seed), []
    for at in range(count if sources else 0):
        frames = sources[at % len(sources)]
        start = int(generator.integers(0, len(frames) - num_frames + 1))
        seed_of_crop = int(generator.integers(2**32))
        cut = [_crop(frame, size, np.random.default_rng(seed_of_crop)) for frame in frames[start : start + num_frames]]
        clips.append(np.stack(cut))
    return clips


def unmarked(count: int, seed: int, folder: Path | None) -> dict[str, Sequence[Frames]]:
    """Returns media that nobody marked, of several kinds and sizes, about `count` in all."""
    generator, part = np.random.default_rng(seed), count // 10
    levels = generator.integers(0, 256, (part, 3), dtype=np.uint8)
    flat = [np.full((1, 64, 64, 3), level, dtype=np.uint8) for level in levels]
    noise = [np.clip(generator.normal(128, 40, (1, 64, 64, 3)), 0, 255).astype(np.uint8) for _ in range(part)]
    return {
        "graphics, 64 px": graphics(64, 3 * part, seed + 1),
        "graphics, 256 px": graphics(256, part // 2, seed + 2),
        "photographs, 64 px": photographs(64, 2 * part, seed + 3, folder),
        "photographs, 256 px": photographs(256, part // 2, seed + 4, folder),
        "moving graphics, 16x32x32": moving_graphics(32, part // 2, 16, seed + 5),
        "videos, 16x64x64": videos(64, part // 2, 16, seed + 6, folder),
        "flat, 64 px": flat,
        "noise, 64 px": noise,
    }


@cache
def _pictures_in(folder: Path) -> list[npt.NDArray[np.uint8]]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES)
    pictures = []
    for path in paths:
        try:
            picture = decode_picture(path.read_bytes(), name=str(path))
        except BadDataError:
            continue
        if min(picture.shape[:2]) >= _MIN_SIDE:
            pictures.append(picture)
    return pictures


@cache
def _frames_of(path: Path) -> list[npt.NDArray[np.uint8]]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(150), strict=False)]


def _crop(picture: npt.NDArray[np.uint8], size: int, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    most = min(picture.shape[:2])
    side = int(generator.integers(max(min(size, most), most // 2), most + 1))
    top, left = (int(generator.integers(0, length - side + 1)) for length in picture.shape[:2])
    cut = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS))
