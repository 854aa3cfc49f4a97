"""Whether the keys of a restored home are those that its ledger speaks of."""

import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import Connection, select

from governance.checkpoint import key_name
from governance.errors import BadRecordError, IntegrityError
from governance.ledger import parse_entry
from governance.log_keys import LogKeys
from infra.backup import format as layout
from infra.backup.archive import TarReader
from infra.backup.format import decode_value
from infra.key_pem import is_encrypted, public_pem, read_log_public_key, read_private_key
from infra.keys import LOG_KEY, PLATFORM_KEYS, RETIRED_DIGITS, Keys
from infra.platform_keys import key_history
from infra.settings import Settings
from infra.tables import identities, ledger_entries

_NOTHING = "nothing was restored"


def log_in_backup(reader: TarReader, settings: Settings, key_file: Path | None) -> LogKeys:
    """Returns the keys of the log in a backup, which has to be the log whose key is known here.

    Nothing of them is verified yet but that whoever has the known key can follow them to the newest.

    Args:
        reader: The backup.
        settings: Where it is restored to.
        key_file: A key of the log, from a place that whoever made the backup cannot write.

    Raises:
        BadRecordError: The log's key in the backup, or an entry about it, is none.
        IntegrityError: It is another log, or the log's key was changed in a way that the known key does not vouch for.
        BadSettingError: The known key cannot be read.
    """
    current = _backed_up_key(reader)
    keys = _named_keys(reader, current)
    own = Keys(settings.home / "keys").public_path(LOG_KEY)
    for path in [*([key_file] if key_file else []), *([own] if own.exists() else [])]:
        known = read_log_public_key(path)
        if keys.find(known) is None:
            raise IntegrityError(
                f"the backup is of {key_name(current)}, {path} is the key of {key_name(known)}",
                hint="restore it into a home of its own: --home DIR",
            )
        for problem in keys.problems(known):
            raise IntegrityError(problem, hint=_NOTHING)
    return keys


def _backed_up_key(reader: TarReader) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(reader.read(f"{layout.KEYS}/public/{LOG_KEY}.pem"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadRecordError("the log's public key in the backup is no key", hint=_NOTHING) from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadRecordError("the log's public key in the backup is no Ed25519 key", hint=_NOTHING)
    return key


def _named_keys(reader: TarReader, current: Ed25519PublicKey) -> LogKeys:
    """Returns the keys that the ledger in a backup names, if the newest is the one in the backup; otherwise that one alone."""
    entries = []
    for line in reader.lines(layout.table_member(ledger_entries.name)):
        if b'"key:log"' not in line:
            continue
        try:
            row = json.loads(line)
            data = decode_value(row["entry"]) if row["subject"] == f"key:{LOG_KEY}" else None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadRecordError("an entry about the log's key in the backup is none", hint=_NOTHING) from error
        if data is not None:
            entries.append(parse_entry(bytes(data)))
    try:
        keys = LogKeys.from_entries(entries)
    except IntegrityError:  # the verification of the ledger says what is wrong
        return LogKeys.of(current)
    return keys if keys.current.name == key_name(current) else LogKeys.of(current)


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
    for name in PLATFORM_KEYS:
        for key in key_history(connection, name).keys:
            recorded[name if key.retired is None else f"{name}-{key.fingerprint[:RETIRED_DIGITS]}"] = key.public_key_pem
    for name, pem in recorded.items():
        if name in public and public[name] != pem.encode():
            raise IntegrityError(f"the public key {name} in the backup is not the one in its ledger", hint="use another backup")
    for name, path in private.items():
        if name not in PLATFORM_KEYS and is_encrypted(path):
            continue
        if name in recorded and public_pem(read_private_key(path).public_key()) != recorded[name].encode():
            raise IntegrityError(f"the private key {name} is not the one in the backup's ledger", hint="use another backup")
