"""What a training step's activations take, kept or computed again: ``python -m benchmarks.activation_memory``.

Each arm is a process of its own that computes gradients once, so that weights, gradients and all libraries are there, and then
looks at its memory before a forward pass, after it (what is kept for the backward pass), and at the most in both passes.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.speed_worker import held_bytes, peak_bytes
from model_core.errors import BadDataError
from model_core.transformer.dit import DiT
from model_core.transformer.presets import preset

RESULTS = Path(__file__).parent / "results" / "activation-memory.json"
ARMS = {"kept": False, "computed again": True}
_LATENTS = (4, 1, 16, 16)
_LABELS = 10
_FORGET_PEAK = "5"  # what Linux takes for that in /proc/self/clear_refs


def measure_arm(name: str, *, checkpointing: bool, batch_size: int, repeat: int, device: str) -> dict[str, int]:
    """Returns the bytes kept after a forward pass and the most in both passes, at most of several turns in this process."""
    model = DiT(preset(name, in_channels=_LATENTS[0], num_labels=_LABELS, text_dim=0)).to(device).train()
    model.set_activation_checkpointing(checkpointing)
    x = torch.randn(batch_size, *_LATENTS, device=device)
    labels = torch.arange(batch_size, device=device) % _LABELS
    nothing = torch.zeros(batch_size, 0, device=device), torch.zeros(batch_size, dtype=torch.bool, device=device)
    kept, most = 0, 0
    for turn in range(repeat + 1):
        before = _forget_peak(device)
        loss = model(x, torch.full((batch_size,), 500.0, device=device), labels, *nothing).square().mean()
        after_forward = held_bytes(device) if device == "cpu" else torch.cuda.memory_allocated()
        loss.backward()
        if turn:  # gradients were made in the first
            kept, most = max(kept, after_forward - before), max(most, peak_bytes(device) - before)
    return {"kept_bytes": kept, "peak_bytes": most}


def _forget_peak(device: str) -> int:
    """Gives free memory back, has the peak counted from here, and returns what is held now."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    import ctypes

    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text(_FORGET_PEAK, encoding="ascii")
    except OSError as error:
        raise BadDataError(
            f"the memory of a process cannot be watched here: {error}", hint="use Linux, or --device cuda"
        ) from error
    return held_bytes(device)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activation_memory", description=__doc__)
    parser.add_argument("--presets", default="DiT-S/2,DiT-B/2", help="architectures by name, with commas")
    parser.add_argument("--batch-size", type=positive, default=16)
    parser.add_argument("--repeat", type=positive, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--arm", choices=list(ARMS), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> None:
    """Runs the benchmark, or one arm of it as the process that it starts for that."""
    if options.arm:
        figures = measure_arm(
            options.presets,
            checkpointing=ARMS[options.arm],
            batch_size=options.batch_size,
            repeat=options.repeat,
            device=options.device,
        )
        print(json.dumps(figures))
        return
    names = options.presets.split(",")
    for name in names:
        preset(name, in_channels=_LATENTS[0], num_labels=_LABELS, text_dim=0)  # refuses an unknown one
    entries = [{"preset": name, **{arm: _in_a_process(name, arm, options) for arm in ARMS}} for name in names]
    document = {
        "benchmark": "activation_memory",
        "machine": machine(),
        "latents": _LATENTS,
        "batch_size": options.batch_size,
        "device": options.device,
        "entries": entries,
    }
    write_json(options.results, document)
    print(table(document))


def _in_a_process(name: str, arm: str, options: argparse.Namespace) -> dict[str, int]:
    flags = ["--presets", name, "--arm", arm, "--batch-size", options.batch_size, "--repeat", options.repeat]
    command = [sys.executable, "-m", "benchmarks.activation_memory", *map(str, flags), "--device", options.device]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"its process ended with {ended.returncode}"]
        raise BadDataError(f"{name}, activations {arm}: {lines[-1]}")
    found: dict[str, int] = json.loads(ended.stdout)
    return found


def table(document: dict[str, Any]) -> str:
    """Returns the results as Markdown: a row a network."""
    rows = []
    for entry in document["entries"]:
        kept, again = (entry[arm] for arm in ARMS)
        rows.append(
            [
                entry["preset"],
                *(f"{figures[key] / 2**20:.0f} MiB" for figures in (kept, again) for key in ("kept_bytes", "peak_bytes")),
                f"{again['kept_bytes'] / kept['kept_bytes'] - 1:+.0%}",
                f"{again['peak_bytes'] / kept['peak_bytes'] - 1:+.0%}",
            ]
        )
    header = ["network", "kept", "at most", "computed again: kept", "at most", "kept less", "at most less"]
    return markdown_table(header, rows)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
