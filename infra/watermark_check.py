"""What the watermark in a file says: the check beside those of `infra.content_verification`.

A mark that is found is evidence that the home made the pixels, and its id names the files on record that bear it. It is no proof:
who has a marked picture can lay its mark over another one, without the key.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from governance.credentials.verdict import Check, Origin, Outcome, conclude
from governance.errors import IntegrityError
from infra.content_records import ContentRecords, UnsignedRecordError
from infra.errors import BadSettingError
from infra.frame_sample import FrameSample
from infra.media_reading import Pixels
from infra.watermark import find_mark, watermark_secrets

if TYPE_CHECKING:
    from infra.home import Home
    from model_core.watermark import Detection

NAME = "watermark"
_MAX_EXPONENT = 99


def look_for_mark(home: "Home", sample: FrameSample) -> "Detection | str":
    """Looks for a home's mark, or says why it cannot be looked for.

    Args:
        home: The home.
        sample: What was seen of the file.
    """
    try:
        secrets = watermark_secrets(home)
    except BadSettingError as error:
        return f"it is found with the home's private key alone: {error.diagnosis}"
    return find_mark(sample.frames(), secrets)


def check_mark(found: "Detection | str", pixels: Pixels, records: ContentRecords, before: Sequence[Check]) -> Check:
    """Returns what a mark comes to.

    Args:
        found: The mark, or why it was not looked for.
        pixels: What is seen of the file.
        records: What the home knows.
        before: The checks before this one.
    """
    if isinstance(found, str):
        return Check(name=NAME, outcome=Outcome.SKIPPED, says=found)
    if not found.detected:
        return Check(name=NAME, outcome=Outcome.ABSENT, says=_absence(pixels))
    proven = conclude(before).origins
    if found.payload is None:
        return _without_id(found, is_proven=bool(proven))
    watermark_id = found.payload.hex()
    try:
        origins = records.by_watermark(watermark_id)
    except UnsignedRecordError as error:
        return Check(name=NAME, outcome=Outcome.UNPROVEN, says=f"{error.diagnosis}: {error.hint}")
    except IntegrityError as error:
        says = f"its id {watermark_id} is on record, and the record does not hold: {error.diagnosis}"
        return Check(name=NAME, outcome=Outcome.FAILED, says=says)
    return _with_id(watermark_id, origins, proven)


def _absence(pixels: Pixels) -> str:
    from model_core.watermark import MIN_SIDE

    if min(pixels.width, pixels.height) < MIN_SIDE:
        return f"none was found: what has a side under {MIN_SIDE} pixels is too small to bear one"
    return "none was found, which says nothing: it can be taken out, and not all that is made here has room for one"


def _without_id(found: "Detection", *, is_proven: bool) -> Check:
    if is_proven:
        return Check(name=NAME, outcome=Outcome.HELD, says="this home's mark is in the pixels, without an id that can be read")
    says = (
        f"this home's mark is in the pixels (by chance once in {_one_in(found)}), without an id that can be read: they "
        "were made here, or the mark was copied; by which model is not said"
    )
    return Check(name=NAME, outcome=Outcome.UNPROVEN, says=says)


def _with_id(watermark_id: str, origins: Sequence[Origin], proven: Sequence[Origin]) -> Check:
    mark = f"this home's mark is in the pixels with id {watermark_id}"
    if not origins:
        return Check(name=NAME, outcome=Outcome.UNPROVEN, says=f"{mark}, which no file on record bears")
    models = sorted({origin.model for origin in origins})
    if len(models) > 1:
        return Check(name=NAME, outcome=Outcome.UNPROVEN, says=f"{mark}, which more than one model gave: {', '.join(models)}")
    runs = {origin.run_id for origin in origins}
    if proven and not runs & {origin.run_id for origin in proven}:
        return Check(
            name=NAME, outcome=Outcome.UNPROVEN, says=f"{mark}, which is that of another file, of run {origins[0].run_id}"
        )
    more = "" if len(origins) == 1 else f" and {len(origins) - 1} more"
    says = f"{mark}, that of file {origins[0].position} of run {origins[0].run_id}{more}"
    says += "" if proven else "; evidence and no proof, as marks can be copied"
    return Check(name=NAME, outcome=Outcome.HELD, says=says, origins=tuple(origins), is_evidence=True)


def _one_in(found: "Detection") -> str:
    """Returns how many media without the mark there are to each that would be taken to bear it."""
    probability = max(found.false_positive_probability, 10.0**-_MAX_EXPONENT)
    return f"10^{math.floor(-math.log10(probability))}"
