"""Checks a file of unknown origin: its manifest, its bytes, its pixels, its watermark, its looks and its label, each by itself.

A check is a function of what was read of the file and of the checks before it. Another way of recognising a file is another
function in `CHECKS`; what it finds stands in the verdict beside the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from governance.credentials.claim import Claim
from governance.credentials.label import AigcLabel, produce_id
from governance.credentials.marking import read_mark
from governance.credentials.reading import ManifestReading, ManifestState
from governance.credentials.verdict import Check, Origin, Outcome, Verdict, conclude
from governance.errors import BadRecordError, IntegrityError
from infra import looks_check, watermark_check
from infra.content_credentials import read_manifest
from infra.content_keys import ContentTrust, content_trust
from infra.content_records import ContentRecords, Person, UnsignedRecordError
from infra.content_source import Source, source_of
from infra.frame_sample import FrameSample
from infra.media_reading import MediaFile, Pixels, read_file, read_pixels

if TYPE_CHECKING:
    from infra.home import Home
    from model_core.watermark import Detection

_NO_HOME = "there is no home here to ask"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was read of a file, and what may be asked about it.

    Attributes:
        file: Its bytes.
        pixels: What is seen of it.
        manifest: Its manifest.
        trust: Whose manifests count as the home's own; None where the root came from outside, or nothing was signed here.
        records: What the home knows; None without a home.
        mark: The home's watermark in the pixels, or why it was not looked for.
    """

    file: MediaFile
    pixels: Pixels
    manifest: ManifestReading
    trust: ContentTrust | None
    records: ContentRecords | None
    mark: "Detection | str" = _NO_HOME


