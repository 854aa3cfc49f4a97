"""Clips longer than a model's own: written as they are made, and taken up again where they were left.

Each window is kept in the scratch folder, whole or not at all. After an interruption those that are there are not made again;
they go through the encoder once more, so that the file has the bytes that it would have had.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from components.generate_media.config import Config
from components.generate_media.files import GRID_NAME, encode_clip, enlarged, grid
from components.generate_media.formats import MediaFormat
from components.generate_media.near_copies import Checker, NearCopies
from components.ports import Ports, Watermarker
from governance.digest import sha256_file
from model_core.codec.autoencoder import Codec
from model_core.data.media import Pixels
from model_core.data.video import Mp4Writer, frame_a_second
from model_core.errors import BadDataError
from model_core.sampling.long_clips import Plan, Window, generate_long_clip
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import ModelConfig

if TYPE_CHECKING:
    from model_core.evaluation.training_index import Comparison

LONGEST_ANIMATION = 256
"""Most frames of a WebP or GIF: their encoders hold all of a clip at once."""
_THUMBNAIL = 64


@dataclass(frozen=True, kw_only=True)
class LongClips:
    """Makes clips of several windows, one clip after the other, each window going on from the one before.

    Attributes:
        transformer: The network.
        model_config: Its configuration.
        codec: Decodes latents to pixels.
        plan: How a clip divides into windows.
        asked: What the clips show, as `generate_long_clip` takes it.
        fps: Frames a second.
        media_format: What they are written as.
        checker: Holds each window, with the frames before it that make it a whole clip of the model, against its training items.
        watermarker: Marks the pixels, all of a clip with the id of its first window; None where they are not marked.

    Raises:
        BadDataError: The clips are too long for their format.
    """

    transformer: DiT
    model_config: ModelConfig
    codec: Codec
    plan: Plan
    asked: Mapping[str, Any]
    fps: float
    media_format: MediaFormat
    checker: Checker
    watermarker: Watermarker | None = None

    def __post_init__(self) -> None:
        """Refuses a format whose encoder would have to hold too many frames."""
        if self.media_format != "mp4" and self.plan.num_frames > LONGEST_ANIMATION:
            raise BadDataError(
                f"a clip of {self.plan.num_frames} frames cannot be {self.media_format}",
                hint=f"choose mp4, or at most {LONGEST_ANIMATION} frames, which encoders of {self.media_format} hold all at once",
            )

    def write(
        self, config: Config, seeds: list[int], label: str | None, folder: Path, ports: Ports
    ) -> tuple[list[dict[str, Any]], NearCopies]:
        """Writes a clip a seed, and the overview with a frame a second of each.

        Returns what media.json lists, and which clips repeat a training item. A clip that is withheld for it is not made further.

        Args:
            config: How they are sampled.
            seeds: Their seeds.
            label: What they show, for the list.
            folder: Where to.
            ports: Progress, in frames, and the folder that keeps windows until the step is done.
        """
        media, strips, total = [], [], len(seeds) * self.plan.num_frames
        found: dict[int, Comparison] = {}
        for place, seed in enumerate(seeds):
            before = place * self.plan.num_frames
            path = folder / f"clip-{place:06d}.{self.media_format}"
            taken = _Taken(self.plan, self.fps, self.checker, self.watermarker, upscale=config.upscale)
            try:
                self._write_clip(
                    config,
                    seed,
                    path,
                    KeptWindows(ports.scratch / path.stem),
                    taken,
                    lambda done, before=before: ports.progress.update(before + done, total, "making frames"),  # type: ignore[misc]
                )
            except _WithheldError:
                path.unlink(missing_ok=True)
            else:
                strips.append(taken.filmstrip())
                media.append(
                    {
                        "file": path.name,
                        "sha256": sha256_file(path),
                        "seed": seed,
                        "label": label,
                        "watermark_id": taken.watermark_id,
                    }
                )
            if taken.near_copy is not None:
                found[place] = taken.near_copy
        size = min(_THUMBNAIL, self.model_config.image_size * config.upscale)
        overview = np.stack(strips) if strips else np.empty((0, size, size, 3), dtype=np.uint8)
        Image.fromarray(grid(overview)).save(folder / GRID_NAME, format="PNG")
        return media, self.checker.result(found)

    def _write_clip(
        self, config: Config, seed: int, path: Path, kept: "KeptWindows", taken: "_Taken", progress: Callable[[int], None]
    ) -> None:
        mp4 = self.media_format == "mp4"
        with Mp4Writer(path, self.fps) if mp4 else _Animation(path, self.fps, self.media_format) as writer:

            def keep(window: Window) -> None:
                kept.add(window)
                writer.write(taken.take(window))

            last = None
            for last in kept.windows():
                writer.write(taken.take(last))
            generate_long_clip(
                self.transformer,
                self.model_config,
                self.codec,
                self.plan,
                seed=seed,
                after=last,
                on_window=keep,
                progress=progress,
                device=config.device,
                sampler=config.sampler,
                num_steps=config.num_steps,
                guidance_scale=config.guidance_scale,
                **self.asked,
                **config.chosen(),
            )


class _WithheldError(Exception):
    """A clip repeats a training item, and is not handed out."""


class _Taken:
    """What is done with each window of one clip, and what is kept of all of them.

    Attributes:
        watermark_id: The id that the clip bears, in hex; None where it bears none.
        near_copy: The first of its windows that repeats a training item, beside that item.
    """

    def __init__(self, plan: Plan, fps: float, checker: Checker, watermarker: Watermarker | None, *, upscale: int) -> None:
        self._plan, self._fps, self._checker, self._watermarker, self._upscale = plan, fps, checker, watermarker, upscale
        self._shown: list[Pixels] = []
        self._last: Pixels | None = None
        self.watermark_id: str | None = None
        self.near_copy: Comparison | None = None

    def take(self, window: Window) -> Pixels:
        """Checks a window, and returns its frames as they are handed out.

        Raises:
            _WithheldError: It repeats a training item, and such are withheld.
        """
        frames = window.frames
        self._last = (frames if self._last is None else np.concatenate([self._last, frames]))[-self._plan.window :]
        if self.near_copy is None:
            self.near_copy = self._checker.near_copies(self._last[None]).get(0)
            if self.near_copy is not None and self._checker.mode == "withhold":
                raise _WithheldError
        frames = enlarged(frames, self._upscale)
        if self._watermarker is not None:
            frames, self.watermark_id = self._watermarker.mark(frames, self.watermark_id)
        begin = self._plan.end_of(window.index) - len(frames)
        self._shown.extend(_thumbnail(frame) for frame in frame_a_second(frames, self._fps, begin=begin))
        return frames

    def filmstrip(self) -> Pixels:
        """Returns a frame a second side by side, none larger than a thumbnail."""
        return np.concatenate(self._shown, axis=1)


class KeptWindows:
    """The windows of one clip in a folder, a file each.

    Args:
        folder: Where they lie; made when there is one to keep.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, window: Window) -> None:
        """Keeps a window, atomically."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(window.index)
        partial = path.with_suffix(".partial")
        partial.write_bytes(save({"frames": torch.from_numpy(window.frames), "tail": window.tail.contiguous()}))
        partial.replace(path)

    def windows(self) -> Iterator[Window]:
        """Yields the windows that are there, from the first to the one before the first that is not there or damaged."""
        index = 0
        while self._path(index).is_file():
            try:
                tensors = load_file(self._path(index))
                window = Window(index=index, frames=tensors["frames"].numpy(), tail=tensors["tail"])
            except (OSError, SafetensorError, KeyError):
                return
            yield window
            index += 1

    def _path(self, index: int) -> Path:
        return self._folder / f"window-{index:06d}.safetensors"


class _Animation:
    """A clip whose encoder wants all frames at once."""

    def __init__(self, path: Path, fps: float, media_format: MediaFormat) -> None:
        self._path, self._fps, self._format = path, fps, media_format
        self._frames: list[Pixels] = []

    def write(self, frames: Pixels) -> None:
        """Appends frames."""
        self._frames.append(frames)

    def __enter__(self) -> Self:
        """Returns the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Encodes all frames and writes the file."""
        if kind is None:
            self._path.write_bytes(encode_clip(np.concatenate(self._frames), self._fps, self._format))


def _thumbnail(frame: Pixels) -> Pixels:
    height, width, _ = frame.shape
    factor = _THUMBNAIL / max(height, width)
    if factor >= 1:
        return frame
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX), dtype=np.uint8)
