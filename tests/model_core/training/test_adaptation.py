"""Training of adapters: on a base that stays as it is, to be stopped and continued like any other training."""

from dataclasses import replace

import pytest
import torch

from model_core.errors import BadDataError
from model_core.training.adaptation import Adaptation
from model_core.training.loop import train
from model_core.transformer.adapter_config import AdapterConfig
from model_core.transformer.adapters import adapter_shapes, widened_architecture
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import write_model_config
from model_core.transformer.weights import save_weights
from tests.model_core.toy_latents import ARCHITECTURE, LABELS, TRAINING, model_config, open_latents

ADAPTER = AdapterConfig(rank=2, alpha=2.0)
WIDENED = widened_architecture(ARCHITECTURE, 1)


@pytest.fixture
def latents(tmp_path):
    return open_latents(tmp_path / "latents")


@pytest.fixture
def adaptation(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    model = DiT(ARCHITECTURE, generator=torch.Generator().manual_seed(1))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    write_model_config(model_config(), folder)
    save_weights(dict(model.named_parameters()), folder)
    return Adaptation(base=folder, base_digest="ab" * 32, adapter=ADAPTER, labels=(*LABELS, "stars"))


def _train(latents, adaptation, scratch, **options):
    scratch.mkdir(exist_ok=True)
    return train(TRAINING, WIDENED, latents, scratch=scratch, device="cpu", adaptation=adaptation, **options)


def _same(first, second):
    return first.losses == second.losses and all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


def test_adapters_alone_are_learnt(latents, adaptation, tmp_path):
    before = (adaptation.base / "transformer.safetensors").read_bytes()
    result = _train(latents, adaptation, tmp_path / "scratch")
    shapes = adapter_shapes(ARCHITECTURE, ADAPTER, num_added=1)
    assert {name: tuple(tensor.shape) for name, tensor in result.weights.items()} == shapes
    assert result.num_parameters == sum(torch.Size(shape).numel() for shape in shapes.values())
    assert all(bool(tensor.any()) for name, tensor in result.weights.items() if name.endswith(".up"))
    assert (adaptation.base / "transformer.safetensors").read_bytes() == before


def test_a_stopped_run_goes_on_to_the_same_adapters(latents, adaptation, tmp_path):
    def stop(progress):
        if progress.step == 7:
            raise KeyboardInterrupt

    whole = _train(latents, adaptation, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _train(latents, adaptation, tmp_path / "stopped", on_step=stop)
    resumed = _train(latents, adaptation, tmp_path / "stopped")
    assert resumed.resumed_from == 7
    assert _same(whole, resumed)


@pytest.mark.parametrize("change", [{"base_digest": "cd" * 32}, {"adapter": replace(ADAPTER, alpha=4.0)}])
def test_a_checkpoint_of_another_base_or_adapter_is_not_gone_on_from(latents, adaptation, tmp_path, change):
    _train(latents, adaptation, tmp_path / "scratch")
    assert _train(latents, replace(adaptation, **change), tmp_path / "scratch").resumed_from == 0


def test_labels_are_those_of_the_adapted_model(latents, adaptation):
    rows = latents.rows("train")
    swapped = latents.with_labels(("stars", *reversed(LABELS)))
    expected = [{0: 2, 1: 1, -1: -1}[index] for index in latents.label_indices(rows).tolist()]
    assert swapped.label_indices(rows).tolist() == expected
    assert swapped.config.labels == ("stars", *reversed(LABELS))
    with pytest.raises(BadDataError, match="'squares'"):
        latents.with_labels(["circles"])
