"""Gathers what is compared of two model versions; both packages are verified before a byte of them is read."""

import base64
import hashlib
import struct
from typing import Final

from governance.lineage_report.model import Picture
from governance.model_diff.metrics import compare_metrics, judged_alike
from governance.model_diff.model import ModelDiff, PicturePair, Setting, Side, flatten
from governance.package_layout import is_picture
from infra.home import Home
from infra.lineage_diff import diff_lineage
from infra.model_package import ModelPackage
from infra.model_versions import ModelVersion, open_version

_MAX_BYTES: Final = 8 << 20
_SMALL_PIXELS: Final = 160
_CAPTIONS: Final = {
    "evaluation/samples.png": "samples beside real pictures",
    "evaluation/memorisation.png": "samples beside their nearest training picture",
}
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def diff_models(home: Home, first: ModelVersion, second: ModelVersion) -> ModelDiff:
    """Returns what differs between two model versions: of the second as against the first.

    Args:
        home: The home that both are registered in.
        first: One.
        second: The other.

    Raises:
        IntegrityError: A package is not what was registered, or its evaluation report is no JSON object.
        RefusedError: The key that signed a package was revoked.
        BackendUnavailableError: The database or a store cannot be reached.
    """
    versions = (first, second)
    packages = [open_version(version, home.package_keys, home.package_cache) for version in versions]
    reports = (packages[0].evaluation, packages[1].evaluation)
    configs = _settings(*(flatten(package.config) for package in packages))
    return ModelDiff(
        sides=(_side(first), _side(second)),
        metrics=compare_metrics((first.metrics, second.metrics), reports),
        config=tuple(one for one in configs if one.differs),
        inputs=_settings(dict(first.inputs), dict(second.inputs)),
        lineage=diff_lineage(home.database, first, second, datasets=home.datasets),
        pictures=_pictures(*packages),
        same_holdout=judged_alike(*reports),
    )


def _side(version: ModelVersion) -> Side:
    return Side(
        name=f"{version.name}/{version.version}", package=version.root_digest, created=version.created, aliases=version.aliases
    )


def _settings(first: dict[str, object], second: dict[str, object]) -> tuple[Setting, ...]:
    return tuple(Setting(name=name, first=first.get(name), second=second.get(name)) for name in dict.fromkeys((*first, *second)))


def _pictures(first: ModelPackage, second: ModelPackage) -> tuple[PicturePair, ...]:
    """Returns the packages' pictures by name, those with a caption of their own first."""
    names = {name for package in (first, second) for name in package.digests if is_picture(name)}
    ordered = [*(name for name in _CAPTIONS if name in names), *sorted(names - _CAPTIONS.keys())]
    return tuple(PicturePair(name=name, first=_picture(first, name), second=_picture(second, name)) for name in ordered)


def _picture(package: ModelPackage, name: str) -> Picture | None:
    """Returns a picture of a package; None where it has none, or one that is too large or of another format than it says."""
    if name not in package.digests or (package.folder / name).stat().st_size > _MAX_BYTES:
        return None
    data = package.read_bytes(name)
    kind = "png" if data.startswith(_PNG) and len(data) >= 24 else "jpeg" if data.startswith(_JPEG) else None
    if kind is None:
        return None
    small = kind == "png" and struct.unpack(">I", data[16:20])[0] <= _SMALL_PIXELS
    return Picture(
        caption=_CAPTIONS.get(name, name.rpartition("/")[2]),
        data_uri=f"data:image/{kind};base64,{base64.b64encode(data).decode()}",
        sha256=hashlib.sha256(data).hexdigest(),
        pixelated=small,
    )
