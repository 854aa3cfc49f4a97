"""What a lineage report says and shows of clips."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import update

from governance.digest import sha256_file
from infra.lineage_report import build_report
from infra.tables import artifacts, assets
from tests.infra.traced_world import World, clip


def sheet_of(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


@pytest.mark.parametrize("media_format", ["mp4", "webp", "gif"])
def test_the_report_of_a_clip_shows_its_frames(tmp_path: Path, media_format: str) -> None:
    world = World(tmp_path, clips=media_format)
    subject = f"media:{sha256_file(world.media[1])}"
    content = build_report(world.db, subject, home=world.home, media=world.media[1])
    strip = content.pictures[0]
    assert (strip.caption, strip.sha256) == ("8 of the clip's 16 frames, row by row", subject.removeprefix("media:"))
    assert strip.pixelated
    sheet = sheet_of(strip.data_uri).convert("L")
    assert sheet.size == (4 * 34 - 2, 2 * 34 - 2)
    bright = [max(range(32), key=lambda x: sheet.getpixel((left + x, top + 16))) for top in (0, 34) for left in range(0, 136, 34)]
    assert bright == sorted(bright)  # the square moves to the right
    assert bright[-1] - bright[0] > 10
    page = world.page(subject, media=world.media[1])
    assert "8 of the clip&#39;s 16 frames, row by row" in page
    assert strip.data_uri in page


def test_a_clip_is_found_where_it_was_handed_out_from_and_another_is_not_shown(tmp_path: Path) -> None:
    world = World(tmp_path, clips="mp4")
    clips = [f"media:{sha256_file(path)}" for path in world.media]
    folder = world.home / "media_set"
    folder.mkdir()
    for position in (3, 4):
        world.media[position].rename(folder / f"clip-{position:06d}.mp4")
    assert build_report(world.db, clips[3], home=world.home).pictures[0].sha256 == clips[3].removeprefix("media:")
    (folder / "clip-000003.mp4").unlink()
    for media in (None, world.media[0], folder / "clip-000004.mp4", folder):
        content = build_report(world.db, clips[3], home=world.home, media=media)
        assert not any("frames" in picture.caption for picture in content.pictures)
    (folder / "clip-000004.mp4").write_bytes(clip("mp4", 4)[:-200])
    assert not any("frames" in one.caption for one in build_report(world.db, clips[4], home=world.home).pictures)


def test_a_clip_that_is_gone_is_shown_as_it_was_drawn(tmp_path: Path) -> None:
    """As handed out a clip bears a signature; the folder that it came from holds the same pixels without it."""
    world = World(tmp_path, clips="mp4")
    handed_out = "5" * 64
    with world.db.unit_of_work() as uow:
        row = assets.c.sha256 == sha256_file(world.media[2])
        uow.connection.execute(update(assets).where(row).values(sha256=handed_out))
        uow.append("test.changed", "x", {})
    folder = world.home / "media_set"
    folder.mkdir()
    drawn = sha256_file(world.media[2])
    world.media[2].rename(folder / "clip-000002.mp4")
    with world.db.engine.begin() as connection:
        for name, column in (("gs_lineage_edges", "target"), ("gs_lineage_edges", "source")):
            connection.exec_driver_sql(f"UPDATE {name} SET {column} = 'media:{handed_out}' WHERE {column} = 'media:{drawn}'")
    strip = build_report(world.db, f"media:{handed_out}", home=world.home).pictures[0]
    assert strip.caption == "8 of the clip's 16 frames, row by row; pixel by pixel, the file itself is not here"
    assert strip.sha256 == drawn


def test_clips_and_the_steps_that_make_them_are_called_so(tmp_path: Path) -> None:
    world = World(tmp_path, clips="mp4")
    facts = {"media": [{"file": "clip-000000.mp4"}]}
    with world.db.unit_of_work() as uow:
        for kind, values in (("media_set", facts), ("dataset", {"name": "moving", "num_items": 9, "num_frames": 16})):
            uow.connection.execute(update(artifacts).where(artifacts.c.kind == kind).values(facts=json.dumps(values)))
        uow.append("test.changed", "x", {})
    content = build_report(world.db, "model-version:emoji-small/1", home=world.home)
    titles = {node.title for node in content.nodes}
    assert {"Generate clips", "Hand out clips", "Folder of clips", "6 clips"} <= titles
    assert not any("picture" in title.lower() for title in titles)
    assert [source.noun for source in content.data] == ["clips"]
    assert "moving: the split into training and held-out clips, the licence" in " ".join(content.open_questions)
    assert "<dt>Clips</dt><dd>9" in world.page("model-version:emoji-small/1")
    (tmp_path / "pictures").mkdir()
    other = World(tmp_path / "pictures")
    titles = {node.title for node in build_report(other.db, "model-version:emoji-small/1", home=other.home).nodes}
    assert {"Generate pictures", "Hand out pictures", "6 pictures"} <= titles
