"""The folder that image builds see: wheels, the requirements of each image with their hashes, and what installs them."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from infra.errors import BackendUnavailableError
from infra.images.catalogue import (
    FOLDER,
    ROOT,
    ImageSpec,
    Requirement,
    catalogue,
    main_hashes,
    pip_requirement,
    read_lock,
    torch_requirement,
)
from infra.images.code import ROOMS, code_digest

_PROGRAMS = ("install.py", "sbom.py")
_BESIDES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")
_HINT = "check the network and pip's configuration, and try again: finished downloads are kept"


@dataclass(frozen=True, kw_only=True)
class Wheelhouse:
    """Wheels for one version of Python.

    Attributes:
        folder: Where they are, with requirements and programs beside them: the context of every build.
        python: The version that the images have, such as ``3.11``.
    """

    folder: Path
    python: str

    @property
    def wheels(self) -> Path:
        """The folder of the wheels alone."""
        return self.folder / "wheels"

    def fill(self, epoch: int) -> str:
        """Downloads what the locks name, builds groundswell's wheel, and writes the requirements of each image.

        Args:
            epoch: The time, in seconds since 1970, that the files in groundswell's wheel get.

        Returns:
            The digest of groundswell's source in its wheel.

        Raises:
            BackendUnavailableError: A download failed, or is not what the lock says.
        """
        self.wheels.mkdir(parents=True, exist_ok=True)
        self._download()
        for old in self.wheels.glob("groundswell-*.whl"):
            old.unlink()
        code = build_own_wheel(self.wheels, epoch)
        for name in ("about", "imports", "requirements"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        for spec in catalogue().values():
            _write_lines(self.folder / "requirements" / f"{spec.name}.txt", self._added(spec))
            _write_lines(self.folder / "imports" / f"{spec.name}.txt", spec.imports)
        for program in _PROGRAMS:
            shutil.copyfile(FOLDER / program, self.folder / program)
        return code

    def wheel(self, name: str) -> Path:
        """Returns the wheel of a library."""
        (found,) = self.wheels.glob(f"{name.replace('-', '_')}-*.whl")
        return found

    def _added(self, spec: ImageSpec) -> list[str]:
        """Returns the requirements that an image adds to what it stands on."""
        if not spec.is_layer:
            wheel = self.wheel("groundswell")
            return [_local(f"groundswell=={wheel.name.split('-')[1]}", wheel)]
        below = catalogue()[spec.on].lock if spec.on else None
        present = {str(one) for one in read_lock(below)} if below else set()
        added = [str(_with_hashes(one)) for one in read_lock(spec.lock) if str(one) not in present]
        if spec.torch:
            added.append(_local(torch_requirement(), self.wheel("torch")))
        return added

    def _download(self) -> None:
        wanted = {str(_with_hashes(one)) for spec in catalogue().values() for one in read_lock(spec.lock)}
        text = "".join(f"{one}\n" for one in sorted({*wanted, pip_requirement()}))
        mark = hashlib.sha256(f"{self.python}\n{torch_requirement()}\n{text}".encode()).hexdigest()
        stamp = self.folder / "downloaded.json"
        if _is_complete(stamp, mark, self.wheels):
            return
        shutil.rmtree(self.wheels)
        self.wheels.mkdir()
        requirements = self.folder / "all.txt"
        requirements.write_text(text, encoding="utf-8")
        self._download_wheels("--require-hashes", "-r", str(requirements))
        self._download_wheels(torch_requirement())
        check_torch(self.wheel("torch"))
        names = sorted(path.name for path in self.wheels.iterdir())
        stamp.write_text(json.dumps({"mark": mark, "wheels": names}, indent=1), encoding="utf-8")

    def _download_wheels(self, *arguments: str) -> None:
        """Downloads with pip, whose configuration says from where; uv would not look where a local build of torch may be."""
        own = f"{sys.version_info.major}.{sys.version_info.minor}"
        for_python = [] if self.python == own else ["--python-version", self.python]
        _pip("download", "--no-deps", "--only-binary=:all:", *for_python, "--dest", str(self.wheels), *arguments)


def build_own_wheel(target: Path, epoch: int) -> str:
    """Builds groundswell's wheel from a copy of what git would commit, with nothing left over from earlier builds.

    Args:
        target: The folder for the wheel.
        epoch: The time, in seconds since 1970, that the files in it get.

    Returns:
        The digest of the source in it.

    Raises:
        BackendUnavailableError: It could not be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for path in _source_files():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, source / path)
            (source / path).chmod(0o644)
        code = code_digest(source)
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(target)]
        _pip("wheel", *options, str(source), SOURCE_DATE_EPOCH=str(epoch))
    return code


def _pip(command: str, *arguments: str, **environment: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        umask=0o022,  # a wheel keeps its files' modes
    )
    if ended.returncode:
        errors = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
        told = " ".join(errors[-1].split()) if errors else "it gave no reason"
        raise BackendUnavailableError(f"pip {command} failed: {told}", hint=_HINT)


def _write_lines(path: Path, lines: Iterable[object]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _source_files() -> list[Path]:
    """Returns the files that make the distribution, relative to the checkout: tracked or new, and not ignored."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *ROOMS, *_BESIDES]
    found = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split("\0")
    return [Path(name) for name in found if name and (ROOT / name).is_file()]


def _with_hashes(one: Requirement) -> Requirement:
    hashes = main_hashes().get((one.name, one.version))
    if not hashes:
        raise BackendUnavailableError(f"{one.name} {one.version} is not in infra/requirements.lock", hint="make image-locks")
    return replace(one, hashes=hashes)


def _local(requirement: str, wheel: Path) -> str:
    """Returns a requirement with the digest of the wheel that is at hand."""
    return f"{requirement} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def _is_complete(stamp: Path, mark: str, wheels: Path) -> bool:
    if not stamp.is_file():
        return False
    stored = json.loads(stamp.read_text(encoding="utf-8"))
    return bool(stored["mark"] == mark) and all((wheels / name).is_file() for name in stored["wheels"])


def check_torch(wheel: Path) -> None:
    """Refuses a torch that needs libraries beside it, which the images do not hold.

    Raises:
        BackendUnavailableError: It does; its wheel is removed.
    """
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    if re.search(r"^Requires-Dist: (nvidia|cuda)-", metadata, re.MULTILINE):
        wheel.unlink()
        raise BackendUnavailableError(
            f"pip found {wheel.name}, which needs CUDA's libraries",
            hint="point pip at a CPU build (find-links or extra-index-url in pip's configuration)",
        )
