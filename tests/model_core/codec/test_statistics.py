import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.codec.statistics import latent_statistics, measure, moments
from model_core.errors import BadDataError, BadModelError
from tests.model_core.codec.small import pictures, small_codec, small_kl_codec


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), offset=st.floats(-1e4, 1e4), seed=st.integers(0, 999))
def test_merging_batches_gives_numpy_s_moments_of_all(sizes: list[int], offset: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(n, 3, 2, 2, generator=generator) + offset for n in sizes]
    total = moments(batches[0])
    for batch in batches[1:]:
        total = total.merge(moments(batch))
    values = torch.cat(batches).double().numpy()
    np.testing.assert_allclose(total.mean.numpy(), values.mean(axis=(0, 2, 3)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total.variance.numpy(), values.var(axis=(0, 2, 3)), rtol=1e-8)
    assert total.count == 4 * sum(sizes)


@pytest.mark.parametrize("codec", [small_codec(), small_kl_codec()], ids=["compact", "autoencoder_kl"])
def test_statistics_are_numpy_s_of_all_latents(codec: torch.nn.Module) -> None:
    frames = pictures(70, 8)  # more than a batch
    mean, std = latent_statistics(codec, (frames,))  # type: ignore[arg-type]
    with torch.no_grad():
        latents = torch.cat([codec.posterior(part).mode() for part in frames.split(64)]).double().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(mean, latents.mean(axis=(0, 2, 3)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(std, latents.std(axis=(0, 2, 3)), rtol=1e-12)


def test_each_scale_counts_the_same_whatever_its_size() -> None:
    codec, large, small = small_codec(), pictures(4, 16), pictures(2, 8, seed=1)
    mean, std = latent_statistics(codec, (large, small))
    with torch.no_grad():
        parts = [codec.posterior(frames).mode().double().numpy() for frames in (large, small)]
    first = np.mean([part.mean(axis=(0, 2, 3)) for part in parts], axis=0)
    second = np.mean([np.square(part).mean(axis=(0, 2, 3)) for part in parts], axis=0)
    np.testing.assert_allclose(mean, first, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(std, np.sqrt(second - first**2), rtol=1e-9)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(BadDataError, match="no picture"):
        measure(small_codec(), ())
    with pytest.raises(BadDataError, match="no picture"):
        latent_statistics(small_codec(), (torch.zeros(0, 3, 8, 8),))


def test_a_constant_latent_channel_is_refused() -> None:
    with pytest.raises(BadModelError, match="constant"):
        latent_statistics(small_codec(), (torch.zeros(2, 3, 4, 4),))
