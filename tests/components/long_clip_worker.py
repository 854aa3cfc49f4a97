"""Makes a long clip with a tiny package; in a process of its own, so that a test can kill it: FOLDER PACKAGE SCRATCH OPTIONS."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from components.generate_media.config import Config
from components.generate_media.step import run
from components.ports import Ports, StepReport
from model_core.codec.autoencoder import build_codec
from model_core.codec.config import CodecConfig
from model_core.codec.io import save_codec
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import ModelConfig, write_model_config
from model_core.transformer.weights import save_weights
from tests.model_core.toy_latents import model_config

ARCHITECTURE = TransformerConfig(
    in_channels=4, patch_size=(2, 2, 2), hidden_size=16, depth=2, num_heads=2, num_labels=2, text_dim=6
)
WINDOW, SIZE, FPS = 8, 16, 4.0


class Heard:
    """Keeps what was said of progress."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def update(self, *said: Any, **fields: Any) -> None:
        self.said.append(said)


def write_package(folder: Path, **changes: Any) -> Path:
    """Writes a package of clips of eight frames."""
    (folder / "codec").mkdir(parents=True)
    model = DiT(ARCHITECTURE, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    values = {
        "architecture": ARCHITECTURE.to_dict(),
        "latent_shape": (4, WINDOW, SIZE // 2, SIZE // 2),
        "image_size": SIZE,
        "fps": FPS,
        "training": {"frame_times": "context"},
        **changes,
    }
    config: ModelConfig = model_config().model_copy(update=values)
    write_model_config(config, folder)
    save_weights(dict(model.named_parameters()), folder)
    codec = CodecConfig(
        latent_channels=4, downscale=2, encoder_widths=(4, 4), encoder_blocks=(0, 0), decoder_widths=(4, 4), decoder_blocks=(0, 0)
    )
    save_codec(build_codec(codec, seed=0), folder / "codec")
    return folder


def make(
    folder: Path, package: Path, scratch: Path, *, watermarker: Any = None, **options: Any
) -> tuple[StepReport, list[tuple[Any, ...]]]:
    """Runs the step; returns its report and what it said of progress."""
    (folder / "request").mkdir(parents=True)
    (folder / "media").mkdir()
    scratch.mkdir(exist_ok=True)
    (folder / "request" / "request.json").write_text(json.dumps({"label": "squares"}))
    heard: Any = Heard()
    ports = Ports(tracking=heard, progress=heard, metrics=heard, scratch=scratch, watermarker=watermarker)
    config = Config(**{"num_images": 1, **options})
    report = run(config, {"package": package, "request": folder / "request"}, {"media": folder / "media"}, ports)
    return report, heard.said


if __name__ == "__main__":
    torch.set_num_threads(1)
    make(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), **json.loads(sys.argv[4]))
