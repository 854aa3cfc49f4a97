"""Pictures and clips of unknown origin, as a model makes them: size, pace, length, and what is refused."""

import io
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from model_core.data.given_media import Shape, fit_media, media_type_of
from model_core.data.media import encode_png, square
from model_core.data.video import encode_gif, encode_mp4, encode_webp
from model_core.errors import BadDataError

PICTURE = Shape(size=16, num_frames=1, fps=8.0)
CLIP = Shape(size=16, num_frames=4, fps=4.0)


def greys(*levels, size=(16, 16)):
    """Frames of one grey each."""
    return np.stack([np.full((*size, 3), level, dtype=np.uint8) for level in levels])


def levels(frames):
    return frames.mean(axis=(1, 2, 3)).round().astype(int).tolist()


def picture_bytes(pixels, form, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def video(frames, *, form="webm", codec="libvpx", rate=4, sound=False, sizes=None):
    """A video that other programs may have made."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        if sound:
            container.add_stream("libopus" if form == "webm" else "aac", rate=48_000)
        if frames is not None:
            stream = container.add_stream(codec, rate=rate)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        if sound:
            sounds = container.streams.audio[0]
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 96_000), dtype=np.int16), format="s16", layout="stereo")
            samples.rate = 48_000
            container.mux(sounds.encode(samples))
            container.mux(sounds.encode(None))
    return file.getvalue()


def fit(data, shape=CLIP, **options):
    return fit_media(data, shape, name="given", **options)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_picture_becomes_the_middle_square_at_the_models_size(form):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    data = picture_bytes(pixels, form)
    found = fit(data, PICTURE)
    assert found.shape == (1, 16, 16, 3)
    decoded = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(found[0], square(decoded, 16))


def test_a_picture_of_the_models_size_keeps_every_pixel_and_what_is_transparent_is_white():
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(fit(encode_png(pixels), PICTURE)[0], pixels)
    assert fit(picture_bytes(np.zeros((16, 16, 4), dtype=np.uint8), "PNG"), PICTURE).min() == 255


def test_a_picture_is_a_still_clip_where_clips_are_made():
    assert levels(fit(encode_png(greys(90)[0]))) == [90] * 4


@pytest.mark.parametrize("encode", [encode_webp, encode_gif, encode_mp4])
def test_clips_at_the_models_pace_stay_frame_for_frame(encode):
    assert levels(fit(encode(greys(10, 80, 150, 220), 4.0))) == pytest.approx([10, 80, 150, 220], abs=2)


def test_a_clip_of_another_pace_is_sampled_and_one_that_is_over_stays():
    frames = greys(*range(0, 240, 20))  # 12 frames
    assert levels(fit(encode_webp(frames, 8.0))) == [0, 40, 80, 120]
    assert levels(fit(encode_webp(frames[:3], 2.0))) == [0, 0, 20, 20]
    assert levels(fit(encode_webp(frames[:2], 4.0))) == [0, 20, 20, 20]


@pytest.mark.parametrize(("form", "codec"), [("webm", "libvpx"), ("avi", "mpeg4"), ("mov", "libx264")])
def test_containers_of_other_programs_are_read(form, codec):
    data = video(greys(20, 90, 160, 230, size=(32, 48)), form=form, codec=codec)
    assert levels(fit(data)) == pytest.approx([20, 90, 160, 230], abs=6)


def test_the_last_frames_come_first_where_a_clip_goes_on():
    frames = greys(*range(0, 240, 20))
    assert levels(fit(encode_webp(frames, 4.0), num_last=2)) == [200, 220, 220, 220]
    assert levels(fit(encode_webp(frames, 8.0), num_last=3)) == [120, 160, 200, 200]
    with pytest.raises(BadDataError, match="has 2 frames at 4 a second, not 3"):
        fit(encode_webp(frames[:2], 4.0), num_last=3)


def bomb():
    def chunk(name, content):
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 16))) + chunk(b"IEND", b"")


def of_changing_size():
    """A stream of pictures, the second larger than the first."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_mux_stream("mjpeg", rate=4, width=16, height=16)
        for place, side in enumerate((16, 32)):
            packet = av.Packet(picture_bytes(greys(50, size=(side, side))[0], "JPEG"))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, place, place, Fraction(1, 4)
            container.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: b"", "no picture or clip"),
        (lambda: b"hello, I am a picture", "no picture or clip"),
        (lambda: picture_bytes(greys(1)[0], "TIFF"), "no picture or clip"),
        (
            lambda: encode_png(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))[:3000],
            "truncated",
        ),
        (lambda: encode_mp4(greys(1, 2), 4.0)[:300], "no whole picture or clip|has no picture"),
        (bomb, "decompression bomb|cannot be decoded"),
        (lambda: b"\0\0\0\x20ftypisom" + bytes(200), "no whole picture or clip"),
        (lambda: b"\x1aE\xdf\xa3" + bytes(200), "no whole picture or clip"),
        (lambda: video(None, sound=True), "has no picture, only other streams"),
        (of_changing_size, "changes its size at frame 2"),
    ],
)
def test_what_cannot_be_read_is_one_error_that_names_the_file(make, words):
    with pytest.raises(BadDataError, match=words) as caught:
        fit(make())
    assert caught.value.diagnosis.startswith("given ")
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_model_of_pictures_takes_no_clip():
    for data in (encode_gif(greys(1, 99), 4.0), encode_mp4(greys(1, 99, 180), 4.0)):
        with pytest.raises(BadDataError, match="a clip, and the model makes pictures"):
            fit(data, PICTURE)
    assert levels(fit(encode_mp4(greys(99), 4.0), PICTURE)) == pytest.approx([99], abs=2)


def test_too_many_frames_are_refused_and_what_comes_after_the_last_one_needed_is_not_read(monkeypatch):
    monkeypatch.setattr("model_core.data.given_media.MAX_FRAMES", 6)
    data = encode_webp(greys(*range(0, 200, 20)), 4.0)
    assert levels(fit(data)) == [0, 20, 40, 60]
    with pytest.raises(BadDataError, match="too many frames"):
        fit(data, num_last=2)


def test_changed_bytes_are_read_or_refused_and_nothing_else():
    rng = np.random.default_rng(4)
    frames = rng.integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    originals = [encode_mp4(frames, 4.0), encode_webp(frames, 4.0), encode_gif(frames, 4.0), encode_png(frames[0])]
    for number in range(120):
        data = bytearray(originals[number % len(originals)])
        for _ in range(rng.choice([1, 4, 30])):
            data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        try:
            assert fit(bytes(data)).shape == (4, 16, 16, 3)
        except BadDataError as error:
            assert len(str(error)) < 600  # noqa: PT017 - either may come


def test_kinds_are_told_by_the_first_bytes():
    assert media_type_of(encode_mp4(greys(1), 4.0)[:16]) == "video/mp4"
    assert media_type_of(video(greys(1))[:16]) == "video/webm"
    assert media_type_of(b"RIFF\0\0\0\0WAVE") is None
