import hashlib

import numpy as np
import pytest

from model_core.errors import BadDataError
from model_core.watermark import embed
from tests.model_core.watermark.pictures import KEY, PAYLOAD, graphics, moving_graphics, photographs


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(np.float64) - other) ** 2)))


@pytest.mark.parametrize("size", [32, 256])
def test_a_mark_costs_little_fidelity(size: int) -> None:
    for picture in graphics(size, 4) + photographs(size, 4):
        assert psnr(embed(picture, KEY, PAYLOAD), picture) >= 38.0


def test_white_only_gets_darker_and_black_only_lighter() -> None:
    for level in (0, 255):
        flat = np.full((1, 128, 128, 3), level, dtype=np.uint8)
        marked = embed(flat, KEY, PAYLOAD)
        assert 0.5 < np.abs(marked.astype(int) - level).mean() < 2.0
        assert np.abs(marked.astype(int) - level).max() < 20


def test_texture_takes_more_than_flat_parts() -> None:
    picture = np.full((1, 256, 256, 3), 128, dtype=np.uint8)
    picture[:, :, 128:] = np.random.default_rng(0).integers(88, 168, (1, 256, 128, 1), dtype=np.uint8)
    change = np.abs(embed(picture, KEY).astype(int) - picture)
    assert change[:, :, 136:].mean() > 1.5 * change[:, :, :120].mean()


def test_the_same_input_gives_the_same_bytes_and_is_left_as_it_was() -> None:
    (clip,) = moving_graphics(64, 1, num_frames=3)
    before = hashlib.sha256(clip).digest()
    assert np.array_equal(embed(clip, KEY, PAYLOAD), embed(clip.copy(), KEY, PAYLOAD))
    assert hashlib.sha256(clip).digest() == before


def test_a_clip_is_marked_frame_by_frame() -> None:
    (clip,) = moving_graphics(64, 1, num_frames=3)
    assert np.array_equal(embed(clip, KEY)[1:2], embed(clip[1:2], KEY))


def test_keys_and_ids_change_the_mark() -> None:
    (picture,) = graphics(64, 1)
    marks = [embed(picture, KEY), embed(picture, KEY[::-1]), embed(picture, KEY, PAYLOAD), embed(picture, KEY, PAYLOAD[::-1])]
    assert len({mark.tobytes() for mark in marks}) == 4


def test_short_keys_and_ids_of_another_length_are_refused_with_a_hint() -> None:
    (picture,) = graphics(64, 1)
    with pytest.raises(BadDataError, match="at least 16 bytes, not 5") as short:
        embed(picture, b"short")
    assert "secrets.token_bytes" in short.value.hint
    with pytest.raises(BadDataError, match="6 bytes, not 3") as wrong:
        embed(picture, KEY, b"abc")
    assert "id" in wrong.value.hint
