"""Content credentials on real files, in a real home, judged by c2pa's own reader."""

import hashlib
import json
import os
from dataclasses import replace

import c2pa
import pytest
from sqlalchemy import select, update

from governance.credentials.label import FIELDS
from governance.credentials.marking import read_mark
from governance.credentials.media_kind import MediaKind, sniff
from governance.credentials.picture_metadata import embed_xmp
from governance.credentials.reading import ManifestState
from governance.credentials.verdict import Outcome
from infra.content_credentials import ContentSigner, read_manifest
from infra.content_keys import content_trust, signing_keys
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.media_reading import perceptual_fingerprint, read_file, read_pixels
from infra.tables import assets
from pipelines.publishing import publish, record_files
from tests.content_world import (
    ANY,
    RUN,
    VERSION,
    drawing,
    encoded,
    one_of_each_kind,
    outcomes,
    own_files,
    publish_files,
    read_home,
    written,
)

home = pytest.fixture(scope="module")(read_home)
made = pytest.fixture(scope="module")(one_of_each_kind)
own = pytest.fixture(own_files)


KINDS = ["image.png", "image.jpg", "image.webp", "lossless.webp", "image.gif", "moving.gif", "moving.webp", "clip.mp4"]
KINDS += ["streamed.mp4", "tagged.mp4"]


@pytest.mark.parametrize("number", range(len(KINDS)), ids=KINDS)
def test_an_honest_file_of_every_kind_verifies(made, number):
    path = made.files[number].path
    found, verdict = outcomes(path, made.home)
    assert found.pop("watermark") is Outcome.ABSENT, "nobody marked it"
    assert set(found.values()) == {Outcome.HELD}
    assert verdict.ok
    assert (verdict.origin.model, verdict.origin.run_id, verdict.origin.position) == ("emoji-small/3", RUN, number)


@pytest.mark.parametrize("number", range(len(KINDS)), ids=KINDS)
def test_c2pas_own_reader_accepts_every_file(made, number):
    """The settings are written out here, apart from those of the code under test."""
    path = made.files[number].path
    root = made.home.keys.public_path("content-root-certificate").read_text()
    settings = c2pa.Settings.from_dict({"version": 1, "trust": {"trust_anchors": root}, "verify": {"verify_trust": True}})
    store = json.loads(c2pa.Reader(str(path), context=c2pa.Context(settings)).json())
    assert (store["validation_state"], store.get("validation_status")) == ("Trusted", None)
    manifest = store["manifests"][store["active_manifest"]]
    assert "thumbnail" not in manifest
    labels = {assertion["label"]: assertion["data"] for assertion in manifest["assertions"]}
    (action,) = labels["c2pa.actions.v2"]["actions"]
    assert (action["action"], action["digitalSourceType"]) == (
        "c2pa.created",
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    )
    assert labels["org.groundswell.provenance"]["run_id"] == RUN
    untrusting = json.loads(c2pa.Reader(str(path)).json())
    assert untrusting["validation_state"] == "Valid", "without our root it is whole, and of somebody unknown"


def test_the_label_has_the_seven_fields_and_says_no_more_than_it_must(made):
    for file in made.files:
        data = file.path.read_bytes()
        label, source_type = read_mark(sniff(data), data)
        assert list(json.loads(label.to_json())) == list(FIELDS)
        assert (label.label, label.producer, label.integrity) == ("1", "groundswell", file.pixels_sha256)
        assert (label.propagator, label.propagate_id, label.propagator_integrity) == ("", "", "")
        assert source_type.endswith("/trainedAlgorithmicMedia")
        assert b"red fox" not in data
        assert b"\xffThumbnail" not in data


def test_the_published_pixels_are_those_that_were_drawn_and_are_on_record(made):
    with made.home.database.read() as connection:
        rows = {row.sha256: row for row in connection.execute(select(assets))}
    details = {entry.subject: entry.details for entry in iter_entries(made.home.database) if entry.action == "asset.generated"}
    for file in made.files:
        data = file.path.read_bytes()
        pixels = read_pixels(sniff(data), data)
        assert hashlib.sha256(data).hexdigest() == file.sha256
        row, said = rows[file.sha256], details[f"media:{file.sha256}"]
        assert row.pixels_sha256 == said["pixels_sha256"] == pixels.sha256
        assert row.fingerprint == said["fingerprint"] == pixels.fingerprint
    assert verify_ledger(made.home.database, made.home.keys.log_public_key()).problems == ()


def test_the_same_drawing_signed_again_has_the_same_pixels_and_other_bytes(own, tmp_path):
    again = publish_files(own.home, tmp_path / "b", {"image-1.png": encoded(drawing(1), "PNG")}, run_id=f"2{RUN[1:]}")
    first, second = own.files[0], again.files[0]
    assert first.pixels_sha256 == second.pixels_sha256
    assert first.sha256 != second.sha256
    verdict = outcomes(second.path, own.home)[1]
    assert verdict.ok
    assert verdict.origin.run_id == f"2{RUN[1:]}"


