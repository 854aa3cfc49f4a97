"""Trains a diffusion transformer on latents."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from components.ports import Ports, StepReport
from components.train_dit.config import Config
from components.training_report import LIBRARIES, TrainingObserver, training_report
from model_core.data.latents import LatentDataset, LatentsConfig
from model_core.errors import BadModelError
from model_core.training.config import TrainingConfig
from model_core.training.throughput import measured_matmul_peak
from model_core.training.workers import train_in_processes
from model_core.transformer.config import TransformerConfig
from model_core.transformer.model_config import (
    Conditioning,
    ModelConfig,
    NoiseScheduleId,
    SamplingDefaults,
    TextEncoderId,
    write_model_config,
)
from model_core.transformer.presets import preset
from model_core.transformer.weights import save_weights


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Trains, resuming a checkpoint in the scratch folder where there is one.

    Args:
        config: Hyperparameters.
        inputs: ``latents``.
        outputs: ``model``: config.json, transformer.safetensors (averaged weights), training.json, loss_curve.png.
        ports: Tracking, progress, metrics and the folder for checkpoints.

    Raises:
        BadDataError: The latents are empty or damaged.
        BadModelError: The configuration describes no model that fits the latents.
        TrainingDivergedError: The loss is no longer finite.
        WorkerLostError: Another process that was to train is gone.
    """
    latents, folder = LatentDataset.open(inputs["latents"]), outputs["model"]
    training = TrainingConfig(**config.training_values())
    architecture = build_architecture(config, latents.config)
    build_model_config(config, training, architecture, latents.config).transformer()  # refuses now what could not be sampled
    ports.tracking.log_params(config.model_dump(mode="json"))
    result = train_in_processes(
        training,
        architecture,
        inputs["latents"],
        num_processes=config.num_processes,
        strategy=config.strategy,
        scratch=ports.scratch,
        device=config.device,
        on_step=TrainingObserver(ports, "training the transformer").on_step,
        matmul_peak=measured_matmul_peak,
    )
    if not result.is_main:
        return StepReport()  # the first process writes
    training = replace(training, precision=result.precision)  # what it was, where `auto` was asked for
    write_model_config(build_model_config(config, training, architecture, latents.config), folder)
    save_weights(result.weights, folder)
    return training_report(result, training, folder, num_items=len(latents.rows("train")))


def build_architecture(config: Config, latents: LatentsConfig) -> TransformerConfig:
    """Returns the architecture: what the configuration chooses, and what the latents decide.

    Rotary positions remember the grid that they were trained on, so that they can be stretched over a larger one.

    Raises:
        BadModelError: The values describe no transformer, there is no such preset, or it decides what was set otherwise.
    """
    channels, num_labels, text_dim = latents.latent_shape[0], len(latents.labels), latents.text_encoder.dim
    if config.preset is not None:
        sized = preset(config.preset, in_channels=channels, num_labels=num_labels, text_dim=text_dim)
        _require_sizes_of_preset(config, sized)
    else:
        sized = TransformerConfig(**config.size_values(), in_channels=channels, num_labels=num_labels, text_dim=text_dim)
    architecture = replace(sized, **config.variant_values())
    if architecture.positions == "rope":
        architecture = replace(architecture, rope_grid=architecture.grid(latents.latent_shape))
    return architecture


def _require_sizes_of_preset(config: Config, sized: TransformerConfig) -> None:
    """Refuses sizes beside a preset that it would override; those at their defaults were not asked for."""
    for name, value in config.size_values().items():
        if value not in {Config.model_fields[name].default, getattr(sized, name)}:
            raise BadModelError(
                f"train_dit: the preset {config.preset} has {name} {getattr(sized, name)}, but {name} is set to {value}",
                hint=f"leave out preset or {name}",
            )


def build_model_config(
    config: Config, training: TrainingConfig, architecture: TransformerConfig, latents: LatentsConfig
) -> ModelConfig:
    encoder = latents.text_encoder
    schedule = NoiseScheduleId(
        name=config.noise_schedule, num_timesteps=config.num_timesteps, zero_terminal_snr=config.zero_terminal_snr
    )
    return ModelConfig(
        architecture=architecture.to_dict(),
        objective=config.objective,
        noise_schedule=None if config.objective == "rectified_flow" else schedule,
        conditioning=Conditioning(
            labels=list(latents.labels),
            text_encoder=TextEncoderId(name=encoder.name, digest=encoder.digest, dim=encoder.dim),
        ),
        latent_shape=latents.latent_shape,
        image_size=latents.image_size,
        fps=latents.fps,
        num_frames=latents.num_frames,
        codec_digest=latents.codec_digest,
        dataset_digest=latents.dataset_digest,
        sampling=SamplingDefaults(**config.sampling_values()),
        training=training.hyperparameters(),
        libraries={name: version(name) for name in LIBRARIES},
    )
