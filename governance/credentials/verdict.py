"""What follows from the checks of a file. Rules:

1. Each check says for itself whether what it looks at holds, does not hold, is not there, or proves nothing.
2. A file is attributed by a check that holds and names where it came from: its manifest, its digest, or its pixels. Looks prove
   nothing: what looks alike is a candidate for a person, never an attribution.
3. Where none of these does, the watermark tells where a file came from. That is evidence and no proof, as marks can be copied:
   the verdict names the origin, and says that it rests on the watermark alone. A watermark adds nothing to a proof and takes
   nothing from it.
4. Origins that name more than one model version attribute a file to none of them.
5. Anything that is there and does not hold spoils the verdict, also where another check attributes the file.
6. A file that nothing proves anything about has no proof; that is not the same as a proof that it was made elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from governance.credentials.claim import PromotedBy


class Outcome(StrEnum):
    """What a check came to."""

    HELD = "held"
    FAILED = "failed"
    ABSENT = "absent"
    UNPROVEN = "unproven"
    SKIPPED = "skipped"


class Basis(StrEnum):
    """What an attribution rests on."""

    PROOF = "proof"
    WATERMARK = "watermark"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a file came from, as a manifest or the ledger says.

    Attributes:
        run_id: The run.
        position: Which of its files.
        model_name: The model's name.
        model_version: Its version.
        root_digest: The root digest of the version's package.
        sha256: SHA-256 of the file that was handed out; empty where only the manifest was asked.
        fingerprint: How that looks; empty where it was not kept.
        file_name: What it was called; empty where only the manifest was asked.
        created: When it was recorded; empty where only the manifest was asked.
        promotions: Why the version was a champion; None where that was not kept.
        source_sha256: SHA-256 of the file that it was made from; None where a model made it from nothing.
    """

    run_id: str
    position: int
    model_name: str
    model_version: int
    root_digest: str
    sha256: str = ""
    fingerprint: str = ""
    file_name: str = ""
    created: str = ""
    promotions: tuple[PromotedBy, ...] | None = None
    source_sha256: str | None = None

    @property
    def model(self) -> str:
        """The version as ``name/version``."""
        return f"{self.model_name}/{self.model_version}"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file on record that looks alike.

    Attributes:
        origin: Where it came from.
        distance: How many bits of 64 differ.
    """

    origin: Origin
    distance: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: Such as ``manifest``.
        outcome: What it came to.
        says: Why, in words.
        origins: Where the file came from, by a check that held.
        candidates: What looks alike, nearest first.
        is_evidence: Whether what it finds is evidence and no proof.
    """

    name: str
    outcome: Outcome
    says: str
    origins: tuple[Origin, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    is_evidence: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What all checks come to.

    Attributes:
        checks: The checks, in their order.
        origins: Where the file came from, oldest first: the same pixels may have been made more than once. Empty where nothing
            says it.
        basis: What that rests on; None where nothing says it.
        proven_by: The checks that prove it; empty where it rests on evidence.
    """

    checks: tuple[Check, ...]
    origins: tuple[Origin, ...] = ()
    basis: Basis | None = None
    proven_by: tuple[str, ...] = ()

    @property
    def origin(self) -> Origin | None:
        """Where the file came from; the first time, where that was more than once."""
        return self.origins[0] if self.origins else None

    @property
    def failed(self) -> tuple[Check, ...]:
        """What is there and does not hold."""
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    @property
    def ok(self) -> bool:
        """Whether it is proven where the file came from, and everything that is there holds."""
        return self.basis is Basis.PROOF and not self.failed

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What looks alike, where the file is not attributed."""
        return () if self.origin else tuple(candidate for check in self.checks for candidate in check.candidates)


def conclude(checks: Sequence[Check]) -> Verdict:
    """Returns what checks come to, by the rules above."""
    naming = [check for check in checks if check.outcome is Outcome.HELD and check.origins]
    proving = [check for check in naming if not check.is_evidence]
    deciding = proving or naming
    models = {(origin.model, origin.root_digest) for check in deciding for origin in check.origins}
    if len(models) != 1:
        return Verdict(checks=tuple(checks))
    return Verdict(
        checks=tuple(checks),
        origins=deciding[0].origins,  # the first check that says it is the strongest
        basis=Basis.PROOF if proving else Basis.WATERMARK,
        proven_by=tuple(check.name for check in proving),
    )
