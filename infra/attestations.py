"""Signed statements in the database: the provenance of every model version that a run has registered."""

import base64
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection, select

from governance import dsse
from governance.canonical import canonical_digest, canonical_json, canonical_text
from governance.checkpoint import key_name
from governance.errors import IntegrityError
from governance.ledger import SYSTEM
from governance.provenance import MadeBy, Making, parse_provenance, provenance_statement
from infra.database import UnitOfWork
from infra.key_pem import public_pem
from infra.keys import PACKAGE_KEY, Keys
from infra.model_signature import load_private_key
from infra.platform_keys import key_history
from infra.runs import RunRow, StepRow
from infra.tables import attestations

PROVENANCE = "provenance"
_REGISTERING = "register_model"


def attest_run(uow: UnitOfWork, keys: Keys, run: RunRow, steps: list[StepRow]) -> str | None:
    """Signs and records the provenance of the model version that a run has registered, or found registered but not signed for.

    The latter happens where the run that registered it died before its end, or ended while the signing key was revoked.

    Args:
        uow: The unit of work that records the run's end.
        keys: The home's keys.
        run: The run.
        steps: Its steps.

    Returns:
        The statement's digest; None where there was nothing to sign for.

    Raises:
        BadSettingError: The package-signing key cannot be used.
    """
    registering = next((step for step in steps if step.step == _REGISTERING and step.status in {"completed", "reused"}), None)
    facts = registering.record.get("facts", {}) if registering else {}
    if registering is None or "version" not in facts:
        return None
    subject = f"model-version:{facts['name']}/{facts['version']}"
    if any(kind == PROVENANCE for _, kind, _ in statements_about(uow.connection, subject)):
        return None
    if key_history(uow.connection, PACKAGE_KEY).current.revoked is not None:
        return None
    statement = provenance_statement(_making(run, steps, registering, builder=key_name(keys.log_public_key()), ended=uow.time))
    envelope = sign_statement(statement, keys.private_path(PACKAGE_KEY))
    return record_statement(uow, envelope, kind=PROVENANCE, subject=subject, signer=PACKAGE_KEY, run_id=run.run_id)


def record_statement(
    uow: UnitOfWork, envelope: str, *, kind: str, subject: str, signer: str, run_id: str | None = None, actor: str = SYSTEM
) -> str:
    """Records a signed statement with its ledger entry, and returns its digest.

    Args:
        uow: An open unit of work.
        envelope: The statement in its envelope.
        kind: ``provenance`` or ``approval``.
        subject: What it is about.
        signer: The name of the key: ``package-signing``, or an identity's id.
        run_id: The run that it belongs to.
        actor: The identity that records it.
    """
    digest = hashlib.sha256(envelope.encode()).hexdigest()
    uow.connection.execute(
        attestations.insert().values(
            digest=digest,
            kind=kind,
            subject=subject,
            run_id=run_id,
            signer=signer,
            envelope=envelope,
            created=uow.time,
        )
    )
    details = {"kind": kind, "subject": subject, "signer": signer, "envelope_digest": digest}
    uow.append("attestation.signed", f"attestation:{digest}", details, actor=actor, run_id=run_id)
    return digest


def sign_statement(statement: Mapping[str, Any], private_key_pem: Path) -> str:
    """Returns a statement in a signed envelope, canonical JSON.

    Raises:
        BadSettingError: The key cannot be used.
    """
    return sign_with(statement, load_private_key(private_key_pem))


def sign_with(statement: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    """Returns a statement in an envelope that a key has signed, canonical JSON."""
    payload = canonical_json(dict(statement), floats=True)
    signature = key.sign(dsse.pre_authentication_encoding(dsse.PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    return canonical_text(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": dsse.PAYLOAD_TYPE,
            "signatures": [
                {
                    "keyid": dsse.key_id(public_pem(key.public_key()).decode()),
                    "sig": base64.b64encode(signature).decode(),
                }
            ],
        }
    )


def statements_about(connection: Connection, subject: str) -> list[tuple[str, str, str]]:
    """Returns digest, kind and signer of the signed statements about a subject, oldest first."""
    columns = attestations.c
    query = select(columns.digest, columns.kind, columns.signer).where(columns.subject == subject)
    return [(row.digest, row.kind, row.signer) for row in connection.execute(query.order_by(columns.created, columns.digest))]


def statement_problems(
    connection: Connection, keys: Mapping[str, str], late_signer: Callable[[str, Collection[str]], str]
) -> Iterator[str]:
    """Yields every stored statement that is not what its digest says, or that no known key has signed while it counted.

    Args:
        connection: An open connection.
        keys: Public keys in PEM by their ids, as the ledger names them.
        late_signer: Says of a statement's digest and signers which of these was revoked before it was recorded, "" if none was.
    """
    columns = attestations.c
    query = select(columns.digest, columns.kind, columns.subject, columns.envelope).order_by(columns.digest)
    for digest, kind, subject, envelope in connection.execute(query):
        try:
            payload, signers = dsse.verify_envelope(str(envelope), keys)
            about = f"model-version:{parse_provenance(payload)['subject'][0]['name']}" if kind == PROVENANCE else subject
        except IntegrityError as error:
            yield f"attestation {digest!s:.16}: {error.diagnosis}"
            continue
        if late := late_signer(digest, signers):
            yield f"attestation {digest!s:.16}: {late}"
        if hashlib.sha256(str(envelope).encode()).hexdigest() != digest:
            yield f"attestation {digest!s:.16}: its bytes are not those of its digest"
        if about != subject:
            yield f"attestation {digest!s:.16}: it is about something else than its row says"


def _making(run: RunRow, steps: list[StepRow], registering: StepRow, *, builder: str, ended: str) -> Making:
    facts = registering.record["facts"]
    products = {f"{one['kind']}:{one['digest']}" for step in steps for one in step.record.get("outputs", {}).values()}
    return Making(
        name=str(facts["name"]),
        version=int(facts["version"]),
        root_digest=str(facts["root_digest"]),
        run_id=run.run_id,
        pipeline=run.pipeline,
        runner=run.runner,
        params_digest=canonical_digest(run.params, floats=True),
        builder=builder,
        started=run.started,
        finished=ended,
        steps={step.step: _made_by(step) for step in steps if step.record},
        products=tuple(sorted(products - {f"package:{facts['root_digest']}"})),
    )


def _made_by(step: StepRow) -> MadeBy:
    record = step.record
    environment = record.get("environment", {})
    return MadeBy(
        config=record["config"],
        fingerprint=step.fingerprint,
        code_digest=record["code_digest"],
        inputs=tuple(sorted(f"{one['kind']}:{one['digest']}" for one in record["inputs"].values())),
        lock_digest=environment["lock_digest"],
        image=environment.get("image", ""),
        image_digest=environment.get("image_digest", "").removeprefix("sha256:"),
    )
