"""Who acts: the identity that ``--as`` names, or the home's first."""

from typing import TYPE_CHECKING

from governance.errors import RefusedError, UnknownSubjectError
from infra.identities import find_identity, first_identity

if TYPE_CHECKING:
    from infra.home import Home


def resolve_actor(home: "Home", named: str | None) -> str:
    """Returns the id of the identity that acts.

    Args:
        home: The home.
        named: An id, or the name of an identity that is not revoked; the home's first identity where None.

    Raises:
        RefusedError: The identity is unknown or revoked.
    """
    hint = "`groundswell identity list` shows who may act; choose one with --as"
    if named is None:
        return first_identity(home.database)
    try:
        identity = find_identity(home.database, named)
    except UnknownSubjectError as error:
        raise RefusedError(error.diagnosis, hint=hint) from error
    if not identity.is_active:
        raise RefusedError(f"identity {identity.identity_id} was revoked on {identity.revoked}", hint=hint)
    return identity.identity_id
