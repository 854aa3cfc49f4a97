"""A part of a dataset's latents on disk, and how parts are joined: each shard once, and each as its part has told.

``part.json`` says of which dataset, codec and shards it is, and the SHA-256 of each file; ``fidelity.safetensors`` holds a
`Fidelity`; the shards lie under the names that they have in the whole.

Shape legend: n items, c latent channels, f frames, h w latent height and width.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from components.encode_part.encoding import Fidelity
from components.ports import Progress
from components.store import hand_over
from governance.digest import sha256_file
from governance.errors import IntegrityError
from model_core.data.latents import read_shard, shard_name
from model_core.errors import BadDataError

FORMAT: Final = "groundswell-encoded-part/1"
PART_NAME: Final = "part.json"
FIDELITY_NAME: Final = "fidelity.safetensors"
_HINT: Final = "run the same command again: what was changed is made anew"
_MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, kw_only=True)
class PartIdentity:
    """What all parts of a whole have in common.

    Attributes:
        dataset_digest: Digest of the dataset.
        codec_digest: Digest of the codec.
        latent_shape: Channels, frames, height and width of an item's latents.
        shard_size: Items in a shard, but for the last.
    """

    dataset_digest: str
    codec_digest: str
    latent_shape: tuple[int, int, int, int]
    shard_size: int


class _Told(BaseModel):
    """What `part.json` says: `PartIdentity`, the first shard and the one after the last, items, and SHA-256 by file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    dataset_digest: str
    codec_digest: str
    latent_shape: tuple[int, int, int, int]
    shard_size: int
    first_shard: int = Field(ge=0)
    end_shard: int = Field(ge=0)
    num_items: int = Field(ge=1)
    files: dict[str, str]

    @property
    def shards(self) -> range:
        return range(self.first_shard, self.end_shard)


def write_part(folder: Path, identity: PartIdentity, shards: range, fidelity: Fidelity) -> None:
    """Writes all of a part but its shards, which are there already.

    Args:
        folder: The part's.
        identity: What it shares with the other parts.
        shards: Which it holds.
        fidelity: Of each item.
    """
    (folder / FIDELITY_NAME).write_bytes(save({"psnr": fidelity.psnr, "ssim": fidelity.ssim}))
    told = _Told(
        format=FORMAT,
        **asdict(identity),
        first_shard=shards.start,
        end_shard=shards.stop,
        num_items=len(fidelity),
        files={name: sha256_file(folder / name) for name in _names(shards)},
    )
    text = json.dumps(told.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    (folder / PART_NAME).write_text(text, encoding="utf-8")


def join_parts(
    parts: Mapping[str, Path], identity: PartIdentity, folder: Path, progress: Progress, *, num_items: int
) -> Fidelity:
    """Puts the shards of all parts into one folder, each under a second name of the same file, or copied.

    Args:
        parts: The parts' folders by what they are called.
        identity: What each of them has to be a part of.
        folder: Where the shards are put.
        progress: Where progress goes.
        num_items: Items of the whole dataset.

    Returns:
        The fidelity of all items, in the dataset's order.

    Raises:
        IntegrityError: A part is missing, there twice, of another dataset, codec or division, or not as it was written.
    """
    told = {name: _read(name, path, identity) for name, path in parts.items()}
    ordered = sorted(told, key=lambda name: (told[name].first_shard, name))
    _require_each_shard_once([(name, told[name].shards) for name in ordered], -(-num_items // identity.shard_size))
    found = []
    for number, name in enumerate(ordered):
        progress.update(number, len(ordered), "joining parts")
        found.append(_hand_over_part(name, parts[name], told[name], folder, num_items=num_items))
    return Fidelity.joined(found)


def _read(name: str, folder: Path, identity: PartIdentity) -> _Told:
    try:
        with (folder / PART_NAME).open("rb") as file:
            told = _Told.model_validate_json(file.read(_MAX_BYTES))
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{name}: {folder / PART_NAME} is nothing that `encode_part` has written", hint=_HINT) from error
    for field, expected in {"format": FORMAT, **asdict(identity)}.items():
        if (value := getattr(told, field)) != expected:
            raise IntegrityError(f"{name} is of another {field.replace('_', ' ')}: {value!r:.60}, not {expected!r}", hint=_HINT)
    return told


def _require_each_shard_once(parts: Sequence[tuple[str, range]], num_shards: int) -> None:
    """Refuses parts, in the order of their first shards, that leave a shard out or have one twice."""
    expected = 0
    for name, shards in parts:
        if shards.start > expected:
            break
        if shards.start < expected:
            raise IntegrityError(f"{name} has shard {shards.start:,}, which another part has too", hint=_HINT)
        if not shards or shards.stop > num_shards:
            raise IntegrityError(
                f"{name} has shards {shards.start:,} to {shards.stop:,}, of {num_shards:,} that there are", hint=_HINT
            )
        expected = shards.stop
    if expected < num_shards:
        raise IntegrityError(f"no part has shard {expected:,}, of {num_shards:,} that there are", hint=_HINT)


def _hand_over_part(name: str, source: Path, told: _Told, folder: Path, *, num_items: int) -> Fidelity:
    """Holds a part's files against what it told of them, and puts its shards into a folder."""
    counts = [min(told.shard_size, num_items - number * told.shard_size) for number in told.shards]
    if told.num_items != sum(counts):
        raise IntegrityError(f"{name} has {told.num_items:,} items, not {sum(counts):,}", hint=_HINT)
    if sorted(told.files) != sorted(_names(told.shards)):
        raise IntegrityError(f"{name} tells of other files than those of its shards", hint=_HINT)
    for file, digest in told.files.items():
        if not (source / file).is_file() or sha256_file(source / file) != digest:
            raise IntegrityError(f"{name}: {file} is not as it was written", hint=_HINT)
    try:
        fidelity = Fidelity(**load_file(source / FIDELITY_NAME))
        shapes = [tuple(read_shard(source / shard_name(number)).shape) for number in told.shards]
    except (SafetensorError, BadDataError, TypeError, ValueError) as error:
        raise IntegrityError(f"{name} does not hold what a part holds: {error}", hint=_HINT) from error
    if shapes != [(count, *told.latent_shape) for count in counts] or {fidelity.psnr.shape, fidelity.ssim.shape} != {
        (told.num_items,)
    }:
        raise IntegrityError(f"{name} holds other numbers of items than it tells", hint=_HINT)
    for number in told.shards:
        hand_over(source / shard_name(number), folder / shard_name(number))
    return fidelity


def _names(shards: range) -> list[str]:
    return [FIDELITY_NAME, *map(shard_name, shards)]
