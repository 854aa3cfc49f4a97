"""What a person may write for a subject, and which subject is meant."""

from pathlib import Path

import pytest
from sqlalchemy import text

from governance.digest import sha256_file
from governance.errors import UnknownSubjectError
from infra.lineage_subjects import resolve_subject
from tests.infra.traced_world import RUN, World


@pytest.mark.parametrize(
    ("asked", "kind"),
    [("emoji-small/1", "model-version"), (RUN[:13], "run"), (RUN, "run"), ("run:" + RUN, "run")],
)
def test_subjects_resolve(world: World, asked: str, kind: str) -> None:
    assert resolve_subject(world.db, asked).startswith(f"{kind}:")


def test_digests_prefixes_folders_and_files_resolve(world: World) -> None:
    dataset = f"dataset:{world.digests['dataset']}"
    for asked in (world.digests["dataset"], world.digests["dataset"][:6], str(world.dataset_folder), dataset):
        assert resolve_subject(world.db, asked) == dataset
    assert resolve_subject(world.db, str(world.media[2])) == f"media:{sha256_file(world.media[2])}"


def test_aliases_resolve_where_mlflow_has_them(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(UnknownSubjectError):
        resolve_subject(world.db, "emoji-small@production")
    with world.db.engine.connect() as connection, connection.begin():
        connection.execute(text("CREATE TABLE registered_model_aliases (name TEXT, alias TEXT, version INTEGER)"))
        connection.execute(text("INSERT INTO registered_model_aliases VALUES ('emoji-small', 'production', 1)"))
    assert resolve_subject(world.db, "emoji-small@production") == "model-version:emoji-small/1"


@pytest.mark.parametrize(
    "asked",
    ["", "nothing", "emoji-small/2", "emoji-small/99999999999999", "0198f3", "a\0b", "x" * 9000, "model-version:/1", "ffffffff"],
)
def test_unknown_and_ambiguous_subjects_are_refused_with_a_hint(world: World, asked: str) -> None:
    with pytest.raises(UnknownSubjectError) as caught:
        resolve_subject(world.db, asked)
    assert caught.value.hint
    assert "\n" not in caught.value.diagnosis
    assert len(caught.value.diagnosis) < 400


def test_a_changed_file_is_named_with_its_digest(world: World, tmp_path: Path) -> None:
    changed = tmp_path / "flag-0.png"
    changed.write_bytes(world.media[0].read_bytes() + b"x")
    with pytest.raises(UnknownSubjectError, match=sha256_file(changed)):
        resolve_subject(world.db, str(changed))
