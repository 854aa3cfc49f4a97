"""What a second process is worth on one machine: ``python -m benchmarks.distributed_throughput --rounds 3``.

The same network trains with the same global batch in one process on all threads and in as many processes as there are threads,
each on one, by DDP over gloo. The two take turns, so that what else the machine does falls on both, and the median time of a
step counts, without the first ones. The goal is 0.9 times the throughput of the one process: what DDP adds is the exchange of
gradients, what it saves are threads that wait for each other within every operation.
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from model_core.data.latents import INDEX_SCHEMA, LatentsConfig, TextEncoderInfo, shard_name, write_index, write_shard
from model_core.training.config import TrainingConfig
from model_core.training.workers import train_in_processes
from model_core.transformer.config import TransformerConfig

RESULTS = Path(__file__).parent / "results" / "distributed-throughput.json"
_NUM_ITEMS = 64
_SHAPE = (4, 1, 16, 16)
_WARM_STEPS = 3


def write_latents(folder: Path) -> None:
    """Writes latents of noise, on which no time depends."""
    folder.mkdir(parents=True)
    write_shard(folder, 0, torch.randn(_NUM_ITEMS, *_SHAPE, generator=torch.Generator().manual_seed(0)))
    entry = {"shard": shard_name(0), "sha256": "0" * 64, "split": "train", "label_index": 0, "caption_index": -1}
    index = pa.Table.from_pylist([{**entry, "row": row} for row in range(_NUM_ITEMS)], schema=INDEX_SCHEMA)
    config = LatentsConfig(
        codec_digest="0" * 64,
        dataset_digest="0" * 64,
        latent_shape=_SHAPE,
        image_size=128,
        labels=("noise",),
        text_encoder=TextEncoderInfo(name="none", digest="0" * 64, dim=1),
    )
    write_index(folder, config, index, captions=["none"], embeddings=torch.zeros(1, 1))


def step_seconds(latents: Path, *, num_processes: int, num_steps: int, batch_size: int, architecture: TransformerConfig) -> float:
    """Returns the median time of a step."""
    marks: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        train_in_processes(
            TrainingConfig(num_steps=num_steps + _WARM_STEPS, batch_size=batch_size, checkpoint_every_s=1e9),
            architecture,
            latents,
            num_processes=num_processes,
            strategy="ddp",
            scratch=Path(scratch),
            device="cpu",
            on_step=lambda _: marks.append(time.perf_counter()),
        )
    return statistics.median(after - before for before, after in itertools.pairwise(marks[_WARM_STEPS - 1 :]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the times of both ways, turn by turn, and how much of the throughput of one process several have."""
    torch.set_num_threads(options.processes)
    architecture = TransformerConfig(
        in_channels=_SHAPE[0],
        patch_size=(1, 2, 2),
        hidden_size=options.hidden_size,
        depth=options.depth,
        num_heads=options.hidden_size // 64,
        num_labels=1,
        text_conditioning="none",
    )
    found: dict[int, list[float]] = {1: [], options.processes: []}
    with tempfile.TemporaryDirectory() as folder:
        write_latents(Path(folder) / "latents")
        for _ in range(options.rounds):
            for count, times in found.items():
                times.append(
                    step_seconds(
                        Path(folder) / "latents",
                        num_processes=count,
                        num_steps=options.steps,
                        batch_size=options.batch,
                        architecture=architecture,
                    )
                )
    alone, together = found.values()
    return {
        "machine": machine(),
        "load_average": round(os.getloadavg()[0], 2),
        "hidden_size": options.hidden_size,
        "depth": options.depth,
        "batch_size": options.batch,
        "num_processes": options.processes,
        "step_s_of_one": [round(value, 4) for value in alone],
        "step_s_of_several": [round(value, 4) for value in together],
        "throughput_of_several_over_one": round(statistics.median(alone) / statistics.median(together), 3),
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.distributed_throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=positive, default=2)
    parser.add_argument("--hidden-size", type=positive, default=384)
    parser.add_argument("--depth", type=positive, default=12)
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--steps", type=positive, default=8, help="that are timed in each turn")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Measures, writes the figures and prints them."""
    found = measure(options)
    write_json(options.results, found)
    share = found["throughput_of_several_over_one"]
    rows = [[1, found["step_s_of_one"], 1], [options.processes, found["step_s_of_several"], share]]
    print(markdown_table(["processes", "seconds a step", "throughput"], rows))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
