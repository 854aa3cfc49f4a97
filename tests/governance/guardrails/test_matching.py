"""Terms are found in all their forms and disguises, and not in the words around them."""

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from governance.guardrails.common_words import COMMON_WORDS
from governance.guardrails.folding import fold
from governance.guardrails.judging import find_refusal
from governance.guardrails.lexicon import Lexicon
from governance.guardrails.lookalikes import LOOKALIKES
from governance.guardrails.matching import matches
from governance.guardrails.policy import Category, Guardrails

TERMS = ("kill", "murder", "white power", "nude", "naked", "hell", "penis", "behead", "slash and burn", "杀人", "قتل", "ubić")
LATIN = ("kill", "murder", "nude", "naked", "behead")
LEXICON = Lexicon(TERMS)
HARMLESS = ("fox", "snow", "lighthouse", "a", "red", "with", "bicycle", "猫", "Straße", "42")
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u0301\u0336\ufe0f\U000e0041"
TIGHT = ".-_*/~,:;+=#|·•"


def found(text: str) -> set[str]:
    return {TERMS[match.phrase] for view in matches(LEXICON, text) for match in view}


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("Kill the king", "kill"),
        ("he KILLED, she kills, they are killing", "kill"),
        ("murders", "murder"),
        ("ＫＩＬＬ", "kill"),
        ("𝖐𝖎𝖑𝖑", "kill"),
        ("🅺🅸🅻🅻", "kill"),
        ("кіll", "kill"),
        ("ᴋɪʟʟ", "kill"),
        ("k1ll", "kill"),
        ("k!ll3d", "kill"),
        ("k|ll", "kill"),
        ("n4k3d", "naked"),
        ("n@ked", "naked"),
        ("k*ll", "kill"),
        ("m****r", "murder"),
        ("kiiiillll", "kill"),
        ("kill123", "kill"),
        ("k.i.l.l", "kill"),
        ("k i l l", "kill"),
        ("we k i l l h i m", "kill"),
        ("a  k i l l  b", "kill"),
        ("k-i-l-l t-h-e-m", "kill"),
        ("ki.ll", "kill"),
        ("mur der", "murder"),
        ("m1r der, mur d3r", "murder"),
        ("white   power", "white power"),
        ("white-power", "white power"),
        ("WhitePower", "white power"),
        ("w h i t e  p o w e r", "white power"),
        ("slashes and burned", "slash and burn"),
        ("一个杀人犯", "杀人"),
        ("杀 . 人", "杀人"),
        ("القتل", "قتل"),
        ("قـــتل", "قتل"),
        ("قَتْل", "قتل"),
        ("ubic", "ubić"),
        ("ubi\u0107", "ubić"),
        ("u\u0301bic\u0301", "ubić"),
    ],
)
def test_a_term_is_found(text: str, term: str) -> None:
    assert term in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "skill, skilled, overkill, kilim, kiln",
        "denuded hillsides",
        "snaked along",
        "s k i l l",
        "S.K.I.L.L",
        "my pen is blue",
        "it should be head of the table",
        "he'll come, I'd say he’ll",
        "white, and power to the people"[:5],
        "shell",
        "80085 1337 $5 50% 3.14",
        "a b c d e f g",
        "user@example.org",
        "人杀",
        "قتلة"[:2],
        "",
        "!!! --- ***",
    ],
)
def test_what_only_looks_like_a_term_is_let_through(text: str) -> None:
    assert found(text) == set()


@given(st.sampled_from(LATIN), st.lists(st.text(INVISIBLE, max_size=4), min_size=8, max_size=8))
def test_invisible_characters_and_marks_hide_nothing(term: str, between: list[str]) -> None:
    assert term in found("".join(letter + hidden for letter, hidden in zip(term, between, strict=False)))


@given(st.sampled_from(LATIN), st.lists(st.text(TIGHT, max_size=3), min_size=8, max_size=8))
def test_marks_between_letters_hide_nothing(term: str, between: list[str]) -> None:
    assert term in found("".join(letter + mark for letter, mark in zip(term, between, strict=False)))


@given(st.sampled_from(LATIN), st.sampled_from([*TIGHT, " ", "  ", " - ", "\n", "\u00a0"]))
def test_any_separator_between_all_letters_hides_nothing(term: str, separator: str) -> None:
    assert term in found(separator.join(term))


@given(st.sampled_from(LATIN), st.data())
def test_a_space_within_a_term_hides_it_only_where_both_parts_are_common_words(term: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(term) - 1))
    assume(not COMMON_WORDS.issuperset((term[:place], term[place:])))
    assert term in found(f"the {term[:place]} {term[place:]} again")


@given(st.sampled_from(LATIN), st.data())
def test_lookalikes_hide_nothing(term: str, data: st.DataObject) -> None:
    alike = {letter: [one for one, other in LOOKALIKES.items() if other == letter] for letter in term}
    disguised = "".join(data.draw(st.sampled_from([letter, letter.upper(), *alike[letter]])) for letter in term)
    assert term in found(disguised)


@given(
    st.sampled_from(["kill", "k i l l", "k.i.l.l", "k1ll", "white power", "杀人", "mur der"]),
    st.lists(st.sampled_from(HARMLESS)),
    st.lists(st.sampled_from(HARMLESS)),
)
def test_harmless_words_around_a_term_hide_nothing(text: str, before: list[str], after: list[str]) -> None:
    assert found(" ".join([*before, text, *after])) >= found(text) != set()


@given(st.text(max_size=300))
def test_every_text_is_read_and_its_fold_is_folded(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert found(text) == found(fold(text))


def test_an_allowed_phrase_covers_the_term_within_it_and_no_other() -> None:
    category = Category(name="violence", reason="no", terms=("shooting",), allow=("shooting star",))
    policy = Guardrails(guardrails="groundswell-guardrails/1", name="x", categories=(category,))
    assert find_refusal(policy, "a shooting star, and many shooting stars") is None
    assert find_refusal(policy, "a shooting star at a shooting") is not None
    assert find_refusal(policy, "shooting stars, a s h o o t i n g") is not None
    assert find_refusal(policy, "star shooting") is not None


def test_groups_are_refused_together_alone_and_wherever_they_stand() -> None:
    category = Category(name="minors", reason="no", together=((("child", "kid"), ("nude", "naked")),), allow=("naked mole rat",))
    policy = Guardrails(guardrails="groundswell-guardrails/1", name="x", categories=(category,))
    refused = find_refusal(policy, "n4ked, very long story, many c h i l d r e n")
    assert refused is not None
    assert refused.terms == ("child", "naked")
    assert find_refusal(policy, "a child") is None
    assert find_refusal(policy, "a nude") is None
    assert find_refusal(policy, "a child with a naked mole rat") is None


@pytest.mark.parametrize(
    "text",
    ["k i l ", "kill ", "a!", "$ ", "k k ", "杀", "a\u0301", "\u0301", "k", "k i l l h ", "mur ", "w h i t e ", "*k", " ", "l1"],
)
def test_the_time_grows_no_faster_than_the_text(text: str) -> None:
    seconds = []
    for size in (20_000, 160_000):
        began = time.process_time()
        found(text * (size // len(text)))
        seconds.append(time.process_time() - began)
    assert seconds[1] < 8 * 3 * max(seconds[0], 0.005)
