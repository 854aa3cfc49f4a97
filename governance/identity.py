"""Who acts, and what their role lets them do. Pure rules:

1. A revoked identity does nothing.
2. Only an admin creates or revokes identities.
3. The last admin who is not revoked cannot be revoked.
4. Nobody is revoked twice.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from governance.errors import RefusedError

_ID_HEX_DIGITS = 16


class Role(StrEnum):
    """What an identity is for."""

    DATA_SCIENTIST = "data-scientist"
    OPS = "ops"
    AUDITOR = "auditor"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One person or service, as the record knows it.

    Attributes:
        identity_id: Follows from the public key, see `identity_id_of`.
        role: Its role.
        public_key_pem: Its ECDSA P-256 key.
        name_commitment: Salted SHA-256 of its name.
        created: When it was created.
        revoked: When it was revoked, if it was.
        name: Its name, unless that was erased.
    """

    identity_id: str
    role: Role
    public_key_pem: str
    name_commitment: str
    created: str
    revoked: str | None = None
    name: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether the identity may act."""
        return self.revoked is None


def identity_id_of(public_key_der: bytes) -> str:
    """Returns the id that belongs to a public key: ``id-`` and 16 hex digits of the SHA-256 of its SubjectPublicKeyInfo."""
    return f"id-{hashlib.sha256(public_key_der).hexdigest()[:_ID_HEX_DIGITS]}"


def require_role(identity: Identity, roles: Collection[Role]) -> None:
    """Checks that an identity may act in one of these roles.

    Raises:
        RefusedError: It is revoked, or has another role.
    """
    if not identity.is_active:
        raise RefusedError(f"identity {identity.identity_id} was revoked on {identity.revoked}")
    if identity.role not in roles:
        wanted = " or ".join(sorted(roles))
        raise RefusedError(
            f"identity {identity.identity_id} is {identity.role}, this takes {wanted}", hint=f"act as a {wanted}: --as IDENTITY"
        )


def check_create(actor: Identity) -> None:
    """Checks that an identity may create another.

    Raises:
        RefusedError: It may not.
    """
    require_role(actor, {Role.ADMIN})


def check_revoke(actor: Identity, target: Identity, everyone: Iterable[Identity]) -> None:
    """Checks that an identity may revoke another.

    Raises:
        RefusedError: It may not, the other is revoked already, or no admin would be left.
    """
    require_role(actor, {Role.ADMIN})
    if not target.is_active:
        raise RefusedError(f"identity {target.identity_id} is revoked already")
    others = [i for i in everyone if i.role is Role.ADMIN and i.is_active and i.identity_id != target.identity_id]
    if target.role is Role.ADMIN and not others:
        raise RefusedError(f"identity {target.identity_id} is the last admin", hint="create another admin first")
