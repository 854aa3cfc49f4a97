"""Tokens by which a program or a browser acts as an identity, as the ledger tells of them. Pure rules:

1. ``token.created`` names a token by its id, with the SHA-256 of its secret, what it is good for and when it ends; the secret
   stands nowhere. It is 256 random bits, so that nobody finds it from its hash.
2. ``token.revoked`` ends one early, once.
3. A token is worth no more than its identity: that of a revoked one is worth nothing.
4. An admin makes and revokes tokens of everybody; anybody does so with their own.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from governance.errors import BadRecordError, IntegrityError, RefusedError, UnknownSubjectError
from governance.identity import Identity, Role
from governance.ledger import LedgerEntry

CREATED, REVOKED = "token.created", "token.revoked"
SECRET_BYTES = 32
ID_BYTES = 6
_TOKEN = re.compile(r"gsw_([0-9a-f]{12})_([0-9a-f]{64})", re.ASCII)


class Scope(StrEnum):
    """What a token is good for."""

    READ = "read"  # the console's pages and metrics
    LINEAGE = "lineage"  # recording lineage events


@dataclass(frozen=True, kw_only=True)
class AccessToken:
    """A token, without its secret.

    Attributes:
        token_id: Names it; no secret.
        identity_id: Who acts with it.
        scopes: What it is good for.
        secret_sha256: SHA-256 of its secret.
        created: When it was made.
        expires: From when on it is worth nothing.
        revoked: When it was revoked, if it was.
    """

    token_id: str
    identity_id: str
    scopes: tuple[Scope, ...]
    secret_sha256: str
    created: str
    expires: str
    revoked: str | None = None

    @property
    def subject(self) -> str:
        """Its name in the ledger."""
        return f"token:{self.token_id}"

    def is_alive(self, now: str) -> bool:
        """Returns whether it is neither revoked nor over, by RFC 3339 times in UTC."""
        return self.revoked is None and now < self.expires


def render_token(token_id: str, secret: bytes) -> str:
    """Returns what is handed to whoever shall use it."""
    return f"gsw_{token_id}_{secret.hex()}"


def secret_digest(secret: bytes) -> str:
    """Returns what the ledger holds of a secret."""
    return hashlib.sha256(secret).hexdigest()


def tokens_of(entries: Iterable[LedgerEntry]) -> dict[str, AccessToken]:
    """Returns the tokens by id that the ledger's entries about them tell of, oldest first.

    Raises:
        IntegrityError: An entry breaks a rule.
    """
    found: dict[str, AccessToken] = {}
    for entry in entries:
        token_id = entry.subject.removeprefix("token:")
        try:
            if entry.action == CREATED and token_id not in found:
                found[token_id] = AccessToken(
                    token_id=token_id,
                    identity_id=str(entry.details["identity"]),
                    scopes=tuple(Scope(one) for one in entry.details["scopes"]),
                    secret_sha256=str(entry.details["secret_sha256"]),
                    created=entry.time,
                    expires=str(entry.details["expires"]),
                )
                continue
            if entry.action == REVOKED and found[token_id].revoked is None:
                found[token_id] = replace(found[token_id], revoked=entry.time)
                continue
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(entry) from error
        raise _broken(entry)
    return found


def _broken(entry: LedgerEntry) -> IntegrityError:
    return IntegrityError(f"entry {entry.index} about {entry.subject:.80} breaks a rule of tokens")


def match_token(text: str, known: dict[str, AccessToken], *, now: str) -> AccessToken | None:
    """Returns the living token that somebody shows, None where they show none; its secret is compared in constant time."""
    match = _TOKEN.fullmatch(text)
    token = known.get(match[1]) if match else None
    if match is None or token is None:
        return None
    is_it = hmac.compare_digest(secret_digest(bytes.fromhex(match[2])), token.secret_sha256)
    return token if is_it and token.is_alive(now) else None


def check_make(actor: Identity, owner: Identity, scopes: Iterable[Scope]) -> None:
    """Checks that an identity may make a token for another.

    Raises:
        RefusedError: It may not, or one of them is revoked.
        BadRecordError: It would be good for nothing.
    """
    if not tuple(scopes):
        raise BadRecordError("the token would be good for nothing", hint=f"name what it is for: {' or '.join(Scope)}")
    if not owner.is_active:
        raise RefusedError(f"identity {owner.identity_id} was revoked on {owner.revoked}")
    _check_whose(actor, owner.identity_id)


def check_revoke(actor: Identity, token: AccessToken | None, named: str) -> AccessToken:
    """Returns a token that an identity may revoke.

    Raises:
        UnknownSubjectError: There is none of that id.
        RefusedError: It may not, or the token is revoked already.
    """
    if token is None:
        raise UnknownSubjectError(f"no token has the id {named!r:.80}", hint="`groundswell identity token list` shows them")
    _check_whose(actor, token.identity_id)
    if token.revoked is not None:
        raise RefusedError(f"token {token.token_id} was revoked on {token.revoked} already")
    return token


def _check_whose(actor: Identity, owner_id: str) -> None:
    if not actor.is_active:
        raise RefusedError(f"identity {actor.identity_id} was revoked on {actor.revoked}")
    if actor.identity_id != owner_id and actor.role is not Role.ADMIN:
        raise RefusedError(
            f"identity {actor.identity_id} is {actor.role}, and the token is another's", hint="act as an admin: --as IDENTITY"
        )
