"""The best linear codec of a given latent shape, as the baseline that a learned one must beat.

Each f x f patch is a vector of 3 f^2 numbers; the codec keeps its first c principal components. By Eckart and Young
(1936) no linear map of patches to c numbers and back has a smaller mean squared error on the pictures it was fitted on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from model_core.codec.autoencoder import Codec, Decoder, Encoder
from model_core.errors import BadDataError, BadModelError


@dataclass(frozen=True, kw_only=True)
class PatchPCA:
    """Principal components of patches.

    Attributes:
        downscale: Side of a patch, f.
        mean: Mean patch, [3 f f], channel first.
        components: Orthonormal rows, largest variance first, [c, 3 f f].
        variances: Variance along each component, [c].
    """

    downscale: int
    mean: Tensor
    components: Tensor
    variances: Tensor

    def encode(self, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c h w"]:
        """Returns the coordinates of each patch."""
        centred = _patches(frames, self.downscale) - self.mean  # [n h w d]
        return rearrange(centred @ self.components.T, "n h w c -> n c h w")

    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Returns the pictures with these coordinates, clamped to [-1, 1]."""
        patches = rearrange(latents, "n c h w -> n h w c") @ self.components + self.mean  # [n h w d]
        f = self.downscale
        return rearrange(patches, "n h w (rgb i j) -> n rgb (h i) (w j)", rgb=3, i=f, j=f).clamp(-1, 1)

    def reconstruct(self, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 3 H W"]:
        """Returns ``decode(encode(frames))``."""
        return self.decode(self.encode(frames))


def _patches(frames: Float[Tensor, "n 3 H W"], f: int) -> Float[Tensor, "n h w d"]:
    return rearrange(frames, "n rgb (h i) (w j) -> n h w (rgb i j)", i=f, j=f)


def fit_patch_pca(frames: Float[Tensor, "n 3 H W"], *, downscale: int, num_components: int) -> PatchPCA:
    """Fits the components in float64 from the covariance of all patches.

    Raises:
        BadDataError: No picture, or more components than numbers in a patch.
    """
    dim = 3 * downscale**2
    if len(frames) == 0 or not 1 <= num_components <= dim:
        raise BadDataError(f"cannot fit {num_components} components to {len(frames)} pictures in patches of {dim} numbers")
    patches = _patches(frames, downscale).reshape(-1, dim).double().numpy()
    mean = patches.mean(axis=0)
    covariance = np.cov(patches, rowvar=False, ddof=0)
    variances, vectors = np.linalg.eigh(covariance)  # ascending
    vectors = vectors[:, ::-1][:, :num_components].T
    largest = np.abs(vectors).argmax(axis=1)
    vectors *= np.sign(vectors[np.arange(num_components), largest])[:, None]  # a sign that does not depend on the solver
    return PatchPCA(
        downscale=downscale,
        mean=torch.from_numpy(mean).float(),
        components=torch.from_numpy(np.ascontiguousarray(vectors)).float(),
        variances=torch.from_numpy(np.maximum(variances[::-1][:num_components], 0).copy()).float(),
    )


def initialise_from_pca(codec: Codec, pca: PatchPCA) -> None:
    """Sets the codec's linear path to the components, whitened, so that it starts as the best linear codec.

    Raises:
        BadModelError: The codec's architecture has no linear path.
    """
    if not isinstance(codec.encoder, Encoder) or not isinstance(codec.decoder, Decoder):
        raise BadModelError("only a compact codec can start as a linear one")
    f, scale = pca.downscale, pca.variances.clamp_min(1e-6).sqrt()  # [c]
    kernel = rearrange(pca.components, "c (rgb i j) -> c rgb i j", rgb=3, i=f, j=f)
    mean = rearrange(pca.mean, "(rgb i j) -> rgb i j", rgb=3, i=f, j=f)
    with torch.no_grad():
        encoder, decoder = codec.encoder.patch, codec.decoder.patch
        encoder.weight.copy_(kernel / scale.view(-1, 1, 1, 1))
        if encoder.bias is not None:
            encoder.bias.copy_(-(pca.components @ pca.mean) / scale)
        decoder.weight.copy_(kernel * scale.view(-1, 1, 1, 1))
        if decoder.bias is not None:
            decoder.bias.copy_(mean.mean(dim=(1, 2)))  # its constant part; the mean patch is close to constant
