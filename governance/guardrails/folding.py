"""Brings what looks alike to one form: compatibility forms, case, accents, invisible characters, letters of other scripts.

Each character is folded by itself, so that the time is linear whatever the text is: normalising a long run of combining marks
as a whole takes time that grows with its square. Terms of a policy and prompts are folded the same way, so words of every
script are found; that a fold makes Cyrillic words look half Latin does no harm.
"""

import unicodedata
from typing import Final

from governance.guardrails.lookalikes import LOOKALIKES

_DROPPED_CATEGORIES: Final = frozenset({"Mn", "Me", "Cf"})
"""Combining marks, enclosing marks, and format characters such as the zero-width ones."""
_DROPPED: Final = frozenset("\u0640\u115f\u1160\u3164\uffa0")
"""The Arabic letter that stretches words, and the fillers of Hangul."""
_LETTERED: Final = ((0x1F150, 0x1F169), (0x1F170, 0x1F189), (0x1F1E6, 0x1F1FF))
"""Letters in circles, in squares, and of flags, from A on, that have no compatibility form."""


class _Folds(dict[int, str]):
    """The fold of each character, worked out when it is first asked for."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold(chr(code))
        return folded


def fold(text: str) -> str:
    """Returns a text as it is matched: lower case, without marks and invisible characters, lookalikes as Latin letters.

    What separates words stays. The fold of a fold is itself.
    """
    return text.translate(_FOLDS)


def _fold(character: str) -> str:
    code = ord(character)
    for first, last in _LETTERED:
        if first <= code <= last:
            return chr(ord("a") + code - first)
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    kept = (one for one in folded if one not in _DROPPED and unicodedata.category(one) not in _DROPPED_CATEGORIES)
    return "".join(LOOKALIKES.get(one, one) for one in kept)


_FOLDS: Final = _Folds()
