"""What a thousand clips cost at each step before training: ``python -m benchmarks.clip_costs [--clips 300]``.

Imports generated clips of 16 frames at 32 x 32 pixels, reads and digests them as `validate_data` does, and encodes them as
`encode_latents` does, with the shipped codec and text encoder; embeds captions that all differ; and looks for pictures that look
alike among pictures of noise, which is the least that it takes, since no pair needs a closer look. Seconds are of processor time.
Writes ``benchmarks/results/clip-costs.json`` and prints one Markdown table.
"""

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.encoding_size import Silent
from benchmarks.measured import RESULTS
from components.encode_latents.config import Config
from components.encode_latents.step import run as encode_latents
from components.ports import Ports
from governance.digest import tree_digest
from infra.shipped_codec import SHIPPED_FOLDER
from model_core.conditioning.text import MiniLMEncoder
from model_core.data.dataset import Dataset
from model_core.data.importing import import_dataset
from model_core.data.media_facts import examine
from model_core.data.near_duplicates import FINGERPRINT_SIDE, nearest_within

_SIZE, _FRAMES, _FPS = 32, 16, 8.0
_CAPTIONS_AT_A_TIME = 64


def measure(folder: Path, *, num_clips: int, num_captions: int, num_pictures: int) -> dict[str, Any]:
    """Returns processor seconds and bytes of each thousand, and of each million pairs of pictures."""
    dataset_folder, latents = folder / "dataset", folder / "latents"

    def imported() -> None:
        import_dataset("moving-openmoji", dataset_folder, size=_SIZE, limit=num_clips, frames=_FRAMES, fps=_FPS, workers=1)

    thousands: dict[str, Any] = {"import": {"processor_s": _processor_s(imported), "bytes": _bytes(dataset_folder)}}
    dataset = Dataset.open(dataset_folder)
    reading = _processor_s(lambda: examine(dataset, radius=0.0, compare_at_most=0, progress=_unseen))
    thousands["reading"] = {"processor_s": reading}
    (folder / "validation").mkdir()
    report = {"success": True, "dataset_digest": tree_digest(dataset_folder)}
    (folder / "validation/report.json").write_text(json.dumps(report), encoding="utf-8")
    for name in ("latents", "scratch"):
        (folder / name).mkdir()
    silent = Silent()
    ports = Ports(tracking=silent, progress=silent, metrics=silent, scratch=folder / "scratch")
    inputs = {"dataset": dataset_folder, "validation": folder / "validation", "codec": SHIPPED_FOLDER / "codec"}
    encoding = _processor_s(lambda: encode_latents(Config(device="cpu"), inputs, {"latents": latents}, ports))
    thousands["encode"] = {"processor_s": encoding, "bytes": _bytes(latents / "shards")}
    of_clips = {name: {key: 1000 * value / len(dataset) for key, value in costs.items()} for name, costs in thousands.items()}

    encoder = MiniLMEncoder()
    texts = [f"a clip of an animal that moves to the left and back again, take {number}" for number in range(num_captions)]
    encoder.encode(texts[:1])  # loads it

    def embedded() -> None:
        for start in range(0, num_captions, _CAPTIONS_AT_A_TIME):
            encoder.encode(texts[start : start + _CAPTIONS_AT_A_TIME])

    of_clips["captions"] = {"processor_s": 1000 * _processor_s(embedded) / num_captions, "bytes": 1000 * 4 * encoder.dim}
    prints = np.random.default_rng(0).integers(0, 256, (num_pictures, 3 * FINGERPRINT_SIDE**2), dtype=np.uint8)
    seconds = _processor_s(lambda: nearest_within(prints, prints, 8.0, same=True))
    return {
        "clips": len(dataset),
        "of_a_thousand": {name: {key: round(value, 3) for key, value in costs.items()} for name, costs in of_clips.items()},
        "alike": {"pictures": num_pictures, "processor_s_a_million_pairs": round(1e6 * seconds / num_pictures**2, 5)},
    }


def _unseen(_done: int, _total: int) -> None:
    """Keeps no progress."""


def _processor_s(body: Callable[[], object]) -> float:
    began = _used_s()
    body()
    return _used_s() - began


def _used_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def table(document: Mapping[str, Any]) -> str:
    """Returns the figures as a Markdown table."""
    rows = [
        [name, f"{costs['processor_s']:.2f}", f"{costs['bytes'] / 1e6:.2f} MB" if "bytes" in costs else ""]
        for name, costs in document["of_a_thousand"].items()
    ]
    rows.append(["a million pairs of pictures", f"{document['alike']['processor_s_a_million_pairs']:.4f}", ""])
    return markdown_table(["a thousand clips", "processor seconds", "bytes"], rows)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clip_costs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=positive, default=300, help="clips that are imported (%(default)s)")
    parser.add_argument("--captions", type=positive, default=1000, help="captions that are embedded (%(default)s)")
    parser.add_argument("--pictures", type=positive, default=20_000, help="pictures that are compared (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS / "clip-costs.json", help="where the figures go (%(default)s)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Measures, writes the figures and prints the table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="groundswell-clips-") as folder:
        found = measure(Path(folder), num_clips=options.clips, num_captions=options.captions, num_pictures=options.pictures)
    document = {"machine": machine(), "size": _SIZE, "frames": _FRAMES, **found}
    write_json(options.json, document)
    print(table(document))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
