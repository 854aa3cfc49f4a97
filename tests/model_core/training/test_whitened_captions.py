"""Training on captions whitened gives weights that read captions as they are."""

import dataclasses

import numpy as np
import pytest
import torch

from model_core.conditioning.whitening import fit_whitening
from model_core.training.loop import train
from model_core.training.whitened_captions import WhitenedCaptions
from model_core.transformer.embedders import TextEmbedder
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING, open_latents

_DIM = 24


def _alike_captions(num: int = 400) -> torch.Tensor:
    """Unit vectors around one direction that differ much in one coordinate, and a fifteenth of that in another."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.zeros(num, _DIM)
    rows[:, 0] = 1.0
    rows[:, 1] = 0.3 * torch.randn(num, generator=generator)
    rows[:, 2] = 0.02 * torch.randint(0, 2, (num,), generator=generator)
    return rows


def _embedder() -> TextEmbedder:
    embedder = TextEmbedder(_DIM, 64)
    for place, layer in enumerate((embedder.mlp[0], embedder.mlp[2])):
        torch.nn.init.xavier_uniform_(layer.weight, generator=torch.Generator().manual_seed(place))
        torch.nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(place))
    return embedder


def test_whitened_embeddings_are_uncorrelated_with_unit_variance():
    rows = np.random.default_rng(0).normal(size=(300, 8)) @ np.random.default_rng(1).normal(size=(8, 8))
    whitened = fit_whitening(rows)(rows)
    assert np.allclose(whitened.mean(axis=0), 0, atol=1e-12)
    assert np.allclose(np.cov(whitened, rowvar=False, ddof=0), np.eye(8), atol=1e-9)
    assert fit_whitening(rows, max_directions=3).directions.shape == (8, 3)


def test_a_small_difference_between_captions_counts_as_much_as_a_large_one_and_captions_have_length_one():
    captions = _alike_captions()
    whitened = WhitenedCaptions.fit(captions)
    found = whitened(captions)
    assert found.shape == captions.shape
    assert float(found.square().sum(dim=1).mean()) == pytest.approx(1.0, abs=1e-4)
    small, large = captions[:1].clone(), captions[:1].clone()
    small[0, 2], large[0, 1] = small[0, 2] + 0.02, large[0, 1] + 0.6
    assert (whitened(small) - found[:1]).norm() == pytest.approx(float((whitened(large) - found[:1]).norm()), rel=0.2)


def test_folded_weights_answer_to_captions_as_the_trained_ones_did_to_whitened_ones():
    captions, embedder, known = _alike_captions(), _embedder(), torch.ones(400, dtype=torch.bool)
    whitened = WhitenedCaptions.fit(captions)
    with torch.no_grad():
        expected = embedder(whitened(captions), known)
        names = {f"text_embedder.{name}": tensor.clone() for name, tensor in embedder.named_parameters()}
        folded = whitened.folded(names)
        assert {name for name in names if not torch.equal(names[name], folded[name])} == {
            "text_embedder.mlp.0.weight",
            "text_embedder.mlp.0.bias",
        }
        embedder.load_state_dict({name.removeprefix("text_embedder."): tensor for name, tensor in folded.items()})
        assert torch.allclose(embedder(captions, known), expected, atol=1e-4)


@pytest.mark.parametrize("captions", [torch.zeros(0, _DIM), torch.ones(1, _DIM), torch.ones(5, _DIM)])
def test_captions_that_tell_nothing_apart_are_not_whitened(captions):
    assert WhitenedCaptions.fit(captions) is None


def test_training_on_whitened_captions_ends_in_the_same_weights_when_resumed(tmp_path):
    latents = open_latents(tmp_path / "latents")
    config = dataclasses.replace(TRAINING, num_steps=4, whiten_captions=True)
    whole = train(config, ARCHITECTURE, latents, scratch=_folder(tmp_path / "whole"))
    plain = train(dataclasses.replace(config, whiten_captions=False), ARCHITECTURE, latents, scratch=_folder(tmp_path / "plain"))
    assert whole.losses != plain.losses
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
