"""Clips longer than a model's own, as the step writes them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
import torch
from PIL import Image

from components.generate_media import long_clips, step
from components.generate_media.long_clips import KeptWindows
from components.generate_media.near_copies import Checker
from infra.watermark import Watermarker, WatermarkSecrets
from model_core.data.video import encode_mp4
from model_core.errors import BadDataError
from model_core.evaluation.training_index import Comparison
from model_core.sampling.long_clips import Window
from model_core.watermark import embed
from tests.components.long_clip_worker import FPS, SIZE, make, write_package

NAME = "clip-000000.mp4"
COMPARISON = Comparison(
    is_near_copy=True,
    space="thumbnails",
    nearest_sha256="ab" * 32,
    distance=0.1,
    distance_threshold=0.2,
    ratio=0.1,
    ratio_threshold=0.2,
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def package(tmp_path):
    return write_package(tmp_path / "package")


def test_a_long_clip_is_one_file_with_a_filmstrip_of_a_frame_a_second(package, tmp_path):
    report, said = make(tmp_path / "a", package, tmp_path / "scratch", num_frames=43, num_images=2)
    media = json.loads((tmp_path / "a/media/media.json").read_text())
    assert [entry["file"] for entry in media] == [NAME, "clip-000001.mp4"]
    for entry in media:
        with av.open(str(tmp_path / "a/media" / entry["file"])) as container:
            assert sum(1 for _ in container.decode(video=0)) == 43
    with Image.open(tmp_path / "a/media/grid.png") as strips:
        assert strips.size == (11 * SIZE + 4, 2 * (SIZE + 2) + 2)  # seconds 0 to 10, a clip a row
    assert report.summary == f"2 clips of 43 frames of {SIZE}x{SIZE} pixels"
    done, total, description = said[-1]
    assert (done, total, description) == (86, 86, "making frames")
    assert [one[0] for one in said] == sorted(one[0] for one in said)


def test_a_clip_has_the_same_bytes_among_others_and_in_one_piece(package, tmp_path):
    make(tmp_path / "one", package, tmp_path / "s1", num_frames=20)
    make(tmp_path / "two", package, tmp_path / "s2", num_frames=20, num_images=2, batch_size=4)
    first = (tmp_path / "one/media" / NAME).read_bytes()
    assert (tmp_path / "two/media" / NAME).read_bytes() == first
    frames = np.concatenate([window.frames for window in KeptWindows(tmp_path / "s1/clip-000000").windows()])
    assert encode_mp4(frames, FPS) == first


def test_windows_are_kept_as_they_were_drawn_and_written_enlarged(package, tmp_path):
    report, _ = make(tmp_path / "large", package, tmp_path / "s", num_frames=20, upscale=4)
    frames = np.concatenate([window.frames for window in KeptWindows(tmp_path / "s/clip-000000").windows()])
    assert frames.shape == (20, SIZE, SIZE, 3)
    large = [np.asarray(Image.fromarray(one).resize((4 * SIZE, 4 * SIZE), Image.Resampling.LANCZOS)) for one in frames]
    assert (tmp_path / "large/media" / NAME).read_bytes() == encode_mp4(np.stack(large), FPS)
    assert report.summary == f"1 clips of 20 frames of {4 * SIZE}x{4 * SIZE} pixels"


def test_a_killed_clip_goes_on_after_its_last_whole_window_to_the_same_bytes(package, tmp_path):
    options = {"num_frames": 120, "num_steps": 12}
    make(tmp_path / "whole", package, tmp_path / "s1", **options)
    scratch, root = tmp_path / "s2", Path(__file__).parents[2]
    arguments = [str(tmp_path / "killed"), str(package), str(scratch), json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    worker = subprocess.Popen([sys.executable, "-m", "tests.components.long_clip_worker", *arguments], cwd=root, env=environment)
    kept = scratch / "clip-000000"
    while not (kept / "window-000002.safetensors").is_file():
        assert worker.poll() is None
        time.sleep(0.005)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.safetensors")}
    assert 3 <= len(before) < 20
    make(tmp_path / "resumed", package, scratch, **options)
    after = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.safetensors")}
    assert len(after) == 20
    assert {name: after[name] for name in before} == before  # not made again
    for name in (NAME, "media.json", "grid.png"):
        assert (tmp_path / "resumed/media" / name).read_bytes() == (tmp_path / "whole/media" / name).read_bytes()


def test_a_damaged_window_and_those_after_it_are_made_again(package, tmp_path):
    options = {"num_frames": 30}
    make(tmp_path / "whole", package, tmp_path / "s", **options)
    damaged = tmp_path / "s/clip-000000/window-000001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    make(tmp_path / "again", package, tmp_path / "s", **options)
    assert (tmp_path / "again/media" / NAME).read_bytes() == (tmp_path / "whole/media" / NAME).read_bytes()


def test_a_window_without_a_predecessor_is_not_used(tmp_path):
    kept = KeptWindows(tmp_path / "clip")
    for index in (0, 2):
        frames = np.full((2, 4, 4, 3), index, dtype=np.uint8)
        kept.add(Window(index=index, frames=frames, tail=torch.full((1, 4, 2, 2, 2), float(index))))
    assert [window.index for window in kept.windows()] == [0]


@pytest.mark.parametrize("media_format", ["webp", "gif"])
def test_other_formats_hold_a_clip_and_have_a_longest_one(package, tmp_path, media_format, monkeypatch):
    monkeypatch.setattr(long_clips, "LONGEST_ANIMATION", 20)
    make(tmp_path / "a", package, tmp_path / "s", num_frames=20, media_format=media_format)
    with Image.open(tmp_path / f"a/media/clip-000000.{media_format}") as clip:
        assert clip.n_frames > 1
    with pytest.raises(BadDataError, match="a clip of 21 frames cannot be") as caught:
        make(tmp_path / "b", package, tmp_path / "s", num_frames=21, media_format=media_format)
    assert "choose mp4" in caught.value.hint


def test_a_model_that_has_not_learnt_to_go_on_is_refused(tmp_path):
    package = write_package(tmp_path / "package", training={"seed": 0})
    with pytest.raises(BadDataError, match="clips of up to 8 frames, not of 9"):
        make(tmp_path / "a", package, tmp_path / "s", num_frames=9)


def test_all_of_a_clip_bears_the_id_of_its_first_window(tmp_path):
    package = write_package(tmp_path / "package", latent_shape=(4, 8, 32, 32), image_size=64)
    secrets = WatermarkSecrets(key=b"k" * 32, id_key=b"i" * 32)
    make(tmp_path / "a", package, tmp_path / "s", num_frames=20, watermarker=Watermarker(secrets=secrets, root_digest="00" * 32))
    (entry,) = json.loads((tmp_path / "a/media/media.json").read_text())
    unmarked = [window.frames for window in KeptWindows(tmp_path / "s/clip-000000").windows()]
    assert entry["watermark_id"] == secrets.id_of(unmarked[0], "00" * 32).hex()
    marked = embed(np.concatenate(unmarked), secrets.key, bytes.fromhex(entry["watermark_id"]))
    assert (tmp_path / "a/media" / NAME).read_bytes() == encode_mp4(marked, FPS)


@pytest.mark.parametrize(("mode", "num_files"), [("withhold", 1), ("flag", 2)])
def test_a_clip_that_repeats_a_training_item_in_a_later_window_is_withheld(package, tmp_path, monkeypatch, mode, num_files):
    class SecondWindow(Checker):
        seen: ClassVar = []

        def near_copies(self, samples):
            self.seen.append(samples.copy())
            return {0: COMPARISON} if len(self.seen) == 2 else {}

    monkeypatch.setattr(step, "open_checker", lambda *_, **__: SecondWindow(mode=mode, state="unchecked"))
    report, _ = make(tmp_path / "a", package, tmp_path / "s", num_frames=20, num_images=2)
    media = json.loads((tmp_path / "a/media/media.json").read_text())
    assert len(media) == num_files == len(list((tmp_path / "a/media").glob("*.mp4")))
    (found,) = json.loads((tmp_path / "a/media/memorisation.json").read_text())["near_copies"]
    assert (found["position"], found["nearest_sha256"]) == (0, COMPARISON.nearest_sha256)
    assert [samples.shape for samples in SecondWindow.seen] == [(1, 8, SIZE, SIZE, 3)] * len(SecondWindow.seen)
    assert mode == "flag" or "withheld" in report.summary


def test_large_frames_are_shown_small():
    frame = np.zeros((256, 256, 3), dtype=np.uint8)
    assert long_clips._thumbnail(frame).shape == (64, 64, 3)
    assert long_clips._thumbnail(frame[:32, :32]) is not None
