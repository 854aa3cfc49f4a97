"""Tables of requests: what is wrong is named by row, and what is no table is one line."""

import pytest

from components.validate_requests.table import MAX_ROWS, read_requests
from model_core.errors import BadDataError


@pytest.fixture
def table(tmp_path):
    def write(text, *, encoding="utf-8"):
        path = tmp_path / "requests.csv"
        path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
        return path

    return write


def test_a_byte_order_mark_quotes_and_empty_cells_are_read(table):
    text = 'request_id,prompt,label,segment,seed,frames\r\na-1,"a cat, ""quick""",,north,7,8\r\n\r\nb,,food,,,\r\n'
    rows, bad = read_requests(table(text, encoding="utf-8-sig"))
    assert bad == []
    first, second = rows
    assert (first.line, first.request_id, first.prompt, first.segment, first.seed, first.frames) == (
        1,
        "a-1",
        'a cat, "quick"',
        "north",
        7,
        8,
    )
    assert (second.prompt, second.label, second.seed, second.frames) == (None, "food", None, None)


def test_every_bad_row_is_named_and_the_rest_can_go_on(table):
    cells = [
        "good,a cat,,,,",
        "good-2,,food,,900719925474099,16",
        "two words,a cat,,,,",
        ",a cat,,,,",
        "both,a cat,food,,,",
        "nothing,,,x,,",
        "seed,a cat,,,1.5,",
        "frames,a cat,,,,0",
        '"formula","=cmd|calc",,,,',
        "segment,a cat,,@SUM(A1),,",
        "twice,a cat,,,,",
        "twice,a dog,,,,",
        f"long,{'x' * 2001},,,,",
        "control,a\x07cat,,,,",
        "../escape,a cat,,,,",
    ]
    rows, bad = read_requests(table("request_id,prompt,label,segment,seed,frames\n" + "\n".join(cells) + "\n"))
    assert [row.request_id for row in rows] == ["good", "good-2"]
    assert [row.line for row in bad] == list(range(3, 16))
    found = {row.request_id: " ".join(row.problems) for row in bad}
    for request_id, words in {
        "two words": "letters, digits",
        "both": "one of the two",
        "nothing": "by prompt or by label",
        "seed": "a seed is a whole number",
        "frames": "from 1",
        "formula": "formula of a spreadsheet",
        "segment": "formula of a spreadsheet",
        "twice": "stands twice",
        "long": "2,000 characters",
        "control": "control characters",
        "../escape": "letters, digits",
    }.items():
        assert words in found[request_id]


def test_a_bad_row_keeps_whom_it_is_for(table):
    rows, bad = read_requests(table("request_id,prompt,label,segment\ngood,a cat,,north\nboth,a cat,food,south\n"))
    assert ([row.segment for row in rows], [row.segment for row in bad]) == (["north"], ["south"])


def test_what_a_row_is_made_from_lies_below_the_table_and_is_no_link(table, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"any")
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "photos" / "a.png")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "photos")
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    outside.write_bytes(b"any")
    cells = [
        "fine,,food,photos/a.png,0.5",
        "alone,,,photos/a.png,0",
        "whole,a cat,,./photos/a.png,1.0",
        f"above,a cat,,../{outside.name},0.5",
        f"absolute,a cat,,{outside},0.5",
        "through,a cat,,photos/../photos/a.png,0.5",
        "link,a cat,,photos/link.png,0.5",
        "links,a cat,,elsewhere/a.png,0.5",
        "missing,a cat,,photos/b.png,0.5",
        "folder,a cat,,photos,0.5",
        f"long,a cat,,{'x' * 300},0.5",
        "half,a cat,,photos/a.png,",
        "other-half,a cat,,,0.5",
        "far,a cat,,photos/a.png,1.5",
        "word,a cat,,photos/a.png,nan",
    ]
    rows, bad = read_requests(table("request_id,prompt,label,from,strength\n" + "\n".join(cells) + "\n"))
    assert [(row.request_id, row.source, row.strength) for row in rows] == [
        ("fine", "photos/a.png", 0.5),
        ("alone", "photos/a.png", 0.0),
        ("whole", "./photos/a.png", 1.0),
    ]
    found = {row.request_id: " ".join(row.problems) for row in bad}
    for name in ("above", "absolute", "through", "link", "links", "missing", "folder", "long"):
        assert "from is a regular file below the table's folder" in found[name]
    for name in ("half", "other-half"):
        assert "stand together" in found[name]
    for name in ("far", "word"):
        assert "from 0 to 1" in found[name]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "lacks the column request_id"),
        ("request_id,prompt\n", "holds no requests"),
        ("request_id,prompt,colour\na,b,c\n", "column 'colour' that is not known"),
        ("request_id,prompt,prompt\na,b,c\n", "two columns 'prompt'"),
        ("request_id,segment\na,b\n", "lacks the column request_id, or both prompt and label"),
        ("request_id,prompt\na,b,c\n", "row 1 has 3 cells, the heading 2"),
        ('request_id,prompt\na,"b\n', "is no CSV"),
        (b"request_id,prompt\na,\xff\n", "is not UTF-8"),
        ("request_id,prompt\n" + "a,b\n" * (MAX_ROWS + 1), "more than 10,000 rows"),
        (b"x" * ((16 << 20) + 1), "more than 16 MiB"),
    ],
    ids=["empty", "no-rows", "unknown", "twice", "missing", "ragged", "quote", "latin-1", "long", "huge"],
)
def test_what_is_no_table_is_one_line(table, content, words):
    with pytest.raises(BadDataError, match=words) as caught:
        read_requests(table(content))
    assert "\n" not in caught.value.diagnosis
