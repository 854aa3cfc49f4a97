"""The forms in which a word of a term is found: plurals and endings of verbs, and the articles that Arabic writes together."""

from typing import Final

_SHORTEST: Final = 3
_IRREGULAR: Final = {"man": "men", "woman": "women", "child": "children"}
_HISSING: Final = ("s", "x", "z", "ch", "sh")
_VOWELS: Final = frozenset("aeiou")
_ARABIC: Final = ("\u0600", "\u06ff")
_ARABIC_PREFIXES: Final = ("ال", "و", "وال", "ب", "بال", "ل", "لل")


def word_forms(word: str) -> frozenset[str]:
    """Returns a folded word with its simple English endings or, in Arabic script, with what is written before it.

    Forms that nobody writes do no harm. Words of fewer than three letters, and with digits, stay as they are.
    """
    if len(word) < _SHORTEST or not word.isalpha():
        return frozenset({word})
    if word.isascii():
        return frozenset({word, *_english(word)})
    if all(_ARABIC[0] <= letter <= _ARABIC[1] for letter in word):
        return frozenset({word, *(prefix + word for prefix in _ARABIC_PREFIXES)})
    return frozenset({word})


def _english(word: str) -> set[str]:
    forms = {word + ("es" if word.endswith(_HISSING) else "s")}
    if word in _IRREGULAR:
        forms.add(_IRREGULAR[word])
    before, last = word[-2], word[-1]
    if last == "e":
        return forms | {word + "d", word[:-1] + "ing"}
    forms |= {word + "ed", word + "ing"}
    if last == "y" and before not in _VOWELS:
        return forms | {word[:-1] + "ies", word[:-1] + "ied"}
    if before in _VOWELS and last not in _VOWELS | set("wxy") and word[-3] not in _VOWELS:
        forms |= {word + last + "ed", word + last + "ing"}
    return forms