class TestAgainstTheLedger:
    """What a manifest or a row says has to be what the signed ledger says."""

    def sign(self, published, tmp_path, **changes):
        data = encoded(drawing(1), "PNG")
        claim = replace(self.claim(published), **changes)
        signer = ContentSigner(signing_keys(published.home), producer="groundswell")
        return written(tmp_path / "signed.png", signer.sign(MediaKind.PNG, data, claim, title="x"))

    @staticmethod
    def claim(published):
        file = read_file(published.path)
        return read_manifest(file.kind, file.data, root_pem=content_trust(published.home).root_pem).claim

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"run_id": "another"}, "the ledger has no file 0 of run another"),
            ({"position": 7}, "the ledger has no file 7"),
            ({"model_version": 9}, "it names model emoji-small/9, the ledger emoji-small/3"),
            ({"root_digest": "ef" * 32}, "it names model"),
            ({"pixels_sha256": "ef" * 32}, "speaks of other pixels"),
            ({}, "not byte for byte the one on record"),
        ],
    )
    def test_whoever_has_the_key_still_cannot_claim_what_is_not_on_record(self, own, tmp_path, changes, said):
        found, verdict = outcomes(self.sign(own, tmp_path, **changes), own.home)
        assert found["manifest"] is Outcome.FAILED
        assert said in verdict.failed[0].says

    def test_a_row_that_its_entry_does_not_describe(self, own, tmp_path):
        foreign = encoded(drawing(70), "PNG")
        pixels = read_pixels(MediaKind.PNG, foreign).sha256
        with own.home.database.engine.begin() as connection:
            connection.execute(update(assets).where(assets.c.position == 0).values(pixels_sha256=pixels))
        found, verdict = outcomes(written(tmp_path / "x.png", foreign), own.home)
        assert (found["pixels"], verdict.origin) == (Outcome.FAILED, None)
        problems = verify_ledger(own.home.database, own.home.keys.log_public_key()).problems
        assert any("pixels_sha256" in problem for problem in problems)

    def test_a_row_without_an_entry(self, own, tmp_path):
        foreign = encoded(drawing(70), "PNG")
        with own.home.database.engine.begin() as connection:
            row = connection.execute(select(assets).limit(1)).mappings().one()
            values = {**row, "sha256": hashlib.sha256(foreign).hexdigest(), "position": 99}
            connection.execute(assets.insert().values(values))
        found, verdict = outcomes(written(tmp_path / "x.png", foreign), own.home)
        assert (found["digest"], verdict.origin) == (Outcome.FAILED, None)

    def test_a_row_of_before_may_not_gain_what_its_entry_does_not_say(self, own):
        with own.home.database.unit_of_work() as uow:
            values = {"run_id": "old", "position": 0, "root_digest": "ab" * 32, "seed": "0", "condition_commitment": "c"}
            row = {**values, "model_name": "m", "model_version": 1, "file_name": "x", "created": uow.time, "sha256": "12" * 32}
            uow.connection.execute(assets.insert().values(row))
            details = {"position": 0, "model": "m/1", "seed": "0"}
            uow.append("asset.generated", f"media:{'12' * 32}", details, run_id="old")
        key = own.home.keys.log_public_key()
        assert not [p for p in verify_ledger(own.home.database, key).problems if "121212" in p]
        with own.home.database.engine.begin() as connection:
            connection.execute(update(assets).where(assets.c.run_id == "old").values(fingerprint="0" * 16))
        assert [p for p in verify_ledger(own.home.database, key).problems if "121212" in p]

    def test_a_record_that_no_checkpoint_covers_proves_nothing_yet(self, own, tmp_path):
        media = tmp_path / "later"
        media.mkdir()
        (media / "x.png").write_bytes(encoded(drawing(5), "PNG"))
        (media / "grid.png").write_bytes(b"")
        (media / "media.json").write_text('[{"file": "x.png", "seed": 1}]')
        made = publish(own.home, VERSION, media, tmp_path / "o", run_id="later", prefix="l", keys=signing_keys(own.home))
        with own.home.database.unit_of_work() as uow:
            record_files(uow, VERSION, made, run_id="later", condition="c")
        found, verdict = outcomes(made.files[0].path, own.home)
        assert (found["manifest"], found["digest"], verdict.origin) == (Outcome.UNPROVEN, Outcome.UNPROVEN, None)


def test_a_root_from_outside_needs_no_home(made):
    root = made.home.keys.public_path("content-root-certificate").read_text()
    found, verdict = outcomes(made.path, None, root_pem=root)
    assert verdict.ok
    assert verdict.origin.model == "emoji-small/3"
    assert (found["digest"], found["pixels"], found["watermark"], found["fingerprint"]) == (Outcome.SKIPPED,) * 4


def test_a_file_appears_whole_or_not_at_all(own, tmp_path, monkeypatch):
    target = tmp_path / "o" / "x.png"
    target.parent.mkdir()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    signer = ContentSigner(signing_keys(own.home), producer="groundswell")
    with pytest.raises(OSError, match="No space"):
        signer.sign_file(own.path, target, ANY)
    assert list(target.parent.iterdir()) == []


def test_a_clips_frames_may_be_handed_in():
    frames = [drawing(seed) for seed in range(8)]
    assert perceptual_fingerprint(frames).count("-") == 7
    assert perceptual_fingerprint(frames[:1]) == read_pixels(MediaKind.PNG, encoded(frames[0], "PNG")).fingerprint
    with pytest.raises(ValueError, match="no fingerprint"):
        perceptual_fingerprint([*frames, frames[0]])


def test_a_file_that_names_a_manifest_elsewhere_fetches_nothing(made, tmp_path):
    """A reader that followed it would leave this machine, which tests do not allow, and tell who looks at the file."""
    data = encoded(drawing(3), "PNG")
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="http://127.0.0.1:9/x.c2pa"/></rdf:RDF></x:xmpmeta>'
    )
    marked = embed_xmp(MediaKind.PNG, data, packet)
    reading = read_manifest(MediaKind.PNG, marked, root_pem=None)
    assert reading.state in {ManifestState.ABSENT, ManifestState.BROKEN}
