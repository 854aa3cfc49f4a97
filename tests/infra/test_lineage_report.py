"""The lineage report over a synthetic home with the real database, tables, ledger and keys."""

import html
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update

from governance.digest import sha256_file
from governance.errors import UnknownSubjectError
from governance.lineage_report.html import render_html
from governance.lineage_report.model import to_json, to_openlineage
from infra.lineage_report import build_report, resolve_subject
from infra.tables import artifacts, commitments
from tests.infra.traced_world import FAILED, GENERATION, HOSTILE, RERUN, RUN, STEPS, World, png


def subjects(world: World) -> list[str]:
    return [
        resolve_subject(world.db, one)
        for one in (
            "emoji-small/1",
            RUN,
            RERUN,
            FAILED,
            GENERATION,
            str(world.media[0]),
            str(world.dataset_folder),
            world.digests["latents"],
        )
    ]


def shown(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def test_each_subject_kind_renders_with_every_digest(world: World) -> None:
    for subject in subjects(world):
        content = build_report(world.db, subject, home=world.home)
        page = render_html(content)
        words = shown(page)
        digests = {node.subject.partition(":")[2] for node in content.nodes if node.kind != "step" and not node.members}
        digests |= {member for node in content.nodes for member in node.members} | {content.ledger.root_hash}
        assert digests
        assert all(digest in words for digest in digests)
        ET.fromstring(re.search(r"<svg.*?</svg>", page, re.DOTALL)[0])  # type: ignore[index]


def test_a_page_fetches_nothing_and_runs_nothing(world: World) -> None:
    page = world.page(f"media:{sha256_file(world.media[0])}", media=world.media[0])
    assert "<script" not in page.lower()
    assert "javascript:" not in page.lower()
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert "url(http" not in page
    assert "@import" not in page


def test_hostile_text_from_records_is_escaped(tmp_path: Path) -> None:
    hostile = World(tmp_path, name=HOSTILE.replace("\x00", ""))
    for subject in subjects(hostile):
        page = hostile.page(subject)
        assert "<script" not in page
        assert "\x00" not in page
        assert "\u202e" not in page
        ET.fromstring(re.search(r"<svg.*?</svg>", page, re.DOTALL)[0])  # type: ignore[index]
    assert "&lt;script&gt;" in hostile.page("model-version:emoji-small/1")


def test_the_summary_of_a_picture_leads_back_to_the_data(world: World) -> None:
    content = build_report(world.db, f"media:{sha256_file(world.media[0])}", home=world.home, media=world.media[0])
    words = " ".join("".join(phrase.text for phrase in sentence) for sentence in content.summary)
    for expected in ("emoji-small version 1", "642 pictures", "OpenMoji 17.0.0", "CC-BY-SA-4.0", "Ada Lovelace", "2026-11-22"):
        assert expected in words
    assert content.pictures[0].sha256 == sha256_file(world.media[0])
    assert content.ledger.state == "verified"
    assert "verified" in content.ledger.message


def test_a_picture_is_found_in_the_folder_that_it_was_handed_out_from(tmp_path: Path) -> None:
    world = World(tmp_path)
    subject = f"media:{sha256_file(world.media[3])}"
    folder = world.home / "media_set"
    folder.mkdir()
    world.media[3].rename(folder / "image-000003.png")
    content = build_report(world.db, subject, home=world.home)
    assert content.pictures[0].sha256 == subject.removeprefix("media:")
    (folder / "image-000003.png").write_bytes(png(32, 32, seed=9))
    content = build_report(world.db, subject, home=world.home)
    assert subject.removeprefix("media:") not in {picture.sha256 for picture in content.pictures}


def test_checks_and_pictures_are_not_told_again_as_what_was_recorded_of_a_thing(tmp_path: Path) -> None:
    world = World(tmp_path)
    facts = {"media": [{"file": "a.png"}], "assertions": [{"assertion": "x"}], "num_items": 2}
    with world.db.unit_of_work() as uow:
        changed = update(artifacts).where(artifacts.c.kind == "media_set").values(facts=json.dumps(facts), location="")
        uow.connection.execute(changed)
    content = build_report(world.db, "model-version:emoji-small/1", home=world.home)
    (node,) = (node for node in content.nodes if node.kind == "media_set")
    told = {fact.label: fact.value for fact in node.facts}
    assert (node.title, told["Location"], told["num items"]) == ("Folder of pictures", "unknown", "2")
    assert not {"media", "assertions"} & told.keys()


def test_reused_steps_are_told_but_not_drawn_again(world: World) -> None:
    content = build_report(world.db, "model-version:emoji-small/1", home=world.home)
    assert not any(RERUN in node.subject for node in content.nodes)
    rerun = build_report(world.db, f"run:{RERUN}", home=world.home)
    assert sum(entry.status == "reused" for entry in rerun.timeline) == len(STEPS)


def test_many_pictures_of_one_step_become_one_node(world: World) -> None:
    content = build_report(world.db, "model-version:emoji-small/1", home=world.home)
    groups = [node for node in content.nodes if node.members]
    assert [len(group.members) for group in groups] == [6]


def test_json_and_openlineage_forms_are_serialisable(world: World) -> None:
    content = build_report(world.db, f"run:{RUN}", home=world.home)
    assert json.loads(json.dumps(to_json(content)))["subject"] == f"run:{RUN}"
    events = to_openlineage(content)
    assert {event["eventType"] for event in events} == {"START", "COMPLETE"}
    assert {event["job"]["name"] for event in events} == {f"training.{step}" for step in STEPS}


def test_the_same_database_gives_the_same_page(world: World) -> None:
    assert world.page(f"run:{RUN}") == world.page(f"run:{RUN}")


def test_what_is_not_recorded_is_an_open_question(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.db.unit_of_work() as uow:
        uow.connection.execute(update(artifacts).where(artifacts.c.kind == "dataset").values(facts="{}"))
        uow.connection.execute(delete(commitments))
    content = build_report(world.db, f"media:{sha256_file(world.media[0])}", home=world.home)
    questions = " ".join(content.open_questions)
    assert "licence" in questions
    assert "attribution" in questions
    assert "erased" in questions
    words = shown(render_html(content))
    assert "Ada Lovelace" not in words
    assert "unknown number of pictures" in words


def test_a_changed_ledger_is_reported(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.db.engine.connect() as connection, connection.begin():
        connection.execute(text("DROP TRIGGER gs_ledger_entries_no_update"))
        connection.execute(text("UPDATE gs_ledger_entries SET entry = replace(entry, '712', '713')"))
        connection.execute(text("UPDATE gs_ledger_entries SET entry = CAST(entry AS BLOB)"))
    content = build_report(world.db, "model-version:emoji-small/1", home=world.home)
    assert content.ledger.state == "failed"
    assert "does not verify" in render_html(content)


def test_a_changed_picture_is_not_shown(tmp_path: Path) -> None:
    world = World(tmp_path)
    (world.home / "evaluation" / "samples.png").write_bytes(png(192, 128, seed=9))
    content = build_report(world.db, "model-version:emoji-small/1", home=world.home)
    assert not any("Samples" in picture.caption for picture in content.pictures)


def test_losses_and_figures_are_plotted_with_words_for_who_cannot_see_them(tmp_path: Path) -> None:
    world = World(tmp_path, losses=[2.0, 1.5, 1.0])
    content = build_report(world.db, "model-version:emoji-small/1", home=world.home)
    (curve,) = content.curves
    assert (curve.y, curve.subject) == ((2.0, 1.5, 1.0), f"model:{world.digests['model']}")
    assert not any("Loss" in picture.caption for picture in content.pictures)
    (figures,) = content.estimates
    assert [(one.name, one.low, one.high) for one in figures.estimates] == [("kid", 0.0271, 0.0355)]
    page = render_html(content)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert ET.fromstring(drawing).attrib["aria-label"]
    assert curve.words in html.unescape(page)
    assert "0.0312, 95 % interval 0.0271 to 0.0355" in page
    document = json.loads(json.dumps(to_json(content)))
    assert document["curves"][0]["y"] == [2.0, 1.5, 1.0]

    (world.home / "model" / "training.json").write_text(json.dumps({"losses": [9.0, 9.0]}))
    assert build_report(world.db, "model-version:emoji-small/1", home=world.home).curves == ()


@pytest.mark.parametrize("data", ["", "[]", '{"losses": 7}', '{"losses": ["a", null, true]}', "[" * 9000, '{"losses": [NaN, 1]}'])
def test_a_model_without_usable_losses_has_no_curve(tmp_path: Path, data: str) -> None:
    world = World(tmp_path, losses=data)
    assert build_report(world.db, "model-version:emoji-small/1", home=world.home).curves == ()


def test_a_report_about_nothing_is_refused(world: World) -> None:
    for subject in ("run:" + "0" * 32, "dataset:" + "0" * 64, "model-version:none/1"):
        with pytest.raises(UnknownSubjectError):
            build_report(world.db, subject, home=world.home)
