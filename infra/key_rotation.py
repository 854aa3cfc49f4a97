"""Rotation and revocation of the platform's keys.

A rotation first stages the new private key in a hidden file. Then one unit of work appends ``key.rotated`` and signs the head.
What the ledger then says decides: if it names the staged key, that takes the old one's place; otherwise it is discarded. So a
rotation that died anywhere is settled by the next start. The old private key is gone then; the old public one is kept.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from governance.errors import GovernanceError, IntegrityError, RefusedError
from governance.identity import Role, require_role
from governance.platform_keys import (
    REVOKED,
    ROTATED,
    SHOWN_DIGITS,
    KeyHistory,
    KeyState,
    PlatformKey,
    checked_reason,
    key_to_revoke,
    rotation_details,
)
from infra.database import Database, UnitOfWork
from infra.errors import InfraError
from infra.identities import get_identity
from infra.key_files import remove_file
from infra.key_pem import PrivateKey, public_pem
from infra.keys import CONTENT_KEY, LOG_KEY, PACKAGE_KEY, Keys
from infra.ledger import sign_head
from infra.locking import lock
from infra.platform_keys import key_history

ROTATED_KEYS = (LOG_KEY, PACKAGE_KEY, CONTENT_KEY)
"""The keys that are rotated and revoked; the root of content credentials stays."""


@dataclass(frozen=True, kw_only=True)
class KeyChange:
    """A key that was rotated or revoked.

    Attributes:
        key: The new key, or the one that was revoked.
        note: The checkpoint signed with it, for the witnesses.
    """

    key: PlatformKey
    note: str


Recorder = Callable[[UnitOfWork, PlatformKey, str], str]
"""Records a rotation, given the key before and the new public key in PEM; returns the checkpoint signed with it."""


def rotate_package_key(database: Database, keys: Keys, *, actor: str) -> KeyChange:
    """Makes a new package-signing key; the old one's signatures stay valid, its private half is removed.

    Raises:
        RefusedError: The actor is no admin.
        IntegrityError: The key here is not the ledger's, or the ledger does not continue its last checkpoint.
        BackendUnavailableError: The folder or the database cannot be written.
    """

    def record(uow: UnitOfWork, before: PlatformKey, new_pem: str) -> str:
        uow.append(ROTATED, f"key:{PACKAGE_KEY}", rotation_details(new_pem, before), actor=actor)
        return sign_head(uow, keys)

    return rotate(database, keys, PACKAGE_KEY, lambda: ec.generate_private_key(ec.SECP256R1()), record, actor=actor)


def rotate(
    database: Database, keys: Keys, name: str, make: Callable[[], PrivateKey], record: Recorder, *, actor: str
) -> KeyChange:
    """Puts a new key in the place of the current one, see above.

    Args:
        database: The database.
        keys: The home's keys.
        name: The key's name.
        make: Makes the new private key.
        record: Records the rotation, in one unit of work.
        actor: The id of the identity that rotates.

    Raises:
        RefusedError: The actor is no admin.
        IntegrityError: The key here is not the ledger's, or the ledger does not continue its last checkpoint.
        BackendUnavailableError: The folder or the database cannot be written.
    """
    with lock(keys.lock_path):
        _settle(database, keys, name)
        with database.read() as connection:
            require_role(get_identity(connection, actor), {Role.ADMIN})
        new_pem = public_pem(keys.stage(name, make()).public_key()).decode()
        try:
            with database.unit_of_work() as uow:
                require_role(get_identity(uow.connection, actor), {Role.ADMIN})
                note = record(uow, _own(uow, keys, name), new_pem)
        except BaseException:
            with suppress(InfraError, GovernanceError):  # what cannot be settled now is settled by the next start
                _settle(database, keys, name)
            raise
        _settle(database, keys, name)
    with database.read() as connection:
        return KeyChange(key=key_history(connection, name).current, note=note)


def revoke_key(database: Database, keys: Keys, *, digits: str, reason: str, actor: str) -> KeyChange:
    """Revokes a key that signs packages or content, or a retired key of the log: what it has signed counts no longer.

    Args:
        database: The database.
        keys: The home's keys.
        digits: The key's fingerprint, or its beginning.
        reason: Why; a commitment to it stands in the ledger.
        actor: The id of the identity that revokes.

    Raises:
        RefusedError: The actor is no admin, or the key is revoked already, or the log's current one.
        UnknownSubjectError: There is no such key.
        BadRecordError: The fingerprint is too short, or there is no reason.
        IntegrityError: The ledger does not continue its last checkpoint.
    """
    reason = checked_reason(reason)
    with database.unit_of_work() as uow:
        require_role(get_identity(uow.connection, actor), {Role.ADMIN})
        key = key_to_revoke([key_history(uow.connection, name) for name in ROTATED_KEYS], digits)
        if key.name == LOG_KEY and key.state is KeyState.CURRENT:
            raise RefusedError(
                f"key {key.fingerprint[:SHOWN_DIGITS]} signs the log's head: another has to take its place",
                hint="`groundswell key rotate log --compromised --reason TEXT` revokes it and makes the next one",
            )
        details = {"public_key_sha256": key.fingerprint, "reason_commitment": uow.commit_to(reason)}
        uow.append(REVOKED, f"key:{key.name}", details, actor=actor)
        note = sign_head(uow, keys)
    with database.read() as connection:
        (revoked,) = (one for one in key_history(connection, key.name).keys if one.fingerprint == key.fingerprint)
    return KeyChange(key=revoked, note=note)


def settle_rotations(database: Database, keys: Keys) -> None:
    """Finishes or discards what rotations that died have left; waits for one that is under way.

    Raises:
        BackendUnavailableError: The folder cannot be written.
        IntegrityError: The ledger's entries about a key break a rule.
    """
    with lock(keys.lock_path):
        for name in ROTATED_KEYS:
            _settle(database, keys, name)


def _own(uow: UnitOfWork, keys: Keys, name: str) -> PlatformKey:
    """Returns the ledger's current key, which has to be the one that lies here."""
    current = key_history(uow.connection, name).current
    if keys.public_path(name).read_text(encoding="utf-8") != current.public_key_pem:
        raise IntegrityError(
            f"the {name} key in {keys.folder} is not the one that the ledger names", hint="restore it from a backup"
        )
    return current


def _settle(database: Database, keys: Keys, name: str) -> None:
    staged = keys.staged(name)
    if staged is None:
        return
    pem = public_pem(staged.public_key()).decode()
    with database.read() as connection:
        history = key_history(connection, name)
    if not _is_current(history, pem):
        with database.unit_of_work() as uow:  # waits for a commit whose answer was lost
            history = key_history(uow.connection, name)
    if not _is_current(history, pem):
        remove_file(keys.staged_path(name))
        return
    for retired in history.keys[:-1]:
        keys.keep_public(name, retired.fingerprint, retired.public_key_pem.encode())
    keys.take_over(name, pem.encode())


def _is_current(history: KeyHistory, pem: str) -> bool:
    return bool(history.keys) and history.current.public_key_pem == pem
