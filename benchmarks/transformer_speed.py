"""What a training step and a guided sampling step cost, against two peers: ``python -m benchmarks.transformer_speed``.

Contenders: our network in our training loop as the DiT paper has it, as the preset `modern` has it, and with that and
one modulation for all blocks; the paper's network trained as its published program does (`benchmarks.peers`); diffusers'
DiTTransformer2DModel with torch's AdamW and diffusers' average of weights. A training step is all of it: batch, forward,
backward, clipping where the contender does it, optimiser, average.

Each contender is a process of its own, so that its peak memory is its own, and the processes take turns step by step, so that a
machine that slows down slows all of them down. Medians are told, and as a share of the median of matrix products that were timed
in the same turns. On the processor it is DiT-S/2 on latents of 4 x 16 x 16 in float32; with ``--device cuda`` DiT-XL/2 on
4 x 32 x 32 in bfloat16.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.command import chosen, machine, markdown_table, positive, run_command, write_json
from benchmarks.speed_contenders import CONTENDERS, MATMUL, MATMUL_SIZE, Settings
from model_core.errors import BadDataError, BadModelError

_ROOT = Path(__file__).resolve().parents[1]
_SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16), "tiny": (32, 2, 2)}
_MATMULS_A_TURN = 5
_SAMPLING_REPEATS = 3
_WARM_UP_TURNS = 1


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transformer_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=positive, default=10, help="training steps of each contender that are timed")
    parser.add_argument("--sampling-steps", type=positive, default=5, help="guided steps of one timed drawing")
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--size", choices=list(_SIZES), help="DiT-SIZE/2; S on the processor, XL on a GPU if not given")
    parser.add_argument("--side", type=positive, help="side of the latents; 16 on the processor, 32 on a GPU if not given")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="float32 on the processor, bfloat16 on a GPU")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--contenders", default="all", help=f"names with commas: {', '.join(CONTENDERS)}")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args(arguments)


def settings_of(options: argparse.Namespace) -> Settings:
    """Returns what the contenders have in common.

    Raises:
        BadDataError: There is no GPU, or the patch does not divide the latents.
    """
    on_gpu = options.device == "cuda"
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            raise BadDataError("torch finds no CUDA GPU on this machine", hint="leave --device out to measure on the processor")
    hidden_size, depth, num_heads = _SIZES[options.size or ("XL" if on_gpu else "S")]
    side = options.side or (32 if on_gpu else 16)
    if side % 2:
        raise BadDataError(f"latents of side {side} do not divide into patches of 2", hint="give an even --side")
    return Settings(
        contender="",
        hidden_size=hidden_size,
        depth=depth,
        num_heads=num_heads,
        side=side,
        batch_size=options.batch,
        device=options.device,
        precision=options.precision or ("bfloat16" if on_gpu else "float32"),
        threads=options.threads,
    )


class Worker:
    """A contender's process; it has to be waited for with `wait_until_ready`.

    Attributes:
        facts: What it said of itself when it was ready.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = settings.contender
        command = [sys.executable, "-m", "benchmarks.speed_worker", json.dumps(settings.to_dict())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        self.facts: dict[str, Any] = {}

    def wait_until_ready(self) -> None:
        """Waits for its first training step.

        Raises:
            BadModelError: The process has ended.
        """
        self.facts = self._read()

    def ask(self, line: str) -> dict[str, Any]:
        """Sends a line and returns the answer.

        Raises:
            BadModelError: The process has ended.
        """
        if self._process.stdin is None:
            raise BadModelError(f"the contender {self.name} cannot be asked")
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # the end of its input ends it
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            code = self._process.wait()
            raise BadModelError(
                f"the contender {self.name} ended with {code}", hint="what it said stands above; leave it out with --contenders"
            )
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def workers(names: list[str], settings: Settings) -> Iterator[dict[str, Worker]]:
    """Starts the processes, waits until each has trained for a step, and ends them afterwards."""
    with ExitStack() as stack:
        found = {}
        for name in names:
            found[name] = Worker(replace(settings, contender=name))
            stack.callback(found[name].close)
        for worker in found.values():
            worker.wait_until_ready()
        yield found


def measure_contenders(names: list[str], settings: Settings, *, steps: int, sampling_steps: int) -> dict[str, Any]:
    """Times the contenders in turns and returns the figures."""
    with workers([MATMUL, *names], settings) as found:
        _turns(found, names, "train 1", _WARM_UP_TURNS)
        training, during = _turns(found, names, "train 1", steps)
        memory = {name: found[name].ask("memory")["bytes"] - found[name].facts["baseline_bytes"] for name in names}
        _turns(found, names, "sample 1", _WARM_UP_TURNS)
        sampled, more = _turns(found, names, f"sample {sampling_steps}", _SAMPLING_REPEATS)
        operations = {name: found[name].ask("operations") for name in names}
        parameters = {name: found[name].facts["num_parameters"] for name in names}
    products = [*during, *more]
    peak = 2 * MATMUL_SIZE[settings.device] ** 3 / median(products)
    rows = {
        name: {
            "num_parameters": parameters[name],
            "training_step_s": median(training[name]),
            "training_steps_s": training[name],
            "training_flops": operations[name]["training_flops"],
            "training_share_of_peak": operations[name]["training_flops"] / median(training[name]) / peak,
            "peak_memory_bytes": memory[name],
            "sampling_step_s": median(sampled[name]),
            "sampling_steps_s": sampled[name],
            "sampling_flops": operations[name]["sampling_flops"],
            "sampling_share_of_peak": operations[name]["sampling_flops"] / median(sampled[name]) / peak,
        }
        for name in names
    }
    return {"matmul_flops_per_s": peak, "matmul_s": products, "contenders": rows}


def _turns(found: dict[str, Worker], names: list[str], line: str, turns: int) -> tuple[dict[str, list[float]], list[float]]:
    """Asks all contenders in turn, so often, beginning with another one each time; returns their seconds, and the products'."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    products: list[float] = []
    for turn in range(turns):
        products += found[MATMUL].ask(f"train {_MATMULS_A_TURN}")["seconds"]
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds[name] += found[name].ask(line)["seconds"]
    return seconds, products


def table(document: dict[str, Any]) -> str:
    """Returns the figures as Markdown: a row a contender."""
    rows = [
        [
            name,
            f"{row['num_parameters'] / 1e6:.1f} M",
            f"{1000 * row['training_step_s']:.1f}",
            f"{row['training_flops'] / 1e9:.1f}",
            f"{100 * row['training_share_of_peak']:.0f} %",
            f"{row['peak_memory_bytes'] / 2**20:.0f}",
            f"{1000 * row['sampling_step_s']:.1f}",
            f"{100 * row['sampling_share_of_peak']:.0f} %",
        ]
        for name, row in document["contenders"].items()
    ]
    header = [
        "contender",
        "parameters",
        "training step, ms",
        "GFLOP",
        "of matmul",
        "peak memory, MiB",
        "guided sampling step, ms",
        "of matmul",
    ]
    settings = document["settings"]
    return (
        f"{markdown_table(header, rows)}\n\n"
        f"Width {settings['hidden_size']}, depth {settings['depth']}, patch 2, latents 4x{settings['side']}x{settings['side']}, "
        f"batch {settings['batch_size']}, {settings['precision']}, {settings['threads']} threads; medians of "
        f"{document['steps']} training steps in turns. Matrix products in the same turns: "
        f"{document['matmul_flops_per_s'] / 1e9:.1f} GFLOP/s (median)."
    )


def measure(options: argparse.Namespace) -> None:
    """Runs the benchmark."""
    names = chosen(options.contenders, CONTENDERS, what="contender")
    settings = settings_of(options)
    found = measure_contenders(names, settings, steps=options.steps, sampling_steps=options.sampling_steps)
    shared = {name: value for name, value in settings.to_dict().items() if name != "contender"}
    document = {
        "benchmark": "transformer_speed",
        "machine": machine(),
        "settings": shared,
        "steps": options.steps,
        "sampling_steps": options.sampling_steps,
        **found,
    }
    if options.json is not None:
        write_json(options.json, document)
    print(table(document))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
