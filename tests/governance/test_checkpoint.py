"""Signed tree heads, against the formats of C2SP."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from governance.checkpoint import key_id, key_name, parse_checkpoint, sign_checkpoint, verifier_key, verify_checkpoint
from governance.errors import IntegrityError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ROOT = hashlib.sha256(b"root").digest()
NOTE = sign_checkpoint(size=42, root_hash=ROOT, private_key=KEY)


def test_a_note_has_the_lines_that_c2sp_fixes():
    lines = NOTE.split("\n")
    name = key_name(KEY.public_key())
    assert lines[:4] == [name, "42", base64.b64encode(ROOT).decode(), ""]
    dash, signer, encoded = lines[4].split(" ")
    assert (dash, signer, lines[5:]) == ("\u2014", name, [""])
    blob = base64.b64decode(encoded)
    public = KEY.public_key().public_bytes_raw()
    assert blob[:4] == hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    KEY.public_key().verify(blob[4:], "\n".join(lines[:3]).encode() + b"\n")


def test_the_key_id_is_that_of_the_published_example():
    # https://c2sp.org/signed-note: PeterNeumann's verifier key, with the key id that the format gives it.
    name, hex_id, encoded = ["PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
    raw = base64.b64decode(encoded)
    assert hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex() == hex_id
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    assert key_id(name, Ed25519PublicKey.from_public_bytes(raw[1:])).hex() == hex_id


def test_a_verifier_key_carries_name_id_and_key():
    name, hex_id, encoded = verifier_key(KEY.public_key()).split("+", 2)
    assert name == key_name(KEY.public_key())
    assert hex_id == key_id(name, KEY.public_key()).hex()
    assert base64.b64decode(encoded) == b"\x01" + KEY.public_key().public_bytes_raw()


def test_signing_is_deterministic_and_verifies():
    assert sign_checkpoint(size=42, root_hash=ROOT, private_key=KEY) == NOTE
    checkpoint = verify_checkpoint(NOTE, KEY.public_key())
    assert (checkpoint.origin, checkpoint.size, checkpoint.root_hash) == (key_name(KEY.public_key()), 42, ROOT)


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
def test_any_flipped_byte_is_found(place, mask):
    data = bytearray(NOTE.encode())
    data[place] ^= mask
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(IntegrityError):
        verify_checkpoint(text, KEY.public_key())


@given(st.integers(0, len(NOTE) - 1))
def test_any_cut_is_found(length):
    with pytest.raises(IntegrityError):
        verify_checkpoint(NOTE[:length], KEY.public_key())


def test_another_key_does_not_verify():
    with pytest.raises(IntegrityError, match="the key is that of"):
        verify_checkpoint(NOTE, Ed25519PrivateKey.generate().public_key())


def test_signatures_of_witnesses_are_passed_over():
    witness = f"\u2014 witness.example/w1 {base64.b64encode(bytes(68)).decode()}\n"
    checkpoint, signatures = parse_checkpoint(NOTE + witness)
    assert [name for name, _ in signatures] == [checkpoint.origin, "witness.example/w1"]
    assert verify_checkpoint(NOTE + witness, KEY.public_key()) == checkpoint


def test_a_note_without_own_signature_is_refused():
    body = NOTE.split("\n\n")[0]
    witness = f"\u2014 witness.example/w1 {base64.b64encode(bytes(68)).decode()}\n"
    with pytest.raises(IntegrityError, match="0 signatures"):
        verify_checkpoint(f"{body}\n\n{witness}", KEY.public_key())


@pytest.mark.parametrize("size", ["042", "-1", "+1", "1e3", "", "\u0664", "99999999999999999999"])
def test_sizes_in_another_form_are_refused(size):
    with pytest.raises(IntegrityError, match="not a checkpoint"):
        parse_checkpoint(NOTE.replace("\n42\n", f"\n{size}\n"))


def test_no_head_is_a_callers_bug():
    for size, root in ((-1, ROOT), (1, b"")):
        with pytest.raises(ValueError, match="tree head"):
            sign_checkpoint(size=size, root_hash=root, private_key=KEY)
