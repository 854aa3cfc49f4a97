"""Makes a model package of a published checkpoint, and has it signed and registered."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.import_checkpoint.config import Config
from components.ports import Ports, StepReport
from components.training_report import LIBRARIES
from governance.digest import tree_digest
from governance.imported_package import NOT_EVALUATED, NOT_KNOWN, build_imported_package
from governance.package_layout import EVALUATION_REPORT
from model_core.codec.autoencoder import Codec
from model_core.codec.autoencoder_kl import import_autoencoder_kl
from model_core.codec.io import load_codec, save_codec
from model_core.errors import BadModelError
from model_core.transformer.model_config import Conditioning, ModelConfig, NoiseScheduleId, SamplingDefaults, write_model_config
from model_core.transformer.public_checkpoints import (
    CHECKPOINT_NAME,
    VAE,
    PublicCheckpoint,
    read_diffusers_dit,
    read_facebook_dit,
)
from model_core.transformer.weights import save_weights

_SAMPLING = SamplingDefaults(num_steps=50, guidance_scale=4.0)
_SCHEDULE = NoiseScheduleId(name="linear", num_timesteps=1000)


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Converts `inputs["checkpoint"]`, writes the package, has it signed and registered, and returns the version.

    Args:
        config: What it is.
        inputs: ``checkpoint``: the files that were given; ``codec``, where one is given beside it.
        outputs: ``package``.
        ports: Progress, scratch, and the registry.

    Raises:
        BadModelError: The checkpoint or the codec cannot be read, they do not go together, or there is no codec.
    """
    if ports.registry is None:
        raise ValueError("import_checkpoint needs a registry")
    folder = outputs["package"]
    ports.progress.update(0, 4, "reading the codec")
    codec = _codec(inputs, config)
    ports.progress.update(1, 4, "reading the checkpoint")
    read = _read(inputs["checkpoint"], config, ports.scratch)
    ports.progress.update(2, 4, "writing the package")
    (folder / "codec").mkdir()
    save_codec(codec, folder / "codec")
    digests = {name: tree_digest(path) for name, path in sorted(inputs.items())}
    codec_digest = digests.setdefault("codec", tree_digest(folder / "codec"))
    model = _model_config(read, codec, config, codec_digest)
    model.transformer()
    write_model_config(model, folder)
    save_weights(read.weights, folder)
    (folder / EVALUATION_REPORT).parent.mkdir()
    (folder / EVALUATION_REPORT).write_text(json.dumps(NOT_EVALUATED, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    origin: dict[str, Any] = {
        "stated": config.origin,
        "licence": config.licence,
        "layout": config.layout,
        "files": dict(config.files),
        "checkpoint_digest": digests["checkpoint"],
        "training_data": NOT_KNOWN,
    }
    root_digest = build_imported_package(folder, name=config.name, origin=origin, code_digests=config.code_digests)
    ports.progress.update(3, 4, "signing and registering")
    registered = ports.registry.register(folder, name=config.name, metrics={}, inputs=digests)
    ports.progress.update(4, 4, "registered")
    num_parameters = sum(tensor.numel() for tensor in read.weights.values())
    return StepReport(
        metrics={"num_parameters": float(num_parameters)},
        summary=f"{num_parameters / 1e6:.1f} M parameters, registered {registered.name}/{registered.version}, {root_digest[:12]}",
        facts={"name": registered.name, "version": registered.version, "root_digest": registered.root_digest, "origin": origin},
        artifacts={"package": ("MODEL_CARD.md", "mlbom.cdx.json")},
    )


def _codec(inputs: Mapping[str, Path], config: Config) -> Codec:
    """Returns the codec: one that is given beside the checkpoint, or the AutoencoderKL among its files."""
    if "codec" in inputs:
        return load_codec(inputs["codec"])
    folder = inputs["checkpoint"] / VAE
    if not folder.is_dir():
        raise BadModelError(
            "the checkpoint makes latents, and no codec is given to decode them",
            hint="give the one that it was trained with, an AutoencoderKL's folder or a codec's: --codec FOLDER",
        )
    return import_autoencoder_kl(folder, scaling_factor=config.codec_scaling_factor)


def _read(folder: Path, config: Config, scratch: Path) -> PublicCheckpoint:
    if config.layout == "diffusers":
        return read_diffusers_dit(folder)
    return read_facebook_dit(folder / CHECKPOINT_NAME, scratch, num_heads=config.num_heads)


def _model_config(read: PublicCheckpoint, codec: Codec, config: Config, codec_digest: str) -> ModelConfig:
    architecture, side = read.architecture, read.side
    channels = codec.config.latent_channels
    if channels != architecture.in_channels:
        raise BadModelError(
            f"the checkpoint is of latents of {architecture.in_channels} channels, the codec's have {channels}",
            hint="give the codec that it was trained with",
        )
    labels = config.labels or read.labels or tuple(f"class {place}" for place in range(architecture.num_labels))
    if len(labels) != architecture.num_labels or len(set(labels)) != len(labels):
        raise BadModelError(
            f"{len(set(labels))} different labels are named, the checkpoint knows {architecture.num_labels}",
            hint="name each of them once, in its order",
        )
    return ModelConfig(
        architecture=architecture.to_dict(),
        objective="epsilon",
        noise_schedule=_SCHEDULE,
        conditioning=Conditioning(labels=list(labels)),
        latent_shape=(architecture.in_channels, 1, side, side),
        image_size=side * codec.config.factor,
        codec_digest=codec_digest,
        dataset_digest="",
        sampling=_SAMPLING,
        training={},
        libraries={name: version(name) for name in LIBRARIES},
    )
