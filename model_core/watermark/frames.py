"""What is asked of the frames that a watermark is put into or looked for in."""

import numpy as np
import numpy.typing as npt

from model_core.errors import BadDataError

Frames = npt.NDArray[np.uint8]
"""RGB pixels, uint8 [frames height width 3]; a picture is a clip of one frame."""


def check_frames(frames: Frames) -> None:
    """Refuses what is not RGB frames.

    Raises:
        BadDataError: The type or the shape is another one, or an axis is empty.
    """
    hint = "give uint8 pixels [frames height width 3], RGB; a picture is a clip of one frame: pixels[None]"
    if not isinstance(frames, np.ndarray):
        raise BadDataError(f"frames are a NumPy array, not {type(frames).__name__}", hint=hint)
    if frames.dtype != np.uint8:
        raise BadDataError(f"frames are uint8, not {frames.dtype}", hint=hint)
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise BadDataError(f"frames are [frames height width 3], not {list(frames.shape)}", hint=hint)
