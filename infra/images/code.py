"""The digest of groundswell's own source: what an image holds, and what a checkout would put into one."""

import hashlib
from functools import lru_cache
from pathlib import Path

ROOMS = ("components", "governance", "groundswell", "infra", "model_core", "pipelines")
# What the distribution packs (``package-data`` in pyproject.toml), beside the modules.
_SUFFIXES = frozenset({".py", ".yaml", ".j2", ".jinja", ".lock", ".json", ".safetensors", ".typed"})


@lru_cache(maxsize=2)
def code_digest(root: Path = Path(__file__).parents[2]) -> str:
    """Returns the SHA-256 over the rooms' packed files: one ``sha256sum`` line a file, sorted by path.

    It is the same in a checkout and in an image that was built from it; images carry it as the label ``io.groundswell.code``.

    Args:
        root: The folder that holds the rooms.
    """
    paths = sorted(path.relative_to(root).as_posix() for room in ROOMS for path in packed_files(root / room))
    lines = [f"{hashlib.sha256((root / path).read_bytes()).hexdigest()}  {path}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def packed_files(room: Path) -> list[Path]:
    """Returns the files of a room that the distribution packs."""
    return [path for path in room.rglob("*") if path.suffix in _SUFFIXES and path.is_file()]
