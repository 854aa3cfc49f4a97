"""The keys of a home: private ones in ``HOME/keys/`` (0600), public ones in ``HOME/keys/public/*.pem``.

The log's key is Ed25519; the package-signing key and people's keys are ECDSA P-256. Private keys are PKCS#8 PEM, public ones
SubjectPublicKeyInfo PEM. A person's private key may be encrypted with a passphrase; the platform's own keys sign while nobody is
there to ask.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from governance.errors import IntegrityError
from governance.identity import identity_id_of
from infra.errors import BackendUnavailableError, BadSettingError
from infra.key_files import move_file, replace_file, write_once
from infra.key_pem import PrivateKey, is_encrypted, private_pem, public_pem, read_log_public_key, read_private_key

LOG_KEY = "log"
PACKAGE_KEY = "package-signing"
CONTENT_KEY = "content-credentials"
CONTENT_ROOT = "content-root"
PLATFORM_KEYS = (LOG_KEY, PACKAGE_KEY, CONTENT_KEY, CONTENT_ROOT)
"""The platform's own keys; the latter two are made when a file is signed for the first time, see `infra.content_keys`."""
CERTIFICATES = frozenset({f"{CONTENT_KEY}-certificate", f"{CONTENT_ROOT}-certificate"})
"""Files beside the public keys that hold a certificate, in PEM too."""
RETIRED_DIGITS = 16
_RETIRED_NAME = re.compile(rf"(?:{LOG_KEY}|{PACKAGE_KEY}|{CONTENT_KEY})-[0-9a-f]{{{RETIRED_DIGITS}}}", re.ASCII)
_PERSON_NAME = re.compile(r"id-[0-9a-f]{16}", re.ASCII)


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
            keys.store(LOG_KEY, Ed25519PrivateKey.generate())
        if not keys.private_path(PACKAGE_KEY).exists():
            keys.store(PACKAGE_KEY, ec.generate_private_key(ec.SECP256R1()))
        return keys

    def private_path(self, name: str) -> Path:
        """Returns the file of a private key: one of `PLATFORM_KEYS`, or an identity's id."""
        return self.folder / f"{_checked_name(name)}.pem"

    def public_path(self, name: str) -> Path:
        """Returns the file of a public key: a platform's key, a retired one, an identity's id, or one of `CERTIFICATES`."""
        is_public_only = _RETIRED_NAME.fullmatch(name) or name in CERTIFICATES
        return self.folder / "public" / f"{name if is_public_only else _checked_name(name)}.pem"

    @property
    def lock_path(self) -> Path:
        """The lock that whoever changes the platform's keys holds, and whoever copies them."""
        return self.folder.parent / "locks" / "keys"

    def staged_path(self, name: str) -> Path:
        """Returns the hidden file of a private key that is to take another's place."""
        return self.folder / f".{_checked_name(name)}.next"

    def stage(self, name: str, key: PrivateKey) -> PrivateKey:
        """Writes the private key that is to take another's place, and returns it.

        Raises:
            BackendUnavailableError: The folder cannot be written.
        """
        replace_file(self.staged_path(name), private_pem(key, None), 0o600)
        return key

    def staged(self, name: str) -> PrivateKey | None:
        """Returns the private key that is to take another's place, if there is one.

        Raises:
            BadSettingError: It cannot be read.
        """
        path = self.staged_path(name)
        return read_private_key(path) if path.exists() else None

    def keep_public(self, name: str, fingerprint: str, pem: bytes) -> None:
        """Keeps the public half of a retired key beside that of the current one.

        Raises:
            BackendUnavailableError: The folder cannot be written.
        """
        write_once(self.public_path(f"{name}-{fingerprint[:RETIRED_DIGITS]}"), pem, 0o644)

    def take_over(self, name: str, public: bytes) -> None:
        """Puts the staged key in the place of the current one; done again after it broke off, it comes to the same.

        Args:
            name: The key's name.
            public: The staged key's public half, in PEM.

        Raises:
            BackendUnavailableError: The folder cannot be written.
        """
        replace_file(self.public_path(name), public, 0o644)
        move_file(self.staged_path(name), self.private_path(name))

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

        The passphrase of an encrypted one is asked for, once a process.

        Raises:
            BadSettingError: It is missing, readable by others, no ECDSA P-256 key, or another identity's; or its passphrase is
                wrong or cannot be asked for.
        """
        path = self.private_path(identity_id)
        key = read_private_key(path, ask=True)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise BadSettingError(f"{path} is not an ECDSA P-256 key")
        if _identity_id(key) != identity_id:
            raise BadSettingError(f"{path} is the key of {_identity_id(key)}", hint="restore it from a backup")
        return key

    def create_person_key(self, passphrase: bytes | None = None) -> PersonKey:
        """Makes the key of a new identity, whose id follows from it.

        Args:
            passphrase: What its private half is encrypted with, if it is.

        Raises:
            BackendUnavailableError: The folder cannot be written.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        identity_id, public = _identity_id(key), public_pem(key.public_key())
        write_once(self.private_path(identity_id), private_pem(key, passphrase), 0o600)
        write_once(self.public_path(identity_id), public, 0o644)
        return PersonKey(identity_id=identity_id, public_key_pem=public.decode(), path=self.private_path(identity_id))

    def has_passphrase(self, identity_id: str) -> bool:
        """Says whether the private key of an identity is encrypted.

        Raises:
            BadSettingError: It is missing, or readable by others.
        """
        return is_encrypted(self.private_path(identity_id))

    def set_passphrase(self, identity_id: str, passphrase: bytes | None) -> None:
        """Encrypts the private key of an identity anew, or no longer; whatever happens, the old file or the new one is there.

        Args:
            identity_id: The identity.
            passphrase: The new passphrase; None for none. The present one, if there is one, is asked for.

        Raises:
            BadSettingError: The key cannot be read, see `person_private_key`.
            BackendUnavailableError: The folder cannot be written.
        """
        key = self.person_private_key(identity_id)
        replace_file(self.private_path(identity_id), private_pem(key, passphrase), 0o600)

    def discard_person_key(self, identity_id: str) -> None:
        """Removes the key of an identity that came to nothing."""
        self.private_path(identity_id).unlink(missing_ok=True)
        self.public_path(identity_id).unlink(missing_ok=True)

    def store(self, name: str, key: PrivateKey) -> None:
        """Writes a key pair; of two processes that make the same key at once, the first wins.

        Raises:
            BackendUnavailableError: The folder cannot be written.
            IntegrityError: The private key is missing, and its public half is there.
        """
        if self.public_path(name).exists() and not self.private_path(name).exists():
            raise IntegrityError(
                f"{self.private_path(name)} is missing, its public half is there", hint="restore it from a backup"
            )
        write_once(self.private_path(name), private_pem(key, None), 0o600)
        winner = read_private_key(self.private_path(name))
        write_once(self.public_path(name), public_pem(winner.public_key()), 0o644)


def _checked_name(name: str) -> str:
    if name not in PLATFORM_KEYS and not _PERSON_NAME.fullmatch(name):
        raise BadSettingError(f"no key has the name {name!r:.80}")
    return name


def _make_folder(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise BackendUnavailableError(f"{folder} cannot be made: {error.strerror}") from error


def _identity_id(key: ec.EllipticCurvePrivateKey) -> str:
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return identity_id_of(der)
