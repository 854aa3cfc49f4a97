"""Clips for customers: from approved prompts alone, and no trace of whose they are."""

from pathlib import Path

import pytest

from groundswell.uses.marketing import find_bytes, one_each, requests_of
from infra.home import Home
from tests.groundswell.uses.conftest import GUIDES, Use

OFFERS = [
    {"segment": "s", "favourite": "cat", "prompt": "a cat"},
    {"segment": "s", "favourite": "", "prompt": "a frog"},
]


def customer(segment: str = "s", favourite: str = "cat") -> dict[str, str]:
    return {"customer_id": "C-1", "segment": segment, "favourite": favourite, "consent": "yes"}


def test_what_customers_wrote_reaches_no_prompt() -> None:
    wanted = {"C-1": customer(), "C-2": customer(favourite="my neighbour Jo")}
    rows = requests_of(wanted, {"C-1": "ff", "C-2": "01"}, OFFERS, seed=0)
    assert [(row["request_id"], row["prompt"]) for row in rows] == [("01", "a frog"), ("ff", "a cat")]  # not their order
    assert "Jo" not in str(rows)
    assert "C-" not in str(rows)


def test_a_segment_without_an_offer_is_an_error_that_names_nobody() -> None:
    with pytest.raises(Exception, match="no offer of segment 'other'") as caught:
        requests_of({"C-1": customer(segment="other")}, {"C-1": "ff"}, OFFERS, seed=0)
    assert "C-1" not in str(caught.value)


@pytest.mark.parametrize("chunk", [8, 1 << 20])
def test_ids_are_found_in_bytes_names_and_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("groundswell.uses.marketing._CHUNK", chunk)
    (tmp_path / "deep" / "c-100001").mkdir(parents=True)
    (tmp_path / "clean").write_bytes(b"C-10000 and C-10001" * 9)
    (tmp_path / "dirty").write_bytes(b"\0" * 1003 + b"c-100001" + b"\0" * 99)
    assert [path.name for path in find_bytes([tmp_path], ["C-100001"])] == ["c-100001", "dirty"]


def test_each_has_one_file_of_their_segment(tmp_path: Path) -> None:
    files = {name: tmp_path / name / "clip.mp4" for name in ("x", "y", "z")}
    for path in files.values():
        path.parent.mkdir()
        path.touch()
        (path.parent / "1-grid.png").touch()
    wanted = {"C-1": customer(), "C-2": customer(), "C-3": customer(), "C-4": customer()}
    ids, segments = {"C-1": "x", "C-2": "y", "C-3": "z", "C-4": "w"}, {"x": "s", "y": "other", "z": "s"}
    assert one_each(wanted, ids, files, {"x", "y"}, segments) == [True, False, False, False]
    (tmp_path / "x" / "second.mp4").touch()
    assert one_each(wanted, ids, files, {"x", "y"}, segments) == [False] * 4
    assert one_each({"C-1": customer(), "C-2": customer()}, {"C-1": "z", "C-2": "z"}, files, {"z"}, segments) == [False] * 2


def test_a_mapping_that_was_meddled_with_removes_nothing(use: Use, home: Home, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "mapping.csv").write_text("customer_id,request_id\nC-100008,../precious\n")
    folder = GUIDES / "marketing"
    arguments = ["--home", home.path, "m/1", folder / "customers.csv", "--offers", folder / "offers.csv"]
    called = use("marketing", *arguments, "--mapping", tmp_path / "mapping.csv", "--out", tmp_path / "out", "--erase", "C-100008")
    assert (called.exit_code, "was not made here" in called.stderr) == (3, True)
    assert (tmp_path / "precious").is_dir()


def test_the_mapping_is_kept_apart(use: Use, clip_home: Path, tmp_path: Path) -> None:
    folder = GUIDES / "marketing"
    arguments = ["--home", clip_home, "guide-clips/1", folder / "customers.csv", "--offers", folder / "offers.csv"]
    called = use("marketing", *arguments, "--mapping", tmp_path / "out" / "mapping.csv", "--out", tmp_path / "out")
    assert (called.exit_code, "lies in the home or in" in called.stderr) == (3, True)
