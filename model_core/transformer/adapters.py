"""Low-rank adapters on a transformer's linear layers (LoRA: Hu 2021, arXiv 2106.09685), and rows for labels that it did not know.

An adapted layer computes ``W x + b + alpha / r * B A x``. B is zero at first, so that the network starts as its base; only A, B
and the rows of new labels are trained. Merged, it is the base's architecture again, with the weights ``W + alpha / r * B A``.

Shape legend: i and o a layer's inputs and outputs, r the rank, d hidden size, n labels of the base, k new labels, b batch.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from model_core.errors import BadModelError
from model_core.transformer.adapter_config import AdapterConfig
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.embedders import LabelEmbedder

_USUAL_TARGETS: Final = ("attn", "temporal_attn", "cross_attn", "mlp")
_TABLE: Final = "y_embedder.embedding_table.weight"
ADDED_LABELS: Final = "y_embedder.added"


class LowRankLinear(nn.Module):
    """A frozen linear layer, and what is learnt beside it."""

    def __init__(self, layer: nn.Linear, config: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(requires_grad=False)
        self.scale = config.scale
        self.down = nn.Parameter(torch.empty(config.rank, layer.in_features))  # A [r i]
        self.up = nn.Parameter(torch.zeros(layer.out_features, config.rank))  # B [o r]
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5), generator=generator)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Returns what the frozen layer does, and the low-rank part."""
        low = functional.linear(functional.linear(x, self.down), self.up)
        return self.layer(x) + self.scale * low  # type: ignore[no-any-return]  # modules return Any


class WidenedLabelEmbedder(nn.Module):
    """A frozen table of labels with rows for more of them, which start as the row for no label, the last one."""

    def __init__(self, embedder: LabelEmbedder, num_added: int) -> None:
        super().__init__()
        self.embedding_table = embedder.embedding_table.requires_grad_(requires_grad=False)
        self.added = nn.Parameter(self.embedding_table.weight[-1:].detach().repeat(num_added, 1))  # [k d]

    def forward(self, labels: Int[Tensor, "b"]) -> Float[Tensor, "b d"]:
        """Returns one vector a label."""
        return functional.embedding(labels, _widened(self.embedding_table.weight, self.added))


def widened_architecture(base: TransformerConfig, num_added: int) -> TransformerConfig:
    """Returns the architecture of a base that learns so many labels more."""
    return replace(base, num_labels=base.num_labels + num_added)


def add_adapters(model: DiT, config: AdapterConfig, *, num_added: int = 0, generator: torch.Generator) -> None:
    """Freezes a transformer and puts adapters on it, in place; what it computes stays the same at first.

    Args:
        model: The base.
        config: The adapters.
        num_added: Labels to know beside those of the base; their indices follow.
        generator: Source of the initial A.

    Raises:
        BadModelError: A target names no linear layer, or the rank is larger than a layer.
    """
    names = adapted_layers(model, config)
    model.requires_grad_(requires_grad=False)
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = model.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"{name} is no linear layer")
        setattr(model.get_submodule(parent), last, LowRankLinear(layer, config, generator))
    if num_added:
        model.y_embedder = WidenedLabelEmbedder(model.y_embedder, num_added)  # type: ignore[assignment]  # it embeds labels
    model.config = widened_architecture(model.config, num_added)


def adapted_layers(model: DiT, config: AdapterConfig) -> list[str]:
    """Returns the names of the linear layers that adapters are for, in order.

    Raises:
        BadModelError: A target names no linear layer, or the rank is larger than a layer.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for target in config.targets or ():
        if not any(_is_named(name, target) for name in layers):
            raise BadModelError(
                f"adapter: no linear layer is called {target!r}",
                hint="name layers or parts of their names, such as attn, attn.qkv, mlp or adaLN_modulation",
            )
    wanted = config.targets or _USUAL_TARGETS
    within = "" if config.targets else "blocks."
    chosen = [name for name in layers if name.startswith(within) and any(_is_named(name, target) for target in wanted)]
    for name in chosen:
        if config.rank > (smallest := min(layers[name].weight.shape)):
            raise BadModelError(
                f"adapter: rank {config.rank} is larger than the layer {name}, of {smallest}",
                hint=f"choose a rank of at most {smallest}, or leave the layer out of targets",
            )
    return chosen


def adapter_shapes(base: TransformerConfig, config: AdapterConfig, *, num_added: int) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of every tensor of an adapter.

    Raises:
        BadModelError: As `adapted_layers`.
    """
    with torch.device("meta"):
        model = DiT(base)
    found: dict[str, tuple[int, ...]] = {}
    for name in adapted_layers(model, config):
        num_out, num_in = model.get_submodule(name).weight.shape  # type: ignore[misc]  # it is a linear layer
        found |= {f"{name}.down": (config.rank, num_in), f"{name}.up": (num_out, config.rank)}
    return found | ({ADDED_LABELS: (num_added, base.hidden_size)} if num_added else {})


def merged_weights(base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], config: AdapterConfig) -> dict[str, Tensor]:
    """Returns a base's weights with an adapter merged: those of a plain transformer that computes the same.

    Args:
        base: The base's weights by parameter name.
        adapter: The adapter's tensors by name, see `adapter_shapes`.
        config: The adapter's configuration.
    """
    merged = dict(base)
    for name, up in adapter.items():
        layer, _, part = name.rpartition(".")
        if part == "up":
            low = up.double() @ adapter[f"{layer}.down"].double()  # [o i]
            merged[f"{layer}.weight"] = (base[f"{layer}.weight"].double() + config.scale * low).float()
    if (added := adapter.get(ADDED_LABELS)) is not None:
        merged[_TABLE] = _widened(base[_TABLE], added)
    return merged


def _widened(table: Float[Tensor, "n+1 d"], added: Float[Tensor, "k d"]) -> Float[Tensor, "n+k+1 d"]:
    """Returns a table with rows before the last, which stands for no label."""
    return torch.cat([table[:-1], added, table[-1:]])


def _is_named(name: str, target: str) -> bool:
    """Returns whether a layer is one that a target names: the target's words stand in its name one after the other."""
    return f".{target}." in f".{name}."
