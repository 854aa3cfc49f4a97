import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from model_core.codec.autoencoder import Codec
from model_core.codec.patch_pca import fit_patch_pca, initialise_from_pca
from model_core.errors import BadDataError
from tests.model_core.codec.small import pictures, small_config


def patches_by_loop(frames: torch.Tensor, f: int) -> np.ndarray:
    """Every f x f patch as a row, channel first, by slicing."""
    n, _, height, width = frames.shape
    return np.stack(
        [
            frames[i, :, y : y + f, x : x + f].numpy().ravel()
            for i in range(n)
            for y in range(0, height, f)
            for x in range(0, width, f)
        ]
    )


@pytest.mark.parametrize("num_components", [1, 4, 8])
def test_reconstructions_are_those_of_scikit_learn(num_components: int) -> None:
    frames = 0.5 * torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1)).clamp(-1.9, 1.9)
    patches = patches_by_loop(frames, 4)
    oracle = PCA(n_components=num_components).fit(patches.astype(np.float64))
    expected = np.clip(oracle.inverse_transform(oracle.transform(patches)), -1, 1)
    found = fit_patch_pca(frames, downscale=4, num_components=num_components).reconstruct(frames)
    np.testing.assert_allclose(patches_by_loop(found, 4), expected, atol=2e-5)


def test_all_components_lose_nothing() -> None:
    frames = pictures(8, 16)
    found = fit_patch_pca(frames, downscale=2, num_components=12).reconstruct(frames)
    torch.testing.assert_close(found, frames, atol=1e-5, rtol=0)


def test_a_codec_started_from_the_components_is_the_linear_codec() -> None:
    frames = pictures(8, 16)
    frames = torch.cat([frames, -frames])  # the mean patch is then constant, as the codec's bias can hold
    pca = fit_patch_pca(frames, downscale=4, num_components=4)
    codec = Codec(small_config())
    initialise_from_pca(codec, pca)
    decoded = codec.decode(codec.encode(frames.unsqueeze(2))).squeeze(2)
    torch.testing.assert_close(decoded, pca.reconstruct(frames), atol=1e-4, rtol=0)
    latents = codec.encode(frames.unsqueeze(2))
    torch.testing.assert_close(latents.std(dim=(0, 2, 3, 4), unbiased=False), torch.ones(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("num_items", "num_components"), [(0, 4), (2, 0), (2, 49)])
def test_what_cannot_be_fitted_is_refused(num_items: int, num_components: int) -> None:
    with pytest.raises(BadDataError, match="cannot fit"):
        fit_patch_pca(pictures(2, 16)[:num_items], downscale=4, num_components=num_components)
