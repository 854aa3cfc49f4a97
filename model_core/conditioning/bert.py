"""A BERT encoder (Devlin 2018, arXiv 1810.04805), forward only, reading the weights of transformers' ``BertModel``.

Importing transformers costs several times what running a small encoder does, so the few layers that inference needs are here.

Shape legend: n texts, s tokens, d width, k heads.
"""

import json
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from model_core.errors import BadModelError

_EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


class Embeddings(nn.Module):
    """The sum of word, position and type embeddings, normalised."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, eps=config["layer_norm_eps"])

    def forward(self, ids: Int[Tensor, "n s"]) -> Float[Tensor, "n s d"]:
        """Returns the states that enter the first layer."""
        positions = self.position_embeddings.weight[: ids.shape[1]]  # [s d]
        states = self.word_embeddings(ids) + positions + self.token_type_embeddings.weight[0]
        return self.LayerNorm(states)  # type: ignore[no-any-return]  # modules return Any


class Layer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual path and normalised after it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, inner, eps = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.num_heads: int = config["num_attention_heads"]
        projections = {name: nn.Linear(width, width) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(projections), "output": _residual(width, width, eps)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _residual(inner, width, eps)

    def forward(self, x: Float[Tensor, "n s d"], mask: Tensor) -> Float[Tensor, "n s d"]:
        """Returns the states after this layer; mask is True at tokens, [n 1 1 s]."""
        project: Any = self.attention["self"]
        q, k, v = (rearrange(project[name](x), "n s (k e) -> n k s e", k=self.num_heads) for name in ("query", "key", "value"))
        attended = rearrange(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask), "n k s e -> n s (k e)")
        x = _add_and_norm(self.attention["output"], attended, x)
        return _add_and_norm(self.output, functional.gelu(self.intermediate["dense"](x)), x)


class Bert(nn.Module):
    """The encoder; its parameters carry the names that transformers gives them."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.width: int = config["hidden_size"]
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))})

    def forward(self, ids: Int[Tensor, "n s"], mask: Int[Tensor, "n s"]) -> Float[Tensor, "n s d"]:
        """Returns the token states after the last layer; mask is 1 at tokens and 0 at padding."""
        states, allowed = self.embeddings(ids), rearrange(mask.bool(), "n s -> n 1 1 s")
        layers: Any = self.encoder["layer"]
        for layer in layers:
            states = layer(states, allowed)
        return states  # type: ignore[no-any-return]  # modules return Any


def load_bert(folder: Path) -> Bert:
    """Reads an encoder from `config.json` and `model.safetensors`, frozen.

    Raises:
        BadModelError: A file is missing, damaged, or describes something else than this encoder.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if odd := [key for key, value in _EXPECTED.items() if config.get(key) != value]:
            raise BadModelError(f"text encoder: {folder} has another {odd[0]} than {_EXPECTED[odd[0]]!r}")
        with torch.device("meta"):
            model = Bert(config)
        tensors = load_file(folder / "model.safetensors")
        wanted = {name: tensors[name] for name in model.state_dict()}
        model.load_state_dict(wanted, assign=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BadModelError(f"text encoder: {folder} cannot be loaded: {error}", hint="get its files again") from error
    return model.eval().requires_grad_(requires_grad=False)


def _residual(inner: int, width: int, eps: float) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": nn.LayerNorm(width, eps=eps)})


def _add_and_norm(parts: Any, x: Tensor, residual: Tensor) -> Tensor:
    return parts["LayerNorm"](parts["dense"](x) + residual)  # type: ignore[no-any-return]  # modules return Any
