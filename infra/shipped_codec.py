"""The codec that ships with groundswell, and the evidence of its training, brought into each home.

The evidence is what the home in which the codec was trained has to say of it: ledger entries with their inclusion proofs
under a signed checkpoint, and lineage events. It is verified before it is taken over.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import select

from governance.canonical import canonical_digest, canonical_text
from governance.checkpoint import verify_checkpoint
from governance.digest import sha256_file, tree_digest
from governance.errors import IntegrityError
from governance.ledger import parse_entry
from governance.merkle import leaf_hash, verify_inclusion
from infra.database import Database, UnitOfWork
from infra.ledger import prove_entries
from infra.lineage import load_events, record_event
from infra.runs import get_steps
from infra.tables import artifacts, ledger_entries

SHIPPED_FOLDER = Path(__file__).parent / "codecs" / "openmoji-f4c8"
_EVIDENCE = "evidence.json"


def import_shipped_codec(database: Database, folder: Path) -> Path:
    """Copies the shipped codec into a home, with its evidence, and returns where it is; the second time it only verifies.

    Args:
        database: The home's database.
        folder: The home's folder of codecs.

    Raises:
        IntegrityError: The codec is not the one that its evidence speaks of, or the evidence does not verify.
    """
    source = SHIPPED_FOLDER / "codec"
    digest = tree_digest(source)
    evidence = json.loads((SHIPPED_FOLDER / _EVIDENCE).read_text(encoding="utf-8"))
    target = folder / digest[:16]
    if not target.is_dir():
        partial = folder / f".{digest[:16]}-{os.getpid()}"
        shutil.copytree(source, partial, dirs_exist_ok=True)
        os.replace(partial, target)  # noqa: PTH105 - atomic on purpose
    if tree_digest(target) != digest:
        raise IntegrityError(
            f"the codec in {target} is not the one that was shipped", hint=f"delete {target}; it is copied again"
        )
    with database.read() as connection:
        known = connection.execute(
            select(artifacts.c.digest).where(artifacts.c.digest == digest, artifacts.c.kind == "codec")
        ).first()
    if known is None:
        verify_evidence(evidence, codec_digest=digest)
        with database.unit_of_work() as uow:
            _record(uow, evidence, digest=digest, location=target)
    return target


def verify_evidence(evidence: Mapping[str, Any], *, codec_digest: str) -> None:
    """Verifies that a signed ledger holds the entries of the evidence, and that one of them made this codec.

    Raises:
        IntegrityError: A signature or a proof does not hold, or no entry speaks of the codec.
    """
    key = load_pem_public_key(evidence["public_key"].encode())
    if not isinstance(key, Ed25519PublicKey):
        raise IntegrityError("the codec's evidence is signed with no Ed25519 key")
    head = verify_checkpoint(evidence["checkpoint"], key)
    made = False
    for item in evidence["entries"]:
        data = item["entry"].encode()
        proof = [bytes.fromhex(step) for step in item["proof"]]
        if not verify_inclusion(leaf_hash(data), item["index"], head.size, proof, head.root_hash):
            raise IntegrityError(f"entry {item['index']} of the codec's evidence is not in the ledger that its checkpoint signs")
        entry = parse_entry(data)
        made |= entry.action == "step.completed" and f"codec:{codec_digest}" in entry.details.get("outputs", {}).values()
    if not made:
        raise IntegrityError(f"no entry of the codec's evidence made codec {codec_digest[:12]}")


def write_evidence(database: Database, run_id: str, *, checkpoint: str, public_key_pem: str, out: Path) -> None:
    """Writes the evidence of a codec's training run.

    Args:
        database: The database of the home in which it was trained.
        run_id: The run.
        checkpoint: The log's newest signed checkpoint.
        public_key_pem: The log's public key.
        out: The file.
    """
    with database.read() as connection:
        size = int(checkpoint.splitlines()[1])
        query = select(ledger_entries.c.index).where(ledger_entries.c.run_id == run_id).order_by(ledger_entries.c.index)
        proven = prove_entries(connection, list(connection.execute(query).scalars()), size)
        entries = [
            {"index": one.entry.index, "entry": one.data.decode(), "proof": [step.hex() for step in one.proof]} for one in proven
        ]
        events = load_events(connection, run_ids=[run_id])
        digests = {
            ref["digest"]
            for step in get_steps(connection, run_id)
            for side in ("inputs", "outputs")
            for ref in step.record[side].values()
        }
        found = connection.execute(
            select(artifacts).where(artifacts.c.digest.in_(sorted(digests))).order_by(artifacts.c.kind)
        ).all()
    evidence = {
        "artifacts": [{"digest": row.digest, "kind": row.kind, "facts": json.loads(row.facts)} for row in found],
        "checkpoint": checkpoint,
        "entries": entries,
        "events": events,
        "public_key": public_key_pem,
    }
    out.write_text(json.dumps(evidence, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _record(uow: UnitOfWork, evidence: Mapping[str, Any], *, digest: str, location: Path) -> None:
    facts_digests = {}
    for item in evidence["artifacts"]:
        key = (artifacts.c.digest == item["digest"]) & (artifacts.c.kind == item["kind"])
        if uow.connection.execute(select(artifacts.c.digest).where(key)).first() is None:
            here = str(location) if item["digest"] == digest else ""
            facts = canonical_text(item["facts"], floats=True)
            facts_digests[f"{item['kind']}:{item['digest']}"] = canonical_digest(item["facts"], floats=True)
            uow.connection.execute(
                artifacts.insert().values(digest=item["digest"], kind=item["kind"], location=here, facts=facts, created=uow.time)
            )
    for event in evidence["events"]:
        record_event(uow, event)
    details = {
        "artifacts": [f"{item['kind']}:{item['digest']}" for item in evidence["artifacts"]],
        "checkpoint": evidence["checkpoint"],
        "created": uow.time,
        "facts_digests": facts_digests,
        "evidence_sha256": sha256_file(SHIPPED_FOLDER / _EVIDENCE),
    }
    uow.append("codec.imported", f"codec:{digest}", details)
