"""An adapter on disk: its tensors as safetensors, and a `config.json` that says what base they belong to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from model_core.errors import BadModelError
from model_core.transformer.adapter_config import FORMAT, AdapterConfig
from model_core.transformer.adapters import adapter_shapes
from model_core.transformer.config import TransformerConfig

WEIGHTS_NAME: Final = "adapter.safetensors"
CONFIG_NAME: Final = "config.json"
_HINT: Final = "get the adapter again; it belongs to one base alone"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What was learnt beside a frozen base.

    Attributes:
        config: Its rank, scale and layers.
        added_labels: The labels that it knows beside those of the base, in order.
        base: Name, version and digests of the base.
        tensors: A, B and rows of labels, by name.
    """

    config: AdapterConfig
    added_labels: tuple[str, ...]
    base: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def save_adapter(adapter: Adapter, folder: Path) -> None:
    """Writes an adapter into a folder, which is made; the same adapter gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().float().contiguous() for name, tensor in sorted(adapter.tensors.items())}
    (folder / WEIGHTS_NAME).write_bytes(save(tensors))
    values = {
        "format": FORMAT,
        **adapter.config.to_dict(),
        "added_labels": list(adapter.added_labels),
        "base": dict(adapter.base),
    }
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")


def load_adapter(folder: Path, base: TransformerConfig) -> Adapter:
    """Reads an adapter for a base of an architecture.

    Raises:
        BadModelError: A file is missing, truncated or of another form; or its tensors are not exactly those that the
            configuration and the base's architecture ask for, or not finite.
    """
    values = _read_config(folder / CONFIG_NAME)
    config = AdapterConfig.from_dict({name: values.get(name) for name in ("rank", "alpha", "targets")})
    path, added = folder / WEIGHTS_NAME, tuple(values["added_labels"])
    if path.is_symlink() or not path.is_file():
        raise BadModelError(f"{path} does not exist or is no regular file", hint=_HINT)
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise BadModelError(f"{path} is no complete safetensors file: {error}", hint=_HINT) from error
    expected = adapter_shapes(base, config, num_added=len(added))
    if odd := sorted(set(expected) ^ set(tensors)):
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise BadModelError(f"{path} holds other tensors than its base asks for: {', '.join(odd[:3])}{more}", hint=_HINT)
    for name, shape in expected.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise BadModelError(f"{path}: {name} is {found}, expected torch.float32 {list(shape)}", hint=_HINT)
        if not bool(torch.isfinite(tensor).all()):
            raise BadModelError(f"{path}: {name} holds a number that is not finite", hint=_HINT)
    return Adapter(config=config, added_labels=added, base=values["base"], tensors=tensors)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelError(f"{path} cannot be read: {type(error).__name__}", hint=_HINT) from error
    sound = isinstance(values, dict) and values.get("format") == FORMAT and isinstance(values.get("base"), dict)
    labels = values.get("added_labels") if sound else None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BadModelError(f"{path} is not the configuration of an adapter of format {FORMAT}", hint=_HINT)
    return dict(values)
