"""Identities in the database."""

import pytest
from sqlalchemy import select

from governance.errors import BadRecordError, RefusedError, UnknownSubjectError
from governance.identity import Role
from infra.database import Database
from infra.erasure import erase
from infra.identities import (
    create_identity,
    find_identity,
    first_identity,
    get_identity,
    initialise_home,
    list_identities,
    revoke_identity,
)
from infra.keys import Keys
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.tables import ledger_entries


@pytest.fixture
def keys(tmp_path):
    return Keys.create(tmp_path / "keys")


@pytest.fixture
def db(database_url):
    with Database.open(database_url) as database:
        yield database


@pytest.fixture
def admin(db, keys):
    return initialise_home(db, keys, admin_name="Ada Lovelace")


def test_a_new_home_records_itself_its_keys_and_an_admin(db, keys, admin):
    assert [e.action for e in iter_entries(db)] == ["home.created", "key.created", "key.created", "identity.created"]
    assert (admin.role, admin.name, admin.is_active) == (Role.ADMIN, "Ada Lovelace", True)
    assert first_identity(db) == admin.identity_id
    assert keys.person_private_key(admin.identity_id)
    assert verify_ledger(db, keys.log_public_key()).ok


def test_a_home_is_made_once(db, keys, admin):
    before = sorted(keys.folder.rglob("*"))
    assert initialise_home(db, keys, admin_name="Somebody") == admin
    assert sorted(keys.folder.rglob("*")) == before
    assert len(list_identities(db)) == 1


def test_names_are_not_in_the_ledger(db, keys, admin):
    create_identity(db, keys, name="Grace Hopper", role=Role.OPS, actor=admin.identity_id)
    with db.read() as connection:
        stored = b"".join(connection.execute(select(ledger_entries.c.entry)).scalars())
    assert b"Ada" not in stored
    assert b"Grace" not in stored


def test_an_erased_name_leaves_identity_and_ledger_valid(db, keys, admin):
    erase(db, [admin.name_commitment], reason="request", actor=admin.identity_id)
    assert list_identities(db)[0].name is None
    assert find_identity(db, admin.identity_id).role is Role.ADMIN
    assert verify_ledger(db, keys.log_public_key()).ok


def test_only_an_admin_creates(db, keys, admin):
    grace = create_identity(db, keys, name="Grace", role=Role.DATA_SCIENTIST, actor=admin.identity_id)
    before = sorted(keys.folder.rglob("*"))
    with pytest.raises(RefusedError, match="takes admin"):
        create_identity(db, keys, name="Eve", role=Role.ADMIN, actor=grace.identity_id)
    with pytest.raises(UnknownSubjectError):
        create_identity(db, keys, name="Eve", role=Role.ADMIN, actor="id-0000000000000000")
    assert [i.name for i in list_identities(db)] == ["Ada Lovelace", "Grace"]
    assert sorted(keys.folder.rglob("*")) == before


def test_revoking_is_recorded_and_ends_what_an_identity_may(db, keys, admin):
    grace = create_identity(db, keys, name="Grace", role=Role.ADMIN, actor=admin.identity_id)
    revoked = revoke_identity(db, identity_id=grace.identity_id, actor=admin.identity_id)
    entry = next(iter_entries(db, action="identity.revoked"))
    assert (entry.subject, entry.actor) == (f"identity:{grace.identity_id}", admin.identity_id)
    assert revoked.revoked == entry.details["revoked"]
    with pytest.raises(RefusedError, match="was revoked"):
        create_identity(db, keys, name="Eve", role=Role.OPS, actor=grace.identity_id)
    with pytest.raises(RefusedError, match="already"):
        revoke_identity(db, identity_id=grace.identity_id, actor=admin.identity_id)
    with pytest.raises(RefusedError, match="last admin"):
        revoke_identity(db, identity_id=admin.identity_id, actor=admin.identity_id)
    assert verify_ledger(db, keys.log_public_key()).ok


def test_a_name_belongs_to_one_active_identity(db, keys, admin):
    grace = create_identity(db, keys, name="Grace", role=Role.OPS, actor=admin.identity_id)
    with pytest.raises(RefusedError, match="exists"):
        create_identity(db, keys, name=" Grace ", role=Role.OPS, actor=admin.identity_id)
    revoke_identity(db, identity_id=grace.identity_id, actor=admin.identity_id)
    again = create_identity(db, keys, name="Grace", role=Role.OPS, actor=admin.identity_id)
    assert find_identity(db, "Grace") == again
    assert find_identity(db, grace.identity_id).revoked


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "a\x00", "x" * 201, "\u202eevil"])
def test_names_that_are_none_are_refused(db, keys, admin, name):
    with pytest.raises(BadRecordError, match="no name"):
        create_identity(db, keys, name=name, role=Role.OPS, actor=admin.identity_id)


def test_unknown_identities_are_named(db, admin):
    with pytest.raises(UnknownSubjectError, match="'Nobody'"):
        find_identity(db, "Nobody")
    with db.read() as connection, pytest.raises(UnknownSubjectError, match="'id-x'"):
        get_identity(connection, "id-x")


def test_a_database_without_identity_has_no_first(db):
    with pytest.raises(UnknownSubjectError, match="no identity"):
        first_identity(db)
