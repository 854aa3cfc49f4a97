"""The keys that sign content credentials: made when a file is signed for the first time, and named by the ledger like the others.

``content-root`` issues certificates and signs nothing else; ``content-credentials`` signs. Each one's certificate stands in the
ledger's entry about the key. Files beside the public keys hold the certificates for whoever is to trust the home:
``HOME/keys/public/content-root-certificate.pem`` is what a reader of C2PA takes as a trust anchor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection

from governance.credentials.certificates import (
    certificate_pem,
    check_issued,
    leaf_certificate,
    parse_certificate,
    root_certificate,
)
from governance.errors import IntegrityError
from governance.platform_keys import CREATED, ROTATED, KeyHistory, PlatformKey, fingerprint_of, require_signing, rotation_details
from infra.database import UnitOfWork
from infra.errors import BadSettingError
from infra.key_files import replace_file
from infra.key_pem import public_pem, read_private_key
from infra.key_rotation import KeyChange, rotate
from infra.keys import CONTENT_KEY, CONTENT_ROOT, Keys
from infra.ledger import sign_head
from infra.locking import lock
from infra.package_keys import proven_history
from infra.platform_keys import key_entries, key_history

if TYPE_CHECKING:
    from infra.home import Home

CERTIFICATE = "certificate_pem"
_ALGORITHM = "ecdsa-p256"


@dataclass(frozen=True, kw_only=True)
class ContentKeys:
    """What signs a file.

    Attributes:
        private_key_pem: The key, PKCS#8.
        certificate_pem: Its certificate.
        root_pem: The certificate of the root that issued it.
    """

    private_key_pem: str
    certificate_pem: str
    root_pem: str

    def __repr__(self) -> str:
        """Returns nothing of the private key."""
        return "ContentKeys(...)"


@dataclass(frozen=True, kw_only=True)
class ContentTrust:
    """Whose manifests a home accepts.

    Attributes:
        root_pem: The certificate of its root.
        serials: Serial numbers of the certificates that the ledger names, with the key of each.
    """

    root_pem: str
    serials: dict[str, PlatformKey]


def signing_keys(home: "Home", *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> ContentKeys:
    """Returns what signs files, after making it where the ledger names none.

    Args:
        home: The home.
        clock: Says from when new certificates are valid.

    Raises:
        RefusedError: The key was revoked.
        BadSettingError: The ledger names keys that are not here.
        BackendUnavailableError: The folder or the database cannot be written.
        IntegrityError: What the ledger says of the keys breaks a rule.
    """
    keys = home.keys
    with home.database.read() as connection:
        known = _certificates(connection)
    if not known:
        with lock(keys.lock_path):
            _make(home, clock)
        with home.database.read() as connection:
            known = _certificates(connection)
    with home.database.read() as connection:
        require_signing(key_history(connection, CONTENT_KEY))
    _write_certificates(keys, known)
    for name in (CONTENT_KEY, CONTENT_ROOT):
        _require_own(keys, name, known[name])
    private = keys.private_path(CONTENT_KEY)
    read_private_key(private)  # refuses one that others can read
    return ContentKeys(
        private_key_pem=private.read_text(encoding="ascii"),
        certificate_pem=known[CONTENT_KEY],
        root_pem=known[CONTENT_ROOT],
    )


def content_trust(home: "Home") -> ContentTrust | None:
    """Returns whose manifests a home accepts, each certificate from an entry that the newest signed checkpoint covers.

    Returns:
        None where nothing was ever signed here.

    Raises:
        IntegrityError: The ledger does not hold where it names the keys.
    """
    with home.database.read() as connection:
        if not key_entries(connection, CONTENT_ROOT):
            return None
        roots, leaves = (proven_history(connection, name, home.keys) for name in (CONTENT_ROOT, CONTENT_KEY))
        root_pem = _certificate_of(connection, roots)[roots.current.fingerprint]
        certificates = _certificate_of(connection, leaves)
    root = parse_certificate(root_pem)
    serials = {}
    for key in leaves.keys:
        certificate = parse_certificate(certificates[key.fingerprint])
        check_issued(certificate, root)
        serials[str(certificate.serial_number)] = key
    return ContentTrust(root_pem=root_pem, serials=serials)


def root_private_key(home: "Home") -> ec.EllipticCurvePrivateKey:
    """Returns the private key of the root, which other secrets of the home are derived from.

    Raises:
        BadSettingError: No file was ever signed here, or the key is missing or not the one that the ledger names.
        IntegrityError: What the ledger says of the keys breaks a rule.
    """
    with home.database.read() as connection:
        known = _certificates(connection)
    if not known:
        raise BadSettingError("this home has signed no file yet", hint="`groundswell generate` makes the key when it is needed")
    _require_own(home.keys, CONTENT_ROOT, known[CONTENT_ROOT])
    return _elliptic(home.keys, CONTENT_ROOT)


def rotate_content_key(home: "Home", *, actor: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> KeyChange:
    """Makes a new key for content credentials; what the old one has signed stays valid.

    Raises:
        RefusedError: The actor is no admin.
        BadSettingError: The keys are not here.
        IntegrityError: The key here is not the ledger's, or the ledger does not continue its last checkpoint.
        BackendUnavailableError: The folder or the database cannot be written.
    """
    keys = home.keys
    if not keys.private_path(CONTENT_ROOT).exists():
        raise BadSettingError("this home has signed no file yet", hint="`groundswell generate` makes the key when it is needed")

    def record(uow: UnitOfWork, before: PlatformKey, new_pem: str) -> str:
        staged = keys.staged(CONTENT_KEY)
        if not isinstance(staged, ec.EllipticCurvePrivateKey):
            raise IntegrityError(f"the staged key {CONTENT_KEY} is gone", hint="rotate it again")
        root = parse_certificate(_certificates(uow.connection)[CONTENT_ROOT])
        issued = leaf_certificate(staged.public_key(), root=root, root_key=_elliptic(keys, CONTENT_ROOT), now=clock())
        details = {**rotation_details(new_pem, before), CERTIFICATE: certificate_pem(issued)}
        uow.append(ROTATED, f"key:{CONTENT_KEY}", details, actor=actor)
        return sign_head(uow, keys)

    change = rotate(home.database, keys, CONTENT_KEY, lambda: ec.generate_private_key(ec.SECP256R1()), record, actor=actor)
    with home.database.read() as connection:
        _write_certificates(keys, _certificates(connection))
    return change


def _make(home: "Home", clock: Callable[[], datetime]) -> None:
    """Makes both keys and their entries; what a process that died has left is used."""
    keys = home.keys
    with home.database.read() as connection:
        if _certificates(connection):
            return
    for name in (CONTENT_ROOT, CONTENT_KEY):
        if not keys.private_path(name).exists():
            keys.store(name, ec.generate_private_key(ec.SECP256R1()))
    root_key, key = _elliptic(keys, CONTENT_ROOT), _elliptic(keys, CONTENT_KEY)
    root = root_certificate(root_key, now=clock())
    leaf = leaf_certificate(key.public_key(), root=root, root_key=root_key, now=clock())
    with home.database.unit_of_work() as uow:
        if _certificates(uow.connection):  # another host was first
            return
        for name, certificate in ((CONTENT_ROOT, root), (CONTENT_KEY, leaf)):
            pem = keys.public_path(name).read_text(encoding="utf-8")
            details = {
                "algorithm": _ALGORITHM,
                "public_key_pem": pem,
                "public_key_sha256": fingerprint_of(pem),
                CERTIFICATE: certificate_pem(certificate),
            }
            uow.append(CREATED, f"key:{name}", details)
        sign_head(uow, keys)


def _certificates(connection: Connection) -> dict[str, str]:
    """Returns the certificates of the current keys by name; empty where there are none yet."""
    found = {}
    for name in (CONTENT_ROOT, CONTENT_KEY):
        history = key_history(connection, name)
        if history.keys:
            found[name] = _certificate_of(connection, history)[history.current.fingerprint]
    if len(found) == 1:
        raise IntegrityError("the ledger names one of the two keys of content credentials", hint="restore a backup")
    return found


def _certificate_of(connection: Connection, history: KeyHistory) -> dict[str, str]:
    """Returns the certificates of a name's keys by fingerprint.

    Raises:
        IntegrityError: An entry holds none, or that of another key.
    """
    found = {}
    for entry in key_entries(connection, history.name):
        if entry.action not in {CREATED, ROTATED}:
            continue
        details: Any = entry.details
        certificate = parse_certificate(str(details.get(CERTIFICATE)))
        public: Any = certificate.public_key()
        if public_pem(public).decode() != details.get("public_key_pem"):
            raise IntegrityError(f"{entry.subject}: the certificate is that of another key")
        found[fingerprint_of(str(details["public_key_pem"]))] = certificate_pem(certificate)
    return found


def _write_certificates(keys: Keys, certificates: dict[str, str]) -> None:
    for name, pem in certificates.items():
        path = keys.public_path(f"{name}-certificate")
        if not path.exists() or path.read_text(encoding="utf-8") != pem:
            replace_file(path, pem.encode(), 0o644)


def _require_own(keys: Keys, name: str, certificate: str) -> None:
    path = keys.private_path(name)
    if not path.exists() or public_pem(_elliptic(keys, name).public_key()) != public_pem(_public(certificate)):
        raise BadSettingError(
            f"the key {path} is missing, or not the one that the ledger names",
            hint="hosts on one database share one home's keys: copy that home's keys folder here",
        )


def _public(certificate: str) -> ec.EllipticCurvePublicKey:
    key = parse_certificate(certificate).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise IntegrityError("a certificate of content credentials has no ECDSA key")
    return key


def _elliptic(keys: Keys, name: str) -> ec.EllipticCurvePrivateKey:
    key = read_private_key(keys.private_path(name))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadSettingError(f"{keys.private_path(name)} is no ECDSA key")
    return key
