"""Trains a KL-VAE codec on a validated dataset and holds it against the best linear codec of the same latent shape."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.ports import Ports, StepReport
from components.train_codec.config import Config
from components.train_codec.figures import write_loss_curve
from components.validated import require_validated
from model_core.codec.adversary import AdversarialTraining
from model_core.codec.autoencoder import Codec
from model_core.codec.batches import clips_to_unit_range, rescale, to_bytes, to_unit_range
from model_core.codec.causal_config import CAUSAL_3D, CausalConfig
from model_core.codec.config import CodecConfig, LatentConfig
from model_core.codec.io import save_codec
from model_core.codec.kl_config import AUTOENCODER_KL, KLAutoencoderConfig
from model_core.codec.losses import LossWeights
from model_core.codec.patch_pca import PatchPCA, fit_patch_pca
from model_core.codec.perceptual import PerceptualLoss, load_perceptual_loss
from model_core.codec.report import fidelity, filmstrip_rows, flicker, picture_grid, reconstruct, reconstruction_rows
from model_core.codec.training import CodecProgress, CodecTraining, train_codec
from model_core.data.dataset import Dataset
from model_core.data.media import encode_png
from model_core.data.split import HOLDOUT, SPLITS, TRAIN
from model_core.device import select_device
from model_core.errors import BadDataError

FORMAT = "groundswell-codec-report/1"
_NUM_SHOWN = 14
_CLIPS_SHOWN = 3
_LOG_EVERY = 50


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Trains on the training split of `inputs["dataset"]` and writes the codec to `outputs["codec"]`.

    Raises:
        IntegrityError: The dataset is not the one that `inputs["validation"]` is about.
        BadDataError: The dataset cannot be opened, lacks a split, or its pictures cannot be cropped as asked.
        BadModelError: The configuration describes no codec or no loss that fits it, the checkpoint is damaged, a batch does not
            fit into memory, or there is no such device.
        TrainingDivergedError: The loss is not finite.
    """
    architecture, training = codec_config(config), codec_training(config)
    dataset_digest = require_validated(inputs["dataset"], inputs["validation"])
    dataset, folder = Dataset.open(inputs["dataset"]), outputs["codec"]
    frames: dict[str, Tensor] = {split: _frames(dataset, split, clips=architecture.temporal_factor > 1) for split in SPLITS}
    perceptual = _perceptual_loss(config, ports)
    trained = train_codec(
        architecture,
        training,
        frames[TRAIN],
        scratch=ports.scratch,
        perceptual=perceptual,
        device=config.device,
        report=_reporter(ports),
    )
    save_codec(trained.codec, folder)
    measured = _measure(trained.codec.to(select_device(config.device)), frames, config, folder)
    num_parameters = sum(parameter.numel() for parameter in trained.codec.parameters())
    report: dict[str, Any] = {
        "format": FORMAT,
        **measured,
        "dataset": {
            "name": dataset.info.name,
            "digest": dataset_digest,
            "image_size": dataset.info.image_size,
            **({"num_frames": dataset.info.num_frames} if architecture.temporal_factor > 1 else {}),
            "licences": list(dataset.info.licences),
            "attribution": dataset.info.attribution,
        },
        "training": config.model_dump(mode="json", exclude={"device"}),
        **({} if perceptual is None else {"perceptual": {"network": perceptual.digest, "licence": _weights_licence()}}),
        "num_parameters": num_parameters,
        "final_loss": round(sum(trained.losses[-_LOG_EVERY:]) / len(trained.losses[-_LOG_EVERY:]), 6),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    write_loss_curve(trained.losses, folder / "loss_curve.png")
    return _step_report(report)


def codec_config(config: Config) -> LatentConfig:
    """Returns the architecture that a configuration asks for.

    Raises:
        BadModelError: It describes no codec.
    """
    if config.architecture == AUTOENCODER_KL:
        return KLAutoencoderConfig(
            latent_channels=config.latent_channels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            norm_num_groups=config.norm_num_groups,
        )
    names = ("downscale", "encoder_widths", "encoder_blocks", "decoder_widths", "decoder_blocks", "posterior")
    values: dict[str, Any] = {name: getattr(config, name) for name in ("latent_channels", *names)}
    if config.architecture == CAUSAL_3D:
        return CausalConfig(**values, temporal_downscale=config.temporal_downscale)
    return CodecConfig(**values)


def codec_training(config: Config) -> CodecTraining:
    """Returns the training that a configuration asks for."""
    return CodecTraining(
        num_steps=config.num_steps,
        batch_size=config.batch_size,
        crop_size=config.crop_size,
        crop_frames=config.crop_frames,
        divisors=config.divisors,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        ema_decay=config.ema_decay,
        latent_noise=config.latent_noise,
        weights=LossWeights(
            l1=config.l1_weight,
            mse=config.mse_weight,
            gradient=config.gradient_weight,
            kl=config.kl_weight,
            kl_unit=config.kl_unit,
            perceptual=config.perceptual_weight,
        ),
        adversarial=_adversarial_training(config),
        checkpoint_every=config.checkpoint_every,
        seed=config.seed,
    )


def _adversarial_training(config: Config) -> AdversarialTraining | None:
    """Returns how a discriminator takes part, where one does."""
    if config.adversarial_weight == 0:
        return None
    return AdversarialTraining(
        start_step=config.adversarial_start,
        weight=config.adversarial_weight,
        width=config.discriminator_width,
        num_layers=config.discriminator_layers,
        learning_rate=config.discriminator_learning_rate,
    )


def _perceptual_loss(config: Config, ports: Ports) -> PerceptualLoss | None:
    """Returns the perceptual term's distance, where it has a weight."""
    return load_perceptual_loss(ports.scratch / "weights") if config.perceptual_weight > 0 else None


def _weights_licence() -> str:
    """Returns the licence of the perceptual network's weights, on which the codec then depends."""
    from model_core.evaluation.features import WEIGHTS_LICENCE

    return WEIGHTS_LICENCE


def _frames(dataset: Dataset, split: str, *, clips: bool) -> Tensor:
    """Returns the pictures of a split, [n 3 side side], or its clips, [n 3 t side side]."""
    rows = dataset.rows(split)
    if not rows:
        raise BadDataError(f"dataset {dataset.info.name!r} has no picture in split {split!r}", hint="a codec needs both splits")
    if clips:
        return clips_to_unit_range(torch.from_numpy(dataset.clips(rows)))
    return to_unit_range(torch.from_numpy(dataset.images(rows)))


def _reporter(ports: Ports) -> Callable[[CodecProgress], None]:
    def report(progress: CodecProgress) -> None:
        ports.progress.update(progress.step, progress.num_steps, "training the codec", loss=progress.loss)
        if progress.step % _LOG_EVERY == 0 or progress.step == progress.num_steps:
            ports.tracking.log_metrics({"loss": progress.loss}, step=progress.step)

    return report


def _measure(codec: Codec, frames: Mapping[str, Tensor], config: Config, folder: Path) -> dict[str, Any]:
    """Measures each split at each scale, the linear codec fitted to the training pictures of that scale; draws some pictures."""
    sizes: dict[str, Any] = {}
    grids, factor, temporal = [], codec.config.factor, codec.config.temporal_factor
    block = temporal if temporal > 1 else None
    for divisor in config.divisors:
        scaled = {split: rescale(pictures, divisor) for split, pictures in frames.items()}
        pca = fit_patch_pca(scaled[TRAIN], downscale=factor, num_components=config.latent_channels, num_frames=block)
        sizes[str(scaled[TRAIN].shape[-1])] = {split: _compare(codec, pca, pictures) for split, pictures in scaled.items()}
        grids.append(picture_grid(_rows(codec, pca, scaled[HOLDOUT]), magnify=2 * divisor))
    page = to_bytes(torch.cat(grids, dim=2))[0].numpy()
    (folder / "reconstructions.png").write_bytes(encode_png(page))
    margin = min(size[HOLDOUT]["margin_db"] for size in sizes.values())
    shape = {"latent_channels": config.latent_channels, "downscale": factor, **({"temporal_downscale": block} if block else {})}
    return {**shape, "sizes": sizes, "margin_db": margin}


def _rows(codec: Codec, pca: PatchPCA, held_out: Tensor) -> list[Tensor]:
    """Returns the rows of `reconstructions.png`: pictures, or the filmstrips of a few clips."""
    if held_out.ndim == 4 or held_out.shape[2] == 1:
        shown = held_out[torch.linspace(0, len(held_out) - 1, _NUM_SHOWN).long()]
        rows = reconstruction_rows(codec, pca, shown)
        return rows if held_out.ndim == 4 else [row[:, :, 0] for row in rows]
    shown = held_out[torch.linspace(0, len(held_out) - 1, min(_CLIPS_SHOWN, len(held_out))).long()]
    return filmstrip_rows(codec, pca, shown, num_shown=_NUM_SHOWN)


def _compare(codec: Codec, pca: PatchPCA, pictures: Tensor) -> dict[str, Any]:
    found, of_pca = reconstruct(codec, pictures), pca.reconstruct(pictures)
    learned, linear = fidelity(pictures, found).to_dict(), fidelity(pictures, of_pca).to_dict()
    clips = {"original_flicker": pictures, "flicker": found, "patch_pca_flicker": of_pca} if pictures.ndim == 5 else {}
    return {
        **{name: round(flicker(each), 5) for name, each in clips.items()},
        **learned,
        "patch_pca_psnr": linear["psnr"],
        "patch_pca_ssim": linear["ssim"],
        "margin_db": round(learned["psnr"] - linear["psnr"], 4),
    }


def _step_report(report: Mapping[str, Any]) -> StepReport:
    metrics = {"margin_db": float(report["margin_db"]), "final_loss": float(report["final_loss"])}
    for size, splits in report["sizes"].items():
        for split, values in splits.items():
            metrics |= {f"{name}_{split}_{size}px": float(values[name]) for name in ("psnr", "ssim", "patch_pca_psnr")}
    found = ", ".join(f"{splits[HOLDOUT]['psnr']:.1f} dB at {size} px" for size, splits in report["sizes"].items())
    return StepReport(
        metrics=metrics,
        summary=f"{report['num_parameters'] / 1e6:.1f} M parameters; held out {found}; {report['margin_db']:.1f} dB over PCA",
        facts={key: report[key] for key in ("dataset", "sizes", "margin_db", "num_parameters")},
        artifacts={"codec": ("report.json", "config.json", "reconstructions.png", "loss_curve.png")},
    )
