"""The log's keys as the ledger names them, for somebody who has one of them."""

import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection

from governance.errors import IntegrityError
from governance.log_keys import LOG, LogKeys
from infra.errors import BackendUnavailableError
from infra.key_pem import public_pem
from infra.keys import Keys
from infra.platform_keys import key_entries, key_history

_WAIT_S = 5.0
_LOOK_EVERY_S = 0.05


def log_keys(connection: Connection, public_key: Ed25519PublicKey) -> LogKeys:
    """Returns the keys of the log that a key belongs to.

    Args:
        connection: A connection to the ledger.
        public_key: A key of the log, from a place that whoever can write the database cannot write.

    Returns:
        All that the ledger names, if this one is among them; otherwise this one alone, so that nothing else verifies.
    """
    try:
        keys = LogKeys.from_entries(key_entries(connection, LOG))
    except IntegrityError:  # the verification of the entries says what is wrong
        return LogKeys.of(public_key)
    return keys if keys.find(public_key) else LogKeys.of(public_key)


def signing_log_key(connection: Connection, keys: Keys) -> Ed25519PrivateKey:
    """Returns the private key that signs the ledger's head; waits a moment for a rotation that has just been committed.

    Raises:
        BadSettingError: It cannot be read.
        BackendUnavailableError: The key in the folder is one that was rotated.
    """
    named = key_history(connection, LOG).keys
    end = time.monotonic() + _WAIT_S
    while True:
        key = keys.log_private_key()
        pem = public_pem(key.public_key()).decode()
        if pem not in {one.public_key_pem for one in named[:-1]}:
            return key
        if time.monotonic() > end:
            raise BackendUnavailableError(
                f"the log's key in {keys.folder} was rotated, and the new one is not here",
                hint="run the command again; on another host, copy the keys folder of the home where it was rotated",
            )
        time.sleep(_LOOK_EVERY_S)
