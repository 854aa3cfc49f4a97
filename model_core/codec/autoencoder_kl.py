"""Import and export of diffusers' AutoencoderKL: a folder of `config.json` and `diffusion_pytorch_model.safetensors`.

A public KL-VAE comes in this layout. Imported, it is a codec like any other; its scale factor becomes per-channel statistics:
diffusers normalises by ``(z - shift_factor) * scaling_factor``, or by ``(z - latents_mean) * scaling_factor / latents_std``
where a config gives those, and a codec by ``(z - mean) / std``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from model_core.codec.autoencoder import build_codec
from model_core.codec.io import read_config
from model_core.codec.kl_autoencoder import KLAutoencoder
from model_core.codec.kl_config import KLAutoencoderConfig
from model_core.codec.weights import load_weights, read_tensors
from model_core.errors import BadModelError

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
CLASS_NAME = "AutoencoderKL"
_DOWN_BLOCK, _UP_BLOCK = "DownEncoderBlock2D", "UpDecoderBlock2D"
_LARGEST = 1e30
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_REQUIRED = frozenset(
    {
        "act_fn",
        "block_out_channels",
        "down_block_types",
        "in_channels",
        "latent_channels",
        "layers_per_block",
        "norm_num_groups",
        "out_channels",
        "up_block_types",
    }
)
# Files written before these keys existed mean these values. `scaling_factor` has none: it is a property of each codec.
_ADDED_LATER: Mapping[str, Any] = {
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
    "scaling_factor": None,
    "shift_factor": None,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
_WITHOUT_EFFECT = frozenset({"_class_name", "_diffusers_version", "_name_or_path", "force_upcast", "sample_size"})
# Attention layers were named otherwise in older files.
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def import_autoencoder_kl(folder: Path, *, scaling_factor: float | None = None) -> KLAutoencoder:
    """Reads an AutoencoderKL as a codec, frozen and in evaluation mode; half-precision weights become float32.

    Args:
        folder: Where `config.json` and the weights are.
        scaling_factor: The scale factor, for a config that names none.

    Raises:
        BadModelError: A file is missing, cut short or pickled; a key of the config is missing, unknown or of a value that is not
            supported; or a tensor is missing, unknown, misshapen or not finite.
    """
    values = read_config(folder / CONFIG_NAME, hint="an AutoencoderKL is a folder with config.json and safetensors weights")
    config, path = _config(values, folder / CONFIG_NAME, scaling_factor), folder / WEIGHTS_NAME
    pickled = sorted(item.name for suffix in ("bin", "pt", "pth", "ckpt") for item in folder.glob(f"*.{suffix}"))
    if not path.is_file() and pickled:
        raise BadModelError(
            f"{folder} holds pickled weights, {pickled[0]}, which are never loaded", hint=f"save them as {WEIGHTS_NAME}"
        )
    tensors = read_tensors(path, hint=f"the weights are one file, {WEIGHTS_NAME}")
    codec = build_codec(config)
    if not isinstance(codec, KLAutoencoder):
        raise TypeError(f"{type(codec).__name__} is no KLAutoencoder")
    load_weights(codec, {_new_name(name): _linear(name, tensor) for name, tensor in tensors.items()}, path, dtypes=_DTYPES)
    return codec


def export_autoencoder_kl(codec: KLAutoencoder, folder: Path) -> None:
    """Writes a codec in diffusers' layout; the same codec gives the same bytes.

    Statistics that are equal in all channels become `scaling_factor` and `shift_factor`, others `latents_mean` and `latents_std`.
    """
    config = codec.config
    levels = len(config.block_out_channels)
    values = {
        "_class_name": CLASS_NAME,
        "act_fn": "silu",
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": [_DOWN_BLOCK] * levels,
        "in_channels": 3,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.layers_per_block,
        "mid_block_add_attention": config.mid_block_add_attention,
        "norm_num_groups": config.norm_num_groups,
        "out_channels": 3,
        "up_block_types": [_UP_BLOCK] * levels,
        "use_post_quant_conv": config.use_post_quant_conv,
        "use_quant_conv": config.use_quant_conv,
        **_scales(config),
    }
    (folder / CONFIG_NAME).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tensors = {name: tensor.detach().contiguous() for name, tensor in sorted(codec.state_dict().items())}
    (folder / WEIGHTS_NAME).write_bytes(save(tensors, {"format": "pt"}))


def _scales(config: KLAutoencoderConfig) -> dict[str, Any]:
    """Returns the keys that say how latents are normalised."""
    means, stds = set(config.latent_mean), set(config.latent_std)
    if len(means) > 1 or len(stds) > 1:
        return {"scaling_factor": 1.0, "latents_mean": list(config.latent_mean), "latents_std": list(config.latent_std)}
    mean, std = next(iter(means), 0.0), next(iter(stds), 1.0)
    return {"scaling_factor": 1.0 / std, "shift_factor": mean or None}


def _config(values: Mapping[str, Any], path: Path, scaling_factor: float | None) -> KLAutoencoderConfig:
    """Returns the architecture and statistics that a diffusers config describes.

    Raises:
        BadModelError: It describes something else, or a key that matters is missing or unknown.
    """
    if values.get("_class_name") != CLASS_NAME:
        raise BadModelError(f"{path}: _class_name is {values.get('_class_name')!r}, expected {CLASS_NAME!r}")
    if missing := sorted(_REQUIRED - set(values)):
        raise BadModelError(f"{path}: missing keys: {', '.join(missing)}")
    if unknown := sorted(set(values) - _REQUIRED - set(_ADDED_LATER) - _WITHOUT_EFFECT):
        raise BadModelError(f"{path}: unknown keys: {', '.join(unknown)}", hint="it is of a variant that is not supported")
    values = {**_ADDED_LATER, **values}
    widths = values["block_out_channels"]
    levels = len(widths) if isinstance(widths, list) else 0
    supported = {
        "act_fn": "silu",
        "down_block_types": [_DOWN_BLOCK] * levels,
        "in_channels": 3,
        "out_channels": 3,
        "up_block_types": [_UP_BLOCK] * levels,
    }
    for name, expected in supported.items():
        if values[name] != expected:
            raise BadModelError(f"{path}: {name} is {values[name]!r}, only {expected!r} is supported")
    plain = {name: values[name] for name in ("latent_channels", "layers_per_block", "norm_num_groups", "block_out_channels")}
    flags = {name: values[name] for name in ("mid_block_add_attention", "use_quant_conv", "use_post_quant_conv")}
    format_only = KLAutoencoderConfig().to_dict()
    described = KLAutoencoderConfig.from_dict({**format_only, **plain, **flags})
    mean, std = _statistics(values, described.latent_channels, path, scaling_factor)
    return KLAutoencoderConfig.from_dict({**described.to_dict(), "latent_mean": mean, "latent_std": std})


def _statistics(
    values: Mapping[str, Any], channels: int, path: Path, scaling_factor: float | None
) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of each channel from diffusers' scale, shift and per-channel values."""
    scale = values["scaling_factor"] if values["scaling_factor"] is not None else scaling_factor
    if scale is None:
        raise BadModelError(f"{path}: missing keys: scaling_factor", hint="say what it is; it is published with the weights")
    if scaling_factor is not None and scale != scaling_factor:
        raise BadModelError(f"{path}: scaling_factor is {scale!r}, not {scaling_factor!r}")
    shift = 0.0 if values["shift_factor"] is None else values["shift_factor"]
    means, stds = values["latents_mean"], values["latents_std"]
    if (means is None) != (stds is None) or (means is not None and values["shift_factor"] is not None):
        raise BadModelError(f"{path}: give shift_factor, or latents_mean and latents_std, or neither")
    means = [shift] * channels if means is None else means
    stds = [1.0] * channels if stds is None else stds
    for name, numbers in (("scaling_factor", [scale]), ("latents_mean or shift_factor", means), ("latents_std", stds)):
        if not isinstance(numbers, list) or not all(_is_finite(number) for number in numbers):
            raise BadModelError(f"{path}: {name} has a value of a wrong type or that is not finite")
    if not scale > 0:
        raise BadModelError(f"{path}: scaling_factor is {scale!r}, it must be positive")
    return [float(mean) for mean in means], [float(std) / scale for std in stds]


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < _LARGEST


def _new_name(name: str) -> str:
    """Returns today's name of a tensor."""
    parts = name.split(".")
    return ".".join(_OLD_NAMES.get(part, part) for part in parts) if "attentions" in parts else name


def _linear(name: str, tensor: Tensor) -> Tensor:
    """Returns an attention weight that was kept as a 1x1 convolution as the matrix that it is."""
    is_kernel = ".attentions." in name and tensor.ndim == 4 and tensor.shape[2:] == (1, 1)
    return tensor[:, :, 0, 0] if is_kernel else tensor
