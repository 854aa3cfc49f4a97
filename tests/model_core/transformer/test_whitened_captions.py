"""A network that starts by reading what tells captions apart."""

import dataclasses

import numpy as np
import pytest
import torch

from model_core.conditioning.whitening import fit_whitening
from model_core.training.loop import train
from model_core.training.state import TrainingState
from model_core.transformer.embedders import TextEmbedder
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING, open_latents


def _alike_captions(num: int = 400, dim: int = 24) -> torch.Tensor:
    """Unit vectors around one direction that differ much in one coordinate, and a thirtieth of that in another."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.zeros(num, dim)
    rows[:, 0] = 1.0
    rows[:, 1] = 0.3 * torch.randn(num, generator=generator)
    rows[:, 2] = 0.02 * torch.randint(0, 2, (num,), generator=generator)
    return rows


def _embedder(captions: torch.Tensor | None) -> TextEmbedder:
    embedder = TextEmbedder(24, 64)
    for layer in (embedder.mlp[0], embedder.mlp[2]):
        torch.nn.init.xavier_uniform_(layer.weight, generator=torch.Generator().manual_seed(2))
        torch.nn.init.zeros_(layer.bias)
    if captions is not None:
        embedder.whiten(captions, torch.Generator().manual_seed(3))
    return embedder


def test_whitened_embeddings_are_uncorrelated_with_unit_variance():
    rows = np.random.default_rng(0).normal(size=(300, 8)) @ np.random.default_rng(1).normal(size=(8, 8))
    whitened = fit_whitening(rows)(rows)
    assert np.allclose(whitened.mean(axis=0), 0, atol=1e-12)
    assert np.allclose(np.cov(whitened, rowvar=False, ddof=0), np.eye(8), atol=1e-9)
    assert fit_whitening(rows, max_directions=3).directions.shape == (8, 3)


def test_a_small_difference_between_captions_moves_the_condition_as_much_as_a_large_one():
    captions = _alike_captions()
    known = torch.tensor([True, True])
    small, large = captions[:1].repeat(2, 1), captions[:1].repeat(2, 1)
    small[1, 2] = 0.02 - small[0, 2]
    large[1, 1] += 0.3

    def moved(embedder: TextEmbedder, pair: torch.Tensor) -> float:
        first, second = embedder(pair, known).detach()
        return float((first - second).norm())

    plain, whitened = _embedder(None), _embedder(captions)
    assert moved(plain, small) < 0.15 * moved(plain, large)
    assert moved(whitened, small) > 0.5 * moved(whitened, large)


@pytest.mark.parametrize("captions", [torch.zeros(0, 24), torch.ones(1, 24), torch.ones(5, 24)])
def test_captions_that_tell_nothing_apart_leave_the_layer_as_it_was(captions):
    assert torch.equal(_embedder(captions).mlp[0].weight, _embedder(None).mlp[0].weight)


def test_training_starts_whitened_where_asked_and_is_resumed_to_the_same_weights(tmp_path):
    latents = open_latents(tmp_path / "latents")
    config = dataclasses.replace(TRAINING, num_steps=4, whiten_captions=True)
    plain = TrainingState(dataclasses.replace(config, whiten_captions=False), ARCHITECTURE).model.state_dict()
    start = TrainingState(config, ARCHITECTURE, captions=latents.caption_embeddings(latents.rows("train"))).model.state_dict()
    changed = {name for name, tensor in plain.items() if not torch.equal(tensor, start[name])}
    assert changed == {"text_embedder.mlp.0.weight", "text_embedder.mlp.0.bias"}

    whole = train(config, ARCHITECTURE, latents, scratch=_folder(tmp_path / "whole"))
    stopped = _folder(tmp_path / "stopped")

    def stop_after_two(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, ARCHITECTURE, latents, scratch=stopped, on_step=stop_after_two)
    resumed = train(config, ARCHITECTURE, latents, scratch=stopped)
    assert resumed.resumed_from == 2
    assert whole.losses == resumed.losses
    assert all(torch.equal(tensor, resumed.weights[name]) for name, tensor in whole.weights.items())


def _folder(path):
    path.mkdir()
    return path
