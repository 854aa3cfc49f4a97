"""From pictures to shards of latents by a frozen codec, for a whole dataset and for a part of one alike.

Shape legend: n items, c latent channels, f t frames, h w latent height and width, H W those of pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from components.ports import Ports
from model_core.codec.autoencoder import Codec
from model_core.codec.batches import clips_to_unit_range
from model_core.codec.quality import psnr, ssim
from model_core.data.dataset import Dataset
from model_core.data.latents import write_shard
from model_core.device import exact_convolutions
from model_core.errors import BadModelError
from model_core.finite import first_not_finite
from model_core.memory import memory_named

_DOING: Final = "encoding pictures"


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How faithful items are once decoded again, in their order."""

    psnr: Float[Tensor, "n"]
    ssim: Float[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.psnr)

    @classmethod
    def joined(cls, several: "Sequence[Fidelity | _Shard]") -> "Fidelity":
        """Returns that of several in a row."""
        return cls(psnr=torch.cat([one.psnr for one in several]), ssim=torch.cat([one.ssim for one in several]))


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """The work between two points to resume from: latents and the fidelity of each item."""

    latents: Float[Tensor, "n c f h w"]
    psnr: Float[Tensor, "n"]
    ssim: Float[Tensor, "n"]


def encode_shards(
    codec: Codec, dataset: Dataset, shards: range, folder: Path, ports: Ports, *, shard_size: int, batch_size: int
) -> Fidelity:
    """Writes shards of latents; what an earlier attempt kept in the scratch folder is not done again.

    Args:
        codec: What encodes, where it computes.
        dataset: The whole dataset.
        shards: Which shards of it, by number; at least one.
        folder: Where they are written.
        ports: Progress and the scratch folder.
        shard_size: Items in a shard, but for the dataset's last.
        batch_size: Pictures, or frames of clips, at a time; batches end with a shard, so that a shard's bytes depend on it alone.

    Raises:
        BadDataError: A picture cannot be read.
        BadModelError: The codec does not divide the pictures' size or makes latents that are not finite; or a batch does not fit
            into memory.
    """
    size = dataset.info.image_size
    shape = codec.config.latent_shape(dataset.info.num_frames, size, size)
    rows = [range(number * shard_size, min((number + 1) * shard_size, len(dataset))) for number in shards]
    done, total = list[Fidelity](), sum(map(len, rows))
    for number, of_shard in zip(shards, rows, strict=True):
        path, before = ports.scratch / f"shard-{number:05d}.safetensors", of_shard.start - rows[0].start
        with memory_named(f"encoding {batch_size} pictures of {size}x{size} at a time", hint="lower batch_size"):
            shard = _kept(path, (len(of_shard), *shape))
            if shard is not None:
                ports.progress.update(before + len(of_shard), total, _DOING)
            else:
                shard = _encode_rows(codec, dataset, of_shard, ports, batch_size, before=before, total=total)
                _keep(path, shard)
        write_shard(folder, number, shard.latents)
        done.append(Fidelity(psnr=shard.psnr, ssim=shard.ssim))
    return Fidelity.joined(done)


def _encode_rows(
    codec: Codec, dataset: Dataset, rows: range, ports: Ports, batch_size: int, *, before: int, total: int
) -> _Shard:
    done = []
    at_a_time = max(1, batch_size // dataset.info.num_frames)
    for start in range(rows.start, rows.stop, at_a_time):
        batch = range(start, min(start + at_a_time, rows.stop))
        digests = [dataset.value("sha256", row) for row in batch]
        done.append(_encode(codec, clips_to_unit_range(torch.from_numpy(dataset.clips(batch))), digests))
        ports.progress.update(before + batch.stop - rows.start, total, _DOING)
    fidelity = Fidelity.joined(done)
    return _Shard(latents=torch.cat([item.latents for item in done]), psnr=fidelity.psnr, ssim=fidelity.ssim)


def _keep(path: Path, shard: _Shard) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(save({"latents": shard.latents, "psnr": shard.psnr, "ssim": shard.ssim}))
    partial.replace(path)


def _kept(path: Path, shape: tuple[int, ...]) -> _Shard | None:
    """Returns what an earlier attempt kept, None where there is nothing of use."""
    try:
        shard = _Shard(**load_file(path))
    except (OSError, SafetensorError, TypeError, ValueError):
        return None
    sound = shard.latents.shape == shape and shard.psnr.shape == shard.ssim.shape == shape[:1]
    return shard if sound and bool(shard.latents.isfinite().all()) else None


@torch.no_grad()
@exact_convolutions()
def _encode(codec: Codec, clips: Float[Tensor, "n 3 t H W"], digests: Sequence[str]) -> _Shard:
    latents = codec.encode(clips.to(codec.device))  # [n c t h w]
    if (place := first_not_finite(latents)) is not None:
        raise BadModelError(
            f"the codec encodes item {digests[place][:16]} of the dataset to numbers that are not finite",
            hint="train the codec again with a lower learning rate, or use the shipped one",
        )
    frames, decoded = (
        rearrange(each, "n rgb t H W -> (n t) rgb H W")
        for each in (clips, codec.decode(latents, clips.shape[2]).to(clips.device))
    )
    of_clips = {
        name: measure(frames, decoded).reshape(len(clips), -1).mean(1) for name, measure in (("psnr", psnr), ("ssim", ssim))
    }
    return _Shard(latents=latents.to(clips.device), **of_clips)
