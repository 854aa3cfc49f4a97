"""Clips as files: what players read back is what was written."""

import io

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from model_core.data.media import decode_filmstrip, encode_filmstrip, overview
from model_core.data.video import Mp4Writer, encode_gif, encode_mp4, encode_webp, filmstrip, frame_a_second
from model_core.errors import BadDataError


@pytest.fixture
def clip():
    """A bright square that moves over a gradient, uint8 [6 32 48 3]."""
    frames = np.zeros((6, 32, 48, 3), dtype=np.uint8)
    frames[..., 0] = np.linspace(40, 120, 48, dtype=np.uint8)
    for number in range(6):
        frames[number, 8:20, 4 + 5 * number : 16 + 5 * number] = (250, 200, 30)
    return frames


def psnr(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other.astype(float)) ** 2))


def test_an_mp4_holds_the_frames_at_their_pace(clip):
    data = encode_mp4(clip, 8)
    with av.open(io.BytesIO(data)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.average_rate, stream.codec_context.pix_fmt) == ("h264", 8, "yuv420p")
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert frames.shape == clip.shape
    assert min(psnr(a, b) for a, b in zip(frames, clip, strict=True)) > 25  # colours at half the resolution
    assert data.find(b"moov") < data.find(b"mdat")  # the index in front
    assert encode_mp4(clip, 8) == data


def test_a_webp_animation_loses_nothing(clip):
    with Image.open(io.BytesIO(encode_webp(clip, 10))) as picture:
        frames = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])
        assert picture.info["loop"] == 0
    assert np.array_equal(frames, clip)


def test_a_gif_animation_keeps_the_pace(clip):
    with Image.open(io.BytesIO(encode_gif(clip, 10))) as picture:
        assert picture.n_frames == len(clip)
        assert picture.info["duration"] == 100


def test_an_mp4_opens_in_a_browser(clip, page, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(encode_mp4(clip, 8))
    (tmp_path / "page.html").write_text("<video src=clip.mp4 muted></video>")
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    facts = page.evaluate("(v => [v.videoWidth, v.videoHeight, v.duration])(document.querySelector('video'))")
    assert facts == [48, 32, pytest.approx(6 / 8)]


@pytest.mark.parametrize("encode", [encode_mp4, encode_webp, encode_gif])
@pytest.mark.parametrize("fps", [0, -1, 1000, float("nan")])
def test_a_pace_that_is_none_is_refused(clip, encode, fps):
    with pytest.raises(BadDataError, match="frames a second"):
        encode(clip, fps)


@pytest.mark.parametrize("frames", [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 3))])
def test_what_is_no_clip_is_refused(frames):
    with pytest.raises(BadDataError, match="a clip of shape"):
        encode_mp4(frames, 8)


def test_h264_refuses_odd_sides_with_a_hint(clip):
    with pytest.raises(BadDataError, match="even sides") as caught:
        encode_mp4(clip[:, :31], 8)
    assert "webp" in caught.value.hint


def test_a_filmstrip_keeps_every_frame(clip):
    data = encode_filmstrip(clip)
    assert np.array_equal(decode_filmstrip(data, 6, name="it"), clip)
    with pytest.raises(BadDataError, match="no filmstrip of 7 frames"):
        decode_filmstrip(data, 7, name="it")


def test_overviews_show_the_first_and_the_last_frame(clip):
    strip = filmstrip(clip, 3)
    assert np.array_equal(strip[:, :48], clip[0])
    assert np.array_equal(strip[:, -48:], clip[-1])
    square = overview(clip)
    assert np.array_equal(square[:32, :48], clip[0])
    assert np.array_equal(square[32:, 48:], clip[-1])
    assert np.array_equal(overview(clip[:1]), clip[0])


def test_a_clip_in_pieces_has_the_bytes_of_the_whole(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    path = tmp_path / "clip.mp4"
    with Mp4Writer(path, 8.0) as writer:
        for start in range(0, 70, 9):
            writer.write(frames[start : start + 9])
    assert path.read_bytes() == encode_mp4(frames, 8.0)


@pytest.mark.parametrize("fps", [8.0, 7.5, 0.5])
def test_the_frame_with_which_each_second_begins_is_the_same_in_pieces(fps):
    frames = np.arange(60, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    whole = frame_a_second(frames, fps)[:, 0, 0, 0].tolist()
    assert whole == [round(second * fps) for second in range(200) if round(second * fps) < 60]
    pieces = [frame_a_second(frames[start : start + 7], fps, begin=start)[:, 0, 0, 0].tolist() for start in range(0, 60, 7)]
    assert [place for piece in pieces for place in piece] == whole
