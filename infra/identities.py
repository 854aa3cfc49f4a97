"""Identities in the database; their names stand in the ledger only as salted commitments."""

import json
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from governance.errors import BadRecordError, RefusedError, UnknownSubjectError
from governance.identity import Identity, Role, check_create, check_revoke
from governance.platform_keys import CREATED, fingerprint_of
from infra.database import Database, UnitOfWork
from infra.keys import LOG_KEY, PACKAGE_KEY, Keys, PersonKey
from infra.tables import commitments, identities

_MAX_NAME = 200


def initialise_home(database: Database, keys: Keys, *, admin_name: str) -> Identity:
    """Records a new home, its keys and its first identity, an admin; a home already recorded stays as it is.

    Args:
        database: The home's database.
        keys: The home's keys.
        admin_name: The first admin's name.

    Returns:
        The first identity.
    """
    with database.read() as connection:
        found = _select(connection)
    if found:
        return found[0]
    name = _checked_name(admin_name)
    person = keys.create_person_key()
    try:
        with database.unit_of_work() as uow:
            found = _select(uow.connection)
            if found:
                keys.discard_person_key(person.identity_id)
                return found[0]
            uow.append("home.created", "home", {"format": 1})
            for key_name, algorithm in ((LOG_KEY, "ed25519"), (PACKAGE_KEY, "ecdsa-p256")):
                pem = keys.public_path(key_name).read_bytes()
                details = {
                    "algorithm": algorithm,
                    "public_key_pem": pem.decode(),
                    "public_key_sha256": fingerprint_of(pem.decode()),
                }
                uow.append(CREATED, f"key:{key_name}", details)
            return _insert(uow, person, name=name, role=Role.ADMIN, actor=person.identity_id)
    except BaseException:
        keys.discard_person_key(person.identity_id)
        raise


def create_identity(
    database: Database, keys: Keys, *, name: str, role: Role, actor: str, passphrase: bytes | None = None
) -> Identity:
    """Creates an identity with a key of its own.

    Args:
        database: The home's database.
        keys: The home's keys.
        name: The person's or service's name.
        role: Its role.
        actor: The id of the identity that creates it.
        passphrase: What its private key is encrypted with, if it is.

    Raises:
        RefusedError: The actor is no admin, or an active identity has that name.
        BadRecordError: The name is empty, too long or holds control characters.
        UnknownSubjectError: There is no such actor.
    """
    name = _checked_name(name)
    with database.read() as connection:
        check_create(get_identity(connection, actor))
    person = keys.create_person_key(passphrase)
    try:
        with database.unit_of_work() as uow:
            check_create(get_identity(uow.connection, actor))
            _check_name_is_free(uow.connection, name)
            return _insert(uow, person, name=name, role=role, actor=actor)
    except BaseException:
        keys.discard_person_key(person.identity_id)
        raise


def revoke_identity(database: Database, *, identity_id: str, actor: str) -> Identity:
    """Revokes an identity: it may not act again, and what it did stays.

    Raises:
        RefusedError: The actor is no admin, or the identity is revoked already or the last admin.
        UnknownSubjectError: There is no such identity or actor.
    """
    with database.unit_of_work() as uow:
        target = get_identity(uow.connection, identity_id)
        check_revoke(get_identity(uow.connection, actor), target, _select(uow.connection))
        uow.connection.execute(update(identities).where(identities.c.identity_id == target.identity_id).values(revoked=uow.time))
        uow.append("identity.revoked", f"identity:{target.identity_id}", {"revoked": uow.time}, actor=actor)
        return get_identity(uow.connection, target.identity_id)


def list_identities(database: Database) -> list[Identity]:
    """Returns every identity, oldest first, revoked ones too."""
    with database.read() as connection:
        return _select(connection)


def list_identities_in(connection: Connection) -> list[Identity]:
    """Returns every identity, as an open transaction sees it."""
    return _select(connection)


def get_identity(connection: Connection, identity_id: str) -> Identity:
    """Returns the identity with an id.

    Raises:
        UnknownSubjectError: There is none.
    """
    found = [identity for identity in _select(connection) if identity.identity_id == identity_id]
    if not found:
        raise UnknownSubjectError(
            f"no identity has the id {identity_id!r:.80}", hint="`groundswell identity list` shows the identities of this home"
        )
    return found[0]


def find_identity(database: Database, id_or_name: str) -> Identity:
    """Returns the identity that a person means: by id, otherwise by the name of one that is not revoked.

    Raises:
        UnknownSubjectError: There is none, or the name was erased.
    """
    with database.read() as connection:
        return find_identity_in(connection, id_or_name)


def find_identity_in(connection: Connection, id_or_name: str) -> Identity:
    """Returns the identity that a person means, as `find_identity` does, as an open transaction sees it."""
    everyone = _select(connection)
    found = [i for i in everyone if i.identity_id == id_or_name] or [i for i in everyone if i.name == id_or_name and i.is_active]
    if not found:
        raise UnknownSubjectError(
            f"no identity has the id or name {id_or_name!r:.80}",
            hint="`groundswell identity list` shows the identities of this home",
        )
    return found[0]


def first_identity(database: Database) -> str:
    """Returns the id of the oldest identity that is not revoked.

    Raises:
        UnknownSubjectError: There is none.
    """
    for identity in list_identities(database):
        if identity.is_active:
            return identity.identity_id
    raise UnknownSubjectError("this home has no identity", hint="make the home anew")


def _check_name_is_free(connection: Connection, name: str) -> None:
    if any(identity.name == name and identity.is_active for identity in _select(connection)):
        raise RefusedError(f"an identity named {name} exists", hint="choose another name, or revoke it first")


def _insert(uow: UnitOfWork, person: PersonKey, *, name: str, role: Role, actor: str) -> Identity:
    name_commitment = uow.commit_to(name)
    values = {
        "identity_id": person.identity_id,
        "name_commitment": name_commitment,
        "role": role.value,
        "public_key_pem": person.public_key_pem,
        "created": uow.time,
    }
    uow.connection.execute(insert(identities).values(**values, revoked=None))
    details = {key: value for key, value in values.items() if key != "identity_id"}
    uow.append("identity.created", f"identity:{person.identity_id}", details, actor=actor)
    return get_identity(uow.connection, person.identity_id)


def _select(connection: Connection) -> list[Identity]:
    query = (
        select(identities, commitments.c.value)
        .select_from(identities.outerjoin(commitments, identities.c.name_commitment == commitments.c.commitment))
        .order_by(identities.c.created, identities.c.identity_id)
    )
    return [_identity(row) for row in connection.execute(query)]


def _identity(row: Row[Any]) -> Identity:
    return Identity(
        identity_id=row.identity_id,
        role=Role(row.role),
        public_key_pem=row.public_key_pem,
        name_commitment=row.name_commitment,
        created=row.created,
        revoked=row.revoked,
        name=row.value,
    )


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        shown = json.dumps(name[:40])
        raise BadRecordError(f"{shown} is no name", hint=f"1 to {_MAX_NAME} characters, none of them a control character")
    return name
