"""Content credentials on real files, in a real home, judged by c2pa's own reader."""

import hashlib
import json
import os
from dataclasses import replace

import c2pa
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from sqlalchemy import select, update

from governance.credentials.label import FIELDS
from governance.credentials.marking import read_mark
from governance.credentials.media_kind import MediaKind, sniff
from governance.credentials.picture_metadata import embed_xmp
from governance.credentials.reading import ManifestState
from governance.credentials.verdict import Outcome
from governance.errors import BadRecordError
from infra.content_credentials import ContentSigner, read_manifest
from infra.content_keys import content_trust, signing_keys
from infra.content_verification import verify_content
from infra.home import Home
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.media_reading import MAX_BYTES, perceptual_fingerprint, read_file, read_pixels
from infra.settings import Settings
from infra.tables import assets
from pipelines.publishing import publish, record_files
from tests.content_world import ANY, RUN, VERSION, all_kinds, drawing, encoded, outcomes, own_files, publish_files


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home on SQLite, for tests that only read it."""
    home = Home.open(Settings.load(tmp_path_factory.mktemp("shared") / "home"))
    yield home
    home.database.close()


@pytest.fixture(scope="module")
def made(home, tmp_path_factory):
    """One file of each kind, as handed out."""
    folder = tmp_path_factory.mktemp("made")
    return publish_files(home, folder, all_kinds(folder))


own = pytest.fixture(own_files)


def written(path, data):
    path.write_bytes(data)
    return path


def manifest_chunk(png):
    """The chunk of a PNG that holds its manifest store, and the rest of the file."""
    at = png.index(b"caBX") - 4
    end = at + 12 + int.from_bytes(png[at : at + 4], "big")
    return png[at:end], png[:at] + png[end:]


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


class TestBadInput:
    """Each kind of file that somebody may bring."""

    def test_forged_manifest_bytes(self, made, tmp_path):
        data = bytearray(made.path.read_bytes())
        at = data.index(b"emoji-small")
        data[at : at + 11] = b"emoji-large"
        found, verdict = outcomes(written(tmp_path / "x.png", self._repaired(bytes(data))), made.home)
        assert found["manifest"] is Outcome.FAILED
        assert not verdict.ok

    @staticmethod
    def _repaired(png):
        """Gives the chunk with the manifest the checksum that it needs, so that PNG readers have nothing to say."""
        import zlib

        chunk, _ = manifest_chunk(png)
        body = chunk[4:-4]
        return png.replace(chunk, chunk[:-4] + zlib.crc32(body).to_bytes(4, "big"))

    def test_any_changed_byte_of_a_manifest_is_found(self, made, tmp_path):
        data = made.path.read_bytes()
        chunk, _ = manifest_chunk(data)
        at = data.index(chunk)
        rng = np.random.default_rng(0)
        for place in rng.integers(8, len(chunk) - 4, 60).tolist():
            changed = bytearray(data)
            changed[at + place] ^= 1
            try:
                verdict = outcomes(written(tmp_path / "x.png", self._repaired(bytes(changed))), made.home)[1]
            except BadRecordError:
                continue
            assert not verdict.ok, place

    def test_what_no_signature_covers_changes_nothing_that_is_said(self, made):
        """C2PA leaves names of boxes and padding open; a reader that trusts them still has to read the same claim."""
        data = made.path.read_bytes()
        root = content_trust(made.home).root_pem
        honest = read_manifest(MediaKind.PNG, data, root_pem=root)
        chunk, _ = manifest_chunk(data)
        at = data.index(chunk)
        for place in np.random.default_rng(1).integers(8, len(chunk) - 4, 300).tolist():
            changed = bytearray(data)
            changed[at + place] ^= 1
            reading = read_manifest(MediaKind.PNG, self._repaired(bytes(changed)), root_pem=root)
            assert reading.state is not ManifestState.TRUSTED or reading == honest, place

    def test_a_manifest_copied_to_another_picture(self, own, tmp_path):
        chunk, _ = manifest_chunk(own.files[0].path.read_bytes())
        other = encoded(drawing(50), "PNG")
        found, verdict = outcomes(written(tmp_path / "x.png", other[:33] + chunk + other[33:]), own.home)
        assert found["manifest"] is Outcome.FAILED
        assert "another file's" in verdict.failed[0].says
        assert verdict.origin is None

    def test_a_manifest_swapped_between_two_files_of_the_home(self, own, tmp_path):
        chunks = [manifest_chunk(file.path.read_bytes()) for file in own.files]
        swapped = chunks[0][1][:33] + chunks[1][0] + chunks[0][1][33:]
        found, verdict = outcomes(written(tmp_path / "x.png", swapped), own.home)
        assert (found["manifest"], found["digest"], found["pixels"]) == (Outcome.FAILED, Outcome.ABSENT, Outcome.HELD)
        assert not verdict.ok

    def test_signed_with_an_unknown_key(self, own, tmp_path):
        stranger = Home.open(Settings.load(tmp_path / "stranger"))
        theirs = publish_files(stranger, tmp_path / "theirs", {"image-1.png": encoded(drawing(1), "PNG")})
        found, verdict = outcomes(theirs.path, own.home)
        assert found["manifest"] is Outcome.FAILED
        assert "has not certified" in verdict.failed[0].says
        assert (verdict.origin.run_id, verdict.ok) == (RUN, False), "the pixels are ours, and that is said too"

    def test_saved_again_without_metadata(self, made, tmp_path):
        pixels = Image.fromarray(np.asarray(Image.open(made.path)))
        for name, options in {"x.png": {}, "y.webp": {"lossless": True}}.items():
            pixels.save(tmp_path / name, **options)
            found, verdict = outcomes(tmp_path / name, made.home)
            assert (found["manifest"], found["digest"], found["label"]) == (Outcome.ABSENT,) * 3
            assert (found["pixels"], verdict.proven_by, verdict.ok) == (Outcome.HELD, ("pixels",), True)

    def test_resized_or_compressed_gives_candidates_and_no_attribution(self, own, tmp_path):
        image = Image.open(own.path).convert("RGB")
        image.resize((64, 64)).save(tmp_path / "small.png")
        image.resize((250, 250)).save(tmp_path / "large.png")
        image.save(tmp_path / "lossy.jpg", quality=70)
        for name in ("small.png", "large.png", "lossy.jpg"):
            found, verdict = outcomes(tmp_path / name, own.home)
            assert found["fingerprint"] is Outcome.UNPROVEN
            assert (verdict.origin, verdict.ok) == (None, False)
            nearest = verdict.candidates[0]
            assert (nearest.origin.sha256, nearest.distance <= 6) == (own.files[0].sha256, True)

    def test_truncated(self, made, tmp_path):
        for file in made.files:
            data = file.path.read_bytes()
            for part in (0.2, 0.5, 0.9):
                path = written(tmp_path / file.path.name, data[: int(len(data) * part)])
                try:
                    verdict = verify_content(path, home=made.home).verdict
                except BadRecordError as error:
                    assert "is no whole" in error.diagnosis  # noqa: PT017 - either may come
                else:  # a clip whose frames are all there, and whose end is not
                    assert not verdict.ok

    @pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"<svg/>", b"\0" * 100])
    def test_no_picture(self, made, tmp_path, data):
        with pytest.raises(BadRecordError):
            verify_content(written(tmp_path / "x.png", data), home=made.home)

    def test_a_hundred_megabytes_of_garbage(self, made, tmp_path):
        path = tmp_path / "x.png"
        for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\x06WEBPVP8 ", b"GIF89a", b"\0\0\0\x20ftypisom"):
            block = np.random.default_rng(1).bytes(1 << 20)
            with path.open("wb") as file:
                file.write(head)
                for _ in range(100):
                    file.write(block)
            with pytest.raises(BadRecordError):
                verify_content(path, home=made.home)

    def test_larger_than_is_looked_at(self, made, tmp_path):
        path = written(tmp_path / "x.png", b"\x89PNG\r\n\x1a\n" + bytes(16))
        os.truncate(path, MAX_BYTES + 1)
        with pytest.raises(BadRecordError, match="MiB"):
            verify_content(path, home=made.home)

    def test_a_decompression_bomb(self, made, tmp_path):
        import zlib

        def chunk(name, content):
            return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

        header = (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
        with pytest.raises(BadRecordError):
            verify_content(written(tmp_path / "x.png", data), home=made.home)
        text = PngImagePlugin.PngInfo()
        text.add_text("a", "b" * (1 << 26), zip=True)
        drawing(1).save(tmp_path / "y.png", pnginfo=text)
        with pytest.raises(BadRecordError):
            verify_content(tmp_path / "y.png", home=made.home)

    def test_bytes_changed_at_random_are_refused_or_judged_and_never_attributed_by_them(self, made, tmp_path):
        rng = np.random.default_rng(3)
        for _ in range(150):
            file = made.files[rng.integers(len(made.files))]
            data = bytearray(file.path.read_bytes())
            for _ in range(rng.choice([1, 3, 20])):
                at = int(rng.integers(len(data)))
                which = rng.integers(3)
                if which == 0:
                    data[at] ^= int(rng.integers(1, 256))
                elif which == 1:
                    data[at : at + 4] = b"\xff\xff\xff\xff"
                else:
                    del data[at : at + int(rng.integers(1, 100))]
            try:
                verdict = outcomes(written(tmp_path / file.path.name, bytes(data)), made.home)[1]
            except BadRecordError:
                continue
            assert not verdict.ok or verdict.proven_by == ("pixels",) or bytes(data) == file.path.read_bytes()

    def test_what_is_no_regular_file(self, made, tmp_path):
        link = tmp_path / "link.png"
        link.symlink_to(made.path)
        os.mkfifo(tmp_path / "pipe.png")
        for path, said in {
            link: "symbolic link",
            tmp_path / "pipe.png": "no regular file",
            tmp_path: "no regular file",
            tmp_path / "missing.png": "No such file",
            tmp_path / "a\0b": "cannot be read",
        }.items():
            with pytest.raises(BadRecordError, match=said):
                verify_content(path, home=made.home)

    def test_something_appended(self, made, tmp_path):
        for file in made.files:
            path = written(tmp_path / file.path.name, file.path.read_bytes() + b"more")
            try:
                assert not outcomes(path, made.home)[1].ok, file.path.name
            except BadRecordError:
                continue

    def test_more_frames_behind_a_picture_of_ours(self, made, tmp_path):
        image = Image.open(made.path).convert("RGB")
        image.save(tmp_path / "x.png", save_all=True, append_images=[drawing(77)])
        assert outcomes(tmp_path / "x.png", made.home)[0]["pixels"] is Outcome.ABSENT

    def test_deeper_samples_are_other_pixels(self, made, tmp_path):
        Image.fromarray(np.asarray(Image.open(made.path).convert("L")).astype(np.uint16)).save(tmp_path / "x.png")
        assert outcomes(tmp_path / "x.png", made.home)[0]["pixels"] is Outcome.ABSENT

    def test_a_label_alone_proves_nothing(self, made, tmp_path):
        _, stripped = manifest_chunk(made.path.read_bytes())
        at = stripped.index(b"IDAT") - 4
        other = encoded(drawing(60), "PNG")
        labelled = stripped[:at] + other[other.index(b"IDAT") - 4 :]
        found, verdict = outcomes(written(tmp_path / "x.png", labelled), made.home)
        assert (found["label"], verdict.origin) == (Outcome.UNPROVEN, None)


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
