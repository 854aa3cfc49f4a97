"""How long a clip takes: ``python -m benchmarks.clip_latency --size 64 --repeat 5``.

From a sentence to a labelled MP4 file with the model already loaded: the sentence is embedded, latents are drawn with guidance,
decoded, watermarked, written as H.264, and the file gets its content credentials. The network has the shape that
`params-video.yaml` gives it and weights as they are drawn, on which no time depends; the codec is the shipped one. Not counted
is what a process does once (imports, loading, verifying the package), nor the record of the run, which does not grow with the
clip. Beside the seconds of all stages stand those of the processor, over all threads, which other work on the machine lengthens
less.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.long_video_model import open_codec
from components.generate_media.files import encode_clip
from components.train_dit.config import Config
from components.train_dit.step import build_architecture, build_model_config
from governance.credentials.claim import Claim
from infra.content_credentials import ContentSigner
from infra.content_keys import signing_keys
from infra.home import Home
from infra.media_reading import read_file, read_pixels
from infra.settings import Settings
from infra.watermark import open_watermarker
from model_core.conditioning.text import MiniLMEncoder
from model_core.data.latents import LatentsConfig, TextEncoderInfo
from model_core.sampling.generate import generate_clips
from model_core.training.config import TrainingConfig
from model_core.transformer.dit import DiT

RESULTS = Path(__file__).parent / "results" / "clip-latency.json"
PARAMETERS = Path(__file__).parents[1] / "params-video.yaml"
PROMPT: Final = "a red apple moving left slowly on a blue background"
STAGES: Final = ("sampling", "watermark", "encoding", "credentials")
_FPS: Final = 8.0
_DIGEST: Final = "0" * 64


def measure(folder: Path, *, size: int, num_frames: int, repeat: int) -> dict[str, Any]:
    """Returns the seconds of each stage and of all, a clip after another."""
    home = Home.open(Settings.load(folder / "home"))
    encoder, codec = MiniLMEncoder(), open_codec()
    watermarker = open_watermarker(home, _DIGEST)
    signer = ContentSigner(signing_keys(home), producer="groundswell")
    config = Config(**_chosen())
    latents = _latents(encoder, codec, size=size, num_frames=num_frames)
    architecture = build_architecture(config, latents)
    model_config = build_model_config(config, TrainingConfig(**config.training_values()), architecture, latents)
    network = DiT(architecture, generator=torch.Generator().manual_seed(0)).eval().requires_grad_(requires_grad=False)

    def clip(seed: int) -> dict[str, float]:
        marks, processor = [time.perf_counter()], time.process_time()
        text = encoder.encode([PROMPT])
        states = encoder.encode_tokens([PROMPT])[0][None] if architecture.reads_text_states else None
        frames = generate_clips(network, model_config, codec, labels=[None], seeds=[seed], text=text, text_states=states)
        marks.append(time.perf_counter())
        frames[0], _ = watermarker.mark(frames[0])
        marks.append(time.perf_counter())
        source = folder / "clip.mp4"
        source.write_bytes(encode_clip(frames[0], _FPS, "mp4"))
        marks.append(time.perf_counter())
        read = read_file(source)
        pixels = read_pixels(read.kind, read.data).sha256
        claim = Claim(run_id="r", position=0, model_name="m", model_version=1, root_digest=_DIGEST, pixels_sha256=pixels)
        signer.sign_file(source, folder / "out.mp4", claim)
        marks.append(time.perf_counter())
        spent = [after - before for before, after in itertools.pairwise(marks)]
        totals = {"all": marks[-1] - marks[0], "processor": time.process_time() - processor}
        return dict(zip(STAGES, spent, strict=True)) | totals

    clip(0)  # the first pays for what is built once
    runs = [clip(seed) for seed in range(1, repeat + 1)]
    return {
        "size": size,
        "frames": num_frames,
        "tokens": int(torch.tensor(architecture.grid(latents.latent_shape)).prod()),
        "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "sampling_steps": model_config.sampling.num_steps,
        "guidance_scale": model_config.sampling.guidance_scale,
        "repeat": repeat,
        "seconds": {name: round(statistics.median(run[name] for run in runs), 4) for name in runs[0]},
        "longest": round(max(run["all"] for run in runs), 4),
    }


def _chosen() -> dict[str, Any]:
    values: Mapping[str, Any] = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))
    return dict(values["train_dit"])


def _latents(encoder: MiniLMEncoder, codec: Any, *, size: int, num_frames: int) -> LatentsConfig:
    with torch.no_grad():
        shape = codec.encode(torch.zeros(1, 3, num_frames, size, size)).shape[1:]
    return LatentsConfig(
        codec_digest=_DIGEST,
        dataset_digest=_DIGEST,
        latent_shape=(shape[0], shape[1], shape[2], shape[3]),
        image_size=size,
        labels=("animals", "food"),
        text_encoder=TextEncoderInfo(name=encoder.name, digest=encoder.digest, dim=encoder.dim),
        fps=_FPS,
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clip_latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=positive, default=64, help="width and height in pixels")
    parser.add_argument("--frames", type=positive, default=16)
    parser.add_argument("--repeat", type=positive, default=5)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes the figures."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), size=options.size, num_frames=options.frames, repeat=options.repeat)
    write_json(options.results, {"machine": machine(), **found})
    print(markdown_table(list(found["seconds"]), [[f"{value:.2f} s" for value in found["seconds"].values()]]))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
