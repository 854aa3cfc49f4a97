"""The keys that may have signed a package: those that the signed ledger names, and none that merely lies in a folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import Connection

from governance.errors import IntegrityError, RefusedError
from governance.platform_keys import SHOWN_DIGITS, KeyHistory, PlatformKey
from infra.keys import Keys
from infra.ledger import prove_entries
from infra.model_signature import signer_of
from infra.platform_keys import key_entries
from infra.signed_head import HINT, signed_size


def proven_history(connection: Connection, name: str, keys: Keys) -> KeyHistory:
    """Returns the keys of a name, each named by an entry that the newest signed checkpoint covers.

    Whoever can write the database cannot add a key of their own. Before the first checkpoint there is one key, the home's own.

    Raises:
        IntegrityError: An entry is malformed, breaks a rule, or is not under the checkpoint; or the checkpoint does not hold.
        BadSettingError: The log's public key cannot be read.
    """
    entries = key_entries(connection, name)
    history = KeyHistory(name, entries)
    size = signed_size(connection, keys)
    if size is None:
        if len(history.keys) != 1 or history.current.public_key_pem != keys.public_path(name).read_text(encoding="utf-8"):
            raise IntegrityError(f"no signed checkpoint covers the ledger's key {name}", hint=HINT)
        return history
    if any(entry.index >= size for entry in entries):
        raise IntegrityError(f"the newest signed checkpoint does not cover what the ledger says of key {name}", hint=HINT)
    prove_entries(connection, [entry.index for entry in entries], size)
    return history


class PackageKeys:
    """The keys that may have signed a package.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: Iterable[PlatformKey]) -> None:
        self._keys: Mapping[str, PlatformKey] = {key.pem_digest: key for key in keys}

    def of_signature(self, path: Path) -> ec.EllipticCurvePublicKey:
        """Returns the key that a signature file says it was made with; the signature is not verified yet.

        Raises:
            IntegrityError: The file is missing or malformed, or names a key that is none of these.
            RefusedError: The key was revoked.
        """
        signer = signer_of(path)
        key = self._keys.get(signer)
        if key is None:
            raise IntegrityError(
                f"the model package is signed by a key that the ledger does not name: {signer[:SHOWN_DIGITS]}",
                hint="do not use it; restore the artifact store from a backup",
            )
        if key.revoked is not None:
            raise RefusedError(
                f"the model package is signed by key {key.fingerprint[:SHOWN_DIGITS]}, which was revoked on {key.revoked}",
                hint="an admin who knows that the package is what it should be signs it again: `groundswell models sign MODEL`",
            )
        public_key = load_pem_public_key(key.public_key_pem.encode())
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise IntegrityError(f"the ledger's key {key.fingerprint[:SHOWN_DIGITS]} signs no packages", hint=HINT)
        return public_key
