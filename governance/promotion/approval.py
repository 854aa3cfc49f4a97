"""An approval: an in-toto statement, signed with the approver's own key, that says exactly what is approved.

Statement v1: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. The predicate is our own; it names people by
their identities' ids alone.
"""

import json
from dataclasses import dataclass
from typing import Any

from governance.errors import IntegrityError
from governance.promotion.state import Promotion, RuleError
from governance.provenance import STATEMENT_TYPE

KIND = "approval"
PREDICATE_TYPE = "urn:groundswell:approval:1"


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What somebody approved.

    Attributes:
        promotion_id: The request.
        model: The version, ``name/version``.
        root_digest: The root digest of its package.
        environment: Where it is to go.
        policy_digest: The policy.
        evidence_root: Digest of the gate results.
        expected_version: The champion whose place it is to take; None for none.
        expected_digest: The root digest of that champion's package.
        expires: Until when the approval counts.
        approver: Who approves, an identity's id.
        role: The role in which they do.
        signed: When, RFC 3339 UTC with microseconds.
    """

    promotion_id: str
    model: str
    root_digest: str
    environment: str
    policy_digest: str
    evidence_root: str
    expected_version: int | None
    expected_digest: str | None
    expires: str
    approver: str
    role: str
    signed: str

    def statement(self) -> dict[str, Any]:
        """Returns the statement that is signed."""
        champion = {"version": self.expected_version, "digest": {"sha256": self.expected_digest}}
        return {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": self.model, "digest": {"sha256": self.root_digest}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "request": self.promotion_id,
                "decision": "approved",
                "environment": self.environment,
                "policyDigest": self.policy_digest,
                "evidenceRoot": self.evidence_root,
                "expectedChampion": champion if self.expected_version is not None else None,
                "expires": self.expires,
                "approver": {"identity": self.approver, "role": self.role},
                "signedOn": self.signed,
            },
        }


def approval_of(promotion: Promotion, *, approver: str, role: str, signed: str) -> Approval:
    """Returns the approval of a request as it stands."""
    return Approval(
        promotion_id=promotion.promotion_id,
        model=f"{promotion.name}/{promotion.version}",
        root_digest=promotion.root_digest,
        environment=promotion.environment,
        policy_digest=promotion.policy_digest,
        evidence_root=promotion.evidence_root,
        expected_version=promotion.expected_version,
        expected_digest=promotion.expected_digest,
        expires=promotion.expires,
        approver=approver,
        role=role,
        signed=signed,
    )


def parse_approval(payload: bytes) -> Approval:
    """Parses a statement that was signed.

    Raises:
        IntegrityError: It is no approval, or says more than one.
    """
    try:
        value = json.loads(payload)
        predicate, subject = value["predicate"], value["subject"][0]
        champion = predicate["expectedChampion"]
        approval = Approval(
            promotion_id=predicate["request"],
            model=subject["name"],
            root_digest=subject["digest"]["sha256"],
            environment=predicate["environment"],
            policy_digest=predicate["policyDigest"],
            evidence_root=predicate["evidenceRoot"],
            expected_version=champion["version"] if champion else None,
            expected_digest=champion["digest"]["sha256"] if champion else None,
            expires=predicate["expires"],
            approver=predicate["approver"]["identity"],
            role=predicate["approver"]["role"],
            signed=predicate["signedOn"],
        )
        same = approval.statement() == value
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise IntegrityError("it is no approval") from error
    if not same:
        raise IntegrityError("it is no approval, or says more than one does")
    return approval


def check_bound(approval: Approval, promotion: Promotion) -> None:
    """Checks that an approval is of a request, as that stands.

    Raises:
        RuleError: Something that it is bound to is another.
    """
    wanted = approval_of(promotion, approver=approval.approver, role=approval.role, signed=approval.signed)
    words = {
        "promotion_id": "request",
        "model": "model version",
        "root_digest": "package",
        "environment": "environment",
        "policy_digest": "policy",
        "evidence_root": "evidence",
        "expected_version": "champion",
        "expected_digest": "champion",
        "expires": "end",
    }
    for name, word in words.items():
        given, needed = getattr(approval, name), getattr(wanted, name)
        if given != needed:
            raise RuleError(
                "binding",
                f"the approval by {approval.approver} is of {word} {given!s:.64}, request {promotion.promotion_id} has "
                f"{needed!s:.64}: it is void",
                hint="the approver has to approve this request",
            )
