"""What a generated file's C2PA manifest says: that a trained model made it, from what, and where the record about it is.

No prompt and no name of a person stands in it; people are ids, whose names are the home's to tell or to erase.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from governance.credentials.ingredient import EDITED_SOURCE_TYPE, edit_actions
from governance.errors import BadRecordError

ASSERTION = "org.groundswell.provenance"
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_FORMAT = 1
_MAX_TEXT = 512


@dataclass(frozen=True, kw_only=True)
class PromotedBy:
    """Why a version was a champion when the file was made.

    Attributes:
        environment: Where it was champion.
        promotion_id: The request that made it so.
        approvers: Ids of the identities that approved the request.
    """

    environment: str
    promotion_id: str
    approvers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Where a file came from, as its manifest says.

    Attributes:
        run_id: The run that made it.
        position: Which of the run's files it is, from 0.
        model_name: The model's name.
        model_version: Its version.
        root_digest: The root digest of the version's package, in hex.
        pixels_sha256: SHA-256 of its decoded pixels, in hex, see `infra.media_reading`.
        promotions: Why the version was a champion; empty where it was none.
        source_sha256: SHA-256 of the file that it was made from, in hex; None where a model made it from nothing.
    """

    run_id: str
    position: int
    model_name: str
    model_version: int
    root_digest: str
    pixels_sha256: str
    promotions: tuple[PromotedBy, ...] = ()
    source_sha256: str | None = None

    @property
    def subject(self) -> str:
        """The run in the ledger; the file's own subject is its SHA-256, which the file cannot hold."""
        return f"run:{self.run_id}"

    @property
    def model(self) -> str:
        """The version as ``name/version``."""
        return f"{self.model_name}/{self.model_version}"

    def to_assertion(self) -> dict[str, Any]:
        """Returns the data of the assertion `ASSERTION`."""
        return {
            "format": _FORMAT,
            "ledger_subject": self.subject,
            "position": self.position,
            "run_id": self.run_id,
            "model": {"name": self.model_name, "version": self.model_version, "root_digest": self.root_digest},
            "pixels_sha256": self.pixels_sha256,
            "promotions": [
                {"environment": one.environment, "promotion_id": one.promotion_id, "approvers": list(one.approvers)}
                for one in self.promotions
            ],
            **({"source": {"sha256": self.source_sha256}} if self.source_sha256 else {}),
        }

    @property
    def digital_source_type(self) -> str:
        """What the file is, as IPTC names it."""
        return EDITED_SOURCE_TYPE if self.source_sha256 else DIGITAL_SOURCE_TYPE


def parse_claim(data: Any) -> Claim:
    """Returns the claim that an assertion's data hold.

    Raises:
        BadRecordError: They are no claim.
    """
    try:
        if data["format"] != _FORMAT or data["ledger_subject"] != f"run:{data['run_id']}":
            raise BadRecordError(f"the assertion {ASSERTION} is of another format")
        model = data["model"]
        return Claim(
            run_id=_text(data["run_id"]),
            position=_count(data["position"]),
            model_name=_text(model["name"]),
            model_version=_count(model["version"]),
            root_digest=_text(model["root_digest"]),
            pixels_sha256=_text(data["pixels_sha256"]),
            promotions=tuple(
                PromotedBy(
                    environment=_text(one["environment"]),
                    promotion_id=_text(one["promotion_id"]),
                    approvers=tuple(_text(approver) for approver in one["approvers"]),
                )
                for one in data["promotions"]
            ),
            source_sha256=_text(data["source"]["sha256"]) if "source" in data else None,
        )
    except (KeyError, TypeError) as error:
        raise BadRecordError(f"the assertion {ASSERTION} is malformed") from error


def manifest_definition(claim: Claim, *, title: str, generator_version: str, created: str) -> dict[str, Any]:
    """Returns the definition of a file's manifest, as c2pa's builder takes it.

    Args:
        claim: Where the file came from.
        title: The file's name.
        generator_version: The version of groundswell.
        created: When it was made, RFC 3339; what the clock said, no authority vouches for it.
    """
    agent = {"name": claim.model_name, "version": str(claim.model_version)}
    made = {"action": "c2pa.created", "when": created, "digitalSourceType": DIGITAL_SOURCE_TYPE, "softwareAgent": agent}
    actions = edit_actions(when=created, agent=agent) if claim.source_sha256 else [made]
    return {
        "title": title,
        "claim_generator_info": [{"name": "groundswell", "version": generator_version}],
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": actions}},
            {"label": ASSERTION, "data": claim.to_assertion()},
        ],
    }


def claim_of_manifest(manifest: Mapping[str, Any]) -> Claim | None:
    """Returns what a manifest, as c2pa's reader gives it, says by our assertion; None where it has none.

    Raises:
        BadRecordError: The assertion is malformed, or there are several.
    """
    found = [one for one in manifest.get("assertions") or () if str(one.get("label", "")).partition("__")[0] == ASSERTION]
    if len(found) > 1:
        raise BadRecordError(f"the manifest has {len(found)} assertions {ASSERTION}")
    return parse_claim(found[0].get("data")) if found else None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > _MAX_TEXT:
        raise TypeError("no text")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise TypeError("no count")
    return value
