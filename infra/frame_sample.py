"""What a watermark is looked for in: of a picture or clip of any size and length, as much as the detector looks at."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from model_core.watermark.frames import Frames


class FrameSample:
    """Keeps evenly spaced frames while a clip of unknown length is decoded, and of each the middle, as RGB.

    Never more than 128 frames of 512x512 pixels are kept, 96 MiB: where there are more, every other one is let go and from then
    on half as many are taken.
    """

    def __init__(self) -> None:
        from model_core.watermark.detection import MAX_FRAMES, MAX_SIDE

        self._max_frames, self._max_side = 2 * MAX_FRAMES, MAX_SIDE
        self._kept: list[Image] = []
        self._every = 1
        self._num_seen = 0

    def add(self, width: int, height: int, frame: "Callable[[], Image]") -> None:
        """Takes in a frame; it is asked for only if it is kept."""
        at, self._num_seen = self._num_seen, self._num_seen + 1
        if at % self._every:
            return
        if len(self._kept) == self._max_frames:
            self._kept, self._every = self._kept[::2], 2 * self._every
        left, top = (max(0, (size - self._max_side) // 2) for size in (width, height))
        right, bottom = min(width, left + self._max_side), min(height, top + self._max_side)
        middle = frame().crop((left, top, right, bottom)).convert("RGB")
        if not self._kept or middle.size == self._kept[0].size:
            self._kept.append(middle)

    def frames(self) -> "Frames":
        """Returns what was kept, uint8 [frames height width 3]."""
        import numpy as np

        return np.stack([np.asarray(frame) for frame in self._kept])
