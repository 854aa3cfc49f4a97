"""Fine-tunes a registered model on latents of a few more pictures: learns low-rank adapters, and merges them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.finetune_dit.config import Base, Config
from components.ports import Ports, StepReport
from components.training_report import LIBRARIES, TrainingObserver, training_report
from governance.digest import file_digests, tree_digest
from governance.errors import IntegrityError
from governance.package_contents import read_json
from governance.package_layout import ADAPTER_FOLDER, BASE_RECORD, WEIGHTS, package_root_digest
from model_core.data.latents import LatentDataset
from model_core.errors import BadModelError
from model_core.training.adaptation import Adaptation
from model_core.training.config import TrainingConfig
from model_core.training.throughput import measured_matmul_peak
from model_core.training.workers import train_in_processes
from model_core.transformer.adapter_config import AdapterConfig
from model_core.transformer.adapter_file import Adapter, load_adapter, save_adapter
from model_core.transformer.adapters import merged_weights, widened_architecture
from model_core.transformer.model_config import ModelConfig, read_model_config, write_model_config
from model_core.transformer.weights import load_weights, save_weights


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Learns adapters, resuming a checkpoint in the scratch folder where there is one.

    Args:
        config: Hyperparameters, and which version the base is.
        inputs: ``latents``, and the package ``base``.
        outputs: ``model``: what `train_dit` makes, with the adapter merged, and ``adapter/`` and ``base.json`` beside it.
        ports: Tracking, progress, metrics and the folder for checkpoints.

    Raises:
        IntegrityError: The base is not the version that was named.
        BadDataError: The latents are empty or damaged.
        BadModelError: No base is named, the latents or the adapters do not fit it, or a checkpoint is damaged.
        TrainingDivergedError: The loss is no longer finite.
        WorkerLostError: Another process that was to train is gone.
    """
    latents, folder = LatentDataset.open(inputs["latents"]), outputs["model"]
    named = _require_named(config, inputs["base"])
    base = read_model_config(inputs["base"])
    _require_fit(base, latents, inputs["base"], named)
    added = tuple(label for label in latents.config.labels if label not in base.conditioning.labels)
    architecture = widened_architecture(base.transformer(), len(added))
    training = _training(config, base)
    adapter = AdapterConfig(**config.adapter_values())
    ports.tracking.log_params(config.model_dump(mode="json"))
    result = train_in_processes(
        training,
        architecture,
        inputs["latents"],
        num_processes=config.num_processes,
        strategy=config.strategy,
        scratch=ports.scratch,
        device=config.device,
        on_step=TrainingObserver(ports, "fine-tuning the transformer").on_step,
        matmul_peak=measured_matmul_peak,
        adaptation=Adaptation(
            base=inputs["base"],
            base_digest=named.root_digest,
            adapter=adapter,
            labels=(*base.conditioning.labels, *added),
        ),
    )
    if not result.is_main:
        return StepReport()  # the first process writes
    training = replace(training, precision=result.precision)  # what it was, where `auto` was asked for
    record = _base_record(inputs["base"], named)
    of_base = {name: record[name] for name in ("name", "version", "root_digest", "weights_digest")}
    learnt = Adapter(config=adapter, added_labels=added, base=of_base, tensors=result.weights)
    save_adapter(learnt, folder / ADAPTER_FOLDER)
    _merge(inputs["base"], base, folder)
    write_model_config(_model_config(base, latents, training, adapter, architecture.to_dict(), added), folder)
    (folder / BASE_RECORD).write_text(json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    report = training_report(result, training, folder, num_items=len(latents.rows("train")))
    return replace(
        report,
        summary=f"{named.name}/{named.version} with adapters: {report.summary}",
        facts={**report.facts, "base": f"{named.name}/{named.version}", "added_labels": list(added)},
    )


def _require_named(config: Config, package: Path) -> Base:
    """Returns which version the base is; refuses another package in its place."""
    if config.base is None:
        raise BadModelError("finetune_dit: no base is named", hint="`groundswell run finetune --base MODEL` names it")
    if (found := package_root_digest(package)) != config.base.root_digest:
        raise IntegrityError(
            f"the base {config.base.name}/{config.base.version} has root digest {config.base.root_digest[:12]}, "
            f"here is {found[:12]}",
            hint="it was changed after it was verified; restore the artifact store from a backup",
        )
    return config.base


def _require_fit(base: ModelConfig, latents: LatentDataset, package: Path, named: Base) -> None:
    """Refuses latents that the base was not made for."""
    name, data = f"{named.name}/{named.version}", latents.config
    if data.codec_digest not in {base.codec_digest, tree_digest(package / "codec")}:
        raise BadModelError(
            f"the latents were encoded with codec {data.codec_digest[:12]}, {name} has {base.codec_digest[:12]}",
            hint="`groundswell run finetune` encodes with the base's codec",
        )
    if data.latent_shape != base.latent_shape:
        made, held = ("x".join(map(str, shape)) for shape in (base.latent_shape, data.latent_shape))
        raise BadModelError(
            f"{name} is of latents of {made} (channels, frames, height, width), the data have {held}",
            hint=f"set data.size={base.image_size}"
            + (f", data.frames={base.frames}" if base.frames > 1 else "; the model makes pictures"),
        )
    if data.frames != base.frames:
        raise BadModelError(
            f"{name} makes clips of {base.frames} frames, the data have clips of {data.frames}",
            hint=f"set data.frames={base.frames}",
        )
    if data.fps != base.fps:
        raise BadModelError(
            f"{name} makes {base.fps:g} frames a second, the clips have {data.fps:g}", hint=f"set data.fps={base.fps:g}"
        )
    encoder = base.conditioning.text_encoder
    if encoder is not None and base.transformer().text_dim and data.text_encoder.digest != encoder.digest:
        raise BadModelError(
            f"{name} reads captions by text encoder {encoder.name} {encoder.digest[:12]}, the latents' are of "
            f"{data.text_encoder.name} {data.text_encoder.digest[:12]}",
            hint="install the text encoder that the base names",
        )


def _training(config: Config, base: ModelConfig) -> TrainingConfig:
    """Returns the hyperparameters: those of the step, with the base's objective."""
    schedule = base.noise_schedule
    of_schedule: dict[str, Any] = {}
    if schedule is not None and base.objective != "rectified_flow":
        of_schedule = {
            "noise_schedule": schedule.name,
            "num_timesteps": schedule.num_timesteps,
            "zero_terminal_snr": schedule.zero_terminal_snr,
        }
    return TrainingConfig(
        **config.training_values(base.training),
        **of_schedule,
        objective=base.objective,
        learn_variance=base.transformer().learn_variance,
    )


def _merge(package: Path, base: ModelConfig, folder: Path) -> None:
    """Merges the adapter, as it was written, into the base's weights."""
    architecture = base.transformer()
    adapter = load_adapter(folder / ADAPTER_FOLDER, architecture)
    weights = dict(load_weights(architecture, package).named_parameters())
    save_weights(merged_weights(weights, adapter.tensors, adapter.config), folder)


def _model_config(
    base: ModelConfig,
    latents: LatentDataset,
    training: TrainingConfig,
    adapter: AdapterConfig,
    architecture: Mapping[str, Any],
    added: tuple[str, ...],
) -> ModelConfig:
    labels = [*base.conditioning.labels, *added]
    return base.model_copy(
        update={
            "architecture": dict(architecture),
            "conditioning": base.conditioning.model_copy(update={"labels": labels}),
            "codec_digest": latents.config.codec_digest,
            "dataset_digest": latents.config.dataset_digest,
            "training": {**training.hyperparameters(), "adapter": adapter.to_dict()},
            "libraries": {name: version(name) for name in LIBRARIES},
        }
    )


def _base_record(package: Path, named: Base) -> dict[str, Any]:
    """Returns what a package says of its base: which it was, and what that had learnt from."""
    config = read_json(package / "config.json")
    kept: dict[str, Any] = {name: config[name] for name in ("training_data", "base", "origin") if name in config}
    return {**named.model_dump(), "weights_digest": file_digests(package)[WEIGHTS], **kept}
