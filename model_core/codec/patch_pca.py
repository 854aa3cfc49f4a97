"""The best linear codec of a given latent shape, as the baseline that a learned one must beat.

Each f x f patch, or block of f x f pixels in p frames, is a vector of 3 p f^2 numbers; the codec keeps its first c principal
components. By Eckart and Young (1936) no linear map of patches to c numbers and back has a smaller mean squared error on the
pictures it was fitted on.

Shape legend: n pictures or clips, t frames of clips, k blocks in time, h w blocks along height and width, d numbers of a block.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from model_core.codec.autoencoder import Codec, Decoder, Encoder
from model_core.codec.causal_autoencoder import CausalDecoder, CausalEncoder, filled_up
from model_core.errors import BadDataError, BadModelError

_NUMBERS_AT_A_TIME = 1 << 26


@dataclass(frozen=True, kw_only=True)
class PatchPCA:
    """Principal components of patches.

    Attributes:
        downscale: Side of a patch, f.
        mean: Mean patch, [3 p f f], channel first.
        components: Orthonormal rows, largest variance first, [c, 3 p f f].
        variances: Variance along each component, [c].
        num_frames: Frames of a block, p; None for patches of pictures.
    """

    downscale: int
    mean: Tensor
    components: Tensor
    variances: Tensor
    num_frames: int | None = None

    def encode(self, frames: Float[Tensor, "n 3 *t H W"]) -> Float[Tensor, "n c *k h w"]:
        """Returns the coordinates of each patch."""
        centred = _patches(frames, self.downscale, self.num_frames) - self.mean  # [n *k h w d]
        return (centred @ self.components.T).movedim(-1, 1)

    def decode(self, latents: Float[Tensor, "n c *k h w"]) -> Float[Tensor, "n 3 *t H W"]:
        """Returns the pictures with these coordinates, or the clips, of whole blocks, clamped to [-1, 1]."""
        patches = latents.movedim(1, -1) @ self.components + self.mean  # [n *k h w d]
        f, p = self.downscale, self.num_frames
        if p is None:
            return rearrange(patches, "n h w (rgb i j) -> n rgb (h i) (w j)", rgb=3, i=f, j=f).clamp(-1, 1)
        return rearrange(patches, "n k h w (rgb p i j) -> n rgb (k p) (h i) (w j)", rgb=3, p=p, i=f, j=f).clamp(-1, 1)

    def reconstruct(self, frames: Float[Tensor, "n 3 *t H W"]) -> Float[Tensor, "n 3 *t H W"]:
        """Returns ``decode(encode(frames))``, of clips as many frames as were given."""
        found = self.decode(self.encode(frames))
        return found if self.num_frames is None else found[:, :, -frames.shape[2] :]


def _patches(frames: Float[Tensor, "n 3 *t H W"], f: int, p: int | None) -> Float[Tensor, "n *k h w d"]:
    if p is None:
        return rearrange(frames, "n rgb (h i) (w j) -> n h w (rgb i j)", i=f, j=f)
    return rearrange(filled_up(frames, p), "n rgb (k p) (h i) (w j) -> n k h w (rgb p i j)", p=p, i=f, j=f)


def fit_patch_pca(
    frames: Float[Tensor, "n 3 *t H W"], *, downscale: int, num_components: int, num_frames: int | None = None
) -> PatchPCA:
    """Fits the components in float64 from the covariance of all patches.

    Args:
        frames: Pictures, or clips.
        downscale: Side of a patch.
        num_components: Components to keep.
        num_frames: Frames of a block of clips; None for pictures.

    Raises:
        BadDataError: No picture, or more components than numbers in a patch.
    """
    dim = 3 * (num_frames or 1) * downscale**2
    if len(frames) == 0 or not 1 <= num_components <= dim:
        raise BadDataError(f"cannot fit {num_components} components to {len(frames)} pictures in patches of {dim} numbers")
    mean, covariance = _moments(frames, downscale, num_frames)
    variances, vectors = np.linalg.eigh(covariance)  # ascending
    vectors = vectors[:, ::-1][:, :num_components].T
    largest = np.abs(vectors).argmax(axis=1)
    vectors *= np.sign(vectors[np.arange(num_components), largest])[:, None]  # a sign that does not depend on the solver
    return PatchPCA(
        downscale=downscale,
        mean=torch.from_numpy(mean).float(),
        components=torch.from_numpy(np.ascontiguousarray(vectors)).float(),
        variances=torch.from_numpy(np.maximum(variances[::-1][:num_components], 0).copy()).float(),
        num_frames=num_frames,
    )


def _moments(frames: Tensor, downscale: int, num_frames: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and covariance of all patches, a part at a time (Chan 1983, as in `statistics.Moments`)."""
    parts = torch.split(frames, max(1, _NUMBERS_AT_A_TIME // frames[0].numel()))
    mean, covariance, count = _part_moments(parts[0], downscale, num_frames)
    for part in parts[1:]:
        mean_of_part, of_part, more = _part_moments(part, downscale, num_frames)
        share, delta = more / (count + more), mean_of_part - mean
        covariance = covariance + share * (of_part - covariance) + share * (1 - share) * np.outer(delta, delta)
        mean, count = mean + share * delta, count + more
    return mean, covariance


def _part_moments(frames: Tensor, downscale: int, num_frames: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    patches = _patches(frames, downscale, num_frames).flatten(0, -2).double().numpy()
    return patches.mean(axis=0), np.atleast_2d(np.cov(patches, rowvar=False, ddof=0)), len(patches)


def initialise_from_pca(codec: Codec, pca: PatchPCA) -> None:
    """Sets the codec's linear path to the components, whitened, so that it starts as the best linear codec.

    Raises:
        BadModelError: The codec's architecture has no linear path, or the components are not of its blocks.
    """
    if not isinstance(codec.encoder, Encoder | CausalEncoder) or not isinstance(codec.decoder, Decoder | CausalDecoder):
        raise BadModelError("only a compact or a causal codec can start as a linear one")
    f, p, scale = pca.downscale, pca.num_frames, pca.variances.clamp_min(1e-6).sqrt()  # [c]
    block = (3, f, f) if p is None else (3, p, f, f)
    encoder, decoder = codec.encoder.patch, codec.decoder.patch
    kernel, each = pca.components.reshape(-1, *block), (-1, *(1,) * len(block))
    if encoder.weight.shape != kernel.shape:
        raise BadModelError(f"blocks of {list(block)} are not what the codec's linear path reads")
    with torch.no_grad():
        encoder.weight.copy_(kernel / scale.view(each))
        if encoder.bias is not None:
            encoder.bias.copy_(-(pca.components @ pca.mean) / scale)
        decoder.weight.copy_(kernel * scale.view(each))
        if decoder.bias is not None:
            decoder.bias.copy_(
                pca.mean.view(block).mean(dim=tuple(range(1, len(block))))
            )  # its constant part; the mean patch is close to constant
