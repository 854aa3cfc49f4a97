"""A home with a registered model that was never trained and makes pictures or clips with room for a watermark."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from governance.digest import tree_digest
from governance.package_contents import build_package
from infra.home import Home
from infra.ledger import sign_checkpoint
from infra.mlflow_registry import MlflowRegistry
from infra.model_package import sign_package
from model_core.codec.autoencoder import build_codec
from model_core.codec.config import CodecConfig
from model_core.codec.io import save_codec
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import Conditioning, ModelConfig, SamplingDefaults, TextEncoderId, write_model_config
from model_core.transformer.weights import save_weights
from tests.infra.package_inputs import make_sources, write_inputs

NAME = "emoji-dit"
_DOWNSCALE = 8
_TEXT_DIM = 6
_CODEC = CodecConfig(
    latent_channels=4,
    downscale=_DOWNSCALE,
    encoder_widths=(4, 4, 4, 4),
    encoder_blocks=(0, 0, 0, 0),
    decoder_widths=(4, 4, 4, 4),
    decoder_blocks=(0, 0, 0, 0),
)


def register_model(home: Home, folder: Path, *, size: int, num_frames: int = 1, version: int = 1) -> str:
    """Registers a model of random weights that makes media of a size, and returns its name and version."""
    inputs = write_inputs(folder / "inputs")
    dataset_digest, latent = tree_digest(inputs["dataset"]), size // _DOWNSCALE
    for part in ("codec", "model"):
        shutil.rmtree(inputs[part])
    inputs["codec"].mkdir()
    save_codec(build_codec(_CODEC, seed=version), inputs["codec"])
    _write_model(inputs["model"], tree_digest(inputs["codec"]), dataset_digest, (4, num_frames, latent, latent), size, version)
    package = folder / "package"
    package.mkdir()
    build_package(package, make_sources(inputs), name=NAME)
    key = home.package_signing_key
    signed = sign_package(package, key)
    registry: Any = SimpleNamespace(_db=home.database, _actor="system", _run_id=None, _private_key_pem=key)
    stored: Any = SimpleNamespace(version=version, location=str(package), model_id=None)
    MlflowRegistry._record(registry, stored, name=NAME, root_digest=signed.root_digest, metrics={}, inputs={})
    sign_checkpoint(home.database, home.keys)
    return f"{NAME}/{version}"


def _write_model(
    folder: Path, codec_digest: str, dataset_digest: str, latent_shape: tuple[int, int, int, int], size: int, seed: int
) -> None:
    folder.mkdir()
    architecture = TransformerConfig(in_channels=4, hidden_size=16, depth=1, num_heads=2, num_labels=2, text_dim=_TEXT_DIM)
    model, generator = DiT(architecture, generator=torch.Generator().manual_seed(seed)), torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    config = ModelConfig(
        architecture=architecture.to_dict(),
        objective="rectified_flow",
        conditioning=Conditioning(
            labels=["flags", "food"], text_encoder=TextEncoderId(name="toy", digest="e" * 64, dim=_TEXT_DIM)
        ),
        latent_shape=latent_shape,
        image_size=size,
        codec_digest=codec_digest,
        dataset_digest=dataset_digest,
        sampling=SamplingDefaults(num_steps=2, guidance_scale=1.0),
        training={"seed": 0},
    )
    write_model_config(config, folder)
    save_weights(dict(model.named_parameters()), folder)
    (folder / "training.json").write_text('{"losses": [1.0, 0.5]}')
