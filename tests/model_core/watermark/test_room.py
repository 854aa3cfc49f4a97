"""What media of a size have room for, and that what is put into them is found again."""

import numpy as np
import pytest

from model_core.watermark import Room, detect, embed, room_in
from tests.model_core.watermark.attacks import crop, resize
from tests.model_core.watermark.copying import copy_mark
from tests.model_core.watermark.pictures import KEY, PAYLOAD, graphics, moving_graphics, photographs


@pytest.mark.parametrize(
    ("shape", "room"),
    [
        ((1, 32, 32), Room.NOTHING),
        ((16, 32, 32), Room.NOTHING),
        ((1, 63, 500), Room.NOTHING),
        ((1, 64, 64), Room.MARK),
        ((7, 64, 64), Room.MARK),
        ((8, 64, 64), Room.ID),
        ((1, 127, 500), Room.MARK),
        ((1, 128, 128), Room.ID),
        ((1, 1024, 1024), Room.ID),
    ],
)
def test_small_media_bear_no_id_and_tiny_ones_nothing(shape: tuple[int, int, int], room: Room) -> None:
    assert room_in(*shape) is room


@pytest.mark.parametrize("attack", [resize, crop])
def test_short_clips_of_64_pixels_keep_their_id(attack) -> None:
    clips = moving_graphics(64, 4, num_frames=8)
    assert [detect(attack(embed(clip, KEY, PAYLOAD)), KEY).payload for clip in clips] == [PAYLOAD] * len(clips)


def test_a_mark_can_be_copied_without_the_key() -> None:
    """Not a wish: what a mark proves must not rest on this being hard."""
    marked = embed(photographs(256, 2)[0], KEY, PAYLOAD)
    other = graphics(256, 1)[0]
    assert not np.array_equal(marked, other)
    assert detect(copy_mark(marked, other), KEY).payload == PAYLOAD
