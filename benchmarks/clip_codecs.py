"""What does a codec keep of clips at so many latent values? ``python -m benchmarks.clip_codecs --data DATASET --out FOLDER``.

Held-out clips go through codecs that are trained on the same clips for the same number of steps, as many frames a step: a compact
one, frame by frame, and causal ones, which compress in time; and through what needs no training here: the codec that ships with
the platform and, for each shape of latents, the best linear codec.

``DATASET`` is a folder of moving-openmoji: ``groundswell data import moving-openmoji --out DATASET --size 32 --frames 16``.
What was trained under ``--out`` is found again; an interrupted training is continued by the same command.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks.command import chosen, machine, markdown_table, positive, run_command, write_json
from benchmarks.long_video_model import open_codec
from components.train_codec.config import Config
from components.train_codec.step import codec_config, codec_training
from model_core.codec.autoencoder import Codec
from model_core.codec.batches import clips_to_unit_range, frames_of
from model_core.codec.config import LatentConfig
from model_core.codec.io import CONFIG_NAME, load_codec, save_codec
from model_core.codec.patch_pca import fit_patch_pca
from model_core.codec.report import fidelity, flicker, reconstruct
from model_core.codec.training import CodecProgress, train_codec
from model_core.data.dataset import Dataset
from model_core.data.split import HOLDOUT, TRAIN

RESULTS = Path(__file__).parent / "results" / "clip-codecs.json"
SHIPPED: Final = "shipped"
CODECS: Final[dict[str, dict[str, Any]]] = {
    SHIPPED: {"latent_channels": 8},
    "compact": {"latent_channels": 8},
    "causal-3d": {"architecture": "causal_3d", "latent_channels": 32},
    "causal-3d-small": {"architecture": "causal_3d", "latent_channels": 8},
}
"""The settings of `train_codec` in which each differs from the rest."""
_ALIKE: Final[dict[str, Any]] = {"divisors": (1,), "warmup_steps": 50, "latent_noise": 0.0, "kl_weight": 1e-4}
RECIPES: Final[dict[str, dict[str, Any]]] = {
    "squared": {"crop_size": 16, "batch_size": 16, "l1_weight": 0.0, "mse_weight": 4.0, "gradient_weight": 0.0},
    "absolute": {"crop_size": 32, "batch_size": 4},
}
"""Squared errors of many small crops of clips, and the usual loss of fewer large ones; as many pixels a step."""


def trained(folder: Path, config: Config, clips: Tensor) -> tuple[Codec, float | None]:
    """Returns a codec trained on clips, and the seconds that this call took for it; None where it was found."""
    architecture, began = codec_config(config), time.monotonic()
    if (folder / CONFIG_NAME).is_file():
        return load_codec(folder), None
    folder.mkdir(parents=True, exist_ok=True)
    frames = clips if architecture.temporal_factor > 1 else frames_of(clips)
    found = train_codec(architecture, codec_training(config), frames, scratch=folder, device="cpu", report=_tell(folder.name))
    save_codec(found.codec, folder)
    return load_codec(folder), time.monotonic() - began


def settings(name: str, recipe: str, num_steps: int, num_frames: int) -> Config:
    """Returns how a codec is trained: as many frames a step, whether they are drawn one by one or as clips."""
    causal = CODECS[name].get("architecture") == "causal_3d"
    values = {**_ALIKE, **RECIPES[recipe], **CODECS[name], "num_steps": num_steps, "crop_frames": num_frames}
    return Config(**{**values, "batch_size": values["batch_size"] * (1 if causal else num_frames)})


def judged(codec: str, config: LatentConfig, real: Tensor, found: Tensor, seconds: float | None) -> dict[str, Any]:
    """Returns the figures of reconstructions."""
    measured = fidelity(real, found)
    return {
        "codec": codec,
        "values_a_clip": math.prod(config.latent_shape(*real.shape[2:])),
        "psnr": round(measured.psnr, 2),
        "ssim": round(measured.ssim, 4),
        "flicker": round(flicker(found), 5),
        "original_flicker": round(flicker(real), 5),
        "seconds": None if seconds is None else round(seconds, 1),
    }


def linear(config: LatentConfig, clips: Tensor, held_out: Tensor) -> Tensor:
    """Returns held-out clips from the best linear codec of clips with latents of a shape."""
    if config.temporal_factor == 1:
        pca = fit_patch_pca(frames_of(clips), downscale=config.factor, num_components=config.latent_channels)
        found = pca.reconstruct(frames_of(held_out))
        return found.unflatten(0, (len(held_out), -1)).transpose(1, 2)
    pca = fit_patch_pca(clips, downscale=config.factor, num_components=config.latent_channels, num_frames=config.temporal_factor)
    return pca.reconstruct(held_out)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clip_codecs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is trained")
    parser.add_argument("--codecs", default="all", help=f"names with commas: {', '.join(CODECS)}")
    parser.add_argument("--recipe", choices=list(RECIPES), default="squared", help="how they are trained")
    parser.add_argument("--steps", type=positive, default=300)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> None:
    """Trains and judges each codec, and the linear one of each shape of latents."""
    torch.set_num_threads(options.threads)
    dataset = Dataset.open(options.data)
    clips, held_out = (clips_to_unit_range(torch.from_numpy(dataset.clips(dataset.rows(split)))) for split in (TRAIN, HOLDOUT))
    found: list[dict[str, Any]] = []
    shapes: set[tuple[int, ...]] = set()
    for name in chosen(options.codecs, CODECS, what="codec"):
        config = settings(name, options.recipe, options.steps, dataset.info.num_frames)
        seconds: float | None = None
        if name == SHIPPED:
            codec = open_codec()
        else:
            codec, seconds = trained(options.out / f"{name}-{options.recipe}-{options.steps}", config, clips)
        found.append(judged(name, codec.config, held_out, reconstruct(codec, held_out), seconds))
        shape = codec.config.latent_shape(*held_out.shape[2:])
        if shape not in shapes:
            shapes.add(shape)
            of_shape = linear(codec.config, clips, held_out)
            found.append(judged(f"linear, {'x'.join(map(str, shape))}", codec.config, held_out, of_shape, None))
    document = {
        "machine": machine(),
        "recipe": options.recipe,
        "steps": options.steps,
        "clips": [len(clips), len(held_out)],
        "codecs": found,
    }
    write_json(options.results, document)
    print(markdown_table(list(found[0]), [["" if value is None else value for value in row.values()] for row in found]))


def _tell(name: str) -> Any:
    def on_step(progress: CodecProgress) -> None:
        if progress.step % 50 == 0 or progress.step == progress.num_steps:
            print(f"{name} {progress.step}/{progress.num_steps} loss {progress.loss:.4f}", flush=True)

    return on_step


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    options = parse(arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
