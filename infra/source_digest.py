"""The code version of a step: a digest of the source that it imports, and of the lock that its libraries come from.

A commit says too little (uncommitted edits) and too much (a changed README); what a step's result depends on is the
text of the modules that it reaches, and the versions of the libraries.
"""

import ast
import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

ROOMS = ("components", "governance", "infra", "model_core", "pipelines")
_DATA_SUFFIXES = (".yaml", ".j2", ".jinja")


def lock_path() -> Path:
    """Returns the file that pins every library."""
    return Path(__file__).parent / "requirements.lock"


@lru_cache(maxsize=1)
def lock_digest() -> str:
    """Returns the SHA-256 of the lock."""
    return hashlib.sha256(lock_path().read_bytes()).hexdigest()


@lru_cache(maxsize=32)
def source_digest(module: str) -> str:
    """Returns the digest of a module, of everything of ours that it imports, and of the lock.

    Args:
        module: A dotted name, such as ``components.train_dit.step``.
    """
    lines = [f"{hashlib.sha256(_read(path)).hexdigest()}  {name}\n" for name, path in sorted(import_closure(module).items())]
    lines.append(f"{lock_digest()}  requirements.lock\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def import_closure(module: str) -> dict[str, Path]:
    """Returns the modules of ours that a module reaches by import, with their files, and the suites and templates beside them."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _module_path(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += _imports(name, path)
    for name, path in list(found.items()):
        for data in path.parent.iterdir():
            if data.suffix in _DATA_SUFFIXES:
                found[f"{name if path.name == '__init__.py' else name.rpartition('.')[0]}/{data.name}"] = data
    return found


def _read(path: Path) -> bytes:
    return path.read_bytes().replace(b"\r\n", b"\n")


def _module_path(name: str) -> Path | None:
    if name.partition(".")[0] not in ROOMS:
        return None
    base = _room_folder(name.partition(".")[0]).joinpath(*name.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@lru_cache(maxsize=8)
def _room_folder(room: str) -> Path:
    spec = find_spec(room)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(room)
    return Path(next(iter(spec.submodule_search_locations)))


def _imports(name: str, path: Path) -> list[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    parents = [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
    names = list(parents)
    for node in ast.walk(ast.parse(_read(path))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], *([base] if base else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names
