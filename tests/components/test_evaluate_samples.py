import dataclasses

import numpy as np
import pytest
import torch

from components.evaluate.config import Config
from components.evaluate.samples import Conditions, SamplingPlan, draw_samples
from governance.errors import IntegrityError
from model_core.codec.io import save_codec
from model_core.errors import BadModelError
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import write_model_config
from model_core.transformer.weights import save_weights
from tests.model_core.codec.small import small_codec
from tests.model_core.toy_latents import ARCHITECTURE, TEXT_DIM, model_config

CONFIG = Config(num_samples=8, batch_size=4)
CONDITIONS = Conditions(
    rows=np.arange(8), labels=np.arange(8) % 2, text=None, has_text=torch.zeros(8, dtype=torch.bool), seeds=tuple(range(40, 48))
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(folder, *, bias, architecture=ARCHITECTURE, conditions=CONDITIONS):
    """Draws with a real network and codec."""
    for name in ("model", "codec", "scratch"):
        (folder / name).mkdir(parents=True)
    model = DiT(architecture, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.final_layer.linear.bias.data.fill_(bias)
    save_weights(dict(model.named_parameters()), folder / "model")
    write_model_config(model_config().model_copy(update={"architecture": architecture.to_dict()}), folder / "model")
    save_codec(small_codec(), folder / "codec")
    plan = SamplingPlan(num_steps=2, guidance_scale=2.0, sampler=None, options={}, model={}, inputs={})
    inputs = {name: folder / name for name in ("model", "codec")}
    return draw_samples(CONFIG, plan, conditions, inputs, folder / "scratch", lambda done: None)


def test_samples_are_pictures_one_a_seed(tmp_path):
    pictures = draw(tmp_path, bias=0.1)
    assert (pictures.shape, pictures.dtype) == ((8, 1, 8, 8, 3), np.uint8)
    assert len(np.unique(pictures.reshape(8, -1), axis=0)) == 8
    assert len(list((tmp_path / "scratch").rglob("*.npy"))) == 2


def test_a_model_that_draws_no_numbers_is_refused_and_leaves_no_batch(tmp_path):
    with pytest.raises(BadModelError, match=r"sample of seed 40 .* not finite"):
        draw(tmp_path, bias=3e38)
    assert not list((tmp_path / "scratch").rglob("*.npy"))


def test_a_model_that_attends_to_tokens_draws_for_those_of_the_captions(tmp_path):
    cross = dataclasses.replace(ARCHITECTURE, text_conditioning="cross_attention")
    states, mask = torch.randn(8, 5, TEXT_DIM, generator=torch.Generator().manual_seed(2)), torch.arange(5).expand(8, 5) < 3
    conditions = dataclasses.replace(
        CONDITIONS, text=torch.zeros(8, TEXT_DIM), has_text=torch.arange(8) > 0, text_states=(states, mask)
    )
    pictures = draw(tmp_path / "one", bias=0.1, architecture=cross, conditions=conditions)
    unread = torch.where(mask[..., None], states, 9.0)  # other states where no token is
    same = dataclasses.replace(conditions, text_states=(unread, mask))
    np.testing.assert_array_equal(draw(tmp_path / "two", bias=0.1, architecture=cross, conditions=same), pictures)
    other = draw(
        tmp_path / "other", bias=0.1, architecture=cross, conditions=dataclasses.replace(conditions, text_states=(-states, mask))
    )
    assert [bool((a == b).all()) for a, b in zip(pictures, other, strict=True)] == [True] + [False] * 7


def test_a_models_labels_are_found_by_name_where_the_datas_are_others(tmp_path):
    swapped = dataclasses.replace(CONDITIONS, labels=1 - CONDITIONS.labels, label_names=("squares", "circles"))
    expected = draw(tmp_path / "own", bias=0.1)
    np.testing.assert_array_equal(draw(tmp_path / "swapped", bias=0.1, conditions=swapped), expected)
    unknown = dataclasses.replace(CONDITIONS, label_names=("circles", "stars"))
    with pytest.raises(IntegrityError, match="the label 'stars', which the model was not trained on"):
        draw(tmp_path / "unknown", bias=0.1, conditions=unknown)
