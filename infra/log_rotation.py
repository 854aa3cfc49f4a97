"""Rotation of the log's key: the old key signs over to the new one, unless it was stolen. See `governance.log_keys`."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.errors import IntegrityError
from governance.log_keys import ACTIVATED
from governance.platform_keys import REVOKED, ROTATED, PlatformKey, checked_reason, rotation_details
from infra.database import Database, UnitOfWork
from infra.key_rotation import KeyChange, rotate
from infra.keys import LOG_KEY, Keys
from infra.ledger import sign_head, sign_head_with

_SUBJECT = f"key:{LOG_KEY}"


def rotate_log_key(database: Database, keys: Keys, *, actor: str) -> KeyChange:
    """Makes a new key for the log; whoever has the old one is led to it by the checkpoint with which the old one hands over.

    Raises:
        RefusedError: The actor is no admin.
        IntegrityError: The key here is not the ledger's, or the ledger does not continue its last checkpoint.
        BackendUnavailableError: The folder or the database cannot be written.
    """

    def record(uow: UnitOfWork, before: PlatformKey, new_pem: str) -> str:
        uow.append(ROTATED, _SUBJECT, rotation_details(new_pem, before), actor=actor)
        handover = sign_head(uow, keys)
        uow.append(ACTIVATED, _SUBJECT, {"checkpoint": handover}, actor=actor)
        return _sign_with_new(uow, keys)

    return rotate(database, keys, LOG_KEY, Ed25519PrivateKey.generate, record, actor=actor)


def replace_stolen_log_key(database: Database, keys: Keys, *, reason: str, actor: str) -> KeyChange:
    """Makes a new key for the log and revokes the old one, which signs nothing over: who has it needs the new one from outside.

    Args:
        database: The database.
        keys: The home's keys.
        reason: Why; a commitment to it stands in the ledger.
        actor: The id of the identity that rotates.

    Raises:
        RefusedError: The actor is no admin.
        BadRecordError: There is no reason.
        IntegrityError: The key here is not the ledger's, or the ledger does not continue its last checkpoint.
        BackendUnavailableError: The folder or the database cannot be written.
    """
    reason = checked_reason(reason)

    def record(uow: UnitOfWork, before: PlatformKey, new_pem: str) -> str:
        uow.append(ROTATED, _SUBJECT, {**rotation_details(new_pem, before), "compromised": True}, actor=actor)
        details = {"public_key_sha256": before.fingerprint, "reason_commitment": uow.commit_to(reason)}
        uow.append(REVOKED, _SUBJECT, details, actor=actor)
        uow.append(ACTIVATED, _SUBJECT, {}, actor=actor)
        return _sign_with_new(uow, keys)

    return rotate(database, keys, LOG_KEY, Ed25519PrivateKey.generate, record, actor=actor)


def _sign_with_new(uow: UnitOfWork, keys: Keys) -> str:
    new = keys.staged(LOG_KEY)
    if not isinstance(new, Ed25519PrivateKey):
        raise IntegrityError(f"the staged key {LOG_KEY} is gone", hint="rotate it again")
    return sign_head_with(uow, new, signed_before=keys.log_public_key())
