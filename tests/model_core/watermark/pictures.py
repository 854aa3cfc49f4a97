"""Pictures to mark, the same each time: graphics on white, photographs, and clips of moving graphics."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from model_core.data.importers.openmoji import OpenmojiRenderer, plan_openmoji
from model_core.watermark.frames import Frames

KEY = bytes(range(32))
PAYLOAD = b"\x00id\xff42"


@cache
def graphics(size: int, count: int) -> list[Frames]:
    plan = plan_openmoji(size=size)
    assert isinstance(plan.render, OpenmojiRenderer)
    chosen = np.random.default_rng(7).choice(len(plan.items), count, replace=False)
    return [plan.render.pixels(Path(plan.render.folder) / plan.items[at].locator)[None] for at in chosen]


@cache
def photographs(size: int, count: int) -> list[Frames]:
    generator = np.random.default_rng(7)
    found = []
    for at in range(count):
        picture = load_sample_images().images[at % 2]
        side = int(generator.integers(size, picture.shape[0] + 1))
        top, left = generator.integers(0, picture.shape[0] - side + 1), generator.integers(0, picture.shape[1] - side + 1)
        crop = Image.fromarray(picture[top : top + side, left : left + side])
        found.append(np.asarray(crop.resize((size, size), Image.Resampling.LANCZOS))[None])
    return found


def moving_graphics(size: int, count: int, num_frames: int = 16) -> list[Frames]:
    clips = []
    for at, sprite in enumerate(graphics(size // 2, count)):
        clip = np.full((num_frames, size, size, 3), 255, dtype=np.uint8)
        for frame in range(num_frames):
            top, left = (at * 5 + frame) % (size // 2), (at * 3 + 2 * frame) % (size // 2)
            clip[frame, top : top + size // 2, left : left + size // 2] = sprite[0]
        clips.append(clip)
    return clips
