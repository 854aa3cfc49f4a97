"""Secrets of a home that follow from the private key of ``content-root``, and so are written nowhere and backed up with it."""

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.content_keys import root_private_key

if TYPE_CHECKING:
    from infra.home import Home

_BYTES = 32


def derived_secret(home: "Home", use: bytes) -> bytes:
    """Returns the secret for one use, by HKDF-SHA256 (RFC 5869); the same as long as the home has its keys.

    Args:
        home: The home; it has keys of content credentials.
        use: What it is for.

    Raises:
        BadSettingError: The private key of ``content-root`` is missing, unreadable, or not the one that the ledger names.
        IntegrityError: What the ledger says of the keys breaks a rule.
    """
    private = root_private_key(home)
    scalar = private.private_numbers().private_value.to_bytes(-(-private.key_size // 8))
    return HKDF(algorithm=hashes.SHA256(), length=_BYTES, salt=None, info=use).derive(scalar)
