"""What generated files say of the file that they were made from, in a real home, judged by c2pa's own reader."""

import hashlib
import io
import json

import c2pa
import pytest
from sqlalchemy import update

from governance.credentials.ingredient import Ingredient
from governance.credentials.marking import read_mark
from governance.credentials.media_kind import MediaKind, sniff
from governance.credentials.verdict import Outcome
from infra.content_credentials import ContentSigner
from infra.content_keys import signing_keys
from infra.content_verification import verify_content
from infra.home import Home
from infra.ledger_verification import verify_ledger
from infra.settings import Settings
from infra.tables import assets
from tests.content_world import ANY, RUN, all_kinds, drawing, encoded, outcomes, own_files, publish_files

own = pytest.fixture(own_files)
AGAIN = f"3{RUN[1:]}"


def ingredient(data, media_type="image/png"):
    return Ingredient(sha256=hashlib.sha256(data).hexdigest(), media_type=media_type, data=data)


def made_from(own, tmp_path, data, media_type="image/png"):
    """A file of the home that was made from this one."""
    files = {"image-9.png": encoded(drawing(9), "PNG")}
    return publish_files(own.home, tmp_path / "again", files, run_id=AGAIN, ingredient=ingredient(data, media_type)).path


def store_of(path, home):
    root = home.keys.public_path("content-root-certificate").read_text()
    settings = c2pa.Settings.from_dict({"version": 1, "trust": {"trust_anchors": root}, "verify": {"verify_trust": True}})
    store = json.loads(c2pa.Reader(str(path), context=c2pa.Context(settings)).json())
    assert (store["validation_state"], store.get("validation_status")) == ("Trusted", None)
    return store


def failures(store):
    """What c2pa found wrong with the source's own manifest; None where the source brought none."""
    (source,) = store["manifests"][store["active_manifest"]]["ingredients"]
    results = source.get("validation_results")
    return None if results is None else [one["code"] for one in results["activeManifest"]["failure"]]


def test_the_manifest_of_a_file_of_the_home_is_carried_along_whole(own, tmp_path):
    path = made_from(own, tmp_path, own.path.read_bytes())
    store = store_of(path, own.home)
    assert len(store["manifests"]) == 2
    assert failures(store) == []
    found = verify_content(path, home=own.home)
    assert found.verdict.ok
    assert found.source.sha256 == own.files[0].sha256
    assert (found.source.origin.run_id, found.source.origin.position) == (RUN, 0)
    assert found.source.says == f"made here by model emoji-small/3 in run {RUN}"
    assert verify_ledger(own.home.database, own.home.keys.log_public_key()).problems == ()


def test_edits_of_edits_carry_every_manifest(own, tmp_path):
    first = made_from(own, tmp_path, own.path.read_bytes())
    files = {"image-8.png": encoded(drawing(8), "PNG")}
    second = publish_files(own.home, tmp_path / "b", files, run_id=f"4{RUN[1:]}", ingredient=ingredient(first.read_bytes())).path
    assert len(store_of(second, own.home)["manifests"]) == 3
    assert verify_content(second, home=own.home).source.origin.run_id == AGAIN


def test_a_manifest_of_somebody_unknown_is_carried_and_called_so(own, tmp_path):
    stranger = Home.open(Settings.load(tmp_path / "stranger"))
    theirs = publish_files(stranger, tmp_path / "theirs", {"image-1.png": encoded(drawing(1), "PNG")}).path
    path = made_from(own, tmp_path, theirs.read_bytes())
    assert failures(store_of(path, own.home)) == ["signingCredential.untrusted"]
    found = verify_content(path, home=own.home)
    assert (found.verdict.ok, found.source.origin, found.source.says) == (True, None, "of unknown origin")


def test_a_manifest_that_does_not_hold_is_carried_and_called_so(own, tmp_path):
    data = own.path.read_bytes()
    at = data.index(b"caBX") - 4
    chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4], "big")]
    other = encoded(drawing(50), "PNG")
    path = made_from(own, tmp_path, other[:33] + chunk + other[33:])
    assert "assertion.dataHash.mismatch" in failures(store_of(path, own.home))
    assert outcomes(path, own.home)[0]["manifest"] is Outcome.HELD


@pytest.mark.parametrize("kind", ["video/webm", "image/png", "video/mp4"])
def test_a_source_that_c2pa_cannot_read_is_named_without_a_manifest(own, tmp_path, kind):
    path = made_from(own, tmp_path, b"\x89PNG\r\n\x1a\n, and then nothing that anybody could read", kind)
    store = store_of(path, own.home)
    assert failures(store) is None
    (source,) = store["manifests"][store["active_manifest"]]["ingredients"]
    assert (source["relationship"], source["format"]) == ("parentOf", kind)
    assert verify_content(path, home=own.home).verdict.ok


def test_manifests_that_are_too_large_are_left_behind(own, tmp_path, monkeypatch):
    monkeypatch.setattr("infra.content_credentials._MAX_CARRIED", 6000)
    assert failures(store_of(made_from(own, tmp_path, own.path.read_bytes()), own.home)) is None


def test_files_of_every_kind_can_be_made_from_each_other(own, tmp_path):
    files = all_kinds(tmp_path)
    source = ingredient(files["clip.mp4"], "video/mp4")
    made = publish_files(own.home, tmp_path / "kinds", files, run_id=AGAIN, ingredient=source)
    for file in made.files:
        found = verify_content(file.path, home=own.home)
        assert found.verdict.ok
        assert found.source.sha256 == source.sha256
        data = file.path.read_bytes()
        assert read_mark(sniff(data), data)[1].endswith("/compositeWithTrainedAlgorithmicMedia")


def test_a_row_or_a_manifest_that_names_another_source_does_not_hold(own, tmp_path):
    path = made_from(own, tmp_path, own.path.read_bytes())
    with own.home.database.unit_of_work() as uow:
        changed = update(assets).where(assets.c.run_id == AGAIN).values(source_sha256=own.files[1].sha256)
        uow.connection.execute(changed)
        uow.append("note.test", "run:x", {})
    found, verdict = outcomes(path, own.home)
    assert (found["manifest"], verdict.ok) == (Outcome.FAILED, False)
    assert any(
        "source_sha256" in problem for problem in verify_ledger(own.home.database, own.home.keys.log_public_key()).problems
    )


def test_without_a_home_the_manifest_alone_names_the_source(own, tmp_path):
    path = made_from(own, tmp_path, own.path.read_bytes())
    root = own.home.keys.public_path("content-root-certificate").read_text()
    found = verify_content(path, home=None, root_pem=root)
    assert (found.verdict.ok, found.source.sha256, found.source.origin) == (True, own.files[0].sha256, None)


def test_an_honest_file_without_a_source_names_none(own):
    assert verify_content(own.path, home=own.home).source is None


def test_the_name_of_the_source_is_not_in_the_manifest(own):
    signer = ContentSigner(signing_keys(own.home), producer="x")
    data = encoded(drawing(1), "PNG")
    signed = signer.sign(MediaKind.PNG, data, ANY, title="t.png", ingredient=ingredient(data))
    store = json.loads(c2pa.Reader("image/png", io.BytesIO(signed)).json())
    (source,) = store["manifests"][store["active_manifest"]]["ingredients"]
    assert source["title"] == f"source {hashlib.sha256(data).hexdigest()[:16]}"
