"""Makes one clip and says what it took: ``python -m benchmarks.long_video_worker FRAMES THREADS``, for `benchmarks.long_video`.

A network of 5.2 M parameters with the weights it begins with, the shipped codec, twenty guided steps, and the step's
own way to a file.
"""

import json
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.long_video_model import FPS, FRAMES, SIZE, open_codec
from components.generate_media.config import Config
from components.generate_media.long_clips import LongClips
from components.generate_media.near_copies import Checker
from components.ports import Ports
from model_core.sampling.long_clips import plan_windows
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import Conditioning, ModelConfig, SamplingDefaults, TextEncoderId

_TEXT_DIM, _TOKENS = 384, 16


class _Silent:
    def update(self, *said: Any, **fields: Any) -> None:
        """Hears progress."""


def main(num_frames: int, threads: int) -> dict[str, Any]:
    """Returns time and peak memory."""
    torch.set_num_threads(threads)
    codec = open_codec()
    channels = codec.config.latent_channels
    side = SIZE // codec.config.factor
    architecture = TransformerConfig(
        in_channels=channels,
        patch_size=(2, 2, 2),
        hidden_size=192,
        depth=6,
        num_heads=4,
        num_labels=2,
        text_dim=_TEXT_DIM,
        mlp="swiglu",
        qk_norm=True,
        text_conditioning="cross_attention",
    )
    model_config = ModelConfig(
        architecture=architecture.to_dict(),
        objective="rectified_flow",
        conditioning=Conditioning(
            labels=["animals", "food"], text_encoder=TextEncoderId(name="none", digest="0" * 64, dim=_TEXT_DIM)
        ),
        latent_shape=(channels, FRAMES, side, side),
        image_size=SIZE,
        fps=FPS,
        codec_digest="0" * 64,
        dataset_digest="0" * 64,
        sampling=SamplingDefaults(num_steps=20, guidance_scale=3.0),
        training={"frame_times": "context"},
    )
    clips = LongClips(
        transformer=DiT(architecture, generator=torch.Generator().manual_seed(0)).requires_grad_(False).eval(),
        model_config=model_config,
        codec=codec,
        plan=plan_windows(model_config, num_frames),
        asked={"label": 0, "text": torch.zeros(1, _TEXT_DIM), "text_states": torch.ones(1, _TOKENS, _TEXT_DIM)},
        fps=FPS,
        media_format="mp4",
        checker=Checker(mode="off", state="off"),
    )
    with TemporaryDirectory() as folder:
        out, silent = Path(folder), _Silent()
        ports = Ports(tracking=silent, progress=silent, metrics=silent, scratch=out / "scratch")  # type: ignore[arg-type]
        began, used = time.perf_counter(), time.process_time()
        media, _ = clips.write(Config(num_images=1), [1], None, out, ports)
        wall_s, processor_s = time.perf_counter() - began, time.process_time() - used
        size = (out / media[0]["file"]).stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "frames": num_frames,
        "wall_s": round(wall_s, 2),
        "processor_s": round(processor_s, 2),
        "peak_mb": round(peak / 1024, 1),
        "file_kb": round(size / 1024, 1),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
