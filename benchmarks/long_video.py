"""Long clips: time, memory and drift: ``python -m benchmarks.long_video --work FOLDER [--steps N]``.

Trains a small model on a few graphics of moving-openmoji (`long_video_model`), makes clips of a minute with it, and judges each
second of them against the clip's first second and against real clips. Time and peak memory are those of a process of its own for
each length (`long_video_worker`), with a network of 5.2 M parameters: what weights it has makes no difference to either.
What was done before is not done again: training goes on from its checkpoint, and each part is kept in the results.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.command import machine, markdown_table, positive, read_json, run_command, write_json
from benchmarks.long_video_model import (
    COLOURS,
    FPS,
    FRAMES,
    GRAPHICS,
    MOTIONS,
    architecture,
    captions_of,
    model_config,
    open_codec,
    prepare_latents,
    scenes,
    training,
)
from model_core.conditioning.text import MiniLMEncoder
from model_core.data.importers.moving_openmoji import BACKGROUNDS
from model_core.data.latents import LatentDataset
from model_core.evaluation.drift import Drift, measure_drift, write_drift_plot
from model_core.evaluation.features import FeatureExtractor, open_extractor
from model_core.evaluation.intervals import Interval
from model_core.evaluation.probe import train_probe
from model_core.sampling.long_clips import Window, generate_long_clip, plan_windows
from model_core.sampling.seeds import image_seed
from model_core.training.loop import train
from model_core.transformer.dit import DiT

RESULTS = Path(__file__).parent / "results" / "long-video.json"
_FEATURE_SIZE = 96
_LOOKS_A_SECOND = 2
_REAL_LOOKS = 4
_SHOWN_EVERY_S = 4


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.long_video", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for latents, checkpoints, weights and clips")
    parser.add_argument("--steps", type=positive, default=800, help="steps of training")
    parser.add_argument("--patch-side", type=positive, default=4, help="latent positions a patch along height and width")
    parser.add_argument("--frame-times", choices=["context", "independent"], default="context")
    parser.add_argument("--frames", type=positive, default=480, help="length of the clips that are judged")
    parser.add_argument("--context-times", default="0,0.02", help="noise on context, with commas, each judged for itself")
    parser.add_argument("--lengths", default="16,64,480,1440", help="lengths whose time and memory are measured, with commas")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--part", choices=["all", "drift", "speed"], default="all")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Measures what was asked for, and prints it as Markdown."""
    options = parse(arguments)

    def body() -> None:
        torch.set_num_threads(options.threads)
        options.work.mkdir(parents=True, exist_ok=True)
        document = read_json(options.results) if options.results.is_file() else {}
        document["machine"] = machine()
        if options.part != "speed":
            document["drift"] = _drift(options, document.get("drift", {}))
            write_json(options.results, document)
        if options.part != "drift":
            lengths = [int(length) for length in options.lengths.split(",")]
            document["speed"] = [_measured(length, options) for length in lengths]
            write_json(options.results, document)
        print(_tables(document))

    return run_command(body)


def _trained(options: argparse.Namespace, latents: LatentDataset) -> tuple[DiT, float]:
    """Returns the trained network, and the loss of its last steps."""
    config, network_config = training(options.steps, options.frame_times), architecture(latents.config, options.patch_side)
    scratch = options.work / f"training-{options.frame_times}-{options.patch_side}-{options.steps}"
    scratch.mkdir(exist_ok=True)

    def tell(progress: Any) -> None:
        if progress.step % 50 == 0:
            print(f"step {progress.step}: loss {progress.loss:.3f}, {progress.seconds_left:.0f} s left", file=sys.stderr)

    result = train(config, network_config, latents, scratch=scratch, on_step=tell)
    network = DiT(network_config).requires_grad_(False).eval()
    network.load_state_dict(result.weights)
    return network, float(np.mean(result.losses[-50:]))


def _drift(options: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    """Returns how clips drift; curves of an earlier call stay where they are of the same model and length."""
    encoder, codec = MiniLMEncoder(), open_codec()
    latents = prepare_latents(options.work / "latents", encoder, codec)
    network, loss = _trained(options, latents)
    extractor = open_extractor(options.work, input_size=_FEATURE_SIZE)
    judged = _Judge(extractor)
    config = model_config(latents.config, network.config, training(options.steps, options.frame_times))
    plan = plan_windows(config, options.frames)
    asked = [(place, caption) for motion in MOTIONS for place, caption in enumerate(captions_of(GRAPHICS, motion))]
    text = encoder.encode([caption for _, caption in asked])
    of = {name: getattr(options, name) for name in ("steps", "patch_side", "frame_times", "frames")} | {"clips": len(asked)}
    same = all(before.get(key) == of[key] for key in of)
    found = {name: _read(curve) for name, curve in before["curves"].items()} if same else {}
    backgrounds: dict[str, list[float]] = before["backgrounds"] if same else {}
    for context_time in map(float, options.context_times.split(",")):
        features = []
        shown = []
        for number, (label, _) in enumerate(asked):
            looks = _Looks(extractor)
            generate_long_clip(
                network,
                config,
                codec,
                plan,
                seed=image_seed(0, number),
                on_window=looks.take,
                label=label,
                text=text[number : number + 1],
                context_time=context_time,
            )
            features.append(looks.by_second(plan.num_frames))
            shown.append(np.stack(looks.shown))
            print(f"context at {context_time}: clip {number + 1} of {len(asked)}", file=sys.stderr)
        labels = np.array([label for label, _ in asked])
        found[f"context noised to {context_time:g}"] = judged.drift(np.stack(features), labels)
        backgrounds[f"{context_time:g}"] = background_accuracy(np.stack(shown), [COLOURS[label] for label in labels])
        strips = np.concatenate([np.concatenate(list(frames), axis=1) for frames in shown])
        Image.fromarray(strips).save(options.work / f"clips-{context_time:g}.png")
    title = f"{len(asked)} clips of {plan.num_frames} frames, {options.steps} steps of training"
    write_drift_plot(found, options.results.with_suffix(".png"), title=title)
    curves = {name: asdict(drift) | {"accuracy_kept": drift.accuracy_kept} for name, drift in found.items()}
    return {**of, "loss": loss, "context_frames": plan.context, "backgrounds": backgrounds, "curves": _rounded(curves)}


def background_accuracy(frames: np.ndarray, asked: list[str]) -> list[float]:
    """Returns which share of clips shows the background asked for, frame by frame: most of a frame is background.

    Args:
        frames: Frames of clips, uint8 [clips frames height width 3].
        asked: The background of each clip.
    """
    palette = np.array(list(BACKGROUNDS.values()), dtype=np.float64)
    colours = np.median(frames, axis=(2, 3))  # [clips frames 3]
    nearest = np.square(colours[:, :, None] - palette).sum(axis=-1).argmin(axis=-1)
    wanted = np.array([list(BACKGROUNDS).index(name) for name in asked])
    return [float(share) for share in (nearest == wanted[:, None]).mean(axis=0)]


def _rounded(values: Any) -> Any:
    """Returns plain values with numbers to four significant digits."""
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_rounded(value) for value in values]
    return float(f"{values:.4g}") if isinstance(values, float) else values


