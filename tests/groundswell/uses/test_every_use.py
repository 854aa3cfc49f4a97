"""All seven uses on one small model, as their guides say; each with what it promises and with what it must not let pass."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from governance.errors import BadRecordError, IntegrityError
from groundswell.uses.education import embedded_clips
from groundswell.uses.marketing import find_bytes
from infra.home import Home
from infra.settings import Settings
from pipelines.poster import make_poster
from tests.groundswell.uses.conftest import GUIDES, Use
from tests.groundswell.uses.interactions import LEVELS
from tests.pipelines.calling import call_here, flip_byte

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MODEL = "guide-clips/1"


def figures(document: Any) -> dict[str, Any]:
    return {figure["name"]: figure for figure in document["figures"]}


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_catalogue_is_made_once_and_only_what_changed_is_made_again(use: Use, clip_home: Path, tmp_path: Path) -> None:
    heading = "sku,item,background,motion\n"
    rows = ["A-1,cat,red,moving left\n", "B-2,pizza,blue,bouncing\n", "C-3,frog,white,growing\n"]
    call = ["content", "--json", "--home", clip_home, MODEL, tmp_path / "catalogue.csv", "--out", tmp_path / "out"]
    table(tmp_path / "catalogue.csv", heading + "".join(rows))
    first = use(*call)
    assert (first.exit_code, first.document["made"], first.document["reused"]) == (0, 3, 0), first.stderr
    before = {row["request_id"]: row for row in rows_of(tmp_path / "out" / "results.csv")}
    changed = ["N-0,banana,red,spinning\n", rows[0], "B-2,pizza,green,bouncing\n", rows[2]]  # a new row goes first
    table(tmp_path / "catalogue.csv", heading + "".join(changed))
    second = use(*call)
    assert (second.exit_code, second.document["made"], second.document["reused"]) == (0, 2, 2), second.stderr
    after = {row["request_id"]: row for row in rows_of(tmp_path / "out" / "results.csv")}
    assert (after["A-1"], after["C-3"]) == (before["A-1"], before["C-3"])
    assert after["B-2"]["sha256"] != before["B-2"]["sha256"]
    table(tmp_path / "catalogue.csv", heading + rows[0] + "X-9,corpse of a murdered man,red,bouncing\n")
    assert (use(*call).exit_code, use(*call).document["refused"]) == (5, 1)


def test_clips_of_customers_lead_to_nobody(use: Use, clip_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(clip_home, home)
    customers = table(
        tmp_path / "customers.csv",
        "customer_id,segment,favourite,consent\nC-900001,s,cat,yes\nC-900002,s,pizza,no\nC-900003,t,anything,yes\n",
    )
    offers = table(tmp_path / "offers.csv", "segment,favourite,prompt\ns,cat,a cat moving left\nt,,a frog bouncing\n")
    mapping = tmp_path / "private" / "mapping.csv"
    arguments = ["--home", home, MODEL, customers, "--offers", offers, "--mapping", mapping, "--out", tmp_path / "out"]
    called = use("marketing", "--json", *arguments)
    assert (called.exit_code, called.document["consented"], called.document["made"]) == (0, 2, 2), called.stderr
    delivery = {row["customer_id"]: row for row in rows_of(mapping.with_name("delivery.csv"))}
    assert {name: row["segment"] for name, row in delivery.items()} == {"C-900001": "s", "C-900003": "t"}
    assert all(Path(row["file"]).is_file() for row in delivery.values())
    erased = use("marketing", *arguments, "--erase", "C-900003")
    assert erased.exit_code == 0, erased.stdout + erased.stderr
    assert not find_bytes([mapping.parent, tmp_path / "out", home], ["C-900003"])
    assert not Path(delivery["C-900003"]["file"]).exists()
    (home / "notes.txt").write_text("for C-900001")
    table(customers, "customer_id,segment,favourite,consent\nC-900001,s,cat,yes\n")
    leaked = use("marketing", "--json", *arguments)
    assert leaked.exit_code == 5
    assert [figure["reached"] for figure in leaked.document["figures"]] == [True, True, False]


def test_what_interactions_recommend_is_made(use: Use, clip_home: Path, tmp_path: Path) -> None:
    table_of_guide = GUIDES / "insight" / "interactions.csv"
    called = use("insight", "--json", "--home", clip_home, MODEL, table_of_guide, "-n", 2, "--out", tmp_path / "out")
    assert (called.exit_code, called.document["made"]) == (0, 2), called.stderr
    tried = {tuple(row[name] for name in LEVELS) for row in rows_of(table_of_guide)}
    assert all(tuple(row[name] for name in LEVELS) not in tried for row in called.document["next"])
    assert {row["level"]: row["credibly"] for row in called.document["effects"]} | {"cat": "better", "carrot": "worse"} == {
        row["level"]: row["credibly"] for row in called.document["effects"]
    }


def test_alternatives_are_compared_pair_by_pair(use: Use, clip_home: Path, tmp_path: Path) -> None:
    texts = table(tmp_path / "texts.csv", "prompt\na cat moving left\na frog moving up\n")
    arguments = [
        *("decision", "--json", "--home", clip_home, MODEL, MODEL),
        texts,
        "--seeds",
        1,
        "--by",
        "flicker",
        "--margin",
        2,
    ]
    same = use(*arguments, "--out", tmp_path / "same")
    assert same.document["choice"] == "same"  # the same model, settings, texts and seeds: no difference at all
    assert same.document["B less A"] == "+0.000 (+0.000 to +0.000)"
    assert len(rows_of(tmp_path / "same" / "pairs.csv")) == 2


def test_a_lesson_is_one_page_whose_clips_verify(use: Use, clip_home: Path, tmp_path: Path) -> None:
    lesson = table(
        tmp_path / "lesson.csv",
        "step,caption,text\n<b>Wash</b>,a cat moving left,Wash & dry.\nPeel,a banana growing,Peel.\n",
    )
    called = use("education", "--json", "--home", clip_home, MODEL, lesson, "--title", "Fruit", "--out", tmp_path / "out")
    found = figures(called.document)
    assert found["clips in the page that verify"]["reached"], called.stderr
    assert found["steps whose caption finds its clip"]["chance"] == 0.5
    assert called.exit_code == (0 if found["steps whose caption finds its clip"]["reached"] else 5)
    page = (tmp_path / "out" / "lesson.html").read_text()
    assert "&lt;b&gt;Wash&lt;/b&gt;" in page
    assert not re.search(r"<script|https?://|<link|url\(", page)
    files = [tmp_path / "out" / row["file"] for row in rows_of(tmp_path / "out" / "results.csv")]
    assert embedded_clips(page) == [file.read_bytes() for file in files]


def test_one_idea_in_three_media_is_one_family(use: Use, clip_home: Path, tmp_path: Path) -> None:
    ideas = table(tmp_path / "ideas.csv", "idea,prompt\none,a cat moving left on a red background\ntwo,a frog growing\n")
    called = use("cross_media", "--json", "--home", clip_home, MODEL, ideas, "--out", tmp_path / "out")
    found = figures(called.document)
    assert found["files proven to be of one model version"]["value"] == 1, called.stderr
    assert found["ideas whose files are of one family"]["value"] == 1
    assert found["largest distance within an idea (bits of 64)"]["num"] == 6
    kinds = sorted(Path(row["file"]).suffix for row in rows_of(tmp_path / "out" / "media.csv"))
    assert kinds == [".mp4", ".mp4", ".png", ".png", ".webp", ".webp"]
    (poster, *_) = sorted((tmp_path / "out" / "poster" / "one").glob("*-poster.png"))
    traced = call_here(clip_home, "lineage", poster, "--format", "json", "-o", tmp_path / "lineage.json")
    assert traced.exit_code == 0, traced.stderr
    assert "moving-openmoji" in (tmp_path / "lineage.json").read_text()  # through the loop to the data
    home = Home.open(Settings.load(clip_home))
    flip_byte(changed := Path(shutil.copy(next((tmp_path / "out" / "loop" / "one").glob("*.webp")), tmp_path)))
    with pytest.raises((IntegrityError, BadRecordError)):
        make_poster(home, changed, tmp_path / "posters", actor="system")
    assert not (tmp_path / "posters").exists()
    home.database.close()


def test_everyday_sentences_are_made_timed_and_judged(use: Use, clip_home: Path, tmp_path: Path) -> None:
    phrases = table(tmp_path / "phrases.csv", "phrase,subject\na cat pls,cat\nbananna!!,banana\nhow to murder someone,cat\n")
    arguments = ["--json", "--home", clip_home, MODEL, phrases, "--longest", 0.001, "--out", tmp_path / "out"]
    called = use("sentence", *arguments)
    found = figures(called.document)
    assert called.exit_code == 5
    assert not found["longest wait of ten (s)"]["reached"]
    assert found["sentences with a labelled, verified file"]["value"] == pytest.approx(2 / 3)
    told = rows_of(tmp_path / "out" / "understood.csv")
    assert [bool(row["seen"]) for row in told] == [True, True, False]
    assert "refused by the guardrails" in told[2]["reason"]
    assert json.dumps(called.document)
