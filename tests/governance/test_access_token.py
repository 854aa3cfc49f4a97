"""The rules of access tokens, as their head lists them."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.access_token import (
    CREATED,
    REVOKED,
    AccessToken,
    Scope,
    check_make,
    check_revoke,
    match_token,
    render_token,
    secret_digest,
    tokens_of,
)
from governance.errors import BadRecordError, IntegrityError, RefusedError, UnknownSubjectError
from governance.identity import Identity, Role
from governance.ledger import LedgerEntry

NOW, LATER = "2026-11-28T01:00:00.000000Z", "2026-12-28T01:00:00.000000Z"
SECRET = bytes(range(32))
ID = "3f2f6f0a7b11"


def person(role: Role, number: int = 0, revoked: str | None = None) -> Identity:
    name = f"id-{number:016x}"
    return Identity(identity_id=name, role=role, public_key_pem="", name_commitment="", created=NOW, revoked=revoked)


def entry(index: int, action: str, **details: object) -> LedgerEntry:
    return LedgerEntry(index=index, time=NOW, actor="system", action=action, subject=f"token:{ID}", details=details, run_id=None)


def created(index: int = 0, **changes: object) -> LedgerEntry:
    details = {"identity": "id-1", "scopes": ["read"], "secret_sha256": secret_digest(SECRET), "expires": LATER}
    return entry(index, CREATED, **{**details, **changes})


def known() -> dict[str, AccessToken]:
    return tokens_of([created()])


def test_a_token_is_good_until_it_ends_or_is_revoked() -> None:
    shown = render_token(ID, SECRET)
    assert match_token(shown, known(), now=NOW) == known()[ID]
    assert match_token(shown, known(), now=LATER) is None
    assert match_token(shown, tokens_of([created(), entry(1, REVOKED)]), now=NOW) is None


@given(st.text(max_size=100) | st.binary(min_size=32, max_size=32).map(lambda secret: render_token(ID, secret)))
def test_nothing_else_is_a_token(shown: str) -> None:
    assert shown == render_token(ID, SECRET) or match_token(shown, known(), now=NOW) is None


@given(st.binary(min_size=6, max_size=6), st.binary(min_size=32, max_size=32))
def test_what_is_handed_out_is_what_is_matched(token_id: bytes, secret: bytes) -> None:
    made = dataclasses.replace(known()[ID], token_id=token_id.hex(), secret_sha256=secret_digest(secret))
    assert match_token(render_token(token_id.hex(), secret), {made.token_id: made}, now=NOW) == made


@pytest.mark.parametrize(
    "entries",
    [
        [entry(0, REVOKED)],
        [created(), created(1)],
        [created(), entry(1, REVOKED), entry(2, REVOKED)],
        [created(scopes=["write"])],
        [created(scopes=None)],
        [entry(0, CREATED)],
        [entry(0, "token.lent")],
    ],
)
def test_entries_that_break_a_rule_are_told(entries: list[LedgerEntry]) -> None:
    with pytest.raises(IntegrityError, match=f"about token:{ID} breaks a rule of tokens"):
        tokens_of(entries)


def test_everybody_makes_their_own_and_an_admin_everybodys() -> None:
    ada, olga, admin = person(Role.OPS, 1), person(Role.AUDITOR, 2), person(Role.ADMIN, 3)
    check_make(ada, ada, [Scope.READ])
    check_make(admin, ada, [Scope.READ])
    with pytest.raises(RefusedError, match="the token is another's"):
        check_make(olga, ada, [Scope.READ])
    with pytest.raises(RefusedError, match="was revoked on"):
        check_make(admin, person(Role.OPS, 1, revoked=NOW), [Scope.READ])
    with pytest.raises(RefusedError, match="was revoked on"):
        check_make(person(Role.ADMIN, 3, revoked=NOW), ada, [Scope.READ])
    with pytest.raises(BadRecordError, match="good for nothing"):
        check_make(admin, ada, [])


def test_a_token_is_revoked_once_by_who_may() -> None:
    token = dataclasses.replace(known()[ID], identity_id=person(Role.OPS, 1).identity_id)
    assert check_revoke(person(Role.OPS, 1), token, ID) == token
    assert check_revoke(person(Role.ADMIN, 3), token, ID) == token
    with pytest.raises(RefusedError, match="the token is another's"):
        check_revoke(person(Role.OPS, 2), token, ID)
    with pytest.raises(RefusedError, match="already"):
        check_revoke(person(Role.OPS, 1), dataclasses.replace(token, revoked=NOW), ID)
    with pytest.raises(UnknownSubjectError, match="no token has the id"):
        check_revoke(person(Role.ADMIN), None, "x")
