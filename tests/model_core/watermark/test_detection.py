import numpy as np
import pytest
from PIL import Image

from model_core.errors import BadDataError
from model_core.watermark import detect, embed
from model_core.watermark.frames import Frames
from tests.model_core.watermark.attacks import crop, h264, half_and_back, jpeg, resize
from tests.model_core.watermark.pictures import KEY, PAYLOAD, graphics, moving_graphics, photographs

REQUIRED = [jpeg, resize, half_and_back, h264, crop]


@pytest.fixture(scope="module")
def marked() -> list[Frames]:
    return [embed(picture, KEY, PAYLOAD) for picture in graphics(256, 8) + photographs(256, 4)]


def test_the_id_is_read_from_untouched_pictures(marked: list[Frames]) -> None:
    found = [detect(picture, KEY) for picture in marked]
    assert all(one.detected and one.payload == PAYLOAD for one in found)
    assert max(one.false_positive_probability for one in found) < 1e-20
    assert max(one.wrong_payload_probability for one in found) < 1e-6


@pytest.mark.parametrize("attack", REQUIRED)
def test_a_mark_outlives_what_happens_to_pictures(marked: list[Frames], attack) -> None:
    found = [detect(attack(picture), KEY) for picture in marked]
    assert all(one.detected for one in found)
    assert {one.payload for one in found} <= {PAYLOAD, None}


@pytest.mark.parametrize("attack", REQUIRED)
def test_a_mark_outlives_what_happens_to_clips(attack) -> None:
    assert all(detect(attack(embed(clip, KEY)), KEY).detected for clip in moving_graphics(64, 4))


def test_the_id_outlives_compression_halving_and_a_crop(marked: list[Frames]) -> None:
    for attack in (jpeg, resize, crop):
        assert [detect(attack(picture), KEY).payload for picture in marked] == [PAYLOAD] * len(marked)


@pytest.mark.parametrize("size", [64, 128])
def test_a_mark_without_an_id_is_found_in_small_pictures(size: int) -> None:
    assert all(detect(jpeg(embed(picture, KEY)), KEY).detected for picture in graphics(size, 6))


def test_half_the_size_a_turn_and_a_flip_are_told(marked: list[Frames]) -> None:
    assert detect(resize(marked[0]), KEY).scale == pytest.approx(0.5, rel=0.02)
    flipped = detect(np.ascontiguousarray(marked[0][:, :, ::-1]), KEY)
    assert (flipped.detected, flipped.flipped, flipped.payload) == (True, True, PAYLOAD)

    for angle in (-3, 2):
        turned = np.asarray(Image.fromarray(marked[0][0]).rotate(angle, Image.Resampling.BICUBIC, fillcolor="white"))
        assert detect(turned[None], KEY).angle_deg == pytest.approx(angle, abs=0.3)


def test_another_key_finds_nothing(marked: list[Frames]) -> None:
    found = [detect(picture, bytes(reversed(KEY))) for picture in marked[::2]]
    assert not any(one.detected or one.payload for one in found)


def test_nothing_is_found_in_pictures_without_a_mark() -> None:
    found = [detect(picture, KEY) for picture in graphics(256, 4) + photographs(256, 2) + moving_graphics(64, 2)]
    assert not any(one.detected or one.payload for one in found)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 40, 3), (2, 7, 3, 3), (1, 64, 64, 3)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_and_tiny_pictures_are_taken(shape: tuple[int, ...], level: int) -> None:
    flat = np.full(shape, level, dtype=np.uint8)
    assert not detect(flat, KEY).detected
    marked = embed(flat, KEY, PAYLOAD)
    assert marked.shape == shape
    assert detect(marked, KEY).detected == (shape[1] == 64)


@pytest.mark.parametrize("size", [1100, 300])
def test_a_mark_is_found_in_large_and_oblong_pictures(size: int) -> None:
    wide = np.tile(photographs(256, 1)[0], (1, 1, 5, 1))[:, :200, :size]
    assert detect(embed(wide, KEY, PAYLOAD), KEY).payload == PAYLOAD


@pytest.mark.parametrize(
    "frames", [np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3)), np.zeros((0, 8, 8, 3), np.uint8), [[0]]]
)
def test_what_is_no_frames_is_refused_with_a_hint(frames) -> None:
    for call in (embed, detect):
        with pytest.raises(BadDataError, match="frames are") as refused:
            call(frames, KEY)
        assert "[frames height width 3]" in refused.value.hint
