"""DSSE v1 envelopes around in-toto statements: read strictly, and verified with keys by their id.

Specification: https://github.com/secure-systems-lab/dsse, the protocol and the JSON envelope. Signatures are ECDSA P-256 over
SHA-256; a key's id is the SHA-256 of its PEM.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from governance.canonical import canonical_json
from governance.errors import IntegrityError

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Returns what is signed: ``"DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload``."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)


def key_id(public_key_pem: str) -> str:
    """Returns a key's id: the SHA-256 of its PEM, hexadecimal."""
    return hashlib.sha256(public_key_pem.encode()).hexdigest()


def signers_named(envelope: str) -> tuple[str, ...]:
    """Returns the ids of the keys that an envelope says it is signed with; nothing of it is verified.

    Raises:
        IntegrityError: It is no envelope.
    """
    try:
        return tuple(str(one["keyid"]) for one in json.loads(envelope)["signatures"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError("it is no signed statement") from error


def verify_envelope(envelope: str, keys: Mapping[str, str]) -> tuple[bytes, tuple[str, ...]]:
    """Verifies every signature of an envelope.

    Args:
        envelope: The envelope, canonical JSON.
        keys: Public keys in PEM by their ids.

    Returns:
        The payload, and the ids of the keys that signed it: at least one.

    Raises:
        IntegrityError: It is no envelope in canonical form, or a signature is missing, wrong, or of a key that is not known.
    """
    try:
        document: dict[str, Any] = json.loads(envelope)
        payload = base64.b64decode(document["payload"], validate=True)
        message = pre_authentication_encoding(document["payloadType"], payload)
        signatures = [(one["keyid"], base64.b64decode(one["sig"], validate=True)) for one in document["signatures"]]
        is_canonical = canonical_json(document) == envelope.encode() and document["payloadType"] == PAYLOAD_TYPE
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise IntegrityError("it is no signed statement") from error
    if not is_canonical or not signatures:
        raise IntegrityError("it is no signed statement in canonical form")
    for signer, signature in signatures:
        if signer not in keys:
            raise IntegrityError(f"it is signed by a key that is not known: {signer!s:.16}")
        _verify(signature, message, keys[signer])
    return payload, tuple(signer for signer, _ in signatures)


def _verify(signature: bytes, message: bytes, public_key_pem: str) -> None:
    try:
        key = load_pem_public_key(public_key_pem.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise IntegrityError("it is signed by a key that signs no statements")
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise IntegrityError("its signature does not hold") from error