@dataclass(frozen=True, kw_only=True)
class Approved:
    """Why a version was a champion when a file was made.

    Attributes:
        environment: Where.
        promotion_id: By which request.
        approvers: Who approved that.
    """

    environment: str
    promotion_id: str
    approvers: tuple[Person, ...]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What is known of a file.

    Attributes:
        file: The file.
        pixels: What is seen of it.
        verdict: What the checks come to.
        approved: Who approved the model's version; None where that is not known.
        datasets: Digests of the datasets that the model goes back to; None where that is not known.
        mark: The home's watermark in the pixels; None where it was not looked for.
        source: What it was made from; None where a model made it from nothing, or that is not known.
    """

    file: MediaFile
    pixels: Pixels
    verdict: Verdict
    approved: tuple[Approved, ...] | None
    datasets: tuple[str, ...] | None
    mark: "Detection | None"
    source: Source | None


def verify_content(path: Path, *, home: "Home | None", root_pem: str | None = None) -> Verification:
    """Checks a file; nothing is written.

    Args:
        path: The file.
        home: The home whose ledger is asked, if there is one.
        root_pem: The certificate of a root to trust in the place of the home's own.

    Raises:
        BadRecordError: It is no whole picture or clip.
        IntegrityError: The ledger does not hold where it names the home's keys.
    """
    file = read_file(path)
    sample = FrameSample() if home else None
    pixels = read_pixels(file.kind, file.data, name=path, sample=sample)
    own = content_trust(home) if home else None
    root = root_pem or (own.root_pem if own else None)
    manifest = read_manifest(file.kind, file.data, root_pem=root)
    is_own = own is not None and own.root_pem == root
    if home is None or sample is None:
        return _verified(Evidence(file=file, pixels=pixels, manifest=manifest, trust=None, records=None))
    mark = watermark_check.look_for_mark(home, sample)
    with home.database.read() as connection:
        records, trust = ContentRecords(connection, home), own if is_own else None
        return _verified(Evidence(file=file, pixels=pixels, manifest=manifest, trust=trust, records=records, mark=mark))


def _verified(evidence: Evidence) -> Verification:
    checks: list[Check] = []
    for check in CHECKS:
        checks.append(check(evidence, checks))
    verdict = conclude(checks)
    approved = datasets = source = None
    if (origin := verdict.origin) is not None:
        records = evidence.records
        if origin.promotions is not None:
            approved = tuple(
                Approved(
                    environment=one.environment,
                    promotion_id=one.promotion_id,
                    approvers=tuple(
                        records.approvers(one) if records else (Person(identity_id=each, name=None) for each in one.approvers)
                    ),
                )
                for one in origin.promotions
            )
        datasets = tuple(records.datasets(origin.root_digest)) if records and origin.sha256 else None
        source = source_of(origin, records)
    return Verification(
        file=evidence.file,
        pixels=evidence.pixels,
        verdict=verdict,
        approved=approved,
        datasets=datasets,
        mark=None if isinstance(evidence.mark, str) else evidence.mark,
        source=source,
    )


def _manifest(evidence: Evidence, _: Sequence[Check]) -> Check:
    manifest = evidence.manifest
    if manifest.state is ManifestState.ABSENT:
        return Check(name="manifest", outcome=Outcome.ABSENT, says="there is none: it was removed, or there never was one")
    if manifest.state is not ManifestState.TRUSTED:
        return Check(name="manifest", outcome=Outcome.FAILED, says=manifest.reason)
    try:
        claim = _claim(evidence)
        if evidence.trust is None or evidence.records is None:
            says = f"it is signed by {manifest.signer}, whom the root certified that was given; no ledger was asked about it"
            return Check(name="manifest", outcome=Outcome.HELD, says=says, origins=(_claimed(claim),))
        origin = _recorded(evidence, evidence.trust, evidence.records, claim)
    except UnsignedRecordError as error:
        return _unsigned("manifest", error)
    except IntegrityError as error:
        return Check(name="manifest", outcome=Outcome.FAILED, says=error.diagnosis)
    says = f"it is signed by this home, and the ledger has what it says: file {origin.position} of run {origin.run_id}"
    return Check(name="manifest", outcome=Outcome.HELD, says=says, origins=(origin,))


def _claim(evidence: Evidence) -> Claim:
    claim = evidence.manifest.claim
    if claim is None:
        raise IntegrityError("it is signed by a trusted key, and does not say where the file came from")
    if claim.pixels_sha256 != evidence.pixels.sha256:
        raise IntegrityError("it is signed by a trusted key, and speaks of other pixels")
    return claim


def _claimed(claim: Claim) -> Origin:
    return Origin(
        run_id=claim.run_id,
        position=claim.position,
        model_name=claim.model_name,
        model_version=claim.model_version,
        root_digest=claim.root_digest,
        promotions=claim.promotions,
        source_sha256=claim.source_sha256,
    )


def _recorded(evidence: Evidence, trust: ContentTrust, records: ContentRecords, claim: Claim) -> Origin:
    """Returns what the ledger says of the file that a manifest of this home speaks of; the two have to agree."""
    key = trust.serials.get(evidence.manifest.serial)
    if key is None:
        raise IntegrityError("it is signed with a certificate that the ledger does not name")
    if key.revoked is not None:
        raise IntegrityError(f"it is signed with key {key.fingerprint[:16]}, which was revoked on {key.revoked}")
    found = records.by_place(claim.run_id, claim.position)
    if not found:
        raise IntegrityError(f"the ledger has no file {claim.position} of run {claim.run_id}, of which it speaks")
    (origin,) = found[:1]
    if (origin.model, origin.root_digest) != (claim.model, claim.root_digest):
        raise IntegrityError(f"it names model {claim.model}, the ledger {origin.model}")
    if {one.promotion_id for one in origin.promotions or ()} != {one.promotion_id for one in claim.promotions}:
        raise IntegrityError("it names other promotions than the ledger")
    if origin.source_sha256 != claim.source_sha256:
        raise IntegrityError("it names another source than the ledger")
    if origin.sha256 != evidence.file.sha256:
        raise IntegrityError("the file is not byte for byte the one on record: what no signature covers was changed")
    return origin


def _digest(evidence: Evidence, _: Sequence[Check]) -> Check:
    return _found(
        "digest",
        lambda records: records.by_digest(evidence.file.sha256),
        evidence.records,
        held="the file is byte for byte one that was made here",
        absent=f"no file with SHA-256 {evidence.file.sha256[:16]} is on record",
    )


def _pixels(evidence: Evidence, _: Sequence[Check]) -> Check:
    return _found(
        "pixels",
        lambda records: records.by_pixels(evidence.pixels.sha256),
        evidence.records,
        held="each pixel is that of a file that was made here",
        absent="no file with just these pixels is on record",
    )


def _found(
    name: str,
    find: Callable[[ContentRecords], list[Origin]],
    records: ContentRecords | None,
    *,
    held: str,
    absent: str,
) -> Check:
    if records is None:
        return Check(name=name, outcome=Outcome.SKIPPED, says=_NO_HOME)
    try:
        origins = find(records)
    except UnsignedRecordError as error:
        return _unsigned(name, error)
    except IntegrityError as error:
        return Check(name=name, outcome=Outcome.FAILED, says=f"it is on record, and the record does not hold: {error.diagnosis}")
    if not origins:
        return Check(name=name, outcome=Outcome.ABSENT, says=absent)
    models = sorted({origin.model for origin in origins})
    if len(models) > 1:
        says = f"{held}, but by more than one model: {', '.join(models)}"
        return Check(name=name, outcome=Outcome.UNPROVEN, says=says)
    more = f", {len(origins)} times" if len(origins) > 1 else ""
    return Check(name=name, outcome=Outcome.HELD, says=f"{held}{more}", origins=tuple(origins))


def _unsigned(name: str, error: UnsignedRecordError) -> Check:
    return Check(name=name, outcome=Outcome.UNPROVEN, says=f"{error.diagnosis}: {error.hint}")


def _watermark(evidence: Evidence, before: Sequence[Check]) -> Check:
    mark, pixels = evidence.mark, evidence.pixels
    return _asked(watermark_check.NAME, evidence, lambda records: watermark_check.check_mark(mark, pixels, records, before))


def _fingerprint(evidence: Evidence, before: Sequence[Check]) -> Check:
    return _asked(looks_check.NAME, evidence, lambda records: looks_check.check_looks(evidence.pixels, records, before))


def _asked(name: str, evidence: Evidence, ask: Callable[[ContentRecords], Check]) -> Check:
    return ask(evidence.records) if evidence.records else Check(name=name, outcome=Outcome.SKIPPED, says=_NO_HOME)


def _label(evidence: Evidence, before: Sequence[Check]) -> Check:
    try:
        label, source_type = read_mark(evidence.file.kind, evidence.file.data)
    except BadRecordError as error:
        return Check(name="label", outcome=Outcome.FAILED, says=error.diagnosis)
    if label is None:
        says = "there is none" + (", but it says of itself that a trained model made it" if source_type else "")
        return Check(name="label", outcome=Outcome.ABSENT if not source_type else Outcome.UNPROVEN, says=says)
    proofs = [check for check in before if check.name in {"manifest", "digest"} and check.outcome is Outcome.HELD]
    if not proofs:
        says = f"it names producer {label.producer!r:.80}, number {label.produce_id!r:.80}; nothing here covers it"
        return Check(name="label", outcome=Outcome.UNPROVEN, says=says)
    origin = proofs[0].origins[0]
    if not _agrees(label, origin, evidence.pixels):
        return Check(name="label", outcome=Outcome.FAILED, says="it is not that of the file on record")
    says = f"generated content, by {label.producer!r:.80}; the {proofs[0].name} covers it"
    return Check(name="label", outcome=Outcome.HELD, says=says)


def _agrees(label: AigcLabel, origin: Origin, pixels: Pixels) -> bool:
    return label.produce_id == produce_id(origin.run_id, origin.position) and label.integrity == pixels.sha256


CHECKS: tuple[Callable[[Evidence, Sequence[Check]], Check], ...] = (
    _manifest,
    _digest,
    _pixels,
    _watermark,
    _fingerprint,
    _label,
)
"""The checks in their order; what proves most comes first."""
