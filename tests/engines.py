"""Whether the container engine here runs containers; one that is installed may still not."""

import subprocess
from functools import lru_cache

import pytest

from infra.images.catalogue import catalogue


@lru_cache
def _problem(program: str, image: str) -> str:
    command = [program, "run", "--rm", "--network=none", "--entrypoint=true", image]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else " ".join(ended.stderr.split())[-200:]


def require_running_containers(program: str) -> None:
    """Skips where a container of our smallest image does not run.

    Args:
        program: ``docker`` or ``podman``.
    """
    if problem := _problem(program, catalogue()["platform"].image()):
        pytest.skip(f"{program} runs no containers here ({problem}): make images; see docs/IMAGES.md")
