"""Resolves the layers' locks anew: ``python -m infra.images.locks``.

A layer's lock has names and versions; the hashes stay in infra/requirements.lock, which holds every version that an image may
take, so that no library can differ between an image and a checkout.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from infra.errors import BackendUnavailableError, InfraError
from infra.images.catalogue import FOLDER, MAIN_LOCK, ROOT, ImageSpec, catalogue, chain, read_lock

_OPTIONS = ("--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url", "--quiet")


def resolve(spec: ImageSpec, uv: Path) -> str:
    """Returns the lock of a layer.

    Args:
        spec: The layer.
        uv: The program ``uv``.

    Raises:
        BackendUnavailableError: The requirements cannot be resolved within the main lock.
    """
    wanted = sorted({one for part in chain(spec) for one in part.requirements})
    with tempfile.TemporaryDirectory() as folder:
        requirements, constraints = Path(folder) / "requirements.in", Path(folder) / "constraints.txt"
        requirements.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        constraints.write_text("".join(f"{_pinned(one)}\n" for one in read_lock(MAIN_LOCK)), encoding="utf-8")
        command = [str(uv), "pip", "compile", *_OPTIONS, "--config-file", str(FOLDER / "uv.toml"), "-c", str(constraints)]
        ended = subprocess.run([*command, str(requirements)], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        told = " ".join(ended.stderr.split())
        raise BackendUnavailableError(f"the lock of {spec.name} cannot be resolved: {told}", hint="run `make lock` first")
    return ended.stdout


def _pinned(one: object) -> str:
    return str(one).partition(" \\")[0]


def main() -> int:
    """Writes all locks and returns the exit code."""
    try:
        for spec in (one for one in catalogue().values() if one.is_layer):
            spec.lock.write_text(resolve(spec, Path(sys.executable).with_name("uv")), encoding="utf-8")
    except InfraError as error:
        sys.stderr.write(f"error: {error.diagnosis}\nhint: {error.hint}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
