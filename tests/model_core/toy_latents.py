"""A tiny latents folder and model, for tests of training and sampling."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import torch

from model_core.data.latents import (
    INDEX_SCHEMA,
    LatentDataset,
    LatentsConfig,
    TextEncoderInfo,
    shard_name,
    write_index,
    write_shard,
)
from model_core.training.config import TrainingConfig
from model_core.transformer.config import TransformerConfig
from model_core.transformer.model_config import Conditioning, ModelConfig, NoiseScheduleId, SamplingDefaults, TextEncoderId

TEXT_DIM = 6
LABELS = ("circles", "squares")
SHAPE = (4, 1, 2, 2)
ARCHITECTURE = TransformerConfig(in_channels=4, hidden_size=16, depth=2, num_heads=2, num_labels=2, text_dim=TEXT_DIM)
TRAINING = TrainingConfig(
    num_steps=12, batch_size=4, learning_rate=3e-3, warmup_steps=2, checkpoint_every_steps=5, checkpoint_every_s=1e9
)


def write_latents(
    folder: Path, *, num_items: int = 10, latents: torch.Tensor | None = None, tokens: Sequence[torch.Tensor] | None = None
) -> Path:
    """Writes latents of items 0, 1, ...: the last two are held out, the first has neither label nor caption."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = torch.randn(num_items, *SHAPE, generator=torch.Generator().manual_seed(5)) if latents is None else latents
    write_shard(folder, 0, drawn)
    entries = [
        {
            "shard": shard_name(0),
            "row": row,
            "sha256": f"{row:064x}",
            "split": "holdout" if row >= num_items - 2 else "train",
            "label_index": row % 2 if row else -1,
            "caption_index": row % 3 if row else -1,
        }
        for row in range(num_items)
    ]
    config = LatentsConfig(
        codec_digest="c" * 64,
        dataset_digest="d" * 64,
        latent_shape=tuple(drawn.shape[1:]),
        image_size=4,
        labels=LABELS,
        text_encoder=TextEncoderInfo(name="toy", digest="e" * 64, dim=TEXT_DIM),
    )
    embeddings = torch.randn(3, TEXT_DIM, generator=torch.Generator().manual_seed(6))
    write_index(
        folder,
        config,
        pa.Table.from_pylist(entries, schema=INDEX_SCHEMA),
        captions=["one", "two", "three"],
        embeddings=embeddings,
        tokens=tokens,
    )
    return folder


def open_latents(folder: Path, **options) -> LatentDataset:
    """Writes and opens them."""
    return LatentDataset.open(write_latents(folder, **options))


def model_config(*, objective: str = "rectified_flow", num_steps: int = 3, guidance_scale: float = 2.0) -> ModelConfig:
    """Returns the configuration of a model of `ARCHITECTURE`."""
    return ModelConfig(
        architecture=ARCHITECTURE.to_dict(),
        objective=objective,
        noise_schedule=None if objective == "rectified_flow" else NoiseScheduleId(name="linear", num_timesteps=20),
        conditioning=Conditioning(labels=list(LABELS), text_encoder=TextEncoderId(name="toy", digest="e" * 64, dim=TEXT_DIM)),
        latent_shape=SHAPE,
        image_size=4,
        codec_digest="c" * 64,
        dataset_digest="d" * 64,
        sampling=SamplingDefaults(num_steps=num_steps, guidance_scale=guidance_scale),
        training={"seed": 0},
    )
