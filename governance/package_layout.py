"""The fixed layout of a model package: which files it has, which it may have, and its root digest."""

import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from governance.digest import tree_digest
from governance.errors import IntegrityError

FORMAT = "groundswell-package/1"
CONFIG = "config.json"
WEIGHTS = "transformer.safetensors"
CODEC_CONFIG = "codec/config.json"
CODEC_WEIGHTS = "codec/codec.safetensors"
MODEL_CARD = "MODEL_CARD.md"
ML_BOM = "mlbom.cdx.json"
EVALUATION_REPORT = "evaluation/report.json"
SIGNATURE = "model.sig"
ADAPTER_FOLDER = "adapter"
ADAPTER_CONFIG = f"{ADAPTER_FOLDER}/config.json"
ADAPTER_WEIGHTS = f"{ADAPTER_FOLDER}/adapter.safetensors"
BASE_RECORD = "base.json"
"""Beside a fine-tuned model, not in its package: what it was fine-tuned from, which becomes ``base`` of the package's config."""

FOLDERS = frozenset({"codec", "evaluation", ADAPTER_FOLDER})
REQUIRED = frozenset({CONFIG, WEIGHTS, CODEC_CONFIG, CODEC_WEIGHTS, MODEL_CARD, ML_BOM, EVALUATION_REPORT})
ADAPTER = frozenset({ADAPTER_CONFIG, ADAPTER_WEIGHTS})
"""What a fine-tuned model's package has besides: what was learnt, for itself; it is merged into the weights."""
SAFETENSORS = (WEIGHTS, CODEC_WEIGHTS)
_PICTURE = re.compile(r"evaluation/[A-Za-z0-9][A-Za-z0-9._-]*\.(png|jpg)")
_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz", ".dill"})
_MAX_HEADER_BYTES = 100_000_000  # the safetensors format's own bound


def package_root_digest(folder: Path) -> str:
    """Returns the root digest of a package: names and contents of every file but its signature.

    Raises:
        IntegrityError: The folder holds a symbolic link or something that is neither file nor folder.
    """
    return tree_digest(folder, exclude={SIGNATURE})


def is_picture(name: str) -> bool:
    """Returns whether a path in a package is that of a picture of the evaluation."""
    return _PICTURE.fullmatch(name) is not None


def check_names(names: Iterable[str]) -> None:
    """Refuses a set of file names, the signature's left out, that is not exactly a package.

    Raises:
        IntegrityError: Naming the first file that is missing, unknown, or a pickle.
    """
    found = set(names)
    required = REQUIRED | ADAPTER if found & ADAPTER else REQUIRED
    for name in sorted(found - required):
        if PurePosixPath(name).suffix.lower() in _PICKLES:
            raise IntegrityError(f"a model package must not hold a pickle: {name}", hint="convert the weights to safetensors")
        if not is_picture(name):
            raise IntegrityError(f"the model package holds a file that does not belong to it: {name}")
    for name in sorted(required - found):
        raise IntegrityError(f"the model package lacks {name}")


def check_folders(folder: Path) -> None:
    """Refuses folders that no digest would cover.

    Raises:
        IntegrityError: Naming the first unknown or empty folder.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and (path.relative_to(folder).as_posix() not in FOLDERS or not any(path.iterdir())):
            raise IntegrityError(f"the model package holds a folder that does not belong to it: {path.relative_to(folder)}")


def safetensors_among(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the files of a package that hold weights: those that every one has, and an adapter where there is one."""
    return (*SAFETENSORS, *({ADAPTER_WEIGHTS} & set(names)))


def num_parameters(path: Path) -> int:
    """Returns how many numbers a safetensors file holds, from its header alone.

    Raises:
        IntegrityError: The file is no safetensors file: a pickle or an archive under a false name, say.
    """
    problem = f"{path.name} is not a safetensors file"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise IntegrityError(problem)
        raw = file.read(length)
    try:
        header = json.loads(raw)
        return sum(_product(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(problem) from error


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= int(size)
    return total
