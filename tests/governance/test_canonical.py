"""RFC 8785, against the RFC's own examples and against laws."""

import hashlib
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from governance.canonical import MAX_INTEGER, canonical_digest, canonical_json, decimals, parse_canonical
from governance.errors import BadRecordError, IntegrityError

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


def test_keys_are_sorted_by_utf16_code_units_as_in_rfc_8785_section_3_2_3():
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical_json(value))) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_strings_and_numbers_as_in_rfc_8785_section_3_2_2():
    value = {
        "string": '\u20ac$\u000f\nA\'B"\\\\"/',
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 1e-27],
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_json(value, floats=True) == expected.encode()


@given(VALUES)
def test_parse_is_the_inverse_of_rendering(value):
    assert parse_canonical(canonical_json(value)) == value


@given(VALUES)
def test_any_json_that_differs_from_the_canonical_form_is_refused(value):
    for other in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False), json.dumps(value) + "\n"):
        data = other.encode()
        if data != canonical_json(value):
            with pytest.raises(IntegrityError):
                parse_canonical(data)


@pytest.mark.parametrize(
    "value", [1.5, {"a": [0.0]}, 2**53, -(2**53), {"a": float("nan")}, {1: 2}, "\ud800", {"\ud800": 1}, {"a": b"x"}, object()]
)
def test_values_without_a_canonical_form_are_refused(value):
    with pytest.raises(BadRecordError) as caught:
        canonical_json(value)
    assert "\n" not in caught.value.diagnosis


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"\xff", b"NaN", b"-0", b"1.0", b"01", b"9007199254740992", b"[" * 5000),
        *(b'{"a":1,"a":1}', b'{"b":1,"a":1}', b'"\\u0041"', b'"\\ud800"'),
    ],
)
def test_bytes_that_are_not_canonical_are_refused(data):
    with pytest.raises(IntegrityError):
        parse_canonical(data)


def test_nesting_has_a_limit():
    value = []
    for _ in range(100):
        value = [value]
    with pytest.raises(BadRecordError, match="nested"):
        canonical_json(value)


def test_decimals_stand_for_floats():
    assert decimals({"loss": 0.1, "steps": [1, 2.5, True], "n": None}) == {"loss": "0.1", "steps": [1, "2.5", True], "n": None}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_read_back_from_its_canonical_form_has_the_same_decimal(value):
    assert decimals(json.loads(canonical_json(value, floats=True))) == decimals(value)


def test_digest_is_the_sha256_of_the_form():
    assert canonical_digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()


@given(VALUES)
def test_the_quick_way_writes_and_reads_what_the_library_does(value):
    expected = rfc8785.dumps(value)
    assert canonical_json(value) == expected
    assert parse_canonical(expected) == value


@given(st.data())
def test_a_changed_byte_is_taken_only_where_the_library_writes_it_too(data):
    sound = bytearray(canonical_json(data.draw(VALUES)))
    sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(
        st.sampled_from(b'0123456789-+.eE"\\/{}[]:, \n\tabtrunflse\x00\x7f')
    )
    try:
        value = parse_canonical(bytes(sound))
    except IntegrityError:
        return
    assert rfc8785.dumps(value) == bytes(sound)


@pytest.mark.parametrize(
    "text",
    [
        "9007199254740991",
        "-9007199254740991",
        "999999999999999",
        '"\x7f"',
        '"\\u001f"',
        '{"a":1,"b":[true,null]}',
        "[" * 64 + "]" * 64,
    ],
)
def test_borders_of_the_quick_way_are_taken(text):
    assert canonical_json(parse_canonical(text.encode())) == text.encode()


@pytest.mark.parametrize(
    "text",
    ["9007199254740992", "-0", "1.0", "1e2", "00", '{"b":1,"a":1}', '{"a":1,"a":1}', '"\\u007f"', '"\\/"', '"\\ud83d\\ude00"'],
)
def test_borders_of_the_quick_way_are_refused(text):
    with pytest.raises(IntegrityError):
        parse_canonical(text.encode())
