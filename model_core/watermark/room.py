"""What media of a size have room for: an id, the mark alone, or nothing that anybody would find again.

The bounds are where the tables of ``benchmarks/README.md`` say that what is put in is found again after something has happened.
"""

from enum import Enum
from typing import Final

from model_core.watermark.carriers import SMALL_SIDE

MIN_SIDE: Final = 64
"""Under this the mark is lost by saving as JPEG or halving: the shorter side of a picture or clip, in pixels."""
MIN_SIDE_FOR_ID: Final = SMALL_SIDE
"""Under this the id in a single picture is lost by the same, and takes from the mark what it is found by."""
MIN_FRAMES_FOR_ID: Final = 8
"""So many frames, averaged, have room for an id from `MIN_SIDE` on."""


class Room(Enum):
    """What there is room for."""

    NOTHING = "nothing"
    MARK = "mark"
    ID = "id"


def room_in(num_frames: int, height: int, width: int) -> Room:
    """Returns what media of a size have room for.

    Args:
        num_frames: Number of frames; 1 of a picture.
        height: In pixels.
        width: In pixels.
    """
    side = min(height, width)
    if side < MIN_SIDE:
        return Room.NOTHING
    return Room.ID if side >= MIN_SIDE_FOR_ID or num_frames >= MIN_FRAMES_FOR_ID else Room.MARK
