"""The provenance statement, and the envelope around it, against the libraries that the field uses."""

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from governance.canonical import canonical_text
from governance.dsse import key_id, verify_envelope
from governance.errors import IntegrityError
from governance.provenance import MadeBy, Making, parse_provenance, provenance_statement
from infra.attestations import sign_statement

KEY, OTHER = (ec.derive_private_key(n, ec.SECP256R1()) for n in (11, 12))
PEM, OTHER_PEM = (k.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for k in (KEY, OTHER))
DATASET, LATENTS, MODEL = f"dataset:{'d' * 64}", f"latents:{'e' * 64}", f"model:{'a' * 64}"


def step(**changes):
    values = {"config": {"rate": 0.5}, "fingerprint": "1" * 64, "code_digest": "2" * 64, "inputs": (), "lock_digest": "3" * 64}
    return MadeBy(**{**values, **changes})


MAKING = Making(
    name="emoji-dit",
    version=3,
    root_digest="f" * 64,
    run_id="r",
    pipeline="training",
    runner="docker",
    params_digest="4" * 64,
    builder="groundswell/0123456789abcdef",
    started="2026-11-26T12:00:00.000000Z",
    finished="2026-11-26T12:05:00.000000Z",
    steps={
        "encode_latents": step(inputs=(DATASET,), image="localhost/encode", image_digest="5" * 64),
        "train_dit": step(inputs=(LATENTS,)),
    },
    products=(LATENTS, MODEL),
)
STATEMENT = provenance_statement(MAKING)


@pytest.fixture
def envelope(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return sign_statement(STATEMENT, path)


def test_it_says_what_was_made_from_what_by_what():
    (subject,) = STATEMENT["subject"]
    assert subject == {"name": "emoji-dit/3", "digest": {"sha256": "f" * 64}}
    definition = STATEMENT["predicate"]["buildDefinition"]
    found = {one["name"]: one["digest"]["sha256"] for one in definition["resolvedDependencies"]}
    assert found == {
        "dataset": "d" * 64,
        "code:encode_latents": "2" * 64,
        "code:train_dit": "2" * 64,
        "lock": "3" * 64,
        "image:encode_latents": "5" * 64,
    }
    assert {one["name"] for one in STATEMENT["predicate"]["runDetails"]["byproducts"]} == {"latents", "model"}


def test_the_fields_own_library_takes_the_statement():
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    message = ParseDict(STATEMENT, Message())
    Statement.copy_from_pb(message).validate()


def test_securesystemslib_alone_verifies_the_envelope(envelope):
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    parsed = Envelope.from_dict(json.loads(envelope))
    verified = parsed.verify([SSlibKey.from_crypto(KEY.public_key(), keyid=key_id(PEM))], 1)
    assert len(verified) == 1
    assert json.loads(parsed.payload) == STATEMENT
    with pytest.raises(VerificationError):
        parsed.verify([SSlibKey.from_crypto(OTHER.public_key(), keyid=key_id(OTHER_PEM))], 1)


def test_an_envelope_gives_its_payload_under_the_right_key_alone(envelope):
    payload, signers = verify_envelope(envelope, {key_id(PEM): PEM})
    assert parse_provenance(payload) == STATEMENT
    assert signers == (key_id(PEM),)
    for keys in ({}, {key_id(OTHER_PEM): OTHER_PEM}, {key_id(PEM): OTHER_PEM}, {key_id(PEM): "?"}):
        with pytest.raises(IntegrityError):
            verify_envelope(envelope, keys)


def changed(envelope, **changes):
    return canonical_text({**json.loads(envelope), **changes})


def test_whatever_is_changed_in_an_envelope_is_refused(envelope):
    document = json.loads(envelope)
    (signature,) = document["signatures"]
    payload = base64.b64encode(base64.b64decode(document["payload"]).replace(b"emoji-dit/3", b"emoji-dit/4")).decode()
    forms = [
        changed(envelope, payload=payload),
        changed(envelope, payloadType="text/plain"),
        changed(envelope, signatures=[]),
        changed(envelope, signatures=[signature, {**signature, "keyid": "0" * 64}]),
        changed(envelope, signatures=[{**signature, "sig": base64.b64encode(b"?").decode()}]),
        json.dumps(document),
        envelope + "\n",
        "",
        "[]",
        "null",
        "[" * 100_000,
    ]
    for form in forms:
        with pytest.raises(IntegrityError):
            verify_envelope(form, {key_id(PEM): PEM})


@pytest.mark.parametrize("digest", ["zz", "F" * 64, "", 5, None, "f" * 63])
def test_a_digest_that_is_none_is_refused(digest):
    statement = {**STATEMENT, "subject": [{"name": "x", "digest": {"sha256": digest}}]}
    with pytest.raises(IntegrityError, match="no SHA-256"):
        parse_provenance(json.dumps(statement).encode())


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff", json.dumps({**STATEMENT, "predicateType": "x"}).encode()])
def test_what_is_no_provenance_is_refused(payload):
    with pytest.raises(IntegrityError, match="no provenance"):
        parse_provenance(payload)


def test_a_keys_id_is_that_of_model_signing():
    assert key_id(PEM) == hashlib.sha256(PEM.encode()).hexdigest()
