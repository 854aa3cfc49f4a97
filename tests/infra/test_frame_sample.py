"""What is kept of long clips and large pictures for the watermark's detector: evenly spaced, bounded, the middle."""

import numpy as np
from PIL import Image

from infra.frame_sample import FrameSample


def test_frames_of_a_long_clip_are_evenly_spaced_and_bounded() -> None:
    sample, asked = FrameSample(), []
    for at in range(1000):

        def frame(at: int = at) -> Image.Image:
            asked.append(at)
            return Image.new("RGB", (8, 8), (at % 256, at // 256, 0))

        sample.add(8, 8, frame)
    kept = sample.frames()
    numbers = kept[:, 0, 0, :2].astype(int) @ [1, 256]
    assert kept.shape == (125, 8, 8, 3)
    assert set(np.diff(numbers)) == {8}
    assert len(asked) < 400, "what is not kept is not decoded to colours"


def test_the_middle_of_a_large_picture_is_kept() -> None:
    picture = Image.new("L", (1000, 700))
    picture.putpixel((500, 350), 255)
    sample = FrameSample()
    sample.add(1000, 700, lambda: picture)
    kept = sample.frames()
    assert kept.shape == (1, 512, 512, 3)
    assert kept[0, 350 - 94, 500 - 244].tolist() == [255, 255, 255]


def test_frames_of_another_size_are_left_out() -> None:
    sample = FrameSample()
    for side in (8, 4, 8):
        sample.add(side, side, lambda side=side: Image.new("RGB", (side, side)))
    assert sample.frames().shape == (2, 8, 8, 3)
