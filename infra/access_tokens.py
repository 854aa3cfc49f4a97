"""Access tokens in the ledger: it says which there are, so that each making and revoking is a signed record of its own."""

import secrets
from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import Connection, select

from governance import access_token as rules
from governance.access_token import AccessToken, Scope
from governance.errors import BadRecordError
from governance.identity import Identity
from governance.ledger import format_time, parse_entry
from infra.database import Database
from infra.identities import get_identity, list_identities_in
from infra.tables import ledger_entries

MAX_DAYS = 3660


def create_token(db: Database, *, identity_id: str, scopes: Collection[Scope], days: int, actor: str) -> tuple[AccessToken, str]:
    """Makes a token.

    Args:
        db: The database.
        identity_id: Who is to act with it.
        scopes: What it is good for.
        days: How long it is good.
        actor: Who makes it.

    Returns:
        The token, and the text of it, which is nowhere else.

    Raises:
        RefusedError: The actor may not.
        BadRecordError: It would be good for nothing, or for longer than ten years.
        UnknownSubjectError: There is no such identity.
    """
    if not 1 <= days <= MAX_DAYS:
        raise BadRecordError(f"a token is good for 1 to {MAX_DAYS} days, not {days}")
    token_id, secret = secrets.token_hex(rules.ID_BYTES), secrets.token_bytes(rules.SECRET_BYTES)
    with db.unit_of_work() as uow:
        owner = get_identity(uow.connection, identity_id)
        rules.check_make(get_identity(uow.connection, actor), owner, scopes)
        details = {
            "expires": format_time(db.now() + timedelta(days=days)),
            "identity": owner.identity_id,
            "scopes": sorted(scopes),
            "secret_sha256": rules.secret_digest(secret),
        }
        uow.append(rules.CREATED, f"token:{token_id}", details, actor=actor)
    return _tokens(db)[token_id], rules.render_token(token_id, secret)


def revoke_token(db: Database, *, token_id: str, actor: str) -> AccessToken:
    """Revokes a token: from now on it is worth nothing.

    Raises:
        RefusedError: The actor may not, or it is revoked already.
        UnknownSubjectError: There is none.
    """
    with db.unit_of_work() as uow:
        token = rules.check_revoke(get_identity(uow.connection, actor), read_tokens(uow.connection).get(token_id), token_id)
        uow.append(rules.REVOKED, token.subject, {"identity": token.identity_id}, actor=actor)
    return _tokens(db)[token_id]


def list_tokens(db: Database) -> list[AccessToken]:
    """Returns every token, oldest first, revoked and ended ones too."""
    return list(_tokens(db).values())


def read_tokens(connection: Connection) -> dict[str, AccessToken]:
    """Returns every token by id, as an open transaction sees it.

    Raises:
        IntegrityError: The ledger's entries about them break a rule.
    """
    columns = ledger_entries.c
    query = select(columns.entry).where(columns.action.in_((rules.CREATED, rules.REVOKED))).order_by(columns.index)
    return rules.tokens_of(parse_entry(bytes(data)) for data in connection.execute(query).scalars())


def who_shows(db: Database, text: str, scope: Scope) -> Identity | None:
    """Returns the identity that acts with a token; None where it is none, has ended, was revoked or is good for something else.

    Args:
        db: The database.
        text: What was shown.
        scope: What for.

    Raises:
        BackendUnavailableError: The database cannot be read.
    """
    now = format_time(db.now())
    with db.read() as connection:
        token = rules.match_token(text, read_tokens(connection), now=now)
        if token is None or scope not in token.scopes:
            return None
        people = {one.identity_id: one for one in list_identities_in(connection)}
    owner = people.get(token.identity_id)
    return owner if owner is not None and owner.is_active else None


def is_any_good(db: Database, scope: Scope) -> bool:
    """Returns whether there is a living token for something."""
    now = format_time(db.now())
    with db.read() as connection:
        people = {one.identity_id: one.is_active for one in list_identities_in(connection)}
        tokens = read_tokens(connection).values()
    return any(one.is_alive(now) and scope in one.scopes and people.get(one.identity_id, False) for one in tokens)


def _tokens(db: Database) -> dict[str, AccessToken]:
    with db.read() as connection:
        return read_tokens(connection)
