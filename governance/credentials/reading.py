"""What reading a manifest comes to, by the results of a C2PA reader. Rules, in the order in which they are asked:

1. A file without a manifest says nothing; that is no failure.
2. A manifest that does not validate, for whatever reason, says nothing that counts.
3. One that validates and is signed by a certificate that the trusted root has not issued is somebody else's.
4. One that our root has issued is ours; what it says is then compared with the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from governance.credentials.claim import Claim, claim_of_manifest
from governance.errors import BadRecordError

_TRUSTED, _UNTRUSTED = "Trusted", "signingCredential.untrusted"
_FAILURES = {
    "assertion.dataHash.mismatch": "the file is not the one that was signed: it was changed, or the manifest is another file's",
    "assertion.bmffHash.mismatch": "the file is not the one that was signed: it was changed, or the manifest is another file's",
    "assertion.hashedURI.mismatch": "a statement in it was changed after signing",
    "claimSignature.mismatch": "its signature does not hold",
    "claimSignature.outsideValidity": "the signing certificate was not valid",
    "signingCredential.expired": "the signing certificate has expired",
    "signingCredential.invalid": "the signing certificate is none that C2PA allows",
}


class ManifestState(StrEnum):
    """What a manifest is worth."""

    ABSENT = "absent"
    BROKEN = "broken"
    UNTRUSTED = "untrusted"
    TRUSTED = "trusted"


@dataclass(frozen=True, kw_only=True)
class ManifestReading:
    """A manifest as it was read.

    Attributes:
        state: What it is worth.
        reason: Why it is no more, in words; empty where it is trusted.
        claim: What it says by our assertion, whether or not that counts; None where it does not say so.
        serial: The serial number of the signing certificate, in decimal digits.
        signer: The name on the signing certificate.
    """

    state: ManifestState
    reason: str = ""
    claim: Claim | None = None
    serial: str = ""
    signer: str = ""


def judge(store: Mapping[str, Any]) -> ManifestReading:
    """Returns what a manifest store is worth.

    Args:
        store: What a C2PA reader tells, with one root as its trust anchor.
    """
    manifests = store.get("manifests")
    manifest = manifests.get(store.get("active_manifest"), {}) if isinstance(manifests, Mapping) else {}
    signature = manifest.get("signature_info") or {}
    serial, signer = str(signature.get("cert_serial_number", "")), str(signature.get("common_name", ""))
    try:
        claim = claim_of_manifest(manifest)
    except BadRecordError as error:
        return ManifestReading(state=ManifestState.BROKEN, reason=error.diagnosis, serial=serial, signer=signer)
    worth, reason = _worth(store, signer)
    return ManifestReading(state=worth, reason=reason, claim=claim, serial=serial, signer=signer)


def _worth(store: Mapping[str, Any], signer: str) -> tuple[ManifestState, str]:
    state = store.get("validation_state")
    if state == _TRUSTED:
        return ManifestState.TRUSTED, ""
    codes = [str(one.get("code")) for one in store.get("validation_status") or () if isinstance(one, Mapping)]
    failed = [code for code in codes if code != _UNTRUSTED]
    if state == "Valid" and not failed:
        return ManifestState.UNTRUSTED, f"it is signed by {signer or 'somebody'!r:.100}, whom the trusted root has not certified"
    known = next((_FAILURES[code] for code in failed if code in _FAILURES), "")
    return ManifestState.BROKEN, known or f"C2PA says {', '.join(failed) or state}"
