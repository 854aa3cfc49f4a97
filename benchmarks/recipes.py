"""Compares recipes for the default training run at equal processor time, and writes what was found.

    python -m benchmarks.recipes --latents DIR --codec DIR --work DIR --arms default,wider --cpu-seconds 160

Each arm is the step's default configuration with a few changes. How many steps it gets follows from its measured cost, so that
all arms spend the same processor time; the learning rate's decay is fitted to that. Judged by KID between pictures drawn for
holdout captions (caption alone, no label) and decoded real latents, by the loss on holdout items, and by looking at the grids
in the work folder.
Results are merged into ``benchmarks/results/default-run.json`` by arm and budget.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from components.generate_media.files import grid
from components.train_dit.config import Config
from components.train_dit.step import build_architecture, build_model_config
from model_core.codec.autoencoder import Codec
from model_core.codec.batches import to_bytes
from model_core.codec.io import load_codec
from model_core.data.latents import LatentDataset
from model_core.diffusion.condition import Condition
from model_core.diffusion.forward import interpolate
from model_core.diffusion.parameterisation import FLOW_TIME_SCALE, flow_velocity
from model_core.evaluation.features import FeatureExtractor, convert_weights
from model_core.evaluation.kid import kernel_inception_distance
from model_core.sampling.generate import generate_images
from model_core.training.config import TrainingConfig
from model_core.training.data_order import random_generator
from model_core.training.loop import TrainingResult, train
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import ModelConfig

RESULTS = Path(__file__).parent / "results" / "default-run.json"
_PATCH_2 = {
    "text_noise": 0.0,
    "hidden_size": 256,
    "depth": 6,
    "num_heads": 4,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "patch_size": (1, 2, 2),
}
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "patch-1": {
        "text_noise": 0.0,
        "hidden_size": 160,
        "depth": 4,
        "num_heads": 5,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "patch_size": (1, 1, 1),
    },
    "patch-1-batch-16": {
        "text_noise": 0.0,
        "hidden_size": 160,
        "depth": 4,
        "num_heads": 5,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "patch_size": (1, 1, 1),
    },
    "patch-2": _PATCH_2,
    "patch-2-batch-16": {**_PATCH_2, "batch_size": 16},
    "patch-2-rate-2e-3": {**_PATCH_2, "learning_rate": 2e-3},
    "patch-2-rate-5e-4": {**_PATCH_2, "learning_rate": 5e-4},
    "patch-2-wide": {**_PATCH_2, "hidden_size": 384, "num_heads": 6},
    "patch-2-wide-batch-16": {**_PATCH_2, "hidden_size": 384, "num_heads": 6, "batch_size": 16},
    "patch-2-slow-ema": {**_PATCH_2, "ema_decay": 0.999},
    "patch-2-late-times": {**_PATCH_2, "time_mean": 0.5},
    "patch-2-weight-decay": {**_PATCH_2, "weight_decay": 0.1},
    "no-text-noise": {"text_noise": 0.0},
    "text-noise-0.5": {"text_noise": 0.5},
    "text-noise-0.7": {"text_noise": 0.7},
    "text-noise-1": {"text_noise": 1.0},
    "drop-text-0.5": {"drop_text": 0.5},
    "decay-1": {"weight_decay": 1.0},
    "patch-2-epsilon": {**_PATCH_2, "objective": "epsilon", "noise_schedule": "cosine", "sampling_num_steps": 50},
}
_CALIBRATION_STEPS = 8
_NUM_REAL = 320
_SAMPLES_PER_CAPTION = 2
_LOSS_DRAWS = 8


def main() -> None:
    """Runs the arms asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=Path, required=True)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for caches, checkpoints and grids")
    parser.add_argument("--arms", default="default")
    parser.add_argument("--cpu-seconds", type=float, help="processor time an arm; its own num_steps if not given")
    parser.add_argument("--steps", type=int, help="steps an arm, in place of its own")
    parser.add_argument("--guidance", default="", help="more guidance scales to judge the trained model at, with commas")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    latents, codec = LatentDataset.open(options.latents), load_codec(options.codec)
    extractor = FeatureExtractor(convert_weights(options.work))
    real = _real_features(latents, codec, extractor, options.work)
    for name in options.arms.split(","):
        config = Config(**{"seed": options.seed, **ARMS[name]})
        entry = run_arm(name, config, latents, codec, extractor, real, options)
        _merge(entry)
        print(json.dumps(entry, indent=2), flush=True)


