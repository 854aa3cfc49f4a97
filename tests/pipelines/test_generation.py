"""Pictures from a registered model: the same seed the same pixels, each on record, the prompt nowhere."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from governance.credentials.marking import read_mark
from governance.credentials.reading import ManifestState
from governance.digest import sha256_file, tree_digest
from governance.guardrails.policy import shipped_guardrails
from infra.content_credentials import read_manifest
from infra.content_keys import content_trust
from infra.home import Home
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.lineage import upstream
from infra.media_reading import read_file, read_pixels
from infra.model_versions import find_version
from infra.runs import get_run
from infra.settings import Settings
from infra.tables import assets, commitments, metadata
from tests.pipelines.calling import call, flip_byte
from tests.pipelines.conftest import Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROMPT = "a marmalade walrus juggling seven lanterns"


@dataclass(frozen=True)
class Generated:
    """Pictures made twice with one seed, and once with another, in a copy of the home."""

    home: Home
    first: Any
    again: Any
    other: Any


@pytest.fixture(scope="module")
def generated(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    folder, documents = trained.copy(tmp_path_factory.mktemp("generated") / "home"), []
    for seed in (7, 7, 8):
        out = tmp_path_factory.mktemp("pictures")
        request = ["--prompt", PROMPT, "-n", 2, "--seed", seed, "--out", out]
        called = call(folder, "--json", "generate", trained.document["model_version"], *request)
        assert called.exit_code == 0, called.stderr
        documents.append(called.document)
    return Generated(Home.open(Settings.load(folder)), *documents)


def digests(document: Any) -> list[str]:
    return [file["sha256"] for file in document["files"]]


def pixels(document: Any) -> list[bytes]:
    return [Image.open(file["path"]).tobytes() for file in document["files"]]


def test_the_same_seed_makes_the_same_pixels_and_another_seed_others(generated: Generated) -> None:
    assert pixels(generated.first) == pixels(generated.again)
    assert pixels(generated.first) != pixels(generated.other)
    assert not set(digests(generated.first)) & set(digests(generated.again)), "a file holds a signature, another one each time"


def test_every_picture_has_credentials_that_name_its_record(generated: Generated) -> None:
    home, document = generated.home, generated.first
    trust = content_trust(home)
    assert trust is not None
    for position, file in enumerate(document["files"]):
        media = read_file(Path(file["path"]))
        manifest = read_manifest(media.kind, media.data, root_pem=trust.root_pem)
        assert (manifest.state, manifest.serial in trust.serials) == (ManifestState.TRUSTED, True), manifest.reason
        assert manifest.claim is not None
        assert (manifest.claim.run_id, manifest.claim.position) == (document["run_id"], position)
        assert manifest.claim.model == document["model"]
        with home.database.read() as connection:
            row = connection.execute(select(assets).where(assets.c.sha256 == file["sha256"])).one()
        assert row.pixels_sha256 == manifest.claim.pixels_sha256 == read_pixels(media.kind, media.data).sha256
        label, _ = read_mark(media.kind, media.data)
        assert label is not None
        assert (label.label, label.produce_id) == ("1", f"{document['run_id']}-{position}")


def test_the_command_line_says_who_made_a_picture(generated: Generated) -> None:
    path = generated.first["files"][0]["path"]
    called = call(generated.home.path, "--json", "content", "verify", path)
    assert called.exit_code == 0, called.stderr
    assert called.document["attribution"]["model"] == generated.first["model"]


def test_every_picture_is_on_record_by_its_digest(generated: Generated) -> None:
    home, document = generated.home, generated.first
    assert [sha256_file(Path(file["path"])) for file in document["files"]] == digests(document)
    with home.database.read() as connection:
        rows = connection.execute(select(assets).where(assets.c.run_id == document["run_id"])).all()
    assert {row.sha256 for row in rows} == set(digests(document))
    assert {f"{row.model_name}/{row.model_version}" for row in rows} == {document["model"]}
    entries = [entry for entry in iter_entries(home.database) if entry.run_id == document["run_id"]]
    subjects = {entry.subject for entry in entries if entry.action == "asset.generated"}
    assert subjects == {f"media:{digest}" for digest in digests(document)}
    assert entries[-1].action == "run.completed"
    report = verify_ledger(home.database, home.keys.log_public_key())
    assert report.problems == ()


def test_a_picture_leads_back_to_the_data_and_the_codec(generated: Generated, tiny_codec: Path) -> None:
    home = generated.home
    (manifest,) = home.datasets.glob("*/manifest.parquet")
    with home.database.read() as connection:
        graph = upstream(connection, f"media:{digests(generated.first)[0]}")
    assert {f"dataset:{tree_digest(manifest.parent)}", f"codec:{tree_digest(tiny_codec)}"} <= set(graph.nodes)


def test_the_file_alone_is_enough_to_find_where_it_came_from(generated: Generated) -> None:
    called = call(generated.home.path, "--json", "lineage", generated.first["files"][0]["path"])
    assert called.exit_code == 0, called.stderr
    (manifest,) = generated.home.datasets.glob("*/manifest.parquet")
    assert called.document["ledger"]["state"] == "verified"
    assert called.document["open_questions"] == []
    assert tree_digest(manifest.parent) in Path(called.document["file"]).read_text()


def test_a_report_shows_the_picture_where_only_its_digest_is_given(generated: Generated) -> None:
    called = call(generated.home.path, "--json", "lineage", f"media:{digests(generated.first)[0]}")
    assert called.exit_code == 0, called.stderr
    assert "The picture, pixel by pixel" in Path(called.document["file"]).read_text()


def test_the_prompt_is_nowhere_but_where_it_can_be_forgotten(generated: Generated) -> None:
    home = generated.home
    with home.database.read() as connection:
        told = {table.name: [repr(tuple(row)) for row in connection.execute(select(table))] for table in metadata.sorted_tables}
        kept = [row.value for row in connection.execute(select(commitments))]
    assert any(PROMPT in value for value in kept)  # the one place, next to its salt
    del told[commitments.name]
    assert told["gs_ledger_entries"]
    for name, rows in told.items():
        assert not any("walrus" in row for row in rows), name
    for path in home.path.rglob("*"):
        # Reports are made for whoever asks, and name the request for as long as it is kept.
        if path.is_file() and home.reports not in path.parents and not path.name.startswith("groundswell.db"):
            assert b"walrus" not in path.read_bytes(), path


@pytest.fixture
def harmed_package(trained: Trained) -> Iterator[str]:
    """The registered version, with one bit of its weights changed; it is changed back afterwards."""
    name = str(trained.document["model_version"])
    package = Path(find_version(trained.home.database, name).location)
    weights = max(package.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    flip_byte(weights)
    yield name
    flip_byte(weights)


def test_a_package_with_one_changed_bit_is_neither_shown_nor_used(trained: Trained, harmed_package: str, tmp_path: Path) -> None:
    shown = call(trained.home.path, "models", "show", harmed_package)
    used = call(trained.home.path, "generate", harmed_package, "--label", "cat", "--out", tmp_path / "pictures")
    for called in (shown, used):
        assert called.exit_code == 4
        assert called.stderr.startswith("error: ")
        assert ".safetensors" in called.stderr
        assert "Traceback" not in called.stderr
    assert not (tmp_path / "pictures").exists()


def test_a_label_that_the_model_does_not_know_is_refused(copied: Callable[..., Path], trained: Trained, tmp_path: Path) -> None:
    request = ["--label", "zebra", "--out", tmp_path / "pictures"]
    called = call(copied(), "generate", trained.document["model_version"], *request)
    assert called.exit_code == 3
    assert "zebra" in called.stderr
    assert "Traceback" not in called.stderr


def test_a_refused_prompt_makes_nothing_and_is_on_record_without_its_words(trained: Trained, tmp_path: Path) -> None:
    folder = trained.copy(tmp_path / "home")
    home = Home.open(Settings.load(folder))
    size = len(list(iter_entries(home.database)))
    request = ["--prompt", "m u r d e r of a marmalade walrus", "--out", tmp_path / "out"]
    called = call(folder, "--json", "generate", trained.document["model_version"], *request)
    assert called.exit_code == 5
    assert "violence" in called.stderr
    assert "walrus" not in called.stderr + called.stdout
    (entry,) = list(iter_entries(home.database))[size:]
    assert (entry.action, entry.details["rule"], entry.details["category"]) == ("generation.refused", "prompt", "violence")
    assert b"walrus" not in entry.to_bytes()
    assert not (tmp_path / "out").exists()
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()


def test_a_run_says_which_guardrails_let_it_through(generated: Generated) -> None:
    with generated.home.database.read() as connection:
        run = get_run(connection, generated.first["run_id"])
    assert run.params["guardrails"] == shipped_guardrails().digest
