import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_core.errors import BadModelError
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.weights import WEIGHTS_NAME, load_weights, save_weights
from tests.model_core.transformer.networks import OPTIONS, awake, condition, config, latents

CONFIG = TransformerConfig(in_channels=4, hidden_size=16, depth=1, num_heads=2, num_labels=3, text_dim=5)


@pytest.fixture
def folder(tmp_path):
    model = DiT(CONFIG, generator=torch.Generator().manual_seed(0))
    save_weights(dict(model.named_parameters()), tmp_path)
    return tmp_path


def test_what_was_saved_is_loaded_and_saves_to_the_same_bytes(folder, tmp_path_factory):
    model = load_weights(CONFIG, folder)
    again = tmp_path_factory.mktemp("again")
    save_weights(dict(model.named_parameters()), again)
    assert (again / WEIGHTS_NAME).read_bytes() == (folder / WEIGHTS_NAME).read_bytes()
    assert not model.training


def test_a_pickle_under_a_safetensors_name_is_refused_and_not_run(folder):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    (folder / WEIGHTS_NAME).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BadModelError, match="no complete safetensors"):
        load_weights(CONFIG, folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_refused(folder, keep):
    path = folder / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadModelError, match="no complete safetensors"):
        load_weights(CONFIG, folder)


def test_weights_of_another_architecture_are_refused(folder):
    deeper = TransformerConfig(**{**CONFIG.to_dict(), "patch_size": (1, 1, 1), "depth": 2})
    with pytest.raises(BadModelError, match="other tensors"):
        load_weights(deeper, folder)
    more_labels = TransformerConfig(**{**CONFIG.to_dict(), "patch_size": (1, 1, 1), "num_labels": 9})
    with pytest.raises(BadModelError, match=r"embedding_table.* expected"):
        load_weights(more_labels, folder)


def test_extra_missing_and_not_finite_tensors_are_refused(folder):
    path = folder / WEIGHTS_NAME
    tensors = load_file(path)
    save_file({**tensors, "extra": torch.zeros(1)}, path)
    with pytest.raises(BadModelError, match="extra"):
        load_weights(CONFIG, folder)
    tensors["x_embedder.weight"][0, 0] = torch.inf
    save_file(tensors, path)
    with pytest.raises(BadModelError, match=r"x_embedder\.weight holds a number that is not finite"):
        load_weights(CONFIG, folder)
    path.unlink()
    with pytest.raises(BadModelError, match="does not exist"):
        load_weights(CONFIG, folder)


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_weights_of_every_architecture_load_to_the_same_predictions(changes, tmp_path):
    model = awake(config(**changes))
    save_weights(dict(model.named_parameters()), tmp_path)
    arguments = (latents(2, 2), torch.tensor([1.0, 900.0]), condition(2))
    before = torch.random.get_rng_state()
    loaded = load_weights(model.config, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(loaded.predict(*arguments), model.predict(*arguments))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_of_another_option_or_precision_are_refused(tmp_path):
    model = awake(config())
    save_weights(dict(model.named_parameters()), tmp_path)
    for other in OPTIONS:
        if other in {"default", "rms", "rope"}:  # these have the default's weights
            continue
        with pytest.raises(BadModelError, match=r"other tensors|expected"):
            load_weights(config(**OPTIONS[other]), tmp_path)
    save_weights({name: parameter.half() for name, parameter in model.named_parameters()}, tmp_path)
    with pytest.raises(BadModelError, match="float16"):
        load_weights(config(), tmp_path)
