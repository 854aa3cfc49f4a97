"""The rules at the head of governance/identity.py, one by one."""

import dataclasses

import pytest

from governance.errors import RefusedError
from governance.identity import Identity, Role, check_create, check_revoke, identity_id_of, require_role

ADMIN = Identity(identity_id="id-a", role=Role.ADMIN, public_key_pem="", name_commitment="", created="t")
OTHER_ADMIN = dataclasses.replace(ADMIN, identity_id="id-b")
OPS = dataclasses.replace(ADMIN, identity_id="id-o", role=Role.OPS)
REVOKED = dataclasses.replace(ADMIN, identity_id="id-r", revoked="t")


def test_a_revoked_identity_does_nothing():
    assert not REVOKED.is_active
    with pytest.raises(RefusedError, match="revoked"):
        require_role(REVOKED, set(Role))


def test_only_an_admin_creates_and_revokes():
    check_create(ADMIN)
    check_revoke(ADMIN, OPS, [ADMIN, OPS])
    for role in set(Role) - {Role.ADMIN}:
        other = dataclasses.replace(OPS, role=role)
        with pytest.raises(RefusedError, match="takes admin") as caught:
            check_create(other)
        assert caught.value.exit_code == 5
        with pytest.raises(RefusedError):
            check_revoke(other, OPS, [ADMIN, OPS])


def test_the_last_active_admin_stays():
    with pytest.raises(RefusedError, match="last admin"):
        check_revoke(ADMIN, ADMIN, [ADMIN, OPS, REVOKED])
    check_revoke(ADMIN, ADMIN, [ADMIN, OTHER_ADMIN])


def test_nobody_is_revoked_twice():
    with pytest.raises(RefusedError, match="already"):
        check_revoke(ADMIN, REVOKED, [ADMIN, REVOKED])


def test_an_id_follows_from_the_key():
    assert identity_id_of(b"key") == "id-2c70e12b7a0646f9"
    assert identity_id_of(b"key") != identity_id_of(b"other")
