"""Exports evidence bundles: everything that proves where a subject came from, in one file that needs no platform."""

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from governance.bundle import content
from governance.bundle.verify import CHECKPOINT
from governance.data_card import data_card
from governance.dsse import key_id, signers_named
from governance.errors import IntegrityError
from governance.lineage import LineageGraph
from governance.lineage_report.html import render_html
from governance.lineage_report.model import ReportContent
from governance.package_layout import ML_BOM, MODEL_CARD
from governance.platform_keys import CREATED
from infra.database import Database
from infra.home import Home
from infra.keys import LOG_KEY
from infra.ledger import prove_entries, sign_head
from infra.lineage_report import build_report
from infra.model_package import ModelPackage
from infra.model_versions import ModelVersion, list_versions, open_version
from infra.promotion.documents import promotion_documents
from infra.tables import attestations, identities, ledger_entries
from infra.witnesses import publish

_BATCH = 400


@dataclass(frozen=True, kw_only=True)
class ExportedBundle:
    """An evidence bundle that was written.

    Attributes:
        file: Where.
        subject: What it is about.
        index: Index of the entry ``bundle.exported``.
        names: Names of the files in it.
        num_entries: Number of ledger entries in it, each with its proof.
        log_size: Number of entries of the ledger under its checkpoint.
        size_bytes: Size of the file.
        missed: A line for each witness that did not take its checkpoint.
    """

    file: Path
    subject: str
    index: int
    names: tuple[str, ...]
    num_entries: int
    log_size: int
    size_bytes: int
    missed: tuple[str, ...]


def export_bundle(home: Home, subject: str, output: Path, *, actor: str, media: Path | None = None) -> ExportedBundle:
    """Writes the evidence bundle of a subject, and records that it was exported.

    The file appears whole or not at all; its entry in the ledger is committed first.

    Args:
        home: The home.
        subject: A subject string, as `infra.lineage_subjects.resolve_subject` returns it.
        output: The file to write; one that is there is replaced.
        actor: The identity that exports it.
        media: The media file asked about, where there is one: the report shows it.

    Raises:
        UnknownSubjectError: There is no record of the subject.
        IntegrityError: The ledger does not verify, or a model package is not what was registered.
        BackendUnavailableError: The database cannot be written, or a package cannot be fetched.
        BadRecordError: It would be larger than a bundle may be.
    """
    report = build_report(home.database, subject, home=home.path, media=media)
    if report.ledger.state == "failed":
        raise IntegrityError(f"no evidence is exported: {report.ledger.message}", hint="`groundswell audit verify` says more")
    with home.database.read() as connection:
        subjects = {line.subject for line in report.ledger.entries} | {subject}
        statements = _statements(connection, subjects)
        promoted, policies = promotion_documents(connection, subjects)
    files = {
        content.PUBLIC_KEY: home.keys.public_path(LOG_KEY).read_bytes(),
        content.LINEAGE: content.lineage_json(report.events),
        content.REPORT: render_html(report).encode(),
        content.VERIFIER: content.verifier(),
        **({content.DATA_CARD: data_card(report).encode()} if report.data else {}),
        **_documents(home, report),
        **{content.statement_name(kind, digest): envelope.encode() for digest, (kind, envelope) in statements.items()},
        **promoted,
    }
    details = content.exported_details(files)
    partial = output.with_name(f".{output.name}.{secrets.token_hex(4)}.partial")
    try:
        with home.database.unit_of_work() as uow:
            index = uow.append(content.EXPORTED, subject, details, actor=actor)
            files[CHECKPOINT] = sign_head(uow, home.keys).encode()
            indices = _indices(uow.connection, report, statements, policies)
            proven = prove_entries(uow.connection, [*indices, index], uow.size)
            lines = [content.entry_line(each.entry.index, each.data, each.proof) for each in proven]
            files = content.with_checksums({**files, content.ENTRIES: b"".join(lines)})
            log_size = uow.size
            _write(partial, files)
        os.replace(partial, output)  # noqa: PTH105 - atomic on purpose
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return ExportedBundle(
        file=output,
        subject=subject,
        index=index,
        names=tuple(sorted(files)),
        num_entries=len(lines),
        log_size=log_size,
        size_bytes=output.stat().st_size,
        missed=tuple(publish(home.settings.witnesses, files[CHECKPOINT].decode())),
    )


def _write(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        content.write_zip(file, files)
        file.flush()
        os.fsync(file.fileno())


def _statements(connection: Connection, subjects: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Returns kind and envelope of the signed statements about some subjects, by digest."""
    columns = attestations.c
    found: dict[str, tuple[str, str]] = {}
    for some in _batches(subjects):
        query = select(columns.digest, columns.kind, columns.envelope).where(columns.subject.in_(some))
        found |= {digest: (kind, envelope) for digest, kind, envelope in connection.execute(query)}
    return dict(sorted(found.items()))


def _indices(
    connection: Connection, report: ReportContent, statements: Mapping[str, tuple[str, str]], others: set[str]
) -> list[int]:
    """Returns the entries of a bundle: those of the report, of its statements, of others, and of all keys and people they name.

    What was said of a key or person up to now is among them, whoever it was and whenever: a revocation above all.
    """
    wanted = {f"attestation:{digest}" for digest in statements} | others
    wanted |= {f"identity:{line.actor}" for line in report.ledger.entries} | _signers(connection, statements)
    keys = select(ledger_entries.c.subject).where(ledger_entries.c.action == CREATED)
    wanted |= set(connection.execute(keys).scalars())
    found = {line.index for line in report.ledger.entries}
    for some in _batches(wanted):
        found |= set(connection.execute(select(ledger_entries.c.index).where(ledger_entries.c.subject.in_(some))).scalars())
    return sorted(found)


def _signers(connection: Connection, statements: Mapping[str, tuple[str, str]]) -> set[str]:
    """Returns the people whose keys some statements say that they are signed with; keys of the platform are in every bundle."""
    signers = {signer for _, envelope in statements.values() for signer in signers_named(envelope)}
    people = connection.execute(select(identities.c.identity_id, identities.c.public_key_pem))
    return {f"identity:{identity_id}" for identity_id, pem in people if key_id(pem) in signers}


def _documents(home: Home, report: ReportContent) -> dict[str, bytes]:
    """Returns model card and ML-BOM of the model that the subject is or was made with, and of models behind it, in folders."""
    made = LineageGraph(report.edges).upstream(report.highlight) | {report.highlight}
    digests = [node.subject.removeprefix("package:") for node in report.nodes if node.subject in made]
    packages = [_open(home, versions[0]) for digest in digests if (versions := _versions(home.database, digest))]
    files: dict[str, bytes] = {}
    for place, package in enumerate(reversed(packages)):
        folder = f"models/{package.root_digest[:16]}/" if place else ""
        files |= {f"{folder}{name}": package.read_bytes(name) for name in (MODEL_CARD, ML_BOM)}
    return files


def _versions(database: Database, root_digest: str) -> list[ModelVersion]:
    return [version for version in list_versions(database) if version.root_digest == root_digest]


def _open(home: Home, version: ModelVersion) -> ModelPackage:
    return open_version(version, home.package_keys, home.package_cache)


def _batches(values: Iterable[str]) -> Iterable[list[str]]:
    wanted = sorted(values)
    return [wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH)]
