"""Architectures by name; importing this imports no tensors."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from model_core.errors import BadModelError
from model_core.transformer.config import TransformerConfig

# Depth, hidden size and heads (Peebles & Xie 2022, arXiv 2212.09748, table 1).
_SIZES: Final = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}
_NAME = re.compile(r"(?:DiT-(?P<size>S|B|L|XL)/(?P<patch>[1248])|tiny)(?P<modern>-modern)?")
MODERN: Final[Mapping[str, Any]] = {"mlp": "swiglu", "qk_norm": True}
"""What `modern` changes in an architecture: the newer parts that the ablation (benchmarks/README.md) measured to be better."""

PRESET_HINT: Final = (
    "DiT-S/2 to DiT-XL/8 (sizes S, B, L, XL; patches 1, 2, 4, 8) or tiny, each with -modern at the end or without"
)


def preset(name: str, *, in_channels: int, num_labels: int = 0, text_dim: int = 0) -> TransformerConfig:
    """Returns the architecture of a name such as ``DiT-S/2``, ``DiT-XL/2-modern`` or ``tiny``.

    The number after the slash is a patch's side in height and width; a frame is a patch of its own.

    Args:
        name: Of the paper's table 1, or ``tiny``, for tests and first attempts; with ``-modern`` what `modern` makes of it.
        in_channels: Channels of a latent.
        num_labels: Labels known.
        text_dim: Width of a pooled caption embedding; 0 for none.

    Raises:
        BadModelError: There is no such name, or the other values describe no transformer.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise BadModelError(f"there is no transformer preset {name!r}", hint=f"choose {PRESET_HINT}")
    depth, hidden_size, num_heads = _SIZES[found["size"]] if found["size"] else (2, 64, 2)
    side = int(found["patch"] or 2)
    config = TransformerConfig(
        in_channels=in_channels,
        patch_size=(1, side, side),
        hidden_size=hidden_size,
        depth=depth,
        num_heads=num_heads,
        num_labels=num_labels,
        text_dim=text_dim,
    )
    return modern(config) if found["modern"] else config


def modern(config: TransformerConfig) -> TransformerConfig:
    """Returns an architecture with those of the field's newer parts that earn their place here, at about as many weights.

    SwiGLU as in LightningDiT (Yao 2025, arXiv 2501.01423), and normalised queries and keys as in SD3 (Esser 2024, arXiv
    2403.03206). LightningDiT's root mean square norms and rotary positions stay options: the former were measured to be no
    better, the latter cost at one size and are for grids larger than those of the training.
    """
    return replace(config, **MODERN)


def reference(name: str, *, in_channels: int = 4, num_labels: int = 1000) -> TransformerConfig:
    """Returns the architecture of the published DiT weights of a name: with the variance learned, as those were trained.

    Raises:
        BadModelError: There is no such name.
    """
    return replace(preset(name, in_channels=in_channels, num_labels=num_labels), learn_variance=True)


def heads_of(*, depth: int, hidden_size: int) -> int | None:
    """Returns the attention heads of the paper's network of a depth and width, None where it has none such."""
    return next((heads for layers, width, heads in _SIZES.values() if (layers, width) == (depth, hidden_size)), None)
