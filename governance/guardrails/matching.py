"""Finds the phrases of a lexicon in a prompt, also where words are taken apart.

A word may be one of the prompt's, or several that are written together again:

- letters with anything between them ("k i l l", "k.i.l.l"), unless in the midst of another word so spelled ("s k i l l");
- pieces with marks but no spaces between them ("mur-der");
- pieces with spaces between them ("mur der"), unless all of them are common words ("pen is").

The time is linear in the prompt's length: from each word on only as much is read as could become one of the lexicon's words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from governance.guardrails.common_words import COMMON_WORDS, ENGLISH_WORDS
from governance.guardrails.folding import fold
from governance.guardrails.lexicon import Lexicon, Phrase, skeleton
from governance.guardrails.tokens import Gap, Words, is_spelled, views

_FAR: Final = 8
"""After so many letters of a word that is spelled letter by letter, another word is taken to begin."""
_LONGEST_COMMON: Final = max(map(len, ENGLISH_WORDS))


@dataclass(frozen=True)
class Match:
    """A phrase in a prompt.

    Attributes:
        phrase: Its position in the lexicon.
        start: The first of the prompt's words that it takes.
        end: The word after the last.
    """

    phrase: int
    start: int
    end: int


def matches(lexicon: Lexicon, text: str) -> Iterator[list[Match]]:
    """Yields the phrases in a text, once for each way to read it (see `tokens.views`).

    Args:
        lexicon: What is looked for.
        text: As it was typed.
    """
    for words in views(fold(text)):
        yield list(dict.fromkeys(_Reader(lexicon, words).matches()))


class _Reader:
    def __init__(self, lexicon: Lexicon, words: Words) -> None:
        self._lexicon = lexicon
        self._texts, self._gaps = words.texts, words.gaps
        self._readings: dict[int, list[tuple[int, frozenset[int]]]] = {}
        self._known: dict[str, tuple[frozenset[int], str, bool]] = {}

    def matches(self) -> Iterator[Match]:
        for start, text in enumerate(self._texts):
            numbers, _, begins = self._alone(text)
            if not (numbers or begins):
                continue
            for phrase, end in self._phrases(self._lexicon.root, start):
                yield Match(phrase, start, end)

    def _phrases(self, node: Phrase, start: int) -> Iterator[tuple[int, int]]:
        """Yields the phrases that go on from a node at a word, with their ends."""
        if start == len(self._texts):
            return
        for end, numbers in self._words_at(start):
            for number in numbers:
                if following := node.following.get(number):
                    yield from ((phrase, end) for phrase in following.ending)
                    if following.following:
                        yield from self._phrases(following, end)

    def _words_at(self, start: int) -> list[tuple[int, frozenset[int]]]:
        if start not in self._readings:
            self._readings[start] = list(self._read(start))
        return self._readings[start]

    def _read(self, start: int) -> Iterator[tuple[int, frozenset[int]]]:
        """Yields the words of the lexicon that begin at a word, with their ends."""
        text = self._texts[start]
        numbers, bare, begins = self._alone(text)
        if numbers:
            yield start + 1, numbers
        end = start + 1
        while begins and end < len(self._texts) and self._gaps[end] is not Gap.WALL:
            text += self._texts[end]
            bare += self._alone(self._texts[end])[1]
            begins = self._lexicon.begins_word(bare)
            end += 1
            if (numbers := self._lexicon.joined_words_at(text)) and self._is_one_word(start, end):
                yield end, numbers

    def _alone(self, text: str) -> tuple[frozenset[int], str, bool]:
        """Returns the words that one word may be, its skeleton, and whether a word may begin with it."""
        if text not in self._known:
            bare = skeleton(text)
            self._known[text] = self._lexicon.words_at(text), bare, self._lexicon.begins_word(bare)
        return self._known[text]

    def _is_one_word(self, start: int, end: int) -> bool:
        """Says whether several words are taken for one that was taken apart."""
        pieces = self._texts[start:end]
        widest = max(self._gaps[start + 1 : end])
        if all(len(piece) == 1 for piece in pieces):
            return self._is_free(start, widest, -1) and self._is_free(end - 1, widest, 1)
        return widest <= Gap.MARK or not COMMON_WORDS.issuperset(pieces)

    def _is_free(self, place: int, widest: Gap, step: int) -> bool:
        """Says whether what is spelled on this side of a spelled word, by gaps no wider than its own, is of other words."""
        spelled = ""
        while len(spelled) < _FAR:
            beyond = place + step
            if not 0 <= beyond < len(self._texts) or not is_spelled(self._texts[beyond]):
                break
            if self._gaps[max(place, beyond)] > widest:
                break
            spelled = spelled + self._texts[beyond] if step > 0 else self._texts[beyond] + spelled
            place = beyond
        return len(spelled) == _FAR or self._is_made_of_words(spelled)

    def _is_made_of_words(self, spelled: str) -> bool:
        reached = [True] + [False] * len(spelled)
        for end in range(1, len(spelled) + 1):
            for start in range(max(0, end - _LONGEST_COMMON), end):
                piece = spelled[start:end]
                reached[end] |= reached[start] and (piece in ENGLISH_WORDS or bool(self._lexicon.joined_words_at(piece)))
        return reached[-1]
