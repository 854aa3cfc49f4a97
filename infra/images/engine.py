"""The programs that build images: docker, or podman."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import BackendUnavailableError

ENGINES = ("docker", "podman")
_HINT = "install podman (as root: apt-get install podman runc) or start docker"
_NUM_TOLD_LINES = 3


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    """An image that the engine has.

    Attributes:
        name: Its full name.
        id: ``sha256:...`` of its configuration.
        digest: ``sha256:...`` of its manifest; of its configuration where the engine keeps no manifest.
        size_bytes: Its layers, unpacked.
        labels: Its labels.
    """

    name: str
    id: str
    digest: str
    size_bytes: int
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one build takes.

    Attributes:
        name: The full name of the image.
        containerfile: The recipe.
        context: The folder that the recipe sees.
        arguments: Build arguments.
        labels: Labels.
        epoch: The time, in seconds since 1970, that files and the image get.
    """

    name: str
    containerfile: Path
    context: Path
    arguments: Mapping[str, str]
    labels: Mapping[str, str]
    epoch: int


class Engine:
    """One of docker and podman, by its command line.

    Args:
        program: The program's name.
    """

    def __init__(self, program: str) -> None:
        self.program = program

    @classmethod
    def find(cls, asked: str = "") -> "Engine":
        """Returns the engine that was asked for, otherwise the first that answers.

        Raises:
            BackendUnavailableError: There is none.
        """
        if asked and asked not in ENGINES:
            raise BackendUnavailableError(f"{asked} is no engine that is known here", hint=f"ENGINE is {' or '.join(ENGINES)}")
        for program in (asked,) if asked else ENGINES:
            if shutil.which(program) and _answers(program):
                return cls(program)
        raise BackendUnavailableError(
            f"{asked} does not answer here" if asked else "no container engine answers here", hint=_HINT
        )

    def build(self, recipe: Recipe) -> None:
        """Builds an image from nothing but its recipe: no cache, no network, no time.

        Raises:
            BackendUnavailableError: The build failed.
        """
        self._call(self.build_command(recipe), doing=f"build {recipe.name}")

    def build_command(self, recipe: Recipe) -> list[str]:
        """Returns the command that builds an image."""
        arguments = dict(recipe.arguments)
        if self.program == "docker":  # BuildKit takes the time from this argument, and files' times from the exporter
            arguments["SOURCE_DATE_EPOCH"] = str(recipe.epoch)
            output = f"type=docker,name={recipe.name},rewrite-timestamp=true"
            how = ["buildx", "build", "--pull=false", "--provenance=false", f"--output={output}"]
        else:
            how = [
                "build",
                "--pull=never",
                "--layers=false",
                f"--timestamp={recipe.epoch}",
                "--format=oci",
                f"--tag={recipe.name}",
            ]
        options = ["--quiet", "--no-cache", "--network=none", f"--file={recipe.containerfile}"]
        given = [f"--build-arg={key}={value}" for key, value in sorted(arguments.items())]
        labels = [f"--label={key}={value}" for key, value in sorted(recipe.labels.items())]
        return [self.program, *how, *options, *given, *labels, str(recipe.context)]

    def find_image(self, name: str) -> BuiltImage | None:
        """Returns an image that the engine has, or nothing."""
        ended = _run([self.program, "image", "inspect", name])
        if ended.returncode:
            return None
        found: dict[str, Any] = json.loads(ended.stdout)[0]
        identity = found["Id"] if found["Id"].startswith("sha256:") else f"sha256:{found['Id']}"
        return BuiltImage(
            name=name,
            id=identity,
            digest=found.get("Digest") or identity,
            size_bytes=int(found["Size"]),
            labels=(found.get("Config") or {}).get("Labels") or {},
        )

    def pull(self, name: str) -> bool:
        """Pulls an image and says whether it is here now."""
        return _succeeds([self.program, "pull", "--quiet", name])

    def read(self, name: str, command: list[str]) -> str:
        """Returns what a command prints in an image that can reach and write nothing.

        Raises:
            BackendUnavailableError: The command failed.
        """
        options = ["--rm", "--network=none", "--read-only", "--cap-drop=all", f"--entrypoint={command[0]}"]
        return self._call([self.program, "run", *options, name, *command[1:]], doing=f"read {name}")

    def remove_dangling(self) -> None:
        """Removes images without a name that carry this project's label: what a new build has replaced."""
        _run([self.program, "image", "prune", "--force", "--filter=label=io.groundswell.inputs"])

    def _call(self, command: list[str], *, doing: str) -> str:
        ended = _run(command)
        if ended.returncode:
            raise BackendUnavailableError(
                f"{self.program} could not {doing}: {_last_words(ended.stderr)}", hint=_hint(ended.stderr)
            )
        return ended.stdout


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _succeeds(command: list[str]) -> bool:
    return _run(command).returncode == 0


def _answers(program: str) -> bool:
    """Returns whether an engine is behind a program; podman behind docker's is called by its own name, for its own options."""
    stands_in = program == "docker" and "podman" in _run([program, "version"]).stdout.lower()
    return not stands_in and _succeeds([program, "info"])


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-_NUM_TOLD_LINES:]) or "it gave no reason"


def _hint(text: str) -> str:
    if "no space left" in text.lower():
        return "free some space (`podman system prune` or `docker system prune` removes what no image uses) and try again"
    if "rlimit" in text or "cgroup" in text:
        return "set CONTAINERS_CONF to the absolute path of infra/images/containers.conf; docs/IMAGES.md says when that is needed"
    return "docs/IMAGES.md says what a build needs"
