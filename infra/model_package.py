"""The only opener of model packages.

`open_package` verifies the file list, every digest and the signature before a byte of a package is parsed. Nothing in a package
is ever unpickled: weights are safetensors.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from governance import package_layout as layout
from governance.digest import file_digests
from governance.errors import IntegrityError
from governance.package_layout import package_root_digest
from infra.model_signature import load_private_key, load_public_key, read_signed_digests, write_signature

__all__ = ["ModelPackage", "open_package", "open_with_key", "package_root_digest", "sign_package"]


@dataclass(frozen=True, kw_only=True)
class ModelPackage:
    """A verified package.

    Attributes:
        folder: Where it is.
        root_digest: Its root digest.
        digests: SHA-256 by path of every file but the signature.
        config: The parsed ``config.json``.
    """

    folder: Path
    root_digest: str
    digests: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def codec(self) -> Path:
        """The codec's folder, for a codec loader."""
        return self.folder / "codec"

    @property
    def evaluation(self) -> dict[str, Any]:
        """The parsed evaluation report."""
        return _parse(layout.EVALUATION_REPORT, self.read_bytes(layout.EVALUATION_REPORT))

    @property
    def model_card(self) -> str:
        """The model card, Markdown."""
        return self.read_bytes(layout.MODEL_CARD).decode()

    def read_bytes(self, name: str) -> bytes:
        """Returns a file's bytes, verified again: they are what was signed, even if the file has changed since.

        Raises:
            IntegrityError: The package has no such file, or it has changed.
        """
        if name not in self.digests:
            raise IntegrityError(f"the model package has no {name}")
        return _read_verified(self.folder / name, name, self.digests[name])


def open_package(folder: Path, *, expected_digest: str, public_key_pem: Path) -> ModelPackage:
    """Opens a package after verifying all of it.

    Args:
        folder: The package.
        expected_digest: The root digest that is on record for it.
        public_key_pem: The public half of the package-signing key.

    Raises:
        IntegrityError: A file was changed, added, removed or replaced by a link, naming it; the package is not signed by this
            key; or it is another package than the expected one.
        BadSettingError: The public key cannot be used.
    """
    return open_with_key(folder, expected_digest=expected_digest, public_key=load_public_key(public_key_pem))


def open_with_key(folder: Path, *, expected_digest: str, public_key: ec.EllipticCurvePublicKey) -> ModelPackage:
    """Opens a package as `open_package` does, with a key that is loaded already."""
    require_folder(folder)
    found = file_digests(folder, exclude={layout.SIGNATURE})
    layout.check_folders(folder)
    signed = read_signed_digests(folder / layout.SIGNATURE, public_key)
    _compare(signed, found)
    layout.check_names(found)
    root_digest = _root_digest(found)
    if root_digest != expected_digest:
        raise IntegrityError(
            f"the model package has root digest {root_digest[:12]}, {expected_digest[:12]} is on record",
            hint="it is signed and whole, but not the package that was registered",
        )
    for name in layout.safetensors_among(found):
        layout.num_parameters(folder / name)
    config = _parse(layout.CONFIG, _read_verified(folder / layout.CONFIG, layout.CONFIG, found[layout.CONFIG]))
    return ModelPackage(folder=folder, root_digest=root_digest, digests=found, config=config)


def require_folder(folder: Path) -> None:
    """Checks that a package is there.

    Raises:
        IntegrityError: It is missing, or a link.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise IntegrityError(f"the model package {folder} is missing, or a link", hint="restore the artifact store from a backup")


def sign_package(folder: Path, private_key_pem: Path) -> ModelPackage:
    """Signs a finished package and opens it, so that nothing is signed that could not be opened.

    Raises:
        IntegrityError: The folder is not exactly a package.
        BadSettingError: The key cannot be used.
    """
    layout.check_folders(folder)
    layout.check_names(file_digests(folder, exclude={layout.SIGNATURE}))
    write_signature(folder, private_key_pem)
    public_key = load_private_key(private_key_pem).public_key()
    return open_with_key(folder, expected_digest=package_root_digest(folder), public_key=public_key)


def _compare(signed: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name in sorted(signed.keys() | found.keys()):
        if name not in found:
            raise IntegrityError(f"the model package lacks {name}, which was signed")
        if name not in signed:
            raise IntegrityError(f"the model package holds {name}, which was not signed")
        if signed[name] != found[name]:
            raise IntegrityError(
                f"{name} of the model package was changed: {signed[name][:12]} was signed, {found[name][:12]} is there",
                hint="do not use it; restore the artifact store from a backup",
            )


def _root_digest(digests: Mapping[str, str]) -> str:
    lines = (f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_verified(path: Path, name: str, digest: str) -> bytes:
    raw = path.read_bytes()
    if hashlib.sha256(raw).hexdigest() != digest:
        raise IntegrityError(f"{name} of the model package changed while it was read")
    return raw


def _parse(name: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{name} of the model package is no JSON") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{name} of the model package holds no JSON object")
    return value
