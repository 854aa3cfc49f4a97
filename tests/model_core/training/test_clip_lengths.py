"""Pictures, windows and whole clips are trained on in turn, each step on as many tokens."""

import dataclasses
from collections import Counter

import pytest
import torch

from model_core.errors import BadModelError
from model_core.training.batch import draw_batch
from model_core.training.clip_lengths import bucket_at
from model_core.training.loop import train
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING, open_latents

FRAMES = 4
MIXED = dataclasses.replace(TRAINING, num_steps=6, batch_size=3, clip_lengths=(4, 1, 2))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    drawn = torch.randn(10, 4, FRAMES, 2, 2, generator=torch.Generator().manual_seed(5))
    return open_latents(tmp_path_factory.mktemp("data") / "clips", latents=drawn)


def batches(clips, config=MIXED, steps=6, **options):
    return [draw_batch(step, config, ARCHITECTURE, clips, clips.rows("train"), **options) for step in range(steps)]


def test_each_length_has_its_turn_and_every_step_as_many_tokens(clips):
    found = batches(clips)
    assert [batch.x_0.shape[2] for batch in found] == [4, 1, 2, 4, 1, 2]
    assert [len(batch) for batch in found] == [3, 12, 6, 3, 12, 6]
    assert len({batch.x_0[:, :1].numel() for batch in found}) == 1
    assert all(batch.noise.shape == batch.x_0.shape and batch.num_in_step == len(batch) for batch in found)


def test_an_epoch_visits_every_clip_once_whatever_the_lengths(clips):
    rows, seen, step = clips.rows("train"), list[int](), 0
    while len(seen) < 3 * len(rows):
        seen += bucket_at(step, MIXED, FRAMES).rows(rows, MIXED.seed)
        step += 1
    assert set(Counter(seen[: 3 * len(rows)]).values()) == {3}


def test_windows_are_frames_of_their_clip_in_order_and_begin_anywhere(clips):
    begins = set()
    for batch in batches(clips, steps=60):
        whole, length = clips.latents(batch.rows), batch.x_0.shape[2]
        for clip, window in zip(whole, batch.x_0, strict=True):
            fitting = [start for start in range(FRAMES - length + 1) if torch.equal(clip[:, start : start + length], window)]
            assert fitting
            begins.update((length, start) for start in fitting)
    assert begins == {(length, start) for length in (1, 2, 4) for start in range(FRAMES - length + 1)}


def test_without_lengths_steps_are_as_ever(clips):
    usual = dataclasses.replace(MIXED, clip_lengths=())
    for whole, framed in zip(
        batches(clips, usual), batches(clips, dataclasses.replace(usual, clip_lengths=(FRAMES,))), strict=True
    ):
        assert whole.rows == framed.rows
        assert torch.equal(whole.x_0, framed.x_0)
        assert torch.equal(whole.noise, framed.noise)
    assert "clip_lengths" not in usual.hyperparameters()


def test_a_share_of_a_step_is_a_part_of_all_of_it(clips):
    for every, half in zip(batches(clips), batches(clips, share=lambda count: slice(1, count // 2)), strict=True):
        which = slice(1, len(every) // 2)
        assert torch.equal(half.x_0, every.x_0[which])
        assert torch.equal(half.noise, every.noise[which])
        assert half.num_in_step == len(every)


def test_context_is_for_windows_that_go_on_from_something(clips):
    framed = dataclasses.replace(MIXED, frame_times="context", context_probability=1.0)
    whole, picture, window = batches(clips, framed, steps=3)
    assert whole.time.shape == (3, 4)
    assert picture.time.shape == (12,)
    assert picture.counted is None
    assert window.time.shape == (6, 2)


def test_steps_of_several_lengths_can_be_taken_in_parts_and_resumed(clips, tmp_path):
    whole = train(MIXED, ARCHITECTURE, clips, scratch=tmp_path / "whole")
    parts = train(dataclasses.replace(MIXED, accumulate_steps=3), ARCHITECTURE, clips, scratch=tmp_path / "parts")
    torch.testing.assert_close(torch.tensor(parts.losses), torch.tensor(whole.losses))

    def interrupt(progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(MIXED, ARCHITECTURE, clips, scratch=tmp_path / "again", on_step=interrupt)
    again = train(MIXED, ARCHITECTURE, clips, scratch=tmp_path / "again")
    assert again.resumed_from == 4
    assert again.losses == whole.losses
    assert all(torch.equal(again.weights[name], weight) for name, weight in whole.weights.items())


@pytest.mark.parametrize("length", [3, 8])
def test_lengths_that_clips_have_no_part_of_are_refused_with_those_there_are(clips, tmp_path, length):
    with pytest.raises(BadModelError, match=f"clip_lengths has {length}") as caught:
        train(dataclasses.replace(MIXED, clip_lengths=(4, length)), ARCHITECTURE, clips, scratch=tmp_path)
    assert caught.value.hint == "choose among 1, 2, 4"


def test_a_patch_along_time_is_not_cut(clips, tmp_path):
    network = dataclasses.replace(ARCHITECTURE, patch_size=(2, 1, 1))
    with pytest.raises(BadModelError, match="clip_lengths has 1"):
        train(MIXED, network, clips, scratch=tmp_path)


def test_a_length_of_nothing_is_refused():
    with pytest.raises(BadModelError, match="clip_lengths is") as caught:
        dataclasses.replace(MIXED, clip_lengths=(0,))
    assert caught.value.hint == "give at most 64 lengths of 1 latent frame or more"
