"""Signs the package of a registered version again, after the key that had signed it was revoked."""

import tempfile
from pathlib import Path

from governance.digest import sha256_file
from governance.errors import IntegrityError
from governance.identity import Role, require_role
from governance.package_layout import SIGNATURE
from governance.platform_keys import require_unrevoked
from infra.home import Home
from infra.identities import get_identity
from infra.keys import PACKAGE_KEY
from infra.model_package import sign_package
from infra.model_versions import ModelVersion
from infra.objects.store import get_tree, open_store
from infra.platform_keys import key_history

SIGNED = "model.signed"


def sign_version_again(home: Home, version: ModelVersion, *, actor: str) -> str:
    """Signs a version's package with the current key, if its files are those that were registered, and records that.

    The old signature is not asked: the ledger's root digest says what the package has to be.

    Returns:
        The fingerprint of the key.

    Raises:
        RefusedError: The actor is no admin, or the current key is revoked, or was revoked meanwhile.
        IntegrityError: The package is not what was registered.
        BackendUnavailableError: The store cannot be used.
    """
    with home.database.read() as connection:
        require_role(get_identity(connection, actor), {Role.ADMIN})
        fingerprint = key_history(connection, PACKAGE_KEY).current.fingerprint
    private_key = home.package_signing_key
    home.package_cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".signing-", dir=home.package_cache) as folder:
        copy = Path(folder) / "package"
        get_tree(version.location, copy)
        package = sign_package(copy, private_key)
        if package.root_digest != version.root_digest:
            raise IntegrityError(
                f"the package of {version.name}/{version.version} has root digest {package.root_digest[:12]}, "
                f"{version.root_digest[:12]} is on record",
                hint="do not use it; restore the artifact store from a backup",
            )
        open_store(version.location).put({SIGNATURE: copy / SIGNATURE}, lambda *_: None)
        details = {
            "public_key_sha256": fingerprint,
            "root_digest": package.root_digest,
            "signature_sha256": sha256_file(copy / SIGNATURE),
        }
    with home.database.unit_of_work() as uow:
        require_role(get_identity(uow.connection, actor), {Role.ADMIN})
        require_unrevoked(key_history(uow.connection, PACKAGE_KEY), fingerprint)
        uow.append(SIGNED, version.subject, details, actor=actor)
    return fingerprint
