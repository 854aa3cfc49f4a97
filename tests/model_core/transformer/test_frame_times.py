"""A timestep for each frame of a clip."""

import pytest
import torch

from model_core.errors import BadDataError
from model_core.transformer.modulations import along_time
from model_core.transformer.packing import denoise_packed
from tests.model_core.transformer.networks import OPTIONS, awake, condition, config, latents

JOINED = (2, 2, 2)
TIMES = torch.tensor([10.0, 900.0, 400.0])


@pytest.mark.parametrize("patch_size", [(1, 2, 2), JOINED])
@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_equal_timesteps_of_frames_are_one_of_the_clip(changes, patch_size):
    model, x_t, asked = awake(config(**changes, patch_size=patch_size)), latents(3, 4), condition(3)
    found = model.predict(x_t, TIMES[:, None].expand(3, 4).contiguous(), asked)
    torch.testing.assert_close(found, model.predict(x_t, TIMES, asked), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["default", "shared", "factorised"])
def test_a_frames_timestep_modulates_its_own_tokens_alone(name):
    model, x_t, asked = awake(config(**OPTIONS[name], depth=1)), latents(2, 4), condition(2)
    for block in model.blocks:  # without attention nothing but modulation reaches a token
        for attention in (block.attn, block.temporal_attn):
            if attention is not None:
                attention.proj.weight.data.zero_()
                attention.proj.bias.data.zero_()
    times = torch.full((2, 4), 300.0)
    other = times.clone()
    other[0, 2] = 700.0
    change = (model.predict(x_t, times, asked) - model.predict(x_t, other, asked)).abs().amax(dim=(1, 3, 4))  # [b frames]
    moved = torch.zeros(2, 4, dtype=torch.bool)
    moved[0, 2] = True
    assert torch.equal(change > 0, moved)


def test_each_frame_gets_what_its_timestep_says():
    model, x_t, asked = awake(config(depth=1)), latents(1, 3), condition(1)
    model.blocks[0].attn.proj.weight.data.zero_()
    mixed = model.predict(x_t, torch.tensor([[100.0, 500.0, 900.0]]), asked)
    for frame, time in enumerate((100.0, 500.0, 900.0)):
        alone = model.predict(x_t, torch.tensor([time]), asked)
        torch.testing.assert_close(mixed[:, :, frame], alone[:, :, frame], atol=1e-6, rtol=1e-6)


def test_a_table_holds_the_modulations_of_frames():
    model, x_t, asked = awake(config(patch_size=JOINED, **OPTIONS["cross"])), latents(3, 4), condition(3)
    rows = torch.tensor([[0.0, 0.0, 900.0, 900.0], [0.0, 0.0, 450.0, 450.0]])
    table = model.modulation_table(rows, asked)
    assert len(table) == 2
    for place, row in enumerate(rows):
        expected = model.predict(x_t, row.expand(3, 4).contiguous(), asked)
        torch.testing.assert_close(model.denoise(x_t, table.at(place)), expected, atol=1e-5, rtol=1e-5)


def test_modulations_laid_along_time_are_those_of_frames():
    model, x_t, asked = awake(config(patch_size=JOINED, **OPTIONS["cross"])), latents(3, 6), condition(3)
    arguments = (asked.labels, asked.text, asked.text_mask, asked.text_states, asked.text_states_mask)
    parts = [model.modulations(torch.full((3,), time), *arguments) for time in (20.0, 800.0)]
    expected = model.predict(x_t, torch.tensor([20.0, 20.0, 800.0, 800.0, 800.0, 800.0]).expand(3, 6).contiguous(), asked)
    torch.testing.assert_close(model.denoise(x_t, along_time(parts, [1, 2])), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("times", "problem"),
    [
        (torch.tensor([[1.0, 2.0, 2.0, 2.0]]), "frames of a patch have different timesteps"),
        (torch.tensor([[1.0, 1.0, 2.0]]), "there are 3 timesteps a sample"),
        (torch.tensor([[1.0, 1.0]]), "timesteps are given for 1 patches along time, the latents have 2"),
    ],
)
def test_timesteps_that_do_not_fit_the_patches_are_refused(times, problem):
    model = awake(config(patch_size=JOINED))
    with pytest.raises(BadDataError, match=problem):
        model.predict(latents(1, 4), times, condition(1))


def test_packed_samples_have_one_timestep_each():
    model, asked = awake(), condition(1)
    modulations = model.modulations(torch.tensor([[1.0, 2.0]]), asked.labels, asked.text, asked.text_mask)
    with pytest.raises(BadDataError, match="one timestep each"):
        denoise_packed(model, list(latents(1, 2)), modulations)


def test_gradients_reach_what_embeds_each_frames_timestep():
    model = awake().requires_grad_(True)
    model.set_activation_checkpointing(True)
    times = torch.tensor([[5.0, 500.0, 900.0]], requires_grad=True)
    model.predict(latents(1, 3), times, condition(1)).square().sum().backward()
    assert bool((times.grad.abs() > 0).all())
