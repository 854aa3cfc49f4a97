"""The words and phrases of a policy, ready to be looked up in all their forms and disguises."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from governance.guardrails.folding import fold
from governance.guardrails.inflection import word_forms
from governance.guardrails.lookalikes import SKELETON
from governance.guardrails.tokens import views

_DIGITS: Final = "0123456789"
_MASKED: Final = "aeiou"
_SHORTEST_MASKED: Final = 3
_STRETCHED: Final = 3
_NO_WORDS: Final[frozenset[int]] = frozenset()


@dataclass
class Phrase:
    """A node of the tree of phrases: the words that go on from here, and the phrases that end here."""

    following: dict[int, "Phrase"] = field(default_factory=dict)
    ending: list[int] = field(default_factory=list)


class Lexicon:
    """Every form of the words of some phrases, and the phrases as a tree of words.

    Args:
        phrases: The phrases; each is known by its position from then on.

    Attributes:
        root: Where every phrase begins.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self.root = Phrase()
        self._numbers: dict[str, int] = {}
        self._forms: dict[str, set[int]] = {}
        for number, phrase in enumerate(phrases):
            words = words_of(phrase)
            self._add(words, number)
            if len(words) > 1 and all(map(str.isascii, words)):
                self._add(("".join(words),), number)
        self._disguised: dict[str, set[int]] = {}
        self._stretched: dict[str, set[int]] = {}
        self._beginnings: set[str] = set()
        for form, numbers in self._forms.items():
            for disguise in (form, *_masks(form)):
                self._disguised.setdefault(skeleton(disguise), set()).update(numbers)
            if len(short := _unstretched(form)) >= _STRETCHED:
                self._stretched.setdefault(short, set()).update(numbers)
            bare = skeleton(form)
            self._beginnings.update(bare[:length] for length in range(1, len(bare)))

    def words_at(self, text: str) -> frozenset[int]:
        """Returns the words that a word of a folded text may be."""
        found = self._forms.get(text, _NO_WORDS)
        if text.isalpha():
            return frozenset(found) | self._stretched_at(text)
        return frozenset(found) | self._forms.get(text.strip(_DIGITS), _NO_WORDS) | self._disguised_at(text)

    def joined_words_at(self, text: str) -> frozenset[int]:
        """Returns the words that several words of a folded text may be if they are written together."""
        return frozenset(self._forms.get(text, _NO_WORDS)) if text.isalpha() else self._disguised_at(text)

    def begins_word(self, bare: str) -> bool:
        """Says whether a skeleton is the beginning of a longer word."""
        return bare in self._beginnings

    def _stretched_at(self, text: str) -> frozenset[int]:
        if not _is_stretched(text):
            return _NO_WORDS
        return frozenset(self._stretched.get(_unstretched(text), _NO_WORDS))

    def _disguised_at(self, text: str) -> frozenset[int]:
        if not any(map(str.isalpha, text)):
            return _NO_WORDS
        return frozenset(self._disguised.get(skeleton(text), _NO_WORDS))

    def _add(self, words: Iterable[str], phrase: int) -> None:
        node = self.root
        for word in words:
            number = self._numbers.setdefault(word, len(self._numbers))
            for form in word_forms(word):
                self._forms.setdefault(form, set()).add(number)
            node = node.following.setdefault(number, Phrase())
        node.ending.append(phrase)


def words_of(phrase: str) -> tuple[str, ...]:
    """Returns the folded words of a phrase of a policy."""
    return tuple(next(views(fold(phrase))).texts)


def skeleton(text: str) -> str:
    """Returns a folded text with digits and signs as the letters that they may stand for."""
    return text.translate(SKELETON)


def _masks(form: str) -> set[str]:
    """Returns a form with a vowel, or everything but its ends, behind asterisks."""
    if len(form) < _SHORTEST_MASKED or not form.isascii():
        return set()
    masked = {f"{form[:place]}*{form[place + 1 :]}" for place in range(1, len(form) - 1) if form[place] in _MASKED}
    return masked | {f"{form[0]}{'*' * (len(form) - 2)}{form[-1]}"}


def _is_stretched(text: str) -> bool:
    return any(one == two == three for one, two, three in zip(text, text[1:], text[2:], strict=False))


def _unstretched(text: str) -> str:
    return "".join(letter for place, letter in enumerate(text) if text[place - 1 : place] != letter)
