"""Where a benchmark's transformer works: on pixels, on the best linear codec's latents, or on those of a trained codec.

Whatever it is, the training loop gets a latents folder as the pipeline would have written it.

Shape legend: n pictures [n height width 1] bytes; latents [n c 1 h w].
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from benchmarks.fashion import Pictures
from model_core.codec.io import load_codec
from model_core.codec.patch_pca import fit_patch_pca
from model_core.data.importers.fashion_mnist import LABELS
from model_core.data.latents import (
    CONFIG_NAME,
    INDEX_SCHEMA,
    LatentDataset,
    LatentsConfig,
    TextEncoderInfo,
    shard_name,
    write_index,
    write_shard,
)
from model_core.errors import BadDataError

SpaceName = Literal["pixels", "patch-pca", "codec"]
Images = UInt8[np.ndarray, "n height width 1"]
Latents = Float[Tensor, "n c 1 h w"]

_SHARD_PICTURES = 10_000
_BATCH = 250
_FITTED_PICTURES = 5_000
_PCA_DOWNSCALE, _PCA_COMPONENTS = 4, 4


@dataclass(frozen=True, kw_only=True)
class Space:
    """A way from pictures to latents and back.

    Attributes:
        name: Which one it is.
        digest: Digest of all that the latents depend on besides the pictures.
        encode: Maps pictures to latents of about unit scale.
        decode: Maps latents to pictures of the first size.
    """

    name: SpaceName
    digest: str
    encode: Callable[[Images], Latents]
    decode: Callable[[Latents], Images]


def open_space(name: SpaceName, train: Pictures, *, codec: Path | None = None) -> Space:
    """Returns a space.

    Args:
        name: Which one.
        train: Pictures that a linear codec is fitted on.
        codec: Folder of a trained codec.

    Raises:
        BadDataError: No codec was named, or the pictures do not divide into the linear codec's patches.
        BadModelError: The codec cannot be read.
    """
    if name == "pixels":
        return Space(name=name, digest=_digest("pixels / 127.5 - 1"), encode=to_pixels, decode=from_pixels)
    if name == "patch-pca":
        return _patch_pca(train)
    if codec is None:
        raise BadDataError("the space 'codec' needs a trained codec", hint="give its folder with --codec")
    return _codec(codec, train.images.shape[1])


def to_pixels(images: Images) -> Latents:
    """Returns bytes as numbers in [-1, 1], channel first, one frame."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)[:, :, None].float() / 127.5 - 1


def from_pixels(latents: Latents) -> Images:
    """Reverses `to_pixels`, rounded and clamped."""
    found: np.ndarray = ((latents[:, :, 0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return found


def _patch_pca(train: Pictures) -> Space:
    if any(side % _PCA_DOWNSCALE for side in train.images.shape[1:3]):
        raise BadDataError(f"pictures of {train.images.shape[1]} pixels do not divide into patches of {_PCA_DOWNSCALE}")
    chosen = to_pixels(train.images[:_FITTED_PICTURES])[:, :, 0]
    pca = fit_patch_pca(chosen.expand(-1, 3, -1, -1), downscale=_PCA_DOWNSCALE, num_components=_PCA_COMPONENTS)
    scale = float(pca.variances.mean().sqrt())  # one number for all channels, so that the metric of pixels is kept

    def encode(images: Images) -> Latents:
        return pca.encode(to_pixels(images)[:, :, 0].expand(-1, 3, -1, -1))[:, :, None] / scale

    def decode(latents: Latents) -> Images:
        return from_pixels(pca.decode(scale * latents[:, :, 0])[:, :1, None])

    digest = _digest("patch-pca", *(tensor.numpy().tobytes().hex() for tensor in (pca.mean, pca.components)))
    return Space(name="patch-pca", digest=digest, encode=encode, decode=decode)


def _codec(folder: Path, side: int) -> Space:
    codec = load_codec(folder)
    factor = codec.config.factor
    before = (-side % factor) // 2
    after = -side % factor - before

    def encode(images: Images) -> Latents:
        framed = np.pad(images, ((0, 0), (before, after), (before, after), (0, 0)))
        with torch.inference_mode():
            found: Tensor = codec.encode(to_pixels(framed).expand(-1, 3, -1, -1, -1))
        return found.clone()

    def decode(latents: Latents) -> Images:
        with torch.inference_mode():
            grey = codec.decode(latents).mean(dim=1, keepdim=True)
        return from_pixels(grey)[:, before : before + side, before : before + side]

    files = sorted(path for path in folder.iterdir() if path.suffix in {".json", ".safetensors"} and path.name != "report.json")
    digest = _digest("codec", *(hashlib.sha256(path.read_bytes()).hexdigest() for path in files))
    return Space(name="codec", digest=digest, encode=encode, decode=decode)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write_latents(space: Space, train: Pictures, folder: Path) -> LatentDataset:
    """Encodes the train split into a latents folder, or opens the one that an earlier call wrote.

    Args:
        space: How.
        train: What.
        folder: Where; latents of other pictures or another space there are made anew.
    """
    if (folder / CONFIG_NAME).is_file():  # written last
        opened = LatentDataset.open(folder)
        if (opened.config.dataset_digest, opened.config.codec_digest) == (train.digest, space.digest):
            return opened
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    shape: tuple[int, ...] = ()
    for number, start in enumerate(range(0, len(train), _SHARD_PICTURES)):
        part = train.rows(slice(start, start + _SHARD_PICTURES))
        latents = torch.cat([space.encode(part.images[at : at + _BATCH]) for at in range(0, len(part), _BATCH)])
        shape = tuple(latents.shape[1:])
        write_shard(folder, number, latents)
        entries += [_entry(number, row, part) for row in range(len(part))]
    channels, frames, height, width = shape
    config = LatentsConfig(
        codec_digest=space.digest,
        dataset_digest=train.digest,
        latent_shape=(channels, frames, height, width),
        image_size=train.images.shape[1],
        labels=LABELS,
        text_encoder=TextEncoderInfo(name="none", digest=_digest("none"), dim=1),
    )
    write_index(
        folder, config, pa.Table.from_pylist(entries, schema=INDEX_SCHEMA), captions=["none"], embeddings=torch.zeros(1, 1)
    )
    return LatentDataset.open(folder)


def _entry(shard: int, row: int, part: Pictures) -> dict[str, Any]:
    return {
        "shard": shard_name(shard),
        "row": row,
        "sha256": hashlib.sha256(part.images[row].tobytes()).hexdigest(),
        "split": "train",
        "label_index": int(part.labels[row]),
        "caption_index": -1,
    }
