"""Folders of videos: cut into clips within scenes, at one pace and size, and what is no video refused in one line."""

import io
import json
from fractions import Fraction

import av
import numpy as np
import pytest

from model_core.data.dataset import Dataset
from model_core.data.importing import import_dataset
from model_core.data.video import encode_gif, encode_mp4
from model_core.errors import BadDataError

RED, BLUE = (200, 30, 30), (30, 30, 200)


def shot(colour, num_frames, *, height=48, width=64):
    """A square that moves right over a colour, as many frames long."""
    frames = np.full((num_frames, height, width, 3), colour, dtype=np.uint8)
    for number in range(num_frames):
        frames[number, 20:30, 4 + number : 14 + number] = 240
    return frames


def folder_of(root, files, **more):
    root.mkdir()
    lines = []
    for name, data in files.items():
        (root / name).write_bytes(data)
        lines.append({"file_name": name, "text": f"clip {name}", "label": "shots", "licence": "CC0-1.0", **more})
    (root / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return root


def imported(root, tmp_path, **options):
    import_dataset(str(root), tmp_path / "out", **{"size": 32, "frames": 8, "fps": 8, "workers": 1, **options})
    return Dataset.open(tmp_path / "out")


def with_sound(*, picture):
    """An MP4 with a second of silence, and with a picture or without."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=8) if picture else None
        sound = container.add_stream("aac", rate=44_100)
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for frame in shot(RED, 8):
                container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(video.encode(None))
        samples = av.AudioFrame(format="fltp", layout="mono", samples=44_100)
        for plane in samples.planes:
            plane.update(bytes(plane.buffer_size))
        samples.sample_rate, samples.pts, samples.time_base = 44_100, 0, Fraction(1, 44_100)
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    return buffer.getvalue()


def test_a_clip_never_spans_a_cut(tmp_path):
    video = encode_mp4(np.concatenate([shot(RED, 20), shot(BLUE, 13)]), 8)
    dataset = imported(folder_of(tmp_path / "in", {"two-scenes.mp4": video}, split="train"), tmp_path)
    clips = dataset.clips(range(len(dataset)))
    assert clips.shape == (3, 8, 32, 32, 3)  # two of the first scene, one of the second, what is left of each left out
    for clip, colour in zip(clips, (RED, RED, BLUE), strict=True):
        assert np.abs(clip[:, :8, :8].astype(int) - colour).max() < 24
    assert [text.partition(", from ")[2] for text in dataset.columns["source"]] == [
        "0 s of 4 s",
        "1 s of 4 s",
        "2.5 s of 4 s",
    ]


@pytest.mark.parametrize("fps", [4, 8, 12])
def test_videos_come_to_the_pace_of_the_dataset(tmp_path, fps):
    video = encode_mp4(shot(RED, 48), 24)  # two seconds
    dataset = imported(folder_of(tmp_path / "in", {"a.mp4": video}, split="train"), tmp_path, frames=4, fps=fps)
    assert len(dataset) == 2 * fps // 4
    assert dataset.info.fps == fps


def test_gifs_are_clips_where_frames_are_asked_for(tmp_path):
    root = folder_of(tmp_path / "in", {"a.gif": encode_gif(shot(RED, 10), 10)}, split="train")
    assert imported(root, tmp_path, frames=5, fps=10).clips([0, 1]).shape == (2, 5, 32, 32, 3)
    import_dataset(str(root), tmp_path / "pictures", size=32, workers=1)
    assert Dataset.open(tmp_path / "pictures").info.num_frames == 1


def test_sound_is_dropped_and_said_to_be(tmp_path):
    dataset = imported(folder_of(tmp_path / "in", {"loud.mp4": with_sound(picture=True)}, split="train"), tmp_path)
    assert dataset.columns["source"][0].endswith(", sound dropped")


def test_all_clips_of_a_video_are_on_one_side(tmp_path):
    videos = {f"{number}.mp4": encode_mp4(shot(RED, 16), 8) for number in range(12)}
    dataset = imported(folder_of(tmp_path / "in", videos), tmp_path)
    sides = {}
    for source, split in zip(dataset.columns["source"], dataset.columns["split"], strict=True):
        sides.setdefault(source.partition(",")[0], set()).add(split)
    assert all(len(found) == 1 for found in sides.values())


GOOD = encode_mp4(shot(RED, 16), 8)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("silent.mp4", with_sound(picture=False), "has no picture"),
        ("text.mp4", b"this is no video at all" * 50, "is no such video"),
        ("empty.webm", b"", "is no such video"),
        ("cut.mp4", GOOD[:-600], "cannot be decoded|holds no frames|is no such video"),
        ("list.mp4", b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "is no such video"),
        ("short.mp4", encode_mp4(shot(RED, 3), 8), "is as long as 8 frames"),
    ],
)
def test_what_is_no_video_is_one_line(tmp_path, name, data, message):
    with pytest.raises(BadDataError, match=message) as caught:
        imported(folder_of(tmp_path / "in", {name: data}), tmp_path)
    assert "\n" not in caught.value.diagnosis
    assert not (tmp_path / "out").exists()


def test_pictures_beside_videos_are_refused(tmp_path):
    root = folder_of(tmp_path / "in", {"a.mp4": GOOD, "b.png": b"x"})
    with pytest.raises(BadDataError, match="names videos such as"):
        imported(root, tmp_path)


def test_a_link_in_place_of_a_video_is_refused(tmp_path):
    root = folder_of(tmp_path / "in", {"a.mp4": GOOD})
    (root / "a.mp4").rename(tmp_path / "elsewhere.mp4")
    (root / "a.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    with pytest.raises(BadDataError, match="symbolic link"):
        imported(root, tmp_path)
