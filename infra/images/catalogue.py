"""The images and the layers below them, as images.toml says, and the locks that belong to them."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.errors import BadSettingError
from infra.settings import image_name

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
MAIN_LOCK = ROOT / "infra" / "requirements.lock"
_CATALOGUE = FOLDER / "images.toml"
_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?: ; (?P<marker>[^\\\n]*[^\s\\]))?", re.MULTILINE)
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """One image, or one layer that several images share.

    Attributes:
        name: Its name, with dashes.
        title: What it is, for its label.
        containerfile: The recipe, below the checkout.
        on: The layer on which it stands; empty for the base image.
        requirements: The libraries that a layer adds; an image adds groundswell.
        imports: What programs import there.
        torch: Whether it adds torch.
        is_layer: Whether it is there only for others to stand on.
    """

    name: str
    title: str
    containerfile: str
    on: str = ""
    requirements: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    torch: bool = False
    is_layer: bool = False

    @property
    def lock(self) -> Path:
        """The lock: every library but torch, those of the layers below included."""
        return FOLDER / f"{self.name if self.is_layer else self.on}.lock"

    def image(self) -> str:
        """Returns the full name of the image."""
        return image_name(f"layer-{self.name}" if self.is_layer else self.name, version=distribution_version())


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One line of a lock."""

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Returns the line, as pip reads it."""
        marker = f" ; {self.marker}" if self.marker else ""
        return f"{self.name}=={self.version}{marker}" + "".join(f" \\\n    --hash={one}" for one in self.hashes)


@lru_cache(maxsize=1)
def catalogue() -> Mapping[str, ImageSpec]:
    """Returns layers and images by name, each after what it stands on."""
    stored = tomllib.loads(_CATALOGUE.read_text(encoding="utf-8"))
    layers = [ImageSpec(name=name, is_layer=True, **_values(entry)) for name, entry in stored["layers"].items()]
    images = [ImageSpec(name=name, **_values(entry)) for name, entry in stored["images"].items()]
    return {spec.name: spec for spec in (*layers, *images)}


def chain(spec: ImageSpec) -> list[ImageSpec]:
    """Returns an image and what it stands on, lowest first."""
    return [*chain(catalogue()[spec.on]), spec] if spec.on else [spec]


def read_lock(path: Path) -> list[Requirement]:
    """Returns a lock's lines.

    Raises:
        BadSettingError: There is no such lock.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadSettingError(f"{path} cannot be read: {error.strerror}", hint="make image-locks") from error
    found = list(_PINNED.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    return [
        Requirement(
            name=match["name"],
            version=match["version"],
            marker=match["marker"] or "",
            hashes=tuple(_HASH.findall(text, match.end(), end)),
        )
        for match, end in zip(found, ends, strict=True)
    ]


@lru_cache(maxsize=1)
def main_hashes() -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Returns the hashes that the main lock has, by name and version."""
    return {(one.name, one.version): one.hashes for one in read_lock(MAIN_LOCK)}


def pip_requirement() -> str:
    """Returns the pip that installs, with its hash."""
    pinned = tomllib.loads(_CATALOGUE.read_text(encoding="utf-8"))["pip"]
    return f"{pinned['requirement']} --hash={pinned['hash']}"


def distribution_version() -> str:
    """Returns groundswell's version."""
    return str(_project()["version"])


def torch_requirement() -> str:
    """Returns the version of torch that groundswell asks for, such as ``torch==2.13.0``."""
    return next(one for one in _project()["dependencies"] if one.startswith("torch=="))


@lru_cache(maxsize=1)
def _project() -> Mapping[str, list[str]]:
    found: Mapping[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def _values(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
