"""The probe of motion: known displacements are found, and captions are read."""

import numpy as np
import pytest

from model_core.errors import BadDataError
from model_core.evaluation.motion import asked_directions, directions, displacements


def moving(step, *, num_frames=9, side=32):
    """A smooth spot on grey that goes `step` pixels (x, y) a frame."""
    rows, columns = np.mgrid[:side, :side]
    frames = []
    for number in range(num_frames):
        x, y = (side / 2 + (number - num_frames // 2) * part for part in step)
        spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
        frames.append(np.repeat((90 + 150 * spot)[..., None], 3, axis=2))
    return np.asarray(frames, dtype=np.uint8)[None]


@pytest.mark.parametrize(("step", "direction"), [((-1, 0), "left"), ((0.7, 0.1), "right"), ((0, -1), "up"), ((0.2, 0.8), "down")])
@pytest.mark.parametrize("side", [32, 64])
def test_a_known_displacement_is_found(step, direction, side):
    moved = displacements(moving([part * side / 32 for part in step], side=side))
    assert moved.shape == (1, 8, 2)
    assert np.allclose(moved[0] * 32, step, atol=0.12)
    assert directions(moved) == [direction]


def test_what_stands_still_goes_nowhere():
    assert directions(displacements(moving((0, 0)))) == [""]
    assert np.array_equal(displacements(np.full((1, 4, 16, 16, 3), 200, np.uint8)), np.zeros((1, 3, 2)))


def test_captions_name_one_direction_or_none():
    captions = ["a cat moving left", "Up it goes", "left, then right", "a leftover", "moving left and left again", ""]
    assert asked_directions(captions) == ["left", "up", "", "", "left", ""]


def test_pictures_do_not_move():
    with pytest.raises(BadDataError, match="two frames"):
        displacements(np.zeros((1, 1, 8, 8, 3), np.uint8))
