"""Rotation and revocation of the package-signing key.

A rotation first stages the new private key in a hidden file. Then one unit of work appends ``key.rotated`` and signs the head.
What the ledger then says decides: if it names the staged key, that takes the old one's place; otherwise it is discarded. So a
rotation that died anywhere is settled by the next start. The old private key is gone then; the old public one is kept.
"""

from contextlib import suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from governance.errors import GovernanceError, IntegrityError
from governance.identity import Role, require_role
from governance.platform_keys import REVOKED, ROTATED, PlatformKey, checked_reason, key_to_revoke, rotation_details
from infra.database import Database, UnitOfWork
from infra.errors import InfraError
from infra.identities import get_identity
from infra.key_files import remove_file
from infra.keys import PACKAGE_KEY, Keys, public_pem
from infra.ledger import sign_head
from infra.locking import lock
from infra.platform_keys import key_history


@dataclass(frozen=True, kw_only=True)
class KeyChange:
    """A key that was rotated or revoked.

    Attributes:
        key: The new key, or the one that was revoked.
        note: The checkpoint signed with it, for the witnesses.
    """

    key: PlatformKey
    note: str


def rotate_package_key(database: Database, keys: Keys, *, actor: str) -> KeyChange:
    """Makes a new package-signing key; the old one's signatures stay valid, its private half is removed.

    Raises:
        RefusedError: The actor is no admin.
        IntegrityError: The key here is not the ledger's, or the ledger does not continue its last checkpoint.
        BackendUnavailableError: The folder or the database cannot be written.
    """
    with lock(keys.lock_path):
        _settle(database, keys)
        with database.read() as connection:
            require_role(get_identity(connection, actor), {Role.ADMIN})
        new = keys.stage(PACKAGE_KEY, ec.generate_private_key(ec.SECP256R1()))
        try:
            with database.unit_of_work() as uow:
                note = _record(uow, keys, public_pem(new.public_key()).decode(), actor)
        except BaseException:
            with suppress(InfraError, GovernanceError):  # what cannot be settled now is settled by the next start
                _settle(database, keys)
            raise
        _settle(database, keys)
    with database.read() as connection:
        return KeyChange(key=key_history(connection, PACKAGE_KEY).current, note=note)


def revoke_package_key(database: Database, keys: Keys, *, digits: str, reason: str, actor: str) -> KeyChange:
    """Revokes a package-signing key, current or retired: what it has signed counts no longer.

    Args:
        database: The database.
        keys: The home's keys.
        digits: The key's fingerprint, or its beginning.
        reason: Why; a commitment to it stands in the ledger.
        actor: The id of the identity that revokes.

    Raises:
        RefusedError: The actor is no admin, or the key is revoked already.
        UnknownSubjectError: There is no such key.
        BadRecordError: The fingerprint is too short, or there is no reason.
        IntegrityError: The ledger does not continue its last checkpoint.
    """
    reason = checked_reason(reason)
    with database.unit_of_work() as uow:
        require_role(get_identity(uow.connection, actor), {Role.ADMIN})
        key = key_to_revoke(key_history(uow.connection, PACKAGE_KEY), digits)
        details = {"public_key_sha256": key.fingerprint, "reason_commitment": uow.commit_to(reason)}
        uow.append(REVOKED, f"key:{PACKAGE_KEY}", details, actor=actor)
        note = sign_head(uow, keys)
    with database.read() as connection:
        (revoked,) = (one for one in key_history(connection, PACKAGE_KEY).keys if one.fingerprint == key.fingerprint)
    return KeyChange(key=revoked, note=note)


def settle_rotation(database: Database, keys: Keys) -> None:
    """Finishes or discards what a rotation that died has left; waits for one that is under way.

    Raises:
        BackendUnavailableError: The folder cannot be written.
        IntegrityError: The ledger's entries about the key break a rule.
    """
    if keys.staged_path(PACKAGE_KEY).exists():
        with lock(keys.lock_path):
            _settle(database, keys)


def _record(uow: UnitOfWork, keys: Keys, new_pem: str, actor: str) -> str:
    require_role(get_identity(uow.connection, actor), {Role.ADMIN})
    previous = key_history(uow.connection, PACKAGE_KEY).current
    if keys.public_path(PACKAGE_KEY).read_text(encoding="utf-8") != previous.public_key_pem:
        raise IntegrityError(
            f"the {PACKAGE_KEY} key in {keys.folder} is not the one that the ledger names", hint="restore it from a backup"
        )
    uow.append(ROTATED, f"key:{PACKAGE_KEY}", rotation_details(new_pem, previous), actor=actor)
    return sign_head(uow, keys)


def _settle(database: Database, keys: Keys) -> None:
    staged = keys.staged(PACKAGE_KEY)
    if staged is None:
        return
    with database.read() as connection:
        history = key_history(connection, PACKAGE_KEY)
    pem = public_pem(staged.public_key()).decode()
    if not history.keys or history.current.public_key_pem != pem:
        remove_file(keys.staged_path(PACKAGE_KEY))
        return
    for retired in history.keys[:-1]:
        keys.keep_public(PACKAGE_KEY, retired.fingerprint, retired.public_key_pem.encode())
    keys.take_over(PACKAGE_KEY, pem.encode())
