"""The file that a generated one was made from, as C2PA has it: an ingredient of the manifest, with the manifest of its own.

C2PA 2.x, "Actions": who edits an asset opens it first (``c2pa.opened``, which names the ingredient ``parentOf``), and then says
what was done. IPTC calls what a trained model made out of other media ``compositeWithTrainedAlgorithmicMedia``.
"""

from dataclasses import dataclass, field
from typing import Any

EDITED_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_LABEL = "source"
_TITLE_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """A file that others were made from. Its name is not in it: names tell of people, and of what they work on.

    Attributes:
        sha256: SHA-256 of its bytes.
        media_type: Its media type.
        data: Its bytes, which a signer looks through for a manifest to carry along.
    """

    sha256: str
    media_type: str
    data: bytes = field(repr=False)

    def definition(self) -> dict[str, Any]:
        """Returns it as c2pa's builder takes it."""
        return {
            "title": f"source {self.sha256[:_TITLE_DIGITS]}",
            "format": self.media_type,
            "relationship": "parentOf",
            "label": _LABEL,
        }


def edit_actions(*, when: str, agent: dict[str, str]) -> list[dict[str, Any]]:
    """Returns the actions of a file that was made from another.

    Args:
        when: When, RFC 3339.
        agent: Name and version of the model.
    """
    return [
        {"action": "c2pa.opened", "when": when, "parameters": {"ingredientIds": [_LABEL]}},
        {"action": "c2pa.edited", "when": when, "digitalSourceType": EDITED_SOURCE_TYPE, "softwareAgent": agent},
    ]
