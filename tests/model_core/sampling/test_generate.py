import dataclasses
import json

import numpy as np
import pytest
import torch

from model_core.codec.autoencoder import Codec, build_codec
from model_core.codec.batches import clips_to_bytes
from model_core.codec.causal_config import CausalConfig
from model_core.codec.config import CodecConfig
from model_core.diffusion.guidance import Guidance
from model_core.errors import BadDataError, BadModelError
from model_core.sampling.generate import generate_clips, generate_images, load_transformer
from model_core.sampling.seeds import noise_for_seeds
from model_core.transformer.model_config import write_model_config
from model_core.transformer.weights import save_weights
from tests.model_core.sampling.model import transformer
from tests.model_core.toy_latents import ARCHITECTURE, SHAPE, model_config


def _codec(channels=4):
    torch.manual_seed(0)
    config = CodecConfig(
        latent_channels=channels,
        downscale=2,
        encoder_widths=(4, 4),
        encoder_blocks=(0, 0),
        decoder_widths=(4, 4),
        decoder_blocks=(0, 0),
    )
    return Codec(config).eval().requires_grad_(False)


def _generate(*, labels=(0,) * 5, seeds=(1, 2, 3, 4, 5), objective="rectified_flow", **options):
    return generate_images(transformer(), model_config(objective=objective), _codec(), labels=labels, seeds=seeds, **options)


@pytest.mark.parametrize(("objective", "sampler"), [("rectified_flow", "unipc"), ("v", "ddpm"), ("v", "dpm_solver_pp")])
def test_a_picture_of_another_sampler_depends_on_its_seed_alone_too(objective, sampler):
    options = {"objective": objective, "sampler": sampler}
    whole = _generate(**options)
    for batch_size in (1, 2, 16):
        assert np.array_equal(_generate(**options, batch_size=batch_size), whole)
    alone = _generate(labels=(0,), seeds=(4,), **options)
    assert np.array_equal(alone[0], whole[3])
    assert not np.array_equal(whole, _generate(objective=objective))


def test_pictures_start_each_from_its_own_latents():
    start = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(3))
    whole = _generate(start=start, strength=0.5)
    assert np.array_equal(_generate(start=start, strength=0.5, batch_size=2), whole)
    alone = _generate(labels=(0,), seeds=(4,), start=start[3:4], strength=0.5)
    assert np.array_equal(alone[0], whole[3])
    assert not np.array_equal(whole, _generate())
    assert np.array_equal(_generate(start=start, strength=1.0), _generate())


def test_guidance_with_more_than_a_scale_is_passed_on():
    base = _generate(guidance_scale=5.0)
    assert np.array_equal(_generate(guidance=Guidance(scale=5.0)), base)
    assert not np.array_equal(_generate(guidance=Guidance(scale=5.0, interval=(0.5, 1.0))), base)


@pytest.mark.parametrize("objective", ["rectified_flow", "epsilon"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_picture_does_not_depend_on_the_batch_it_is_made_in(objective, guidance_scale):
    whole = _generate(objective=objective, guidance_scale=guidance_scale)
    assert whole.shape == (5, 4, 4, 3)
    assert whole.dtype == np.uint8
    for batch_size in (1, 2, 3, 16):
        assert np.array_equal(_generate(objective=objective, guidance_scale=guidance_scale, batch_size=batch_size), whole)
    alone = _generate(labels=(0,), seeds=(4,), objective=objective, guidance_scale=guidance_scale)
    assert np.array_equal(alone[0], whole[3])


def test_seed_label_and_caption_each_change_the_picture():
    base = _generate(labels=(0,), seeds=(1,))
    assert not np.array_equal(base, _generate(labels=(0,), seeds=(2,)))
    assert not np.array_equal(base, _generate(labels=(1,), seeds=(1,)))
    assert not np.array_equal(base, _generate(labels=(None,), seeds=(1,)))
    assert not np.array_equal(base, _generate(labels=(0,), seeds=(1,), text=torch.ones(1, 6)))
    masked = _generate(labels=(0,), seeds=(1,), text=torch.ones(1, 6), text_mask=torch.zeros(1, dtype=torch.bool))
    assert np.array_equal(base, masked)


def test_a_network_that_attends_to_captions_takes_their_token_states():
    model = transformer(dataclasses.replace(ARCHITECTURE, text_conditioning="cross_attention"))
    states = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))

    def generate(**options):
        return generate_images(model, model_config(), _codec(), labels=[0, 0], seeds=[1, 2], **options)

    told = generate(text=torch.zeros(2, 6), text_states=states)
    assert not np.array_equal(told, generate())
    mask = torch.tensor([[True, True, False], [True, True, False]])
    shorter = generate(text=torch.zeros(2, 6), text_states=states, text_states_mask=mask)
    assert not np.array_equal(told, shorter)
    assert np.array_equal(shorter, generate(text=torch.zeros(2, 6), text_states=states[:, :2]))
    with pytest.raises(BadDataError, match="caption tokens"):
        generate(text=torch.zeros(2, 6))
    with pytest.raises(BadDataError, match="must be as many"):
        generate(text=torch.zeros(2, 6), text_states=states[:1])


