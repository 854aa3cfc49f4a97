"""In which space do clips learn to move? ``python -m benchmarks.clip_spaces --data DATASET --out FOLDER``.

A small transformer is trained for the same steps on the same clips in each of several spaces of as many tokens: latents of the
shipped codec, frame by frame, cut into patches of 4 x 2 x 2; and principal components of blocks of 4 frames x 8 x 8 pixels, one
token each. Held-out captions that name a direction are drawn, and optical flow says whether the clips go there.

``DATASET`` is a folder of moving-openmoji: ``groundswell data import moving-openmoji --out DATASET --size 32 --frames 16``.
What was trained under ``--out`` is found again; an interrupted training is continued by the same command.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from einops import rearrange
from torch import Tensor

from benchmarks.command import chosen, machine, markdown_table, positive, run_command, write_json
from benchmarks.long_video_model import open_codec
from components.train_dit.config import Config
from components.train_dit.step import build_model_config
from model_core.codec.batches import clips_to_bytes, clips_to_unit_range
from model_core.conditioning.text import MiniLMEncoder
from model_core.data.dataset import Dataset
from model_core.data.latents import (
    CONFIG_NAME,
    INDEX_SCHEMA,
    LatentDataset,
    LatentsConfig,
    TextEncoderInfo,
    shard_name,
    write_index,
    write_shard,
)
from model_core.data.media import encode_png
from model_core.data.split import HOLDOUT
from model_core.evaluation.motion import asked_directions, directions, displacements
from model_core.sampling.generate import condition_of, sampling_in_effect
from model_core.sampling.sample import sample_latents
from model_core.training.config import TrainingConfig
from model_core.training.loop import train
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.weights import load_weights, save_weights

RESULTS = Path(__file__).parent / "results" / "clip-spaces.json"
SPACES: Final = {"shipped-codec": (4, 2, 2), "spacetime-pca": (1, 1, 1)}
"""Patches of the network in each space."""
_BLOCK: Final = {"a": 4, "b": 8, "e": 8}
_COMPONENTS: Final = 96
_PATCHES_TO_FIT: Final = 60_000
_BATCH: Final = 32
_SHOWN: Final = 8

Clips = np.ndarray
Decode = Callable[[Tensor], Clips]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Clips as latents: all of a dataset's, [n c t h w], and the way back to bytes."""

    latents: Tensor
    decode: Decode


def spacetime_pca(clips: Tensor, train_rows: list[int]) -> Space:
    """Returns the principal components of blocks of frames, pixels in [-1, 1]; scales between them are evened out by half.

    Half means that a component of standard deviation s is divided by the square root of s times that of all: details count for
    more than their share of the energy, and for less than in a space where all have unit variance.
    """
    blocks = rearrange(clips, "n c (t a) (h b) (w e) -> n t h w (c a b e)", **_BLOCK)
    flat = blocks[train_rows].flatten(0, 3)
    fitted = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:_PATCHES_TO_FIT]]
    mean = fitted.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov((fitted - mean).T))
    basis = vectors.flip(1)[:, :_COMPONENTS]
    coordinates = (blocks - mean) @ basis
    overall = coordinates.std()
    scale = (coordinates.flatten(0, 3).std(0) * overall).sqrt()

    def decode(latents: Tensor) -> Clips:
        pixels = (rearrange(latents, "n k t h w -> n t h w k") * scale) @ basis.T + mean
        frames = rearrange(pixels, "n t h w (c a b e) -> n c (t a) (h b) (w e)", c=3, **_BLOCK)
        return clips_to_bytes(frames).numpy()

    return Space(latents=rearrange(coordinates / scale, "n t h w k -> n k t h w").contiguous(), decode=decode)


def shipped_codec(clips: Tensor, _rows: list[int]) -> Space:
    """Returns the latents of the codec that ships with the platform, frame by frame."""
    codec = open_codec()
    with torch.no_grad():
        latents = torch.cat([codec.encode(part) for part in torch.split(clips, _BATCH)])
    return Space(latents=latents, decode=lambda found: clips_to_bytes(codec.decode(found)).numpy())


_MAKERS: Final = {"shipped-codec": shipped_codec, "spacetime-pca": spacetime_pca}


def keep(folder: Path, dataset: Dataset, latents: Tensor, encoder: MiniLMEncoder) -> LatentDataset:
    """Returns latents as training reads them, written in this call or an earlier one."""
    if not (folder / CONFIG_NAME).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_shard(folder, 0, latents)
        columns = dataset.columns
        captions = sorted(set(columns["caption"]))
        places = {caption: place for place, caption in enumerate(captions)}
        entries = [
            {
                "shard": shard_name(0),
                "row": row,
                "sha256": columns["sha256"][row],
                "split": columns["split"][row],
                "label_index": dataset.label_index(columns["label"][row]),
                "caption_index": places[columns["caption"][row]],
            }
            for row in range(len(dataset))
        ]
        config = LatentsConfig(
            codec_digest=hashlib.sha256(folder.name.encode()).hexdigest(),
            dataset_digest=hashlib.sha256("".join(columns["sha256"]).encode()).hexdigest(),
            latent_shape=(latents.shape[1], latents.shape[2], latents.shape[3], latents.shape[4]),
            image_size=dataset.info.image_size,
            labels=tuple(dataset.labels),
            text_encoder=TextEncoderInfo(name=encoder.name, digest=encoder.digest, dim=encoder.dim),
            fps=dataset.info.fps,
        )
        write_index(
            folder,
            config,
            pa.Table.from_pylist(entries, schema=INDEX_SCHEMA),
            captions=captions,
            embeddings=encoder.encode(captions),
        )
    return LatentDataset.open(folder)