def _read(curve: dict[str, Any]) -> Drift:
    """Returns figures as they were before they were written."""
    intervals = {name: tuple(Interval(**one) for one in curve[name]) for name in ("to_first", "to_real")}
    return Drift(**intervals, accuracy=tuple(curve["accuracy"]), accuracy_real=curve["accuracy_real"])


class _Looks:
    """Features of some frames of a clip, taken as its windows come."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor = extractor
        self._begin = 0
        self._features: list[np.ndarray] = []
        self.shown: list[np.ndarray] = []

    def take(self, window: Window) -> None:
        """Looks at a window's frames."""
        every = round(FPS / _LOOKS_A_SECOND)
        places = [place for place in range(len(window.frames)) if (self._begin + place) % every == 0]
        if places:
            self._features.append(self._extractor.extract(window.frames[places]))
        for place, frame in enumerate(window.frames):
            if (self._begin + place) % round(FPS * _SHOWN_EVERY_S) == 0:
                self.shown.append(frame)
        self._begin += len(window.frames)

    def by_second(self, num_frames: int) -> np.ndarray:
        """Returns the features of whole seconds, [seconds looks dim]."""
        seconds = int(num_frames / FPS)
        found = np.concatenate(self._features)[: seconds * _LOOKS_A_SECOND]
        return found.reshape(seconds, _LOOKS_A_SECOND, -1)


class _Judge:
    """Real clips: those of training teach the probe, the others are what clips are compared with."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        found = scenes()
        sides: dict[bool, list[tuple[np.ndarray, int, int]]] = {False: [], True: []}
        places = np.linspace(0, FRAMES - 1, _REAL_LOOKS).round().astype(int)
        for clip, (label, held_out) in enumerate(zip(found.labels, found.held_out, strict=True)):
            sides[held_out] += [(frame, label, clip) for frame in found.frames(clip)[places]]
        frames, labels, _ = zip(*sides[False], strict=True)
        self._probe = train_probe(extractor.extract(np.stack(frames)), np.array(labels))
        frames, labels, clips = zip(*sides[True], strict=True)
        self._real = {
            "real": extractor.extract(np.stack(frames)),
            "real_labels": np.array(labels),
            "real_clips": np.array(clips),
        }

    def drift(self, features: np.ndarray, asked: np.ndarray) -> Drift:
        """Returns how clips drift."""
        return measure_drift(features, asked, probe=self._probe, **self._real)


def _measured(num_frames: int, options: argparse.Namespace) -> dict[str, Any]:
    """Returns time and peak memory of a clip that a process of its own makes."""
    command = [sys.executable, "-m", "benchmarks.long_video_worker", str(num_frames), str(options.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    found: dict[str, Any] = json.loads(done.stdout)
    print(found, file=sys.stderr)
    return found


def _tables(document: dict[str, Any]) -> str:
    parts = []
    if "speed" in document:
        header = ("frames", "seconds at 8 fps", "wall s", "processor s", "peak MB", "file KB")
        rows = [
            (
                row["frames"],
                row["frames"] / FPS,
                f"{row['wall_s']:.1f}",
                f"{row['processor_s']:.1f}",
                row["peak_mb"],
                row["file_kb"],
            )
            for row in document["speed"]
        ]
        parts.append(markdown_table(header, rows))
    if "drift" in document:
        header = ("", "accuracy first s", "last s", "kept", "real", "distance to first, last s", "KID first s", "last s")
        rows = [_row(name, curve) for name, curve in document["drift"]["curves"].items()]
        parts.append(markdown_table(header, rows))
    return "\n\n".join(parts)


def _row(name: str, curve: dict[str, Any]) -> tuple[str, ...]:
    def told(interval: dict[str, float]) -> str:
        found = Interval(**interval)
        return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"

    shares = (curve["accuracy"][0], curve["accuracy"][-1], curve["accuracy_kept"], curve["accuracy_real"])
    return (
        name,
        *(f"{share:.0%}" for share in shares),
        told(curve["to_first"][-1]),
        told(curve["to_real"][0]),
        told(curve["to_real"][-1]),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
