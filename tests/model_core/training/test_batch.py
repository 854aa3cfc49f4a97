import dataclasses

import pytest
import torch

from model_core.errors import BadModelError
from model_core.training.batch import draw_batch, objective_of, require_fit
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING, open_latents


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return open_latents(tmp_path_factory.mktemp("data") / "latents")


def _tensors(batch):
    return [batch.x_0, batch.noise, batch.time, batch.condition.labels, batch.condition.text, batch.condition.text_mask]


@pytest.mark.parametrize("objective", ["rectified_flow", "epsilon", "x0", "v"])
@pytest.mark.parametrize("share", [slice(0, 2), slice(2, 5), slice(5, 5)])
def test_a_share_of_a_step_is_a_part_of_the_whole(latents, objective, share):
    config = dataclasses.replace(TRAINING, objective=objective, batch_size=5, text_noise=0.5)
    rows = latents.rows("train")
    every = draw_batch(3, config, ARCHITECTURE, latents, rows)
    part = draw_batch(3, config, ARCHITECTURE, latents, rows, share=lambda _: share)
    assert part.rows == every.rows[share]
    for found, expected in zip(_tensors(part), _tensors(every.part(share)), strict=True):
        assert torch.equal(found, expected)


def test_steps_and_seeds_draw_otherwise(latents):
    def noise(step, seed):
        return draw_batch(step, dataclasses.replace(TRAINING, seed=seed), ARCHITECTURE, latents, latents.rows("train")).noise

    assert torch.equal(noise(1, 0), noise(1, 0))
    assert not torch.equal(noise(1, 0), noise(2, 0))
    assert not torch.equal(noise(1, 0), noise(1, 1))


def test_times_follow_the_distribution_that_is_asked_for(latents):
    def times(**change):
        config = dataclasses.replace(TRAINING, batch_size=4000, **change)
        return draw_batch(0, config, ARCHITECTURE, latents, latents.rows("train"), share=lambda _: slice(0, 4000)).time

    middle = {
        name: float(((t > 0.25) & (t < 0.75)).float().mean())
        for name, t in {"own": times(), "uniform": times(time_sampling="uniform")}.items()
    }
    assert middle["own"] == pytest.approx(0.728, abs=0.03)  # P(|logit| < ln 3) of a standard normal
    assert middle["uniform"] == pytest.approx(0.5, abs=0.03)
    steps = times(objective="v", num_timesteps=1000, time_sampling="logit_normal")
    assert float(((steps > 250) & (steps < 750)).float().mean()) == pytest.approx(0.728, abs=0.03)


@pytest.mark.parametrize(
    ("change", "architecture", "num_processes", "problem"),
    [
        ({"objective": "v", "learn_variance": True}, {}, 1, "differ in learn_variance"),
        ({}, {"learn_variance": True}, 1, "differ in learn_variance"),
        ({}, {"text_conditioning": "cross_attention"}, 1, "pooled captions only"),
        ({"accumulate_steps": 3}, {}, 2, "2 processes in 3 parts"),
        ({}, {}, 5, "5 processes"),
        ({}, {"patch_size": (1, 4, 4)}, 1, "do not divide"),
    ],
)
def test_what_cannot_be_trained_together_is_refused(latents, change, architecture, num_processes, problem):
    with pytest.raises(BadModelError, match=problem):
        require_fit(
            dataclasses.replace(TRAINING, **change),
            dataclasses.replace(ARCHITECTURE, **architecture),
            latents,
            latents.rows("train"),
            num_processes=num_processes,
        )


def test_noise_alone_tells_an_epsilon_model_nothing():
    with pytest.raises(BadModelError, match="zero terminal SNR"):
        objective_of(dataclasses.replace(TRAINING, objective="epsilon", zero_terminal_snr=True))


CLIPS = dataclasses.replace(ARCHITECTURE, patch_size=(2, 2, 2))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    drawn = torch.randn(10, 4, 6, 2, 2, generator=torch.Generator().manual_seed(5))
    return open_latents(tmp_path_factory.mktemp("data") / "clips", latents=drawn)


@pytest.mark.parametrize("frame_times", ["context", "independent"])
@pytest.mark.parametrize("share", [slice(0, 2), slice(2, 5)])
def test_times_of_frames_are_drawn_beside_all_else(clips, frame_times, share):
    config = dataclasses.replace(TRAINING, batch_size=5)
    framed = dataclasses.replace(config, frame_times=frame_times)
    rows = clips.rows("train")
    shared, every = (draw_batch(3, one, CLIPS, clips, rows) for one in (config, framed))
    assert shared.counted is None
    assert every.time.shape == (5, 6)
    assert torch.equal(every.time[:, ::2], every.time[:, 1::2])  # frames of a patch
    for found, expected in zip(_tensors(every), _tensors(shared), strict=True):
        assert found is every.time or torch.equal(found, expected)
    part = draw_batch(3, framed, CLIPS, clips, rows, share=lambda _: share)
    for found in (part, every.part(share)):
        assert torch.equal(found.time, every.time[share])
        assert frame_times == "independent" or torch.equal(found.counted, every.counted[share])


@pytest.mark.parametrize("frame_times", ["context", "independent"])
def test_pictures_have_no_frames_to_go_on_from(latents, frame_times):
    config = dataclasses.replace(TRAINING, frame_times=frame_times)
    with pytest.raises(BadModelError, match="two patches or more along time"):
        require_fit(config, ARCHITECTURE, latents, latents.rows("train"))
