"""The keys of a home: private ones in ``HOME/keys/`` (0600), public ones in ``HOME/keys/public/*.pem``.

The log's key is Ed25519; the package-signing key and people's keys are ECDSA P-256. Private keys are PKCS#8 PEM without a
password, public ones SubjectPublicKeyInfo PEM.
"""

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from governance.errors import IntegrityError
from governance.identity import identity_id_of
from infra.errors import BackendUnavailableError, BadSettingError

LOG_KEY = "log"
PACKAGE_KEY = "package-signing"
_PERSON_NAME = re.compile(r"id-[0-9a-f]{16}", re.ASCII)

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, kw_only=True)
class PersonKey:
    """A new key of a person.

    Attributes:
        identity_id: The identity that the key makes.
        public_key_pem: Its public half.
        path: The file with its private half.
    """

    identity_id: str
    public_key_pem: str
    path: Path


class Keys:
    """The folder of a home's keys.

    Args:
        folder: ``HOME/keys``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> "Keys":
        """Makes the log's key and the package-signing key where they are missing, and returns the keys.

        Raises:
            BackendUnavailableError: The folder cannot be written.
            IntegrityError: A private key is missing whose public half is there.
        """
        keys = cls(folder)
        _make_folder(folder, 0o700)
        _make_folder(folder / "public", 0o755)
        if not keys.private_path(LOG_KEY).exists():
            keys._store(LOG_KEY, Ed25519PrivateKey.generate())
        if not keys.private_path(PACKAGE_KEY).exists():
            keys._store(PACKAGE_KEY, ec.generate_private_key(ec.SECP256R1()))
        return keys

    def private_path(self, name: str) -> Path:
        """Returns the file of a private key: ``log``, ``package-signing`` or an identity's id."""
        return self.folder / f"{_checked_name(name)}.pem"

    def public_path(self, name: str) -> Path:
        """Returns the file of a public key: ``log``, ``package-signing`` or an identity's id."""
        return self.folder / "public" / f"{_checked_name(name)}.pem"

    def log_private_key(self) -> Ed25519PrivateKey:
        """Returns the key that signs checkpoints.

        Raises:
            BadSettingError: It is missing, readable by others, or no Ed25519 key.
        """
        key = read_private_key(self.private_path(LOG_KEY))
        if not isinstance(key, Ed25519PrivateKey):
            raise BadSettingError(f"{self.private_path(LOG_KEY)} is not an Ed25519 key")
        return key

    def log_public_key(self) -> Ed25519PublicKey:
        """Returns the key that checkpoints are verified with.

        Raises:
            BadSettingError: It is missing, or no Ed25519 key.
        """
        return read_log_public_key(self.public_path(LOG_KEY))

    def person_private_key(self, identity_id: str) -> ec.EllipticCurvePrivateKey:
        """Returns the private key of an identity.

        Raises:
            BadSettingError: It is missing, readable by others, or no ECDSA P-256 key.
        """
        path = self.private_path(identity_id)
        key = read_private_key(path)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise BadSettingError(f"{path} is not an ECDSA P-256 key")
        return key

    def create_person_key(self) -> PersonKey:
        """Makes the key of a new identity, whose id follows from it.

        Raises:
            BackendUnavailableError: The folder cannot be written.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        identity_id = identity_id_of(der)
        self._store(identity_id, key)
        return PersonKey(
            identity_id=identity_id, public_key_pem=public_pem(key.public_key()).decode(), path=self.private_path(identity_id)
        )

    def discard_person_key(self, identity_id: str) -> None:
        """Removes the key of an identity that came to nothing."""
        self.private_path(identity_id).unlink(missing_ok=True)
        self.public_path(identity_id).unlink(missing_ok=True)

    def _store(self, name: str, key: PrivateKey) -> None:
        """Writes a key pair; of two processes that make the same key at once, the first wins."""
        if self.public_path(name).exists() and not self.private_path(name).exists():
            raise IntegrityError(
                f"{self.private_path(name)} is missing, its public half is there", hint="restore it from a backup"
            )
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        _write_once(self.private_path(name), pem, 0o600)
        winner = read_private_key(self.private_path(name))
        _write_once(self.public_path(name), public_pem(winner.public_key()), 0o644)


def public_pem(key: PublicKey) -> bytes:
    """Returns a public key as SubjectPublicKeyInfo PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_private_key(path: Path) -> PrivateKey:
    """Reads a private key.

    Raises:
        BadSettingError: It is missing, readable by others than its owner, or no Ed25519 or ECDSA key in PEM.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise BadSettingError(f"private key {path} can be read by others", hint=f"chmod 600 {path}")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BadSettingError(f"private key {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadSettingError(f"{path} is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise BadSettingError(f"{path} is neither an Ed25519 nor an ECDSA key")
    return key


def read_log_public_key(path: Path) -> Ed25519PublicKey:
    """Reads a log's public key.

    Raises:
        BadSettingError: It is missing, or no Ed25519 public key in PEM.
    """
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise BadSettingError(f"public key {path} cannot be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadSettingError(f"{path} is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadSettingError(f"{path} is no Ed25519 public key")
    return key


def _checked_name(name: str) -> str:
    if name not in {LOG_KEY, PACKAGE_KEY} and not _PERSON_NAME.fullmatch(name):
        raise BadSettingError(f"no key has the name {name!r:.80}")
    return name


def _make_folder(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise BackendUnavailableError(f"{folder} cannot be made: {error.strerror}") from error


def _write_once(path: Path, data: bytes, mode: int) -> None:
    """Writes a file whole and durably unless it exists; it never exists half-written."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        finally:
            temporary.unlink()
    except OSError as error:
        raise BackendUnavailableError(f"{path} cannot be written: {error.strerror}") from error
