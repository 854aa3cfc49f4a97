"""Turns a foreign `.pt` checkpoint into safetensors.

Runs as a child process (``python -m model_core.transformer.convert_checkpoint SOURCE TARGET``) with bounds on its memory, time
and files, so that nothing a foreign file does while it is parsed can reach the process that holds a run. Nothing but tensors is
unpickled (``weights_only=True``), and the plain options that training programs store beside them.
"""

import argparse
import re
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

EXIT_REFUSED: Final = 3
_SLACK_BYTES: Final = 512 << 20
_MAX_CPU_S: Final = 1800
_MAX_TENSORS: Final = 20_000
_GLOBAL = re.compile(r"(?:GLOBAL|global:?)\s+`?([A-Za-z0-9_.]{1,100})")
_NESTED: Final = ("ema", "model", "state_dict")  # where programs keep the weights, the averaged ones first


class RefusedError(Exception):
    """The file is not what it should be; the text says why, in one line."""


def main(arguments: list[str]) -> int:
    """Converts ``SOURCE`` to ``TARGET`` and returns the exit code; what is wrong is the last line of standard error."""
    source, target = Path(arguments[0]), Path(arguments[1])
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    _bound_resources(source.stat().st_size)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(source, map_location="cpu", weights_only=True)
        state = _tensors(loaded, torch.Tensor)
    except RefusedError as error:
        return _refuse(str(error))
    except MemoryError:
        return _refuse("it unpacks to far more than its own size")
    except Exception as error:  # noqa: BLE001 - whatever a foreign file makes the reader say
        return _refuse(_why(error))
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in state.items()}, target)
    return 0


def _bound_resources(size_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) if Path("/proc/self/statm").exists() else 0
    memory = pages * resource.getpagesize() + 4 * size_bytes + _SLACK_BYTES
    for kind, bound in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, _MAX_CPU_S),
        (resource.RLIMIT_FSIZE, 2 * size_bytes + _SLACK_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def _tensors(loaded: Any, tensor: type) -> Mapping[str, Any]:
    """Returns the weights in what was loaded: the averaged ones where there are such."""
    if not isinstance(loaded, Mapping):
        raise RefusedError(f"it holds a {type(loaded).__name__}, not a state dict")
    state = next((loaded[name] for name in _NESTED if isinstance(loaded.get(name), Mapping)), loaded)
    if not 0 < len(state) <= _MAX_TENSORS:
        raise RefusedError(f"it holds {len(state)} tensors")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, tensor) or value.is_sparse or value.is_quantized:  # type: ignore[attr-defined]
            raise RefusedError(f"{str(name)[:80]!r} in it is no plain tensor")
    return state


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())
    if found := _GLOBAL.search(text):
        return f"it is a pickle that names {found[1]}, and only tensors are read"
    if "weights_only" in text or "Weights only" in text:
        return "it is a pickle of more than tensors, and only tensors are read"
    if "can't allocate memory" in text or "alloc" in type(error).__name__.lower():
        return "it unpacks to far more than its own size"
    return f"it is no complete checkpoint ({type(error).__name__})"


def _refuse(line: str) -> int:
    print(line, file=sys.stderr)  # noqa: T201 - what the parent reads
    return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