def trained(
    folder: Path, latents: LatentDataset, patch: tuple[int, int, int], num_steps: int
) -> tuple[DiT, TrainingConfig, float]:
    """Returns a network trained on latents, how it was trained, and the seconds that this call took for it."""
    architecture = TransformerConfig(
        in_channels=latents.config.latent_shape[0],
        patch_size=patch,
        hidden_size=192,
        depth=6,
        num_heads=4,
        num_labels=len(latents.config.labels),
        text_dim=latents.config.text_encoder.dim,
        mlp="swiglu",
        qk_norm=True,
    )
    training = TrainingConfig(
        num_steps=num_steps,
        batch_size=8,
        learning_rate=2e-3,
        warmup_steps=300,
        decay="wsd",
        decay_fraction=0.3,
        whiten_captions=True,
        time_mean=0.5,
        drop_label=1.0,
        drop_text=0.0,
    )
    began = time.monotonic()
    if not (folder / "transformer.safetensors").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        result = train(training, architecture, latents, scratch=folder, on_step=_tell(folder.name))
        save_weights(result.weights, folder)
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return load_weights(architecture, folder), training, time.monotonic() - began


def _tell(name: str) -> Callable[[Any], None]:
    def on_step(progress: Any) -> None:
        if progress.step % 200 == 0 or progress.step == progress.num_steps:
            print(
                f"{name} {progress.step}/{progress.num_steps} loss {progress.loss:.3f} {progress.steps_per_s:.1f}/s", flush=True
            )

    return on_step


def judge(network: DiT, training: TrainingConfig, latents: LatentDataset, space: Space, rows: list[int], scale: float) -> Clips:
    """Returns a clip for the caption of each row, uint8 [n frames height width 3]."""
    config = build_model_config(Config(sampling_num_steps=20, guidance_scale=scale), training, network.config, latents.config)
    condition = condition_of(network, [None] * len(rows), latents.caption_embeddings(rows))
    noise = torch.randn((len(rows), *latents.config.latent_shape), generator=torch.Generator().manual_seed(5))
    return space.decode(sample_latents(network, config, noise=noise, condition=condition, **sampling_in_effect(config)))


def film(real: Clips, made: Clips) -> bytes:
    """Returns a picture: real clips, and under each what was drawn for its caption."""
    rows = [np.concatenate(list(clip), axis=1) for pair in zip(real[:_SHOWN], made[:_SHOWN], strict=True) for clip in pair]
    return encode_png(np.concatenate(rows, axis=0).repeat(2, axis=0).repeat(2, axis=1))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clip_spaces", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder for latents, weights and filmstrips")
    parser.add_argument("--spaces", default="all", help=f"names with commas: {', '.join(SPACES)}")
    parser.add_argument("--steps", type=positive, default=5000)
    parser.add_argument("--samples", type=positive, default=96)
    parser.add_argument("--guidance", type=float, default=2.5)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> None:
    """Trains, draws and judges in each space."""
    torch.set_num_threads(options.threads)
    dataset, encoder = Dataset.open(options.data), MiniLMEncoder()
    captions = dataset.columns["caption"]
    asked = asked_directions(captions)
    held_out = [row for row in dataset.rows(HOLDOUT) if asked[row]][: options.samples]
    every = dataset.clips(range(len(dataset)))
    clips, rows = clips_to_unit_range(torch.from_numpy(every)), dataset.rows("train")
    real = every[held_out]
    found: list[dict[str, Any]] = []
    for name in chosen(options.spaces, SPACES, what="space"):
        space = _MAKERS[name](clips, rows)
        latents = keep(options.out / name, dataset, space.latents, encoder)
        place = options.out / f"{name}-{options.steps}"
        network, training, seconds = trained(place, latents, SPACES[name], options.steps)
        made = judge(network, training, latents, space, held_out, options.guidance)
        (options.out / f"{place.name}.png").write_bytes(film(real, made))
        again = space.decode(space.latents[held_out])
        found.append(
            {
                "space": name,
                "steps": options.steps,
                "clips": options.steps * training.batch_size,
                "seconds": round(seconds, 1),
                "direction": _share(made, [asked[row] for row in held_out]),
                "direction_of_reconstructions": _share(again, [asked[row] for row in held_out]),
                "direction_of_real": _share(real, [asked[row] for row in held_out]),
                "num_samples": len(held_out),
            }
        )
    write_json(options.results, {"machine": machine(), "guidance": options.guidance, "spaces": found})
    print(markdown_table(list(found[0]), [[str(value) for value in row.values()] for row in found]))


def _share(clips: Clips, asked: list[str]) -> float:
    return round(float(np.mean([one == other for one, other in zip(directions(displacements(clips)), asked, strict=True)])), 4)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
