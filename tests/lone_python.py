"""A Python of its own with `cryptography` and nothing else: what an auditor's machine has."""

import subprocess
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

_NEEDED = ("cryptography", "cffi", "pycparser")


@pytest.fixture(scope="session")
def lone_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment into which the packages that cryptography needs were linked, and no other."""
    folder = tmp_path_factory.mktemp("lone") / "venv"
    venv.create(folder, symlinks=True, with_pip=False)
    (library,) = folder.glob("lib/python*/site-packages")
    for name in _NEEDED:
        _link(distribution(name), library)
    python = folder / "bin" / "python"
    code = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    found = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == sorted(_NEEDED)
    return python


def _link(package: Distribution, library: Path) -> None:
    for name in {file.parts[0] for file in package.files or () if file.parts[0] not in {"..", "__pycache__"}}:
        (library / name).symlink_to(Path(str(package.locate_file(name))))


def run_alone(python: Path, program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a program with a Python of its own, without this process's folders and variables."""
    command = [str(python), "-I", str(program), *map(str, arguments)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(program.parent)}
    return subprocess.run(command, capture_output=True, text=True, cwd=program.parent, env=environment, timeout=120, check=False)


__all__ = ["lone_python", "run_alone"]
