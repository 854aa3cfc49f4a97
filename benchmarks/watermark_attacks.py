"""What happens to media between the platform and who asks where they came from, on uint8 frames [frames height width 3]."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from model_core.watermark.frames import Frames
from tests.model_core.watermark.attacks import h264

Attack = Callable[[Frames, np.random.Generator], Frames]


def _each(change: Callable[[Image.Image], Image.Image]) -> Attack:
    return lambda frames, _: np.stack([np.asarray(change(Image.fromarray(frame)).convert("RGB")) for frame in frames])


def _saved(quality: int) -> Callable[[Image.Image], Image.Image]:
    def save(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, format="JPEG", quality=quality)
        return Image.open(file)

    return save


def _scaled(scale: float, *, back: bool = False) -> Callable[[Image.Image], Image.Image]:
    def resize(picture: Image.Image) -> Image.Image:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        small = picture.resize(size, Image.Resampling.BICUBIC)
        return small.resize(picture.size, Image.Resampling.BICUBIC) if back else small

    return resize


def _turned(degrees: float) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: picture.rotate(degrees, Image.Resampling.BICUBIC, fillcolor="white")


def _faded(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Color(ImageEnhance.Contrast(picture).enhance(0.8)).enhance(0.5)


def _cropped(share: float) -> Attack:
    def crop(frames: Frames, generator: np.random.Generator) -> Frames:
        height, width = (max(1, round(size * (1 - share))) for size in frames.shape[1:3])
        top = int(generator.integers(0, frames.shape[1] - height + 1))
        left = int(generator.integers(0, frames.shape[2] - width + 1))
        return frames[:, top : top + height, left : left + width]

    return crop


def _noisy(frames: Frames, generator: np.random.Generator) -> Frames:
    return np.clip(np.rint(frames + generator.normal(0, 8, frames.shape)), 0, 255).astype(np.uint8)


def _h264(crf: int) -> Attack:
    return lambda frames, _: h264(frames, crf)


REQUIRED: dict[str, Attack] = {
    "JPEG, quality 50": _each(_saved(50)),
    "half the size": _each(_scaled(0.5)),
    "half the size and back": _each(_scaled(0.5, back=True)),
    "H.264, CRF 28": _h264(28),
    "crop of 10 %": _cropped(0.1),
}
"""Those that the mark is meant to outlive."""

OTHERS: dict[str, Attack] = {
    "none": lambda frames, _: frames,
    "JPEG, quality 30": _each(_saved(30)),
    "JPEG, quality 20": _each(_saved(20)),
    "half the size, then JPEG 50": _each(lambda picture: _saved(50)(_scaled(0.5)(picture))),
    "0.75 of the size, then JPEG 80": _each(lambda picture: _saved(80)(_scaled(0.75)(picture))),
    "a quarter of the size": _each(_scaled(0.25)),
    "H.264, CRF 35": _h264(35),
    "crop of 25 %": _cropped(0.25),
    "crop of 50 %": _cropped(0.5),
    "Gaussian blur, 2 px": _each(lambda picture: picture.filter(ImageFilter.GaussianBlur(2))),
    "noise, 8 grey levels": _noisy,
    "contrast 0.8, colour 0.5": _each(_faded),
    "brightness 1.1, which clips white": _each(lambda picture: ImageEnhance.Brightness(picture).enhance(1.1)),
    "GIF palette of 256 colours": _each(lambda picture: picture.quantize(256)),
    "flip": lambda frames, _: np.ascontiguousarray(frames[:, :, ::-1]),
    "rotation by 2 degrees": _each(_turned(2)),
    "rotation by 10 degrees": _each(_turned(10)),
    "crop of 10 %, half, JPEG 50": lambda frames, generator: _each(lambda picture: _saved(50)(_scaled(0.5)(picture)))(
        _cropped(0.1)(frames, generator), generator
    ),
}
