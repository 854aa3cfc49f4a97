"""Latents on disk: memory-mapped safetensors shards, an index, the embedded captions and what they were made from.

Shape legend: n items, c latent channels, f frames, h w latent height and width, d width of a caption's embedding, s m tokens
of a caption.
"""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from model_core.errors import BadDataError

CONFIG_NAME = "config.json"
INDEX_NAME = "index.parquet"
CAPTIONS_NAME = "captions.json"
EMBEDDINGS_NAME = "captions.safetensors"
NONE_INDEX = -1
_HINT = "encode the dataset again"
INDEX_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("row", pa.int64()),
        ("sha256", pa.string()),
        ("split", pa.string()),
        ("label_index", pa.int32()),
        ("caption_index", pa.int32()),
    ]
)
"""One row an item.

shard: Its file, such as ``shards/latents-00000.safetensors``.
row: Its place in that file.
sha256: Digest of the picture it was made from.
split: ``train`` or ``holdout``.
label_index: Place of its label in `LatentsConfig.labels`; -1 without one.
caption_index: Place of its caption in `captions.json`; -1 without one.
"""
MAPPED_SHARDS = 1024
"""How many shards stay mapped into memory: a process may have some 65,000 maps."""


@dataclass(frozen=True, kw_only=True)
class TextEncoderInfo:
    """Which text encoder embedded the captions.

    Attributes:
        name: What it is called.
        digest: SHA-256 of its files.
        dim: Width of an embedding.
    """

    name: str
    digest: str
    dim: int


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """What latents were made from and what they look like.

    Attributes:
        codec_digest: Digest of the codec's folder.
        dataset_digest: Digest of the dataset's folder.
        latent_shape: Channels, latent frames, height and width of an item's latents.
        image_size: Side of the pictures in pixels.
        labels: The classes; a label index is a place in this list.
        text_encoder: What embedded the captions.
        fps: Frames a second of clips; 0.0 for pictures.
        num_frames: Frames of an item, where the codec compresses in time; None where they are as many as the latents'.
    """

    codec_digest: str
    dataset_digest: str
    latent_shape: tuple[int, int, int, int]
    image_size: int
    labels: tuple[str, ...]
    text_encoder: TextEncoderInfo
    fps: float = 0.0
    num_frames: int | None = None

    @property
    def frames(self) -> int:
        """Frames of an item."""
        return self.latent_shape[1] if self.num_frames is None else self.num_frames

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; `from_dict` reverses it. Pictures have no frames a second."""
        values = asdict(self) | {"latent_shape": list(self.latent_shape), "labels": list(self.labels)}
        left_out = {name for name in ("fps", "num_frames") if not values[name]}
        return {name: value for name, value in values.items() if name not in left_out}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LatentsConfig":
        """Reads what `to_dict` wrote.

        Raises:
            BadDataError: A key is missing or unknown, or a value has a wrong type.
        """
        try:
            shape, labels = values["latent_shape"], values["labels"]
            text_encoder = TextEncoderInfo(**values["text_encoder"])
            config = cls(**{**values, "latent_shape": tuple(shape), "labels": tuple(labels), "text_encoder": text_encoder})
            numbers = (*config.latent_shape, config.image_size, text_encoder.dim, config.frames)
            names = (*config.labels, config.codec_digest, config.dataset_digest, text_encoder.name, text_encoder.digest)
            sound = len(config.latent_shape) == 4 and all(type(number) is int and number > 0 for number in numbers)
            sound = sound and config.frames >= config.latent_shape[1]
            sound = sound and all(isinstance(name, str) for name in names)
            sound = sound and type(config.fps) in {int, float} and 0 <= config.fps < float("inf")
        except (KeyError, TypeError) as error:
            raise BadDataError(f"latents {CONFIG_NAME}: keys missing, unknown or of a wrong type: {error}", hint=_HINT) from error
        if not sound:
            raise BadDataError(f"latents {CONFIG_NAME}: a value has a wrong type or size", hint=_HINT)
        return config


def shard_name(number: int) -> str:
    """Returns the name of a shard inside the latents folder."""
    return f"shards/latents-{number:05d}.safetensors"


def write_shard(folder: Path, number: int, latents: Float[Tensor, "n c f h w"]) -> Path:
    """Writes one shard, atomically, and returns its path."""
    path = folder / shard_name(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(save({"latents": latents.float().contiguous()}))
    partial.replace(path)
    return path


def read_shard(path: Path) -> Float[Tensor, "n c f h w"]:
    """Maps one shard into memory.

    Raises:
        BadDataError: It is missing, cut short, or holds something else.
    """
    return _map_tensor(path, "latents", num_dims=5)


def write_index(
    folder: Path,
    config: LatentsConfig,
    index: pa.Table,
    *,
    captions: Sequence[str],
    embeddings: Float[Tensor, "n d"],
    tokens: Sequence[Float[Tensor, "s d"]] | None = None,
) -> None:
    """Writes everything but the shards.

    Args:
        folder: Where.
        config: What the latents are made from.
        index: A table of `INDEX_SCHEMA`.
        captions: The distinct captions.
        embeddings: Their pooled embeddings.
        tokens: Their tokens' states, for networks that attend to them; not kept if not given.

    Raises:
        ValueError: Captions, embeddings and tokens differ in number, or an embedding in width.
    """
    if embeddings.shape != (len(captions), config.text_encoder.dim):
        raise ValueError(f"{len(captions)} captions of width {config.text_encoder.dim} have embeddings {list(embeddings.shape)}")
    pq.write_table(index.cast(INDEX_SCHEMA).combine_chunks(), folder / INDEX_NAME, compression="zstd")
    tensors = {"pooled": embeddings.float().contiguous()}
    if tokens is not None:
        if len(captions) != len(tokens) or not all(map(len, tokens)):
            raise ValueError(f"{len(captions)} captions have the tokens of {len(tokens)}, or one has none")
        tensors["tokens"] = torch.cat([torch.zeros(0, config.text_encoder.dim), *tokens]).float().contiguous()
        tensors["num_tokens"] = torch.tensor([len(states) for states in tokens], dtype=torch.int64)
    (folder / EMBEDDINGS_NAME).write_bytes(save(tensors))
    _write_json(folder / CAPTIONS_NAME, list(captions))
    _write_json(folder / CONFIG_NAME, config.to_dict())


class LatentDataset:
    """Latents that are open for reading; shards are mapped into memory, not read, until rows are asked for.

    Attributes:
        folder: Where they lie.
        config: What they were made from.
        index: The index, a row an item.
        captions: The distinct captions.
    """

    def __init__(self, folder: Path, config: LatentsConfig, index: pa.Table, captions: tuple[str, ...]) -> None:
        self.folder = folder
        self.config = config
        self.index = index
        self.captions = captions
        self._row = torch.from_numpy(index["row"].to_numpy().astype(np.int64))
        self._labels = torch.from_numpy(index["label_index"].to_numpy().astype(np.int64))
        self._captions = torch.from_numpy(index["caption_index"].to_numpy().astype(np.int64))
        names = index["shard"].combine_chunks().dictionary_encode()
        self._shard_names: list[str] = names.dictionary.to_pylist()
        self._shard = torch.from_numpy(names.indices.to_numpy().astype(np.int64))
        self._open: dict[int, Tensor] = {}

    @classmethod
    def open(cls, folder: Path) -> "LatentDataset":
        """Opens the latents in a folder, checking what is small and the shape of each shard.

        Raises:
            BadDataError: Something is missing, damaged, or does not fit the rest.
        """
        values, captions = _read_json(folder / CONFIG_NAME), _read_json(folder / CAPTIONS_NAME)
        if not isinstance(values, dict) or not isinstance(captions, list):
            raise BadDataError(f"{folder} holds a {CONFIG_NAME} or {CAPTIONS_NAME} of a wrong form", hint=_HINT)
        opened = cls(folder, LatentsConfig.from_dict(values), _read_index(folder / INDEX_NAME), tuple(captions))
        opened._check()
        return opened

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def with_labels(self, labels: Sequence[str]) -> "LatentDataset":
        """Returns these latents with label indices that are places in another list, such as a model's.

        Raises:
            BadDataError: A label that an item has is not in it.
        """
        place = {label: index for index, label in enumerate(labels)}
        if unknown := sorted({self.config.labels[index] for index in self._labels.tolist() if index >= 0} - set(place)):
            raise BadDataError(f"the latents have a label that is not known there: {unknown[0]!r}", hint=_HINT)
        config = replace(self.config, labels=tuple(labels))
        other = LatentDataset(self.folder, config, self.index, self.captions)
        moved = [place.get(label, NONE_INDEX) for label in self.config.labels]
        other._labels = torch.tensor([*moved, NONE_INDEX])[self._labels]  # -1 takes the last: none stays none
        return other

    def with_embeddings(self, embeddings: Float[Tensor, "n d"]) -> "LatentDataset":
        """Returns these latents with other pooled embeddings of the distinct captions, of the same width."""
        other = copy(self)
        other.embeddings = embeddings
        return other

    def rows(self, split: str) -> list[int]:
        """Returns the numbers of the rows of a split, in order."""
        found: list[int] = np.flatnonzero(pc.equal(self.index["split"], split).to_numpy()).tolist()
        return found

    def latents(self, rows: Sequence[int]) -> Float[Tensor, "n c f h w"]:
        """Returns the latents of rows, copied out of the mapped shards."""
        wanted = torch.as_tensor(rows, dtype=torch.int64)
        shards, places = self._shard[wanted], self._row[wanted]
        out = torch.empty((len(wanted), *self.config.latent_shape))
        order = np.argsort(shards.numpy(), kind="stable")
        numbers, starts = np.unique(shards.numpy()[order], return_index=True)
        for number, (start, end) in zip(numbers.tolist(), pairwise([*starts.tolist(), len(order)]), strict=True):
            chosen = torch.from_numpy(order[start:end])
            out[chosen] = self._mapped(number)[places[chosen]]
        return out

    def label_indices(self, rows: Sequence[int]) -> Int[Tensor, "n"]:
        """Returns the label index of rows, -1 where there is none."""
        return self._labels[torch.as_tensor(rows, dtype=torch.int64)]

    def caption_indices(self, rows: Sequence[int]) -> Int[Tensor, "n"]:
        """Returns the caption index of rows, -1 where there is none."""
        return self._captions[torch.as_tensor(rows, dtype=torch.int64)]

    def caption_embeddings(self, rows: Sequence[int]) -> Float[Tensor, "n d"]:
        """Returns the pooled caption embeddings of rows, zero where there is no caption."""
        indices = self.caption_indices(rows)
        out = torch.zeros((len(indices), self.config.text_encoder.dim))
        out[indices >= 0] = self.embeddings[indices[indices >= 0]]
        return out

    def caption_tokens(self, rows: Sequence[int]) -> tuple[Float[Tensor, "n m d"], Bool[Tensor, "n m"]]:
        """Returns the states of rows' caption tokens, filled up to the longest of all captions, and where there is a token.

        Raises:
            BadDataError: They were not kept.
        """
        states, starts = self._tokens
        indices = self.caption_indices(rows)
        places = torch.arange(self.longest_caption)
        counts = torch.where(indices < 0, 0, starts.diff()[indices])
        mask = places < counts[:, None]
        out = torch.zeros((*mask.shape, self.config.text_encoder.dim))
        out[mask] = states[(starts[indices][:, None] + places)[mask]]
        return out, mask

    @cached_property
    def has_caption_tokens(self) -> bool:
        """Whether the captions' tokens were kept, beside their pooled embeddings."""
        with safe_open(self.folder / EMBEDDINGS_NAME, framework="pt") as file:
            return "tokens" in file.keys()  # noqa: SIM118 - it is no mapping

    @property
    def longest_caption(self) -> int:
        """Tokens of the longest caption; 0 where tokens were not kept."""
        return int(self._tokens[1].diff().max()) if self.has_caption_tokens and self.captions else 0

    @cached_property
    def _tokens(self) -> tuple[Float[Tensor, "k d"], Int[Tensor, "n_plus_1"]]:
        """The states of all captions' tokens in a row, and where each caption's begin and the last one's end."""
        if not self.has_caption_tokens:
            raise BadDataError(f"{self.folder} holds no states of caption tokens", hint="encode with caption_tokens=true")
        path = self.folder / EMBEDDINGS_NAME
        states = _map_tensor(path, "tokens", num_dims=2)
        counts = _map_tensor(path, "num_tokens", num_dims=1, dtype=torch.int64)
        sound = states.shape == (int(counts.sum()), self.config.text_encoder.dim) and bool((counts > 0).all())
        if not sound or len(counts) != len(self.captions):
            raise BadDataError(f"{path}: the tokens' states do not fit the captions", hint=_HINT)
        return states, functional.pad(counts.cumsum(0), (1, 0))

    @cached_property
    def embeddings(self) -> Float[Tensor, "n d"]:
        """The pooled embeddings of the distinct captions."""
        return _map_tensor(self.folder / EMBEDDINGS_NAME, "pooled", num_dims=2)

    def _mapped(self, number: int) -> Tensor:
        mapped = self._open.get(number)
        if mapped is None:
            while len(self._open) >= MAPPED_SHARDS:
                self._open.pop(next(iter(self._open)))
            mapped = self._open[number] = read_shard(self.folder / self._shard_names[number])
        return mapped

    def _check(self) -> None:
        if self.embeddings.shape != (len(self.captions), self.config.text_encoder.dim):
            raise BadDataError(f"{self.folder / EMBEDDINGS_NAME} does not fit the captions", hint=_HINT)
        if self.has_caption_tokens:
            _ = self._tokens
        first, last = (
            torch.zeros(len(self._shard_names), dtype=torch.int64).scatter_reduce(
                0, self._shard, self._row, which, include_self=False
            )
            for which in ("amin", "amax")
        )
        for number, name in enumerate(self._shard_names):
            if name != Path("shards", Path(name).name).as_posix():
                raise BadDataError(f"{self.folder / INDEX_NAME} names a shard outside the folder: {name!r}", hint=_HINT)
            shape = tuple(self._mapped(number).shape)
            if shape[1:] != self.config.latent_shape or not 0 <= int(first[number]) <= int(last[number]) < shape[0]:
                raise BadDataError(
                    f"{self.folder / name} holds {list(shape)}, which the index or configuration does not fit", hint=_HINT
                )
        for column, values, count in (
            ("label", self._labels, len(self.config.labels)),
            ("caption", self._captions, len(self.captions)),
        ):
            if bool(((values < NONE_INDEX) | (values >= count)).any()):
                raise BadDataError(f"{self.folder / INDEX_NAME} has a {column} index that is out of range", hint=_HINT)


def _map_tensor(path: Path, name: str, *, num_dims: int, dtype: torch.dtype = torch.float32) -> Tensor:
    if path.is_symlink() or not path.is_file():
        raise BadDataError(f"{path} does not exist or is no regular file", hint=_HINT)
    try:
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
    except (SafetensorError, ValueError, OSError) as error:
        raise BadDataError(f"{path} is no complete safetensors file with {name!r}: {error}", hint=_HINT) from error
    if tensor.dtype != dtype or tensor.ndim != num_dims:
        raise BadDataError(f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}", hint=_HINT)
    return tensor


def _read_index(path: Path) -> pa.Table:
    if not path.is_file():
        raise BadDataError(f"{path} does not exist", hint=_HINT)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise BadDataError(f"{path} is no complete Parquet file: {error}", hint=_HINT) from error
    if not table.schema.equals(INDEX_SCHEMA) or table.num_rows == 0:
        raise BadDataError(f"{path} has other columns than {', '.join(INDEX_SCHEMA.names)}, or no rows", hint=_HINT)
    return table


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadDataError(f"{path} does not exist", hint=_HINT) from error
    except ValueError as error:
        raise BadDataError(f"{path} is not JSON: {error}", hint=_HINT) from error


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