def test_guidance_zero_ignores_the_condition_and_negative_leads_away():
    assert np.array_equal(
        _generate(labels=(0,), seeds=(1,), guidance_scale=0.0), _generate(labels=(1,), seeds=(1,), guidance_scale=0.0)
    )
    away = _generate(labels=(0,), seeds=(1,), guidance_scale=-1.0)
    assert away.shape == (1, 4, 4, 3)


def test_no_pictures_and_one_step_are_right_answers():
    assert _generate(labels=(), seeds=()).shape == (0, 4, 4, 3)
    assert _generate(num_steps=1).shape == (5, 4, 4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": (2,), "seeds": (1,)}, "label index is out of range"),
        ({"labels": (-1,), "seeds": (1,)}, "label index is out of range"),
        ({"seeds": (1,)}, "1 seeds for 5"),
        ({"text": torch.ones(2, 6)}, "must be as many"),
        ({"text": torch.ones(5, 7)}, "caption embeddings have shape"),
        ({"num_steps": 0}, "at least one step"),
        ({"guidance_scale": float("nan")}, "guidance scale is nan"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"sampler": "ddpm"}, "ddpm cannot sample"),
        ({"start": torch.zeros(2, *SHAPE), "strength": 0.5}, "5 seeds for 2 latents"),
        ({"start": torch.zeros(5, *SHAPE), "strength": 2.0}, "strength is 2"),
    ],
)
def test_requests_that_make_no_sense_are_refused(options, message):
    with pytest.raises(BadDataError, match=message):
        _generate(**options)


def test_a_codec_with_other_channels_is_refused():
    with pytest.raises(BadModelError, match="latent channels"):
        generate_images(transformer(), model_config(), _codec(3), labels=[0], seeds=[1])


def test_a_model_of_clips_is_refused_rather_than_cut_to_its_first_frame():
    config = model_config().model_copy(update={"latent_shape": (4, 3, 2, 2)})
    with pytest.raises(BadModelError, match="clips of 3 frames, not pictures"):
        generate_images(transformer(), config, _codec(), labels=[0], seeds=[1])


def _causal_codec():
    config = CausalConfig(
        latent_channels=4,
        downscale=2,
        temporal_downscale=2,
        encoder_widths=(4, 4),
        encoder_blocks=(0, 0),
        decoder_widths=(4, 4),
        decoder_blocks=(0, 0),
    )
    return build_codec(config).eval().requires_grad_(False)


def test_a_codec_that_compresses_in_time_gives_as_many_frames_as_are_asked_for():
    codec, config = _causal_codec(), model_config().model_copy(update={"latent_shape": (4, 3, 2, 2), "num_frames": 6})
    whole = generate_clips(transformer(), config, codec, labels=[0, 1], seeds=[1, 2])
    assert whole.shape == (2, 6, 4, 4, 3)
    noise = noise_for_seeds([1, 2], (4, 3, 2, 2))
    start = {"start": noise, "strength": 0.0}  # which is left as it is
    six, five = (generate_clips(transformer(), config, codec, labels=[0, 1], seeds=[1, 2], num_frames=n, **start) for n in (6, 5))
    assert np.array_equal(five, six[:, 1:])
    assert np.array_equal(six, clips_to_bytes(codec.decode(noise)).numpy())
    one = generate_clips(transformer(), config, codec, labels=[0], seeds=[1], num_frames=1)
    assert one.shape == (1, 1, 4, 4, 3)
    for wrong in (0, 7):
        with pytest.raises(BadDataError, match=f"clips of up to 6 frames, not of {wrong}"):
            generate_clips(transformer(), config, codec, labels=[0], seeds=[1], num_frames=wrong)
    with pytest.raises(BadModelError, match="3 latent frames of 6 frames, the model 6"):
        generate_clips(transformer(), config.model_copy(update={"latent_shape": (4, 6, 2, 2)}), codec, labels=[0], seeds=[1])
    with pytest.raises(BadModelError, match="clips of 6 frames, not pictures"):
        generate_images(transformer(), config, codec, labels=[0], seeds=[1])


