"""A tiny Fashion-MNIST: 8 x 8 pictures of ten classes, told apart by where they are bright."""

import gzip
import struct
from pathlib import Path

import numpy as np

SIDE = 8


def write_idx(path: Path, values: np.ndarray) -> None:
    """Writes an IDX file of unsigned bytes, gzipped where its name says so."""
    content = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures whose row (classes 0 to 4) or column (5 to 9) is bright, and their labels."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = generator.integers(0, 40, (count, SIDE, SIDE), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        place = int(label) % 5 + 1
        image[(place, slice(None)) if label < 5 else (slice(None), place)] = 220
    return images, labels


def write_fashion(folder: Path, *, num_train: int = 120, num_test: int = 80) -> Path:
    """Writes the four files, one pair gzipped."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count, suffix in (("train", num_train, ".gz"), ("t10k", num_test, "")):
        images, labels = pictures(count, seed=count)
        write_idx(folder / f"{split}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte{suffix}", labels)
    return folder
