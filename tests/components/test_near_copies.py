"""Samples held against an index on their way to files: clips as pictures, and what is done where it cannot be."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from components.evaluate.looks import looked_at
from components.generate_media.files import write_media
from components.generate_media.near_copies import (
    FILE_NAME,
    MIN_HOLDOUT,
    NO_EVALUATION,
    NO_EXTRACTOR,
    NO_INDEX,
    TOO_FEW_HELD_BACK,
    NearCopies,
    open_checker,
)
from components.ports import Ports
from model_core.errors import BadModelError
from model_core.evaluation.features import FeatureExtractor, convert_weights
from model_core.evaluation.index_file import INDEX_NAME
from model_core.evaluation.training_index import Items, TrainingIndex

INPUT_SIZE = 32
SHA256 = [f"{number:064x}" for number in range(10)]


def _check(samples, evaluation, mode, *, device, ports):
    checker = open_checker(evaluation, mode, device=device, ports=ports)
    return checker.result(checker.near_copies(samples))


def clips(number: int, num_frames: int, seed: int) -> np.ndarray:
    """Rough patterns, the same in all frames but for their brightness."""
    small = np.random.default_rng(seed).integers(0, 200, (number, 1, 4, 4, 3))
    frames = small.repeat(4, axis=2).repeat(4, axis=3) + np.arange(num_frames)[:, None, None, None]
    return frames.astype(np.uint8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    convert_weights(folder / "weights")
    return folder


@pytest.fixture
def ports(cache: Path, tmp_path: Path) -> Ports:
    silent: Any = SimpleNamespace(update=lambda *_, **__: None)
    return Ports(tracking=silent, progress=silent, metrics=silent, scratch=tmp_path, cache=cache)


def evaluation(
    folder: Path, cache: Path, num_frames: int, *, extractor: str | None = None, num_holdout: int = MIN_HOLDOUT
) -> Path:
    """An evaluation's folder with the index of ten training items."""
    network = FeatureExtractor(next((cache / "weights").iterdir()), input_size=INPUT_SIZE)

    def items(seed: int, number: int) -> Items:
        frames = looked_at(clips(number, num_frames, seed))
        features = network.extract(frames).reshape(number, -1, 1280).mean(axis=1)
        return Items.of(frames.reshape(number, -1, *frames.shape[1:]), features)

    index = TrainingIndex.build(
        items(0, 10),
        items(1, num_holdout),
        sha256=SHA256,
        extractor=extractor or network.digest,
        input_size=INPUT_SIZE,
        num_in_training=10,
    )
    folder.mkdir()
    index.save(folder / INDEX_NAME)
    return folder


@pytest.mark.parametrize("num_frames", [1, 8])
def test_a_repeated_item_is_found_whether_picture_or_clip(tmp_path: Path, cache: Path, ports: Ports, num_frames: int) -> None:
    folder = evaluation(tmp_path / "evaluation", cache, num_frames)
    samples = np.concatenate([clips(10, num_frames, 0)[3:4], clips(2, num_frames, 7)])
    found = _check(samples, folder, "withhold", device="cpu", ports=ports)
    assert {number: one.nearest_sha256 for number, one in found.found.items()} == {0: SHA256[3]}
    assert found.kept(3) == [1, 2]
    assert "1 withheld" in found.summary()
    found.write(tmp_path, [70, 71, 72])
    (near,) = json.loads((tmp_path / FILE_NAME).read_text())["near_copies"]
    assert (near["position"], near["seed"]) == (0, 70)


def test_why_nothing_was_checked_is_told(tmp_path: Path, cache: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = clips(1, 1, 0)
    (tmp_path / "old").mkdir()
    few = evaluation(tmp_path / "few", cache, 1, num_holdout=MIN_HOLDOUT - 1)
    for folder, reason in ((None, NO_EVALUATION), (tmp_path / "old", NO_INDEX), (few, TOO_FEW_HELD_BACK)):
        found = _check(samples, folder, "withhold", device="cpu", ports=ports)
        assert (found.state, found.reason, found.kept(1)) == ("unchecked", reason, [0])
    made = evaluation(tmp_path / "evaluation", cache, 1)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    assert _check(samples, made, "withhold", device="cpu", ports=ports).reason == NO_EXTRACTOR


def test_an_index_of_another_extractor_is_refused(tmp_path: Path, cache: Path, ports: Ports) -> None:
    folder = evaluation(tmp_path / "evaluation", cache, 1, extractor="0" * 64)
    with pytest.raises(BadModelError, match="another feature extractor"):
        _check(clips(1, 1, 0), folder, "withhold", device="cpu", ports=ports)


@pytest.mark.parametrize("num_frames", [1, 8])
def test_where_all_samples_are_withheld_there_is_an_empty_sheet(tmp_path: Path, num_frames: int) -> None:
    none = np.zeros((0, num_frames, 16, 16, 3), np.uint8)
    media_format = "png" if num_frames == 1 else "mp4"
    assert write_media(none, [], None, watermark_ids=[], fps=8.0, media_format=media_format, folder=tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]
    assert NearCopies(mode="flag", state="checked", found={}).kept(2) == [0, 1]
