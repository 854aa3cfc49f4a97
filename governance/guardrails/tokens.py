"""A prompt as words, with how wide the gap before each is."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese. Each of their letters is a word."""
_LETTERS: Final = rf"(?:(?![{_UNSPACED}_])\w)"
_SIGNED: Final = rf"(?:{_LETTERS}|[@$€£])"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|{_LETTERS}+")
_DISGUISED: Final = re.compile(rf"[{_UNSPACED}]|{_SIGNED}+(?:[!|*¡×]+{_SIGNED}+)*")
_ALONE: Final = re.compile(rf"[{_UNSPACED}]")
_SIGNS: Final = re.compile(r"[@$€£!|*¡×]")
_APOSTROPHES: Final = frozenset("'’`´ʼ")
_CLITICS: Final = frozenset({"ll", "re", "s", "t", "d", "m", "ve", "em"})


class Gap(IntEnum):
    """What lies before a word, from nothing on: the wider it is, the likelier a word begins there."""

    NONE = 0
    MARK = 1
    SPACE = 2
    WIDE = 3
    WALL = 4
    """Of "he'll": what is written together across it is no other word."""


@dataclass(frozen=True)
class Words:
    """The words of a folded text.

    Attributes:
        texts: The words.
        gaps: What lies before each.
    """

    texts: Sequence[str]
    gaps: Sequence[Gap]


def views(folded: str) -> Iterator[Words]:
    """Yields the words of a folded text: as they stand, and with signs such as ``@`` and ``$`` as letters if it has any."""
    yield _words(folded, _WORD)
    if _SIGNS.search(folded):
        yield _words(folded, _DISGUISED)


def is_spelled(text: str) -> bool:
    """Says whether a word is one letter of those that words are spelled with."""
    return len(text) == 1 and text.isalpha() and _ALONE.match(text) is None


def _words(folded: str, pattern: re.Pattern[str]) -> Words:
    texts: list[str] = []
    gaps: list[Gap] = []
    end = 0
    for found in pattern.finditer(folded):
        texts.append(found[0])
        gaps.append(_gap(folded[end : found.start()], found[0]))
        end = found.end()
    return Words(texts, gaps)


def _gap(between: str, word: str) -> Gap:
    if between == " ":
        return Gap.SPACE
    if not between:
        return Gap.NONE
    if between in _APOSTROPHES and word in _CLITICS:
        return Gap.WALL
    spaces = sum(map(str.isspace, between))
    return Gap.MARK if not spaces else Gap.SPACE if spaces == 1 else Gap.WIDE
