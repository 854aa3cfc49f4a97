"""What a file looks like, against what is on record: the check beside those of `infra.content_verification`."""

from collections.abc import Sequence

from governance.credentials.fingerprint import MAX_DISTANCE, NUM_BITS, distance, parse_fingerprint
from governance.credentials.verdict import Basis, Check, Outcome, conclude
from infra.content_records import ContentRecords
from infra.media_reading import Pixels

NAME = "fingerprint"


def check_looks(pixels: Pixels, records: ContentRecords, before: Sequence[Check]) -> Check:
    """Compares a file with the one that it was attributed to, or looks for candidates where it was to none.

    Args:
        pixels: What is seen of the file.
        records: What the home knows.
        before: The checks before this one.
    """
    verdict = conclude(before)
    if verdict.origin is not None and verdict.origin.fingerprint:
        bits = distance(parse_fingerprint(verdict.origin.fingerprint), parse_fingerprint(pixels.fingerprint))
        if bits is not None and bits <= MAX_DISTANCE:
            says = f"it looks like the file on record: {bits} of {NUM_BITS} bits differ"
            return Check(name=NAME, outcome=Outcome.HELD, says=says)
        if verdict.basis is Basis.PROOF:
            return Check(name=NAME, outcome=Outcome.FAILED, says="it does not look like the file on record")
        says = "it does not look like the file that the watermark names: cropped, changed a lot, or the mark was copied onto it"
        return Check(name=NAME, outcome=Outcome.UNPROVEN, says=says)
    candidates = tuple(records.looking_like(pixels.fingerprint))
    if not candidates:
        return Check(name=NAME, outcome=Outcome.ABSENT, says="no file on record looks alike")
    says = f"{len(candidates)} on record look alike, which proves nothing: for a person to look at"
    return Check(name=NAME, outcome=Outcome.UNPROVEN, says=says, candidates=candidates)