def _gpu_is_full(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize("where", ["sample_latents", "decode_clips"])
def test_pictures_that_do_not_fit_into_memory_are_named(monkeypatch, where):
    monkeypatch.setattr(f"model_core.sampling.generate.{where}", _gpu_is_full)
    with pytest.raises(BadModelError, match="making 3 pictures of 4x4 at a time does not fit into memory") as caught:
        _generate(batch_size=3)
    assert "batch size" in caught.value.hint


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadModelError, match="no CUDA GPU"):
        _generate(device="cuda")
    assert np.array_equal(_generate(device="auto"), _generate(device="cpu"))


class _Accelerator:
    """In the place of a GPU: what is sent there stays here, and is remembered."""

    def __init__(self, monkeypatch):
        self.sent, self.moved, device = [], [], torch.device("cuda", 0)

        def keeping(to, kept):
            return lambda x, *args, **options: kept.append(x) or x if args and args[0] is device else to(x, *args, **options)

        monkeypatch.setattr("model_core.sampling.generate.select_device", lambda name: device)
        monkeypatch.setattr(torch.Tensor, "to", keeping(torch.Tensor.to, self.sent))
        monkeypatch.setattr(torch.nn.Module, "to", keeping(torch.nn.Module.to, self.moved))


def test_noise_is_drawn_on_the_cpu_and_sent_with_its_conditions_to_the_device(monkeypatch):
    base, accelerator = _generate(batch_size=5, text=torch.ones(5, 6)), _Accelerator(monkeypatch)
    assert np.array_equal(_generate(batch_size=5, text=torch.ones(5, 6), device="cuda"), base)
    assert [type(module).__name__ for module in accelerator.moved] == ["DiT", "Codec"]
    noise = noise_for_seeds((1, 2, 3, 4, 5), SHAPE)
    assert any(torch.equal(sent, noise) for sent in accelerator.sent)
    assert [len(sent) for sent in accelerator.sent] == [5, 5, 5, 5]  # noise, labels, captions, their marks


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("objective", "sampler"), [("rectified_flow", "euler"), ("rectified_flow", "unipc"), ("v", "ddpm")])
def test_a_gpu_makes_the_pictures_that_the_cpu_makes(objective, sampler):
    model, codec = transformer(), _codec()
    options = {"labels": [0, 1, None], "seeds": [1, 2, 3], "text": torch.ones(3, 6), "sampler": sampler}
    here, there = (
        generate_images(model, model_config(objective=objective), codec, device=device, **options) for device in ("cpu", "cuda")
    )
    assert np.abs(here.astype(int) - there.astype(int)).max() <= 2
    assert not next(model.parameters()).is_cuda  # back where it was


def test_weights_that_lead_to_no_numbers_make_no_picture():
    model = transformer()
    model.final_layer.linear.bias.data.fill_(3e38)
    with pytest.raises(BadModelError, match="sample of seed 7 of the model is not finite"):
        generate_images(model, model_config(), _codec(), labels=[0, 1], seeds=[7, 8], guidance_scale=1.0)


def test_progress_counts_steps():
    seen = []
    _generate(batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 9) for done in range(1, 10)]


def test_a_saved_model_is_opened_as_it_was(tmp_path):
    model = transformer()
    write_model_config(model_config(), tmp_path)
    save_weights(dict(model.named_parameters()), tmp_path)
    config_path = tmp_path / "config.json"
    config_path.write_text(json.dumps({**json.loads(config_path.read_text()), "added_by_a_package": {"a": 1}}))
    loaded, config = load_transformer(tmp_path)
    assert config == model_config()
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other/9"}, "format"),
        ({"objective": "gan"}, "objective"),
        ({"conditioning": {"labels": ["one"], "text_encoder": {"name": "t", "digest": "d", "dim": 6}}}, "names 1 labels"),
        ({"conditioning": {"labels": ["a", "b"], "text_encoder": {"name": "t", "digest": "d", "dim": 7}}}, "captions of width 7"),
        ({"objective": "epsilon"}, "noise_schedule"),
        ({"latent_shape": [4, 1, 2]}, "latent_shape"),
        ({"latent_shape": [4, 3, 2, 2], "num_frames": 2}, "clips of 2 frames have no 3 latent frames"),
        ({"num_frames": 0}, "num_frames"),
    ],
)
def test_a_config_that_does_not_hold_together_is_refused(tmp_path, change, message):
    write_model_config(model_config(), tmp_path)
    save_weights(dict(transformer().named_parameters()), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadModelError, match=message):
        load_transformer(tmp_path)