def run_arm(
    name: str,
    config: Config,
    latents: LatentDataset,
    codec: Codec,
    extractor: FeatureExtractor,
    real: np.ndarray,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Trains and judges one arm."""
    if options.cpu_seconds is not None:
        cost = _seconds_per_step(config, latents, options.work)
        config = config.model_copy(update={"num_steps": int(options.cpu_seconds / cost)})
    elif options.steps is not None:
        config = config.model_copy(update={"num_steps": options.steps})
    scratch = options.work / f"{name}-{config.num_steps}-{config.seed}"
    scratch.mkdir(exist_ok=True)
    cpu, wall = time.process_time(), time.perf_counter()
    result = _train(config, latents, scratch)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    model, model_config = _model(config, latents, result)
    pictures = _pictures_of_holdout(model, model_config, codec, latents, seed=config.seed)
    Image.fromarray(grid(pictures[: len(latents.rows("holdout"))])).save(options.work / f"{name}-{config.num_steps}.png")
    kid = kernel_inception_distance(extractor.extract(pictures), real, seed=0)
    by_guidance = {}
    for scale in filter(None, options.guidance.split(",")):
        drawn = _pictures_of_holdout(model, model_config, codec, latents, seed=config.seed, guidance_scale=float(scale))
        by_guidance[scale] = kernel_inception_distance(extractor.extract(drawn), real, seed=0).value
        Image.fromarray(grid(drawn[: len(drawn) // 2])).save(options.work / f"{name}-{config.num_steps}-guidance-{scale}.png")
    return {
        "arm": name,
        "budget_cpu_s": options.cpu_seconds,
        "config": config.model_dump(mode="json"),
        "num_parameters": result.num_parameters,
        "threads": options.threads,
        "training_cpu_s": round(cpu, 1),
        "training_wall_s": round(wall, 1),
        "holdout_loss": _loss(model, latents, latents.rows("holdout")),
        "train_loss": _loss(model, latents, latents.rows("train")[:78]),
        "kid": {"value": kid.value, "low": kid.low, "high": kid.high},
        "kid_by_guidance": by_guidance,
        "num_samples": len(pictures),
        "resumed_from": result.resumed_from,
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__},
    }


def _train(config: Config, latents: LatentDataset, scratch: Path) -> TrainingResult:
    def on_step(progress: Any) -> None:
        if progress.step % 100 == 0:
            print(f"{progress.step}/{progress.num_steps} loss {progress.loss:.3f} {progress.steps_per_s:.1f}/s", file=sys.stderr)

    training = TrainingConfig(**config.training_values())
    return train(training, build_architecture(config, latents.config), latents, scratch=scratch, on_step=on_step)


def _seconds_per_step(config: Config, latents: LatentDataset, work: Path) -> float:
    """Returns the median processor time of a step."""
    scratch = work / "calibration"
    scratch.mkdir(exist_ok=True)
    for stale in scratch.iterdir():
        stale.unlink()
    times = [time.process_time()]
    training = TrainingConfig(**{**config.training_values(), "num_steps": _CALIBRATION_STEPS})
    architecture = build_architecture(config, latents.config)
    train(training, architecture, latents, scratch=scratch, on_step=lambda _: times.append(time.process_time()))
    return float(np.median(np.diff(times)[1:]))


def _model(config: Config, latents: LatentDataset, result: TrainingResult) -> tuple[DiT, ModelConfig]:
    architecture = build_architecture(config, latents.config)
    model = DiT(architecture)
    model.load_state_dict(result.weights)
    training = TrainingConfig(**config.training_values())
    return model.eval().requires_grad_(requires_grad=False), build_model_config(config, training, architecture, latents.config)


def _pictures_of_holdout(
    model: DiT, model_config: ModelConfig, codec: Codec, latents: LatentDataset, *, seed: int, guidance_scale: float | None = None
) -> np.ndarray:
    """Returns pictures for the captions of the holdout, in its order, so often in a row."""
    rows = latents.rows("holdout") * _SAMPLES_PER_CAPTION
    found: np.ndarray = generate_images(
        model,
        model_config,
        codec,
        labels=[None] * len(rows),
        text=latents.caption_embeddings(rows),
        seeds=[seed * len(rows) + index for index in range(len(rows))],
        guidance_scale=guidance_scale,
        batch_size=26,
    )
    return found


@torch.no_grad()
def _loss(model: DiT, latents: LatentDataset, rows: list[int]) -> float:
    """Returns the velocity loss at evenly spread times with all conditions given; of no meaning for an epsilon model."""
    x_0, labels = latents.latents(rows), latents.label_indices(rows)
    condition = Condition(labels=labels, text=latents.caption_embeddings(rows), text_mask=torch.ones(len(rows), dtype=torch.bool))
    losses = []
    for draw in range(_LOSS_DRAWS):
        noise = torch.randn(x_0.shape, generator=random_generator(0, "benchmark", draw))
        t = torch.full((len(rows),), (draw + 0.5) / _LOSS_DRAWS)
        predicted = model.predict(interpolate(x_0, noise, t), FLOW_TIME_SCALE * t, condition)
        losses.append(float((predicted - flow_velocity(x_0, noise)).square().mean()))
    return float(np.mean(losses))


def _real_features(latents: LatentDataset, codec: Codec, extractor: FeatureExtractor, work: Path) -> np.ndarray:
    """Returns features of decoded train latents, kept for the next call."""
    path = work / f"real-{latents.config.codec_digest[:12]}-{latents.config.dataset_digest[:12]}.npy"
    if not path.is_file():
        rows = latents.rows("train")[:: max(1, len(latents.rows("train")) // _NUM_REAL)][:_NUM_REAL]
        with torch.no_grad():
            pictures = to_bytes(codec.decode(latents.latents(rows))[:, :, 0]).numpy()
        np.save(path, extractor.extract(pictures))
        holdout = latents.rows("holdout")
        with torch.no_grad():
            held = to_bytes(codec.decode(latents.latents(holdout))[:, :, 0]).numpy()
        floor = kernel_inception_distance(extractor.extract(held), np.load(path), seed=0)
        print(f"KID of real holdout pictures, the floor: {floor.value:.3f} [{floor.low:.3f}, {floor.high:.3f}]", flush=True)
    found: np.ndarray = np.load(path)
    return found


def _merge(entry: dict[str, Any]) -> None:
    """Adds a result to the file, in place of an earlier one of the same arm, budget, steps and seed."""
    entries = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []

    def key(item: dict[str, Any]) -> tuple[Any, ...]:
        return item["arm"], str(item["budget_cpu_s"]), item["config"]["seed"], item["threads"], item["config"]["num_steps"]

    for item in entries:
        if key(item) == key(entry) and entry["resumed_from"]:  # trained before: only the judging is new
            entry |= {name: item[name] for name in ("training_cpu_s", "training_wall_s", "resumed_from")}
    entries = [item for item in entries if key(item) != key(entry)] + [entry]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(sorted(entries, key=key), indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
