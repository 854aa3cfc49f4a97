"""Keys in PEM: private ones as PKCS#8, perhaps encrypted with a passphrase, public ones as SubjectPublicKeyInfo."""

from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from infra.errors import BadSettingError
from infra.key_files import read_private_file
from infra.passphrases import ask_passphrase

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey


def public_pem(key: PublicKey) -> bytes:
    """Returns a public key as SubjectPublicKeyInfo PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """Returns a private key as PKCS#8 PEM, encrypted where there is a passphrase."""
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def read_private_key(path: Path, *, ask: bool = False) -> PrivateKey:
    """Reads a private key.

    Args:
        path: Its file.
        ask: Whether it may have a passphrase, which is then asked for, once a process.

    Raises:
        BadSettingError: It is missing, readable by others than its owner, or no Ed25519 or ECDSA key in PEM; it is encrypted
            and must not be; or its passphrase is wrong or cannot be asked for.
    """
    pem = read_private_file(path, "private key")
    if not _is_encrypted(pem):
        return _loaded(path, pem, None)
    if not ask:
        raise BadSettingError(f"private key {path} has a passphrase", hint="only the keys of people may have one")
    return _unlocked(path, pem)


def is_encrypted(path: Path) -> bool:
    """Says whether a private key is encrypted.

    Raises:
        BadSettingError: It is missing, or readable by others than its owner.
    """
    return _is_encrypted(read_private_file(path, "private key"))


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


def _is_encrypted(pem: bytes) -> bool:
    return pem.lstrip().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


@lru_cache(maxsize=16)
def _unlocked(path: Path, pem: bytes) -> PrivateKey:
    """Opens an encrypted key; a process asks for its passphrase until one was right, and not again."""
    return _loaded(path, pem, ask_passphrase(f"private key {path.stem}"))


def _loaded(path: Path, pem: bytes, passphrase: bytes | None) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise BadSettingError(f"the passphrase of private key {path} is wrong", hint="try again") from error
        raise BadSettingError(f"{path} is no private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise BadSettingError(f"{path} is neither an Ed25519 nor an ECDSA key")
    return key
