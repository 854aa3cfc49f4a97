"""Turns the EfficientNet-Lite0 weights from a legacy `.pth` file into safetensors.

Runs as a child process (``python -m model_core.evaluation.convert_weights SOURCE TARGET SHA256``), so that nothing a
foreign file does while it is parsed can reach the process that holds a run.
"""

import hashlib
import io
import os
import sys
from pathlib import Path

EXIT_DIGEST_DIFFERS = 4


def main(arguments: list[str]) -> int:
    """Converts ``SOURCE`` to ``TARGET`` if its SHA-256 is the third argument; returns the exit code."""
    source, target, expected = Path(arguments[0]), Path(arguments[1]), arguments[2]
    content = source.read_bytes()  # read once: what is checked is what is parsed
    if hashlib.sha256(content).hexdigest() != expected:
        return EXIT_DIGEST_DIFFERS
    import torch
    from safetensors.torch import save_file

    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial)
    partial.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
