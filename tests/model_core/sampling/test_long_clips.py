"""Clips of several windows: against the closed form of gaussian sequences, and what is held and made meanwhile."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch

from model_core.codec.autoencoder import build_codec
from model_core.codec.config import CodecConfig
from model_core.diffusion.condition import Condition
from model_core.errors import BadDataError
from model_core.sampling.context import Context
from model_core.sampling.generate import generate_clips
from model_core.sampling.long_clips import Plan, generate_long_clip, plan_windows
from model_core.sampling.sample import sample_latents
from tests.model_core.sampling.autoregressive import CHANNELS, RHO, SIDE, WINDOW, OptimalNetwork, ar_model_config, covariance
from tests.model_core.sampling.model import transformer
from tests.model_core.toy_latents import ARCHITECTURE, SHAPE
from tests.model_core.toy_latents import model_config as toy_model_config

CLIP = dataclasses.replace(ARCHITECTURE, patch_size=(2, 2, 2))
CLIP_SHAPE = (SHAPE[0], 8, 2, 2)


def _codec():
    config = CodecConfig(
        latent_channels=4, downscale=2, encoder_widths=(4, 4), encoder_blocks=(0, 0), decoder_widths=(4, 4), decoder_blocks=(0, 0)
    )
    return build_codec(config, seed=0)


def _clip_config(**changes):
    values = {
        "architecture": CLIP.to_dict(),
        "latent_shape": CLIP_SHAPE,
        "fps": 4.0,
        "training": {"frame_times": "context"},
        **changes,
    }
    return toy_model_config().model_copy(update=values)


def test_windows_are_refused_where_the_codec_compresses_in_time():
    config = _clip_config(num_frames=32)
    assert plan_windows(config, 32).num_windows == 1
    with pytest.raises(BadDataError, match="clips of up to 32 frames, not of 33: its codec compresses in time") as caught:
        plan_windows(config, 33)
    assert "codes frame by frame" in caught.value.hint


def _made(plan, *, network=None, config=None, **how):
    windows = []
    arguments = {"seed": 5, "label": 1, "on_window": windows.append, **how}
    generate_long_clip(network or transformer(CLIP), config or _clip_config(), _codec(), plan, **arguments)
    return windows


def _pixels(windows):
    return np.concatenate([window.frames for window in windows])


@pytest.mark.parametrize("sampler", ["dpm_solver_pp", "heun"])
def test_windows_of_a_gaussian_sequence_have_its_moments(sampler):
    config = ar_model_config()
    plan = plan_windows(config, 8 + 4 * 15, context=4)
    windows = _made(plan, network=OptimalNetwork(), config=config, guidance_scale=1.0, sampler=sampler, context_time=0.0)
    frames = torch.cat([window.tail for window in windows], dim=2)  # windows add as many frames as their tails have
    x = frames.permute(2, 0, 1, 3, 4).flatten(1).double()  # [frames, sequences]
    assert x.shape == (64, CHANNELS * SIDE * SIDE)
    found = x @ x.T / x.shape[1]
    # An estimate from 4,096 sequences is off by 0.016 to 0.022; the sampler's own error is smaller.
    torch.testing.assert_close(found, covariance(64), atol=0.12, rtol=0)
    for lag in (0, 1, 2, 6):
        expected = torch.full((64 - lag,), RHO**lag, dtype=torch.float64)
        assert float((found.diagonal(lag) - expected).mean()) == pytest.approx(0, abs=0.025)  # no moment drifts
    slope, residual = _regression(x[4:], x[:-4])
    assert slope == pytest.approx(RHO**4, abs=0.01)
    assert residual == pytest.approx(1 - RHO**8, abs=0.02)


def _regression(y, x):
    slope = float((x * y).mean() / x.square().mean())
    return slope, float((y - slope * x).square().mean())


@pytest.mark.parametrize("time", [0.0, 0.05, 0.1])
def test_new_frames_follow_noised_context_as_its_closed_form_says(time):
    k, new = 4, WINDOW - 4
    joint = covariance(WINDOW)
    generator = torch.Generator().manual_seed(3)
    white = torch.randn(1, CHANNELS, k, SIDE, SIDE, generator=generator)
    given = torch.einsum("ij,bcjhw->bcihw", torch.linalg.cholesky(joint[:k, :k]).float(), white)
    context = Context(latents=given, noise=torch.randn(given.shape, generator=generator), time=time)
    found = sample_latents(
        OptimalNetwork(),
        ar_model_config(),
        noise=torch.randn(1, CHANNELS, new, SIDE, SIDE, generator=generator),
        condition=Condition(labels=torch.zeros(1, dtype=torch.int64), text=torch.zeros(1, 6), text_mask=torch.ones(1).bool()),
        num_steps=24,
        guidance_scale=1.0,
        sampler="dpm_solver_pp",
        context=context,
    )
    x, y = (tensor[0].permute(1, 0, 2, 3).flatten(1).double() for tensor in (given, found))
    signal, sigma = 1 - time, time
    observed = signal**2 * joint[:k, :k] + sigma**2 * torch.eye(k)
    expected = joint[k:, :k] @ torch.linalg.inv(observed) @ joint[:k, :k] * signal**2  # cov(new, given)
    torch.testing.assert_close(y @ x.T / x.shape[1], expected, atol=0.06, rtol=0)
    torch.testing.assert_close(y @ y.T / x.shape[1], joint[k:, k:], atol=0.12, rtol=0)


def test_the_network_is_told_of_both_times():
    config, network = ar_model_config(), OptimalNetwork()
    _made(plan_windows(config, 20, context=4), network=network, config=config, num_steps=2, guidance_scale=1.0, context_time=0.04)
    first, second = network.asked[0], network.asked[2]
    assert first.tolist() == [1.0] * 8
    assert second.tolist() == pytest.approx([0.04] * 4 + [1.0] * 4)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("objective", ["rectified_flow", "v"])
def test_a_clip_taken_up_again_after_any_window_has_the_same_frames(guidance_scale, objective):
    config = _clip_config(objective=objective, noise_schedule=toy_model_config(objective="v").noise_schedule)
    plan = plan_windows(config, 29)
    how = {"config": config, "guidance_scale": guidance_scale}
    whole = _made(plan, **how)
    assert [window.index for window in whole] == list(range(plan.num_windows))
    assert _pixels(whole).shape == (29, 4, 4, 3)
    for after in (0, 2, plan.num_windows - 1):
        rest = _made(plan, after=whole[after], **how)
        assert np.array_equal(_pixels([*whole[: after + 1], *rest]), _pixels(whole))


def test_the_first_window_is_the_clip_that_the_model_makes_of_the_seed():
    first = _made(plan_windows(_clip_config(), 20))[0]
    own = generate_clips(transformer(CLIP), _clip_config(), _codec(), labels=[1], seeds=[5], batch_size=1)
    assert np.array_equal(first.frames, own[0])


def test_a_shorter_clip_is_the_beginning_of_a_longer_one():
    longer, shorter = (_pixels(_made(plan_windows(_clip_config(), count))) for count in (31, 13))
    assert np.array_equal(shorter, longer[:13])


def test_what_is_held_does_not_grow():
    held = []

    def on_window(window):
        alive.append(weakref.ref(window))
        held.append(sum(one() is not None for one in alive))
        assert window.frames.base is None or window.frames.base.nbytes <= 8 * 4 * 4 * 3 * 4
        assert window.tail.untyped_storage().nbytes() <= 4 * CLIP_SHAPE[0] * 8 * 2 * 2

    alive: list[weakref.ref] = []
    config = _clip_config()
    plan = plan_windows(config, 200)
    generate_long_clip(transformer(CLIP), config, _codec(), plan, seed=1, label=0, num_steps=1, on_window=on_window)
    assert len(held) == plan.num_windows == 33
    assert max(held) <= 2


@pytest.mark.parametrize(
    ("num_frames", "context", "num_windows", "ends"), [(8, 2, 1, [8]), (9, 2, 2, [8, 9]), (480, 4, 119, [8, 12]), (3, 2, 1, [3])]
)
def test_windows_cover_a_clip(num_frames, context, num_windows, ends):
    plan = plan_windows(_clip_config(), num_frames, context)
    assert plan.num_windows == num_windows
    assert [plan.end_of(index) for index in range(len(ends))] == ends
    assert plan.end_of(plan.num_windows - 1) == num_frames


def test_a_quarter_of_a_window_is_context():
    assert plan_windows(_clip_config(), 20) == Plan(num_frames=20, window=8, context=2)


@pytest.mark.parametrize("training", [{}, {"frame_times": "shared"}])
def test_a_model_that_has_not_learnt_to_go_on_is_refused(training):
    with pytest.raises(BadDataError, match="clips of up to 8 frames, not of 9") as caught:
        plan_windows(_clip_config(training=training), 9)
    assert "frame_times=context" in caught.value.hint
    assert plan_windows(_clip_config(training=training), 8).num_windows == 1


@pytest.mark.parametrize("context", [0, 1, 3, 8])
def test_context_that_does_not_fit_is_refused(context):
    with pytest.raises(BadDataError, match="cannot share"):
        plan_windows(_clip_config(), 20, context)


def test_context_is_noised_no_more_than_in_training():
    with pytest.raises(BadDataError, match="noised to the time"):
        _made(plan_windows(_clip_config(), 20), context_time=0.2)
