"""Whether the keys of a restored home are those that its ledger speaks of."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection, select

from governance.errors import IntegrityError
from infra.keys import LOG_KEY, PACKAGE_KEY, RETIRED_DIGITS, is_encrypted, public_pem, read_private_key
from infra.platform_keys import key_history
from infra.tables import identities


def check_keys(connection: Connection, public: Mapping[str, bytes], private: Mapping[str, Path]) -> None:
    """Compares keys with the ledger and the identities: otherwise a backup could bring a key of somebody else's.

    A key that neither knows signs nothing that counts: one of a person who came after the backup. Whether a private key with a
    passphrase is the recorded one is seen when its owner uses it: their passphrase is nobody else's.

    Args:
        connection: A connection that sees the restored rows.
        public: Public keys in PEM by name.
        private: Files of private keys by name.

    Raises:
        IntegrityError: A public key is not the recorded one, or a private key is not its other half.
        BadSettingError: A private key cannot be read.
    """
    rows = connection.execute(select(identities.c.identity_id, identities.c.public_key_pem))
    recorded: dict[str, str] = {row.identity_id: row.public_key_pem for row in rows}
    for name in (LOG_KEY, PACKAGE_KEY):
        for key in key_history(connection, name).keys:
            recorded[name if key.retired is None else f"{name}-{key.fingerprint[:RETIRED_DIGITS]}"] = key.public_key_pem
    for name, pem in recorded.items():
        if name in public and public[name] != pem.encode():
            raise IntegrityError(f"the public key {name} in the backup is not the one in its ledger", hint="use another backup")
    for name, path in private.items():
        if name not in {LOG_KEY, PACKAGE_KEY} and is_encrypted(path):
            continue
        if name in recorded and public_pem(read_private_key(path).public_key()) != recorded[name].encode():
            raise IntegrityError(f"the private key {name} is not the one in the backup's ledger", hint="use another backup")
