"""What encoding costs as shards get many: ``python -m benchmarks.encoding_size --shards 10,1000``.

Makes datasets of small pictures in that many tar files, and runs the step `encode_latents` over each in a process of its own, one
shard of latents a tar file, with a small untrained codec and the text encoder of the default; then goes over all latents, in the
order of the shards and at random, as training does. What is asked is whether memory, maps and open files grow with the shards.
Writes ``benchmarks/results/encoding-size.json`` and prints one Markdown table.
"""

import argparse
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.command import machine, markdown_table, positive, read_json, run_command, write_json
from benchmarks.measured import RESULTS
from benchmarks.usage import usage_of
from components.ports import Metrics, Ports, Progress, Tracking
from governance.digest import tree_digest
from model_core.codec.autoencoder import Codec
from model_core.codec.config import CodecConfig
from model_core.codec.io import save_codec
from model_core.data.dataset import Dataset, DatasetInfo
from model_core.data.importers.plan import Item
from model_core.data.latents import LatentDataset
from model_core.data.split import HOLDOUT, TRAIN
from model_core.data.writer import write_dataset

_SIDE = 16
_CAPTIONS = 100
_BATCH = 32
_ENCODE = "--encode"
_CODEC = CodecConfig(
    latent_channels=4,
    downscale=4,
    encoder_widths=(4, 8, 8),
    encoder_blocks=(0, 1, 1),
    decoder_widths=(4, 8, 8),
    decoder_blocks=(0, 1, 1),
)


class Silent(Tracking, Metrics, Progress):
    """Takes what a step tells, and keeps nothing."""

    def update(self, completed: int, total: int, description: str = "", **fields: float | str) -> None:
        """Keeps nothing."""


def write_inputs(folder: Path, *, num_shards: int, items_a_shard: int) -> None:
    """Writes a dataset whose shards hold so many pictures each, the report that it passed, and a codec."""
    num_items = num_shards * items_a_shard
    png = _pictures()
    held_out = max(1, num_shards // 10) * items_a_shard
    items = [
        (
            Item(
                key=f"{place:07d}",
                locator="",
                label=("circle", "square")[place % 2],
                caption=f"picture {place % _CAPTIONS}",
                split=HOLDOUT if place < held_out else TRAIN,
                licence="CC0-1.0",
                source="benchmark",
            ),
            next(png),
        )
        for place in range(num_items)
    ]
    info = DatasetInfo(
        name="shards",
        importer="benchmark",
        options={},
        labels=("circle", "square"),
        licences=("CC0-1.0",),
        attribution="",
        image_size=_SIDE,
    )
    (folder / "validation").mkdir(parents=True)
    write_dataset(folder / "dataset", info, items, shard_bytes=items_a_shard * len(items[0][1]))
    report = {"success": True, "dataset_digest": tree_digest(folder / "dataset")}
    (folder / "validation/report.json").write_text(json.dumps(report), encoding="utf-8")
    torch.manual_seed(0)
    (folder / "codec").mkdir()
    save_codec(Codec(_CODEC).eval(), folder / "codec")


def _pictures() -> Iterator[bytes]:
    """Yields pictures of noise as PNG, all of one length."""
    rng = np.random.default_rng(0)
    while True:
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)).save(buffer, "PNG", compress_level=0)
        yield buffer.getvalue()


def encode(folder: Path) -> dict[str, Any]:
    """Encodes, and reads all latents twice; returns seconds, memory, maps and open files."""
    from components.encode_latents.config import Config
    from components.encode_latents.step import run

    torch.set_num_threads(1)
    for name in ("scratch", "latents"):
        (folder / name).mkdir()
    silent = Silent()
    ports = Ports(tracking=silent, progress=silent, metrics=silent, scratch=folder / "scratch")
    items_a_shard = Dataset.open(folder / "dataset").table["shard"].value_counts()[0]["counts"].as_py()
    began = time.perf_counter()
    inputs = {name: folder / name for name in ("dataset", "validation", "codec")}
    run(Config(shard_size=items_a_shard), inputs, {"latents": folder / "latents"}, ports)
    encoded = time.perf_counter()
    encoding_memory = _peak_bytes()
    latents = LatentDataset.open(folder / "latents")
    opened = time.perf_counter()
    for order in (torch.arange(len(latents)), torch.randperm(len(latents), generator=torch.Generator().manual_seed(0))):
        for rows in order.split(_BATCH):
            latents.latents(rows.tolist())
    read = time.perf_counter()
    return {
        "items": len(latents),
        "encoding_s": round(encoded - began, 3),
        "opening_s": round(opened - encoded, 3),
        "reading_s": round(read - opened, 3),
        "encoding_peak_memory_bytes": encoding_memory,
        "maps_of_latents": sum(".safetensors" in line for line in Path("/proc/self/maps").read_text("utf-8").splitlines()),
        "open_files": len(list(Path("/proc/self/fd").iterdir())),
        "latents_bytes": sum(path.stat().st_size for path in (folder / "latents").rglob("*") if path.is_file()),
    }


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(num_shards: int, items_a_shard: int) -> dict[str, Any]:
    """Encodes a dataset of so many shards in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="groundswell-encoding-") as name:
        folder = Path(name)
        write_inputs(folder, num_shards=num_shards, items_a_shard=items_a_shard)
        output = folder / "encoded.json"
        usage = usage_of([sys.executable, "-m", "benchmarks.encoding_size", _ENCODE, name], output, what="encoding")
        told = read_json(output)
    return {
        "shards": num_shards,
        **told,
        "peak_memory_bytes": usage["peak_memory_bytes"],
        "processor_s": round(usage["processor_s"], 3),
    }


def table(document: Mapping[str, Any]) -> str:
    """Returns the figures as a Markdown table."""
    rows = [
        [
            f"{run['shards']:,}",
            f"{run['items']:,}",
            f"{run['encoding_s']:.1f}",
            f"{run['encoding_peak_memory_bytes'] / 1e6:.0f} MB",
            f"{run['peak_memory_bytes'] / 1e6:.0f} MB",
            str(run["open_files"]),
        ]
        for run in document["runs"]
    ]
    return markdown_table(["shards", "items", "encoding, s", "peak of encoding", "peak with reading", "open files"], rows)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.encoding_size", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", default="10,1000", help="numbers of shards (%(default)s)")
    parser.add_argument("--items-a-shard", type=positive, default=20, help="pictures in each (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS / "encoding-size.json", help="where the figures go (%(default)s)")
    parser.add_argument(_ENCODE, type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Measures, writes the figures and prints the table; as the process that is measured, prints what it took."""
    if options.encode is not None:
        print(json.dumps(encode(options.encode)))
        return
    runs = [measure(positive(number), options.items_a_shard) for number in options.shards.split(",")]
    document = {"machine": machine(), "items_a_shard": options.items_a_shard, "side": _SIDE, "runs": runs}
    write_json(options.json, document)
    print(table(document))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
