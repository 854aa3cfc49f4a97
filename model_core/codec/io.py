"""A codec on disk: `config.json` and `codec.safetensors`, whatever its architecture."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from model_core.codec.autoencoder import Codec, build_codec
from model_core.codec.causal_config import CAUSAL_3D, CausalConfig
from model_core.codec.config import COMPACT, CodecConfig, LatentConfig, architecture_of
from model_core.codec.kl_config import AUTOENCODER_KL, KLAutoencoderConfig
from model_core.codec.weights import load_weights, read_tensors
from model_core.errors import BadModelError

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "codec.safetensors"
_HINT = "a codec is a folder made by `groundswell run codec`"
_READERS: Mapping[str, Callable[[Mapping[str, Any]], LatentConfig]] = {
    COMPACT: CodecConfig.from_dict,
    AUTOENCODER_KL: KLAutoencoderConfig.from_dict,
    CAUSAL_3D: CausalConfig.from_dict,
}


def save_codec(codec: Codec, folder: Path) -> None:
    """Writes a codec; the same weights give the same bytes."""
    text = json.dumps(codec.config.to_dict(), indent=2, sort_keys=True)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
    tensors = {name: tensor.detach().contiguous() for name, tensor in sorted(codec.state_dict().items())}
    (folder / WEIGHTS_NAME).write_bytes(save(tensors))


def read_config(path: Path, *, hint: str) -> dict[str, Any]:
    """Returns the object in a config.json.

    Raises:
        BadModelError: The file is missing, no JSON, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise BadModelError(f"{path} does not exist", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise BadModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadModelError(f"{path} holds no object")
    return values


def load_codec_config(folder: Path) -> LatentConfig:
    """Reads the configuration of a codec, of the architecture that it names.

    Raises:
        BadModelError: It is missing, no JSON, of an unknown architecture, or describes no codec.
    """
    values = read_config(folder / CONFIG_NAME, hint=_HINT)
    if "format" not in values and "_class_name" in values:
        raise BadModelError(
            f"{folder / CONFIG_NAME} is of diffusers' layout", hint="model_core.codec.autoencoder_kl imports an AutoencoderKL"
        )
    architecture = architecture_of(values)
    if not isinstance(architecture, str) or architecture not in _READERS:
        raise BadModelError(
            f"codec config.json: architecture {architecture!r} is unknown", hint=f"known ones are {', '.join(_READERS)}"
        )
    return _READERS[architecture](values)


def load_codec(folder: Path) -> Codec:
    """Reads a codec, frozen and in evaluation mode.

    Raises:
        BadModelError: A file is missing, cut short or foreign, or the weights are not those of the configuration.
    """
    config, path = load_codec_config(folder), folder / WEIGHTS_NAME
    tensors = read_tensors(path, hint=_HINT)
    return load_weights(build_codec(config), tensors, path)
