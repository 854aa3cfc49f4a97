import numpy as np
import pytest
import torch

from components.evaluate.config import Config
from components.evaluate.samples import Conditions, SamplingPlan, draw_samples
from model_core.codec.io import save_codec
from model_core.errors import BadModelError
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import write_model_config
from model_core.transformer.weights import save_weights
from tests.model_core.codec.small import small_codec
from tests.model_core.toy_latents import ARCHITECTURE, model_config

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


def draw(folder, *, bias):
    """Draws with a real network and codec."""
    for name in ("model", "codec", "scratch"):
        (folder / name).mkdir()
    model = DiT(ARCHITECTURE, generator=torch.Generator().manual_seed(0))
    model.final_layer.linear.bias.data.fill_(bias)
    save_weights(dict(model.named_parameters()), folder / "model")
    write_model_config(model_config(), folder / "model")
    save_codec(small_codec(), folder / "codec")
    plan = SamplingPlan(num_steps=2, guidance_scale=2.0, sampler=None, options={}, model={}, inputs={})
    inputs = {name: folder / name for name in ("model", "codec")}
    return draw_samples(CONFIG, plan, CONDITIONS, inputs, folder / "scratch", lambda done: None)


def test_samples_are_pictures_one_a_seed(tmp_path):
    pictures = draw(tmp_path, bias=0.1)
    assert (pictures.shape, pictures.dtype) == ((8, 8, 8, 3), np.uint8)
    assert len(np.unique(pictures.reshape(8, -1), axis=0)) == 8
    assert len(list((tmp_path / "scratch").rglob("*.npy"))) == 2


def test_a_model_that_draws_no_numbers_is_refused_and_leaves_no_batch(tmp_path):
    with pytest.raises(BadModelError, match=r"picture of seed 40 .* not finite"):
        draw(tmp_path, bias=3e38)
    assert not list((tmp_path / "scratch").rglob("*.npy"))
