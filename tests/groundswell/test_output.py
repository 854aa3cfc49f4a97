import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundswell.cli.output import (
    echo_json,
    format_duration,
    format_number,
    format_size,
    format_time,
    printable,
    shorten,
    table_lines,
)


@given(st.text())
def test_printable_text_is_one_line_that_cannot_steer_a_terminal(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)


def test_printable_shows_what_it_escapes() -> None:
    assert printable("a\x1b[31mb\nc\u202ed") == "a\\x1b[31mb\\nc\\u202ed"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (-1.0, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.6, "1:00"),
        (187, "3:07"),
        (3723, "1:02:03"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float | None, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (3.0, "3"),
        (12345, "12,345"),
        (0.123456, "0.1235"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (1e-7, "1e-07"),
    ],
)
def test_numbers_are_short(value: float | None, shown: str) -> None:
    assert format_number(value) == shown


def test_sizes_and_times_are_short() -> None:
    assert [format_size(size) for size in (12, 1500, 2_500_000, 3e9, 4e12)] == ["12 B", "1.5 KB", "2.5 MB", "3.0 GB", "4.0 TB"]
    assert format_time("2026-01-31T12:00:00.123456Z") == "2026-01-31 12:00:00"
    assert format_time(None) == ""
    assert shorten("abcdef", limit=4) == "abc…"


cells = st.text(alphabet=st.characters(categories=["L", "N", "P", "Cc"]), max_size=30)


@given(st.lists(st.tuples(cells, cells), max_size=5), st.integers(min_value=20, max_value=80))
def test_a_table_never_has_more_lines_than_rows_and_a_heading(rows: list[tuple[str, str]], width: int) -> None:
    assert len(table_lines(("a", "b"), rows, width=width)) == len(rows) + 1


def test_a_table_is_aligned_and_cut_at_the_terminal_only() -> None:
    rows = [("x", 1, "long " * 10), ("yy", 22, None)]
    whole = table_lines(("n", "v", "text"), rows, right=(1,))
    assert whole[1].startswith("x    1  long long")
    assert len(whole[1]) > 40
    cut = table_lines(("n", "v", "text"), rows, right=(1,), width=30)
    assert len(cut[1]) == 30
    assert cut[1].endswith("…")


def test_json_is_ascii_so_that_any_terminal_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"text": "né\u202e"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"text": "né\u202e"}
