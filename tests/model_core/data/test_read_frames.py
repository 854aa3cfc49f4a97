import numpy as np
import pytest

from model_core.data.given_media import read_frames
from model_core.data.media import encode_png
from model_core.data.video import encode_mp4, encode_webp
from model_core.errors import BadDataError

CLIP = np.random.default_rng(0).integers(0, 256, size=(5, 16, 24, 3), dtype=np.uint8)


def test_frames_are_read_as_they_are() -> None:
    assert np.array_equal(read_frames(encode_webp(CLIP, 8), name="clip"), CLIP)
    assert np.array_equal(read_frames(encode_png(CLIP[0]), name="picture"), CLIP[:1])
    assert read_frames(encode_mp4(CLIP, 8), name="clip").shape == CLIP.shape


@pytest.mark.parametrize("data", [b"", b"no picture", encode_webp(CLIP, 8)[:400]])
def test_what_is_no_whole_file_is_bad_data(data: bytes) -> None:
    with pytest.raises(BadDataError):
        read_frames(data, name="clip")
