"""The OpenSSF model signature of a package: made by the `model_signing` library, checked here.

The library reads leniently; a package is checked strictly, in one canonical form, so that no byte of the signature file can be
changed unnoticed, and without importing the library, which takes half a second. Tests hold both against each other.
"""

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from governance.dsse import PAYLOAD_TYPE, pre_authentication_encoding
from governance.errors import IntegrityError
from governance.package_layout import SIGNATURE
from governance.provenance import STATEMENT_TYPE
from infra.errors import BadSettingError

_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_SERIALIZATION = {"hash_type": "sha256", "allow_symlinks": False, "method": "files", "ignore_paths": [SIGNATURE]}
_MAX_BYTES = 16 << 20


def load_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Reads the public half of a package-signing key.

    Raises:
        BadSettingError: The file is missing, or holds no ECDSA P-256 public key.
    """
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadSettingError(f"{path} is not a public key in PEM: {type(error).__name__}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise BadSettingError(f"{path} is not an ECDSA P-256 public key")
    return key


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Reads a package-signing key.

    Raises:
        BadSettingError: The file is missing, or holds no ECDSA P-256 private key.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadSettingError(f"{path} is not an unencrypted private key in PEM: {type(error).__name__}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise BadSettingError(f"{path} is not an ECDSA P-256 private key")
    return key


def write_signature(folder: Path, private_key_pem: Path) -> None:
    """Signs every file of a folder into its ``model.sig``, replacing an earlier one.

    Raises:
        BadSettingError: The key cannot be used.
    """
    load_private_key(private_key_pem)
    import model_signing

    # Not the library's default ignores: they would leave files such as .gitignore unsigned.
    hashing = model_signing.hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=private_key_pem)
    signer.set_hashing_config(hashing).sign(folder, folder / SIGNATURE)


def signer_of(path: Path) -> str:
    """Returns the SHA-256 of the PEM of the key that a signature file names; nothing of it is verified.

    Raises:
        IntegrityError: The file is missing or malformed.
    """
    try:
        signer = json.loads(_read(path))["verificationMaterial"]["publicKey"]["hint"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{SIGNATURE} is no model signature") from error
    return str(signer)


def read_signed_digests(path: Path, public_key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """Verifies a signature file and returns the SHA-256 by path of the files that it signs.

    Raises:
        IntegrityError: The file is missing, malformed, not in canonical form, made by another key, or its signature is wrong.
    """
    raw = _read(path)
    try:
        envelope = json.loads(raw)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, binascii.Error) as error:
        raise IntegrityError(f"{SIGNATURE} is no model signature") from error
    pem = public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        public_key.verify(signature, pre_authentication_encoding(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise IntegrityError(f"the signature in {SIGNATURE} does not verify with this public key") from error
    if raw != _bundle(payload, signature, key_hint=hashlib.sha256(pem).hexdigest()):
        raise IntegrityError(f"{SIGNATURE} has been changed around its signature")
    return _resources(payload)


def _read(path: Path) -> bytes:
    if not path.is_file() or path.is_symlink():
        raise IntegrityError(f"the model package is not signed: {SIGNATURE} is missing")
    if path.stat().st_size > _MAX_BYTES:
        raise IntegrityError(f"{SIGNATURE} is larger than any signature")
    return path.read_bytes()


def _bundle(payload: bytes, signature: bytes, *, key_hint: str) -> bytes:
    bundle = {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key_hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle, separators=(",", ":")).encode()


def _resources(payload: bytes) -> dict[str, str]:
    problem = f"{SIGNATURE} signs something else than a model package"
    try:
        statement: dict[str, Any] = json.loads(payload)
        predicate = statement["predicate"]
        resources = {item["name"]: item["digest"] for item in predicate["resources"]}
        algorithms = {item["algorithm"] for item in predicate["resources"]}
        kinds = (statement["_type"], statement["predicateType"], predicate["serialization"], algorithms)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(problem) from error
    if kinds != (STATEMENT_TYPE, _PREDICATE_TYPE, _SERIALIZATION, {"sha256"}) or len(resources) != len(predicate["resources"]):
        raise IntegrityError(problem)
    return resources
