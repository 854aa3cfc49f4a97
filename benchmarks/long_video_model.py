"""What the benchmark of long clips learns from, and the model that it trains.

A few graphics of moving-openmoji in motions that have no end: a clip of them can go on, one that has crossed the frame cannot.
A graphic's name is its label, so that a probe which tells graphics apart tells whether a clip still shows its own.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from components.train_dit.config import Config
from components.train_dit.step import build_model_config
from model_core.codec.autoencoder import Codec
from model_core.codec.batches import clips_to_unit_range
from model_core.codec.io import load_codec
from model_core.conditioning.text import MiniLMEncoder
from model_core.data.importers.moving_openmoji import MovingRenderer, Scene, plan_moving_openmoji
from model_core.data.importers.plan import Item
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
from model_core.diffusion.names import FrameTimesName
from model_core.training.config import TrainingConfig
from model_core.transformer.config import TransformerConfig
from model_core.transformer.model_config import ModelConfig

CODEC = Path(__file__).parents[1] / "infra" / "codecs" / "openmoji-f4c8" / "codec"
GRAPHICS = ("banana", "frog", "penguin", "pizza", "red apple", "tropical fish")
MOTIONS = ("circling", "standing still")
COLOURS = ("blue", "white", "yellow", "green", "grey", "red")
"""Backgrounds of the clips that are made, one a graphic."""
SIZE, FRAMES, FPS = 32, 16, 8.0
_CATEGORIES = ("animals", "food")
_TAKES, _HELD_OUT_TAKES = 40, 4
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Clips of the data set.

    Attributes:
        items: What is shown, in the importer's order.
        labels: The place of each one's graphic in `GRAPHICS`.
        held_out: Whether each is kept from training, to compare with.
        renderer: Draws them.
    """

    items: tuple[Item, ...]
    labels: tuple[int, ...]
    held_out: tuple[bool, ...]
    renderer: MovingRenderer

    def frames(self, place: int) -> np.ndarray:
        """Returns the frames of a clip, uint8 [frames height width 3]."""
        return self.renderer.frames(Scene.from_text(self.items[place].locator))


def scenes() -> Scenes:
    """Returns the scenes of one graphic in one motion; the last takes of each are held out."""
    plan = plan_moving_openmoji(size=SIZE, categories=_CATEGORIES, frames=FRAMES, fps=FPS, graphics=GRAPHICS, takes=_TAKES)
    assert isinstance(plan.render, MovingRenderer)  # what this importer draws with
    items, labels, held_out = [], [], []
    for number, item in enumerate(plan.items):
        acts = Scene.from_text(item.locator).acts
        if len(acts) == 1 and acts[0].motion in MOTIONS:
            items.append(item)
            labels.append(GRAPHICS.index(acts[0].name))
            held_out.append(number % _TAKES >= _TAKES - _HELD_OUT_TAKES)
    return Scenes(items=tuple(items), labels=tuple(labels), held_out=tuple(held_out), renderer=plan.render)


def prepare_latents(folder: Path, encoder: MiniLMEncoder, codec: Codec) -> LatentDataset:
    """Returns the latents of all scenes, encoded in this call or an earlier one."""
    if not (folder / CONFIG_NAME).is_file():
        found = scenes()
        latents = torch.cat(list(_encoded(found, codec)))
        write_shard(folder, 0, latents)
        captions = sorted({item.caption for item in found.items})
        entries = [
            {
                "shard": shard_name(0),
                "row": row,
                "sha256": hashlib.sha256(item.locator.encode()).hexdigest(),
                "split": "holdout" if held_out else "train",
                "label_index": label,
                "caption_index": captions.index(item.caption),
            }
            for row, (item, label, held_out) in enumerate(zip(found.items, found.labels, found.held_out, strict=True))
        ]
        config = LatentsConfig(
            codec_digest=hashlib.sha256((CODEC / "codec.safetensors").read_bytes()).hexdigest(),
            dataset_digest=hashlib.sha256("\n".join(item.locator for item in found.items).encode()).hexdigest(),
            latent_shape=tuple(latents.shape[1:]),
            image_size=SIZE,
            labels=GRAPHICS,
            text_encoder=TextEncoderInfo(name=encoder.name, digest=encoder.digest, dim=encoder.dim),
            fps=FPS,
        )
        write_index(
            folder,
            config,
            pa.Table.from_pylist(entries, schema=INDEX_SCHEMA),
            captions=captions,
            embeddings=encoder.encode(captions),
        )
    return LatentDataset.open(folder)


def _encoded(found: Scenes, codec: Codec) -> Iterator[Tensor]:
    for start in range(0, len(found.items), _BATCH):
        clips = np.stack([found.frames(place) for place in range(start, min(start + _BATCH, len(found.items)))])
        with torch.no_grad():
            yield codec.encode(clips_to_unit_range(torch.from_numpy(clips)))


def architecture(latents: LatentsConfig, patch_side: int) -> TransformerConfig:
    """Returns the network: small enough for two cores, with parts of the video default; patches have this height and width."""
    return TransformerConfig(
        in_channels=latents.latent_shape[0],
        patch_size=(2, patch_side, patch_side),
        hidden_size=192,
        depth=4,
        num_heads=4,
        num_labels=len(latents.labels),
        text_dim=latents.text_encoder.dim,
        mlp="swiglu",
        qk_norm=True,
    )


def training(num_steps: int, frame_times: FrameTimesName) -> TrainingConfig:
    """Returns how it is trained."""
    return TrainingConfig(
        num_steps=num_steps,
        batch_size=16,
        learning_rate=3e-3,
        warmup_steps=50,
        decay="wsd",
        decay_fraction=0.3,
        ema_decay=0.99,
        drop_label=0.1,
        text_noise=0.1,
        frame_times=frame_times,
    )


def model_config(latents: LatentsConfig, network: TransformerConfig, trained: TrainingConfig) -> ModelConfig:
    """Returns what the sampler has to know of the model."""
    return build_model_config(Config(sampling_num_steps=20, guidance_scale=2.0), trained, network, latents)


def open_codec() -> Codec:
    """Returns the codec that ships with the platform."""
    return load_codec(CODEC)


def captions_of(graphics: Sequence[str], motion: str) -> list[str]:
    """Returns a caption of each graphic in a motion, as the importer writes them."""
    pace = "" if motion == "standing still" else " slowly"
    return [
        f"{'an' if name[0] in 'aeiou' else 'a'} {name} {motion}{pace} on a {colour} background"
        for name, colour in zip(graphics, COLOURS, strict=False)
    ]
