import json

import numpy as np
import pytest
import torch

from model_core.codec.autoencoder import Codec
from model_core.codec.config import CodecConfig
from model_core.errors import BadDataError, BadModelError
from model_core.sampling.generate import generate_images, load_transformer
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import write_model_config
from model_core.transformer.weights import save_weights
from tests.model_core.toy_latents import ARCHITECTURE, model_config


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


def _transformer():
    model = DiT(ARCHITECTURE, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)


def _generate(*, labels=(0,) * 5, seeds=(1, 2, 3, 4, 5), objective="rectified_flow", **options):
    return generate_images(_transformer(), model_config(objective=objective), _codec(), labels=labels, seeds=seeds, **options)


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
    ],
)
def test_requests_that_make_no_sense_are_refused(options, message):
    with pytest.raises(BadDataError, match=message):
        _generate(**options)


def test_a_codec_with_other_channels_is_refused():
    with pytest.raises(BadModelError, match="latent channels"):
        generate_images(_transformer(), model_config(), _codec(3), labels=[0], seeds=[1])


def test_progress_counts_network_calls():
    seen = []
    _generate(batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 9) for done in range(1, 10)]


def test_a_saved_model_is_opened_as_it_was(tmp_path):
    model = _transformer()
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
    ],
)
def test_a_config_that_does_not_hold_together_is_refused(tmp_path, change, message):
    write_model_config(model_config(), tmp_path)
    save_weights(dict(_transformer().named_parameters()), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadModelError, match=message):
        load_transformer(tmp_path)
