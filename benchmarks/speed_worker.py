"""One contender of `benchmarks.transformer_speed`, in a process of its own: ``python -m benchmarks.speed_worker SETTINGS``.

A process of its own, so that its peak memory is its own. It trains step by step, and lines on standard input tell it when: only
the contender that was told so works, the others wait. ``train N`` and ``sample N`` answer with a JSON line of seconds, ``memory``
with bytes, ``operations`` with counts; ``quit`` or the end of the input ends it.
"""

import contextlib
import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.speed_contenders import EVERYTHING, MATMUL, Contender, Settings

_LIBRARIES = {
    MATMUL: (),
    "reference": ("benchmarks.peers.dit_reference", "benchmarks.peers.reference_training"),
    "diffusers": ("diffusers.training_utils", "diffusers.models.transformers.dit_transformer_2d"),
    **dict.fromkeys(("ours", "ours-modern", "ours-modern-shared"), ("model_core.training.loop", "model_core.sampling.sample")),
}


class _Stop(BaseException):
    """Leaves the endless training; no error."""


class Session:
    """Answers the lines on standard input from inside the training loop.

    Args:
        contender: What is measured.
        settings: How.
        baseline_bytes: Memory that the process held before the contender was built.
    """

    def __init__(self, contender: Contender, settings: Settings, *, baseline_bytes: int) -> None:
        self._contender, self._settings, self._baseline_bytes = contender, settings, baseline_bytes
        self._left, self._seconds, self._started = 0, list[float](), 0.0
        self._warm = False

    def after_step(self) -> None:
        """Notes a step's time; once those asked for are done, answers, and waits for the next line."""
        self._synchronise()
        if self._left:
            self._seconds.append(time.perf_counter() - self._started)
            self._left -= 1
            if not self._left:
                _answer({"seconds": self._seconds})
        elif not self._warm:
            self._warm = True
            _answer({"num_parameters": self._contender.num_parameters, "baseline_bytes": self._baseline_bytes})
        while not self._left:
            self._obey(sys.stdin.readline().split())
        self._started = time.perf_counter()

    def _obey(self, words: list[str]) -> None:
        match words:
            case ["train", count]:
                self._left, self._seconds = int(count), []
            case ["sample", count]:
                began = time.perf_counter()
                self._contender.sample(int(count))
                self._synchronise()
                _answer({"seconds": [(time.perf_counter() - began) / int(count)]})
            case ["memory"]:
                _answer({"bytes": peak_bytes(self._settings.device)})
            case ["operations"]:
                _answer(operations(self._contender, self._settings))
            case _:  # quit, or the parent is gone
                raise _Stop

    def _synchronise(self) -> None:
        if self._settings.device == "cuda":
            torch.cuda.synchronize()


def _answer(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


def _status_bytes(name: str) -> int | None:
    """Returns a figure of the process's memory from Linux, None elsewhere."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    found = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(f"{name}:")]
    return int(found[0].split()[1]) * 1024 if found else None


def peak_bytes(device: str) -> int:
    """Returns the most memory that this process has held: the accelerator's, or the machine's."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    peak = _status_bytes("VmHWM")  # not getrusage's figure: on Linux that may be the parent's, carried over the start
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if peak is None else peak


def held_bytes(device: str) -> int:
    """Returns the memory that this process holds now, which before a contender is built is the interpreter and its libraries."""
    return 0 if device == "cuda" else (_status_bytes("VmRSS") or peak_bytes(device))


def _load_lazily_imported(device: str) -> None:
    """Takes one step of a tiny network, so that what torch loads for a first step counts for no contender."""
    toy = nn.Linear(2, 2, device=device)
    optimizer = torch.optim.AdamW(toy.parameters())
    toy(torch.zeros(1, 2, device=device)).sum().backward()
    optimizer.step()


def operations(contender: Contender, settings: Settings) -> dict[str, Any]:
    """Counts the floating-point operations of a training step's passes and of a guided sampling step.

    Attention is taken apart for the count, since the counter does not know every fused kernel.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as training, torch.enable_grad():
            contender.forward(settings.batch_size).float().sum().backward()  # type: ignore[no-untyped-call]
        with FlopCounterMode(display=False) as sampling, torch.no_grad():
            contender.forward(2 * settings.batch_size)
    return {"training_flops": training.get_total_flops(), "sampling_flops": sampling.get_total_flops()}


def main(arguments: list[str]) -> int:
    """Serves one contender until it is told to quit."""
    settings = Settings(**json.loads(arguments[0]))
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    for name in _LIBRARIES[settings.contender]:  # before the baseline, which their code belongs to
        importlib.import_module(name)
    if settings.contender != MATMUL:
        _load_lazily_imported(settings.device)
    baseline = held_bytes(settings.device)
    contender = EVERYTHING[settings.contender](settings)
    with contextlib.suppress(_Stop):
        contender.train(Session(contender, settings, baseline_bytes=baseline).after_step)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
