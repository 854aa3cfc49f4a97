"""A base image where no registry is at hand: the smallest Debian with Python, by debootstrap from the machine's own mirror."""

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.errors import BackendUnavailableError

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3")
_NUM_TOLD_LINES = 2
# What differs from one machine or minute to the next, and what no container reads.
_EMPTIED = (
    "dev",
    "run",
    "tmp",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/man",
    "var/cache/apt",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
    "var/log",
    "var/tmp",
)
_REMOVED = (
    "debootstrap",
    "etc/.pwd.lock",
    "etc/apt/sources.list",
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of Debian packages, as apt on this machine has it."""

    uri: str
    suite: str
    component: str


def make_root(target: Path, archive: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Makes the root filesystem, with security updates, and packs it.

    Args:
        target: The folder to make it in, replaced.
        archive: The tar file to write.
        packages: Debian packages that it holds beside the essential ones.

    Raises:
        BackendUnavailableError: debootstrap is not there or failed, or this is not root.
    """
    if shutil.which("debootstrap") is None:
        raise BackendUnavailableError(
            "no base image: python:3.11-slim cannot be pulled, and debootstrap is not installed",
            hint="apt-get install debootstrap, or name an image that the engine has: make images BASE=...",
        )
    if os.geteuid() != 0:
        raise BackendUnavailableError(
            "debootstrap needs root", hint="run `make base-image` as root once, or name an image that the engine has: BASE=..."
        )
    sources = apt_sources()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (mirror,) = {source.uri for source in sources if source.suite == SUITE}
    _run(["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, str(target), mirror])
    _update(target, sources)
    clean(target)
    _pack(target, archive)
    shutil.rmtree(target)


def apt_sources() -> list[Source]:
    """Returns where this machine's apt gets Debian's packages of the suite, its updates and its security updates from.

    Raises:
        BackendUnavailableError: It gets them from nowhere.
    """
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian"])
    lines = sorted({tuple(line.split()) for line in listed.splitlines() if len(line.split()) == 3})
    sources = [Source(uri=uri, suite=suite, component=component) for uri, suite, component in lines]
    found = [one for one in sources if one.component == "main" and one.suite.partition("-")[0] == SUITE]
    if not any(one.suite == SUITE for one in found):
        raise BackendUnavailableError(
            f"apt on this machine knows no source of Debian {SUITE}",
            hint="add one and run apt-get update, or name an image that the engine has: make images BASE=...",
        )
    return found


def clean(root: Path) -> None:
    """Leaves out of a root filesystem what differs between machines and minutes, and what no container reads."""
    for name in _EMPTIED:
        for path in (root / name).iterdir() if (root / name).is_dir() else ():
            _remove(path)
    for name in _REMOVED:
        _remove(root / name)
    (root / "etc" / "machine-id").write_text("", encoding="utf-8")
    for path in sorted((root / "usr/share/doc").rglob("*"), reverse=True):
        # Licences stay.
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
        elif not path.is_dir() and path.name != "copyright":
            path.unlink()


def _update(root: Path, sources: list[Source]) -> None:
    lines = [f"deb {one.uri} {one.suite} {one.component}\n" for one in sources]
    (root / "etc/apt/sources.list").write_text("".join(lines), encoding="utf-8")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["chroot", str(root), "apt-get", "-qq", "update"], environment)
    _run(["chroot", str(root), "apt-get", "-qq", "-y", "--no-install-recommends", "dist-upgrade"], environment)
    # Layers keep no times, so compiled modules must not be held against them.
    compiling = ["python3", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"]
    modules = [f"/{path.relative_to(root)}" for path in sorted(root.glob("usr/lib/python3*"))]
    _run(["chroot", str(root), *compiling, *modules], {**environment, "PYTHONHASHSEED": "0"})


def _pack(root: Path, archive: Path) -> None:
    """Writes a tar file in which only names, modes, owners and contents differ."""
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            entry = tar.gettarinfo(path, arcname=path.relative_to(root).as_posix())
            entry.mtime = 0
            entry.uname = entry.gname = ""
            if entry.isreg():
                with path.open("rb") as file:
                    tar.addfile(entry, file)
            else:
                tar.addfile(entry)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode:
        told = [line.strip() for line in (ended.stderr + ended.stdout).splitlines() if re.match(r"^[EW]:", line)]
        reason = "; ".join(told[-_NUM_TOLD_LINES:]) or f"exit code {ended.returncode}"
        program = command[0] if command[0] != "chroot" else command[2]
        raise BackendUnavailableError(f"{program} failed: {reason}", hint="apt-get update has to work on this machine")
    return ended.stdout
