"""Signed tree heads: C2SP ``tlog-checkpoint`` bodies in C2SP ``signed-note`` envelopes, signed with Ed25519.

::

    <origin>
    <size>
    <root hash, base64>

    — <key name> <base64 of key id and signature>

The origin is the key's name, and the key's name follows from the key, so that a note says which key to look for.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from governance.errors import IntegrityError

_ALGORITHM = b"\x01"  # Ed25519, in signed-note
_SIGNATURE_PREFIX = "— "
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_ROOT_BYTES = 32
_KEY_ID_BYTES = 4
_MAX_NOTE_CHARACTERS = 65_536


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a signed tree head says.

    Attributes:
        origin: The log, which is the name of its key.
        size: Number of entries.
        root_hash: Root of the tree over them.
    """

    origin: str
    size: int
    root_hash: bytes

    def body(self) -> str:
        """Returns the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root_hash).decode()}\n"


def key_name(public_key: Ed25519PublicKey) -> str:
    """Returns the name of a log's key: ``groundswell/`` and 16 hex digits of the SHA-256 of its 32 bytes."""
    return f"groundswell/{hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:16]}"


def key_id(name: str, public_key: Ed25519PublicKey) -> bytes:
    """Returns a key's four bytes in a signed note: ``SHA256(name || 0x0A || 0x01 || key)[:4]``."""
    return hashlib.sha256(name.encode() + b"\n" + _ALGORITHM + public_key.public_bytes_raw()).digest()[:_KEY_ID_BYTES]


def verifier_key(public_key: Ed25519PublicKey) -> str:
    """Returns a key in the form that other tools for signed notes take: ``<name>+<key id>+<base64>``."""
    name = key_name(public_key)
    return f"{name}+{key_id(name, public_key).hex()}+{base64.b64encode(_ALGORITHM + public_key.public_bytes_raw()).decode()}"


def sign_checkpoint(*, size: int, root_hash: bytes, private_key: Ed25519PrivateKey) -> str:
    """Returns the signed note for a tree head.

    Raises:
        ValueError: The size is negative or the root is not 32 bytes long.
    """
    if size < 0 or len(root_hash) != _ROOT_BYTES:
        raise ValueError("no tree head")
    public_key = private_key.public_key()
    name = key_name(public_key)
    body = Checkpoint(origin=name, size=size, root_hash=root_hash).body()
    blob = key_id(name, public_key) + private_key.sign(body.encode())
    return f"{body}\n{_SIGNATURE_PREFIX}{name} {base64.b64encode(blob).decode()}\n"


def parse_checkpoint(note: str) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    """Parses a signed note without checking its signatures.

    Returns:
        What it says, and each signature's key name and bytes (key id and signature).

    Raises:
        IntegrityError: It is no checkpoint.
    """
    body, separator, signatures = note.rpartition("\n\n")
    lines = body.split("\n")
    well_formed = separator and signatures.endswith("\n") and len(note) <= _MAX_NOTE_CHARACTERS and len(lines) == 3
    if not well_formed or not _SIZE.fullmatch(lines[1]) or not _is_name(lines[0]):
        raise IntegrityError("not a checkpoint: origin, size and root hash expected, then signatures")
    root_hash = _decode(lines[2])
    if len(root_hash) != _ROOT_BYTES:
        raise IntegrityError("not a checkpoint: its root hash is not 32 bytes long")
    checkpoint = Checkpoint(origin=lines[0], size=int(lines[1]), root_hash=root_hash)
    return checkpoint, [_signature(line) for line in signatures[:-1].split("\n")]


def verify_checkpoint(note: str, public_key: Ed25519PublicKey) -> Checkpoint:
    """Returns what a signed note says if the log's key signed it; signatures of other keys are passed over.

    Raises:
        IntegrityError: It is no checkpoint, is not of this key's log, or no signature of this key holds.
    """
    checkpoint, signatures = parse_checkpoint(note)
    name = key_name(public_key)
    if checkpoint.origin != name:
        raise IntegrityError(f"the checkpoint is of {checkpoint.origin}, the key is that of {name}")
    expected = key_id(name, public_key)
    own = [blob for signer, blob in signatures if signer == name and blob[:_KEY_ID_BYTES] == expected]
    if len(own) != 1:
        raise IntegrityError(f"the checkpoint of {checkpoint.size} entries carries {len(own)} signatures of {name}, not one")
    try:
        public_key.verify(own[0][_KEY_ID_BYTES:], checkpoint.body().encode())
    except InvalidSignature:
        raise IntegrityError(f"the signature of the checkpoint of {checkpoint.size} entries does not hold") from None
    return checkpoint


def _signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    blob = _decode(encoded)
    if not line.startswith(_SIGNATURE_PREFIX) or not _is_name(name) or len(blob) <= _KEY_ID_BYTES:
        raise IntegrityError("not a checkpoint: a signature line is malformed")
    return name, blob


def _is_name(text: str) -> bool:
    return bool(text) and text.isprintable() and "+" not in text and not any(c.isspace() for c in text)


def _decode(text: str) -> bytes:
    """Decodes base64 in its one canonical form, so that no bit of a note can change unseen."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise IntegrityError("not a checkpoint: malformed base64") from None
    if base64.b64encode(data).decode() != text:
        raise IntegrityError("not a checkpoint: malformed base64")
    return data
