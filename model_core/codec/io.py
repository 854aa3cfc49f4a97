"""A codec on disk: `config.json` and `codec.safetensors`."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from model_core.codec.autoencoder import Codec, build_codec
from model_core.codec.config import CodecConfig
from model_core.errors import BadModelError

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "codec.safetensors"


def save_codec(codec: Codec, folder: Path) -> None:
    """Writes a codec; the same weights give the same bytes."""
    text = json.dumps(codec.config.to_dict(), indent=2, sort_keys=True)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
    tensors = {name: tensor.detach().contiguous() for name, tensor in sorted(codec.state_dict().items())}
    (folder / WEIGHTS_NAME).write_bytes(save(tensors))


def load_codec_config(folder: Path) -> CodecConfig:
    """Reads the configuration of a codec.

    Raises:
        BadModelError: It is missing, no JSON, or describes no codec.
    """
    path = folder / CONFIG_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadModelError(f"{path} does not exist", hint="a codec is a folder made by `groundswell run codec`") from error
    except ValueError as error:
        raise BadModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadModelError(f"{path} holds no object")
    return CodecConfig.from_dict(values)


def load_codec(folder: Path) -> Codec:
    """Reads a codec, frozen and in evaluation mode.

    Raises:
        BadModelError: A file is missing, cut short or foreign, or the weights are not those of the configuration.
    """
    config, path = load_codec_config(folder), folder / WEIGHTS_NAME
    if not path.is_file():
        raise BadModelError(f"{path} does not exist", hint="a codec is a folder made by `groundswell run codec`")
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise BadModelError(f"{path} is no complete safetensors file: {error}", hint="get the codec again") from error
    codec = build_codec(config)
    expected = codec.state_dict()
    if odd := sorted(set(tensors) ^ set(expected)):
        raise BadModelError(
            f"{path}: tensors missing or unknown, such as {odd[0]!r}", hint="config.json belongs to another codec"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise BadModelError(f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}, expected {list(expected[name].shape)}")
        if not bool(tensor.isfinite().all()):
            raise BadModelError(f"{path}: {name} holds a number that is not finite")
    codec.load_state_dict(tensors)
    return codec.eval().requires_grad_(requires_grad=False)
