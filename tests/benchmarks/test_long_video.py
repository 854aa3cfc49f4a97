"""The benchmark of long clips, without its hours of work."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from benchmarks.long_video import _Looks, _read, _tables, background_accuracy, parse
from benchmarks.long_video_model import FPS, FRAMES, GRAPHICS, MOTIONS, captions_of, scenes
from model_core.data.importers.moving_openmoji import BACKGROUNDS
from model_core.evaluation.drift import Drift
from model_core.evaluation.intervals import Interval
from model_core.sampling.long_clips import Window


@pytest.fixture
def drift():
    interval = Interval(value=0.5, low=0.25, high=0.75)
    return Drift(to_first=(interval,) * 2, to_real=(interval,) * 2, accuracy=(0.8, 0.6), accuracy_real=0.9)


def test_figures_are_read_as_they_were_written(drift):
    assert _read(asdict(drift) | {"accuracy_kept": drift.accuracy_kept}) == drift


def test_the_tables_tell_time_and_drift(drift):
    speed = [{"frames": 480, "wall_s": 41.0, "processor_s": 40.0, "peak_mb": 350.0, "file_kb": 355.4}]
    told = _tables({"speed": speed, "drift": {"curves": {"a": asdict(drift) | {"accuracy_kept": 0.75}}}})
    assert "| 480 | 60.0 | 41.0 | 40.0 | 350.0 | 355.4 |" in told
    assert "| a | 80% | 60% | 75% | 90% | 0.500 (0.250 to 0.750) |" in told


def test_scenes_are_what_the_importer_makes_of_the_captions():
    found = scenes()
    captions = {item.caption for item in found.items}
    assert {GRAPHICS[label] for label in found.labels} == set(GRAPHICS)
    assert 0.05 < sum(found.held_out) / len(found.held_out) < 0.15
    shapes = {caption.split(" on a ")[0] for caption in captions}
    for motion in MOTIONS:
        assert {caption.split(" on a ")[0] for caption in captions_of(GRAPHICS, motion)} <= shapes


def test_looks_are_the_same_however_windows_fall():
    class Places:
        """Features of a frame are its number."""

        def extract(self, frames):
            return frames[:, 0, 0, :1].astype(np.float32)

    frames = np.arange(48, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    by_second = []
    for size in (FRAMES, 7):
        looks = _Looks(Places())
        for index, start in enumerate(range(0, 48, size)):
            looks.take(Window(index=index, frames=frames[start : start + size], tail=torch.zeros(1, 1, 1, 1, 1)))
        by_second.append(looks.by_second(48))
    assert by_second[0].tolist() == by_second[1].tolist()
    assert by_second[0][:, :, 0].tolist() == [[second * FPS, second * FPS + 4] for second in range(6)]


def test_the_background_is_the_nearest_of_the_palette():
    frames = np.zeros((2, 2, 4, 4, 3), dtype=np.uint8)
    frames[0] = BACKGROUNDS["blue"]
    frames[1, 0], frames[1, 1] = BACKGROUNDS["red"], BACKGROUNDS["green"]
    frames[:, :, 1:3, 1:3] = 0  # a graphic in the middle
    assert background_accuracy(frames, ["blue", "red"]) == [1.0, 0.5]


def test_the_command_line_has_defaults(tmp_path):
    assert parse(["--work", str(tmp_path)]).frames == 480
