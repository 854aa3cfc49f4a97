"""Files that were forged, cut, mixed or made to harm, before the verification of content credentials."""

import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from governance.credentials.media_kind import MediaKind
from governance.credentials.reading import ManifestState
from governance.credentials.verdict import Outcome
from governance.errors import BadRecordError
from infra.content_credentials import read_manifest
from infra.content_keys import content_trust
from infra.content_verification import verify_content
from infra.home import Home
from infra.media_reading import MAX_BYTES
from infra.settings import Settings
from tests.content_world import (
    RUN,
    drawing,
    encoded,
    manifest_chunk,
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


"""Each kind of file that somebody may bring."""


def test_forged_manifest_bytes(made, tmp_path):
    data = bytearray(made.path.read_bytes())
    at = data.index(b"emoji-small")
    data[at : at + 11] = b"emoji-large"
    found, verdict = outcomes(written(tmp_path / "x.png", _repaired(bytes(data))), made.home)
    assert found["manifest"] is Outcome.FAILED
    assert not verdict.ok


def _repaired(png):
    """Gives the chunk with the manifest the checksum that it needs, so that PNG readers have nothing to say."""
    import zlib

    chunk, _ = manifest_chunk(png)
    body = chunk[4:-4]
    return png.replace(chunk, chunk[:-4] + zlib.crc32(body).to_bytes(4, "big"))


def test_any_changed_byte_of_a_manifest_is_found(made, tmp_path):
    data = made.path.read_bytes()
    chunk, _ = manifest_chunk(data)
    at = data.index(chunk)
    rng = np.random.default_rng(0)
    for place in rng.integers(8, len(chunk) - 4, 60).tolist():
        changed = bytearray(data)
        changed[at + place] ^= 1
        try:
            verdict = outcomes(written(tmp_path / "x.png", _repaired(bytes(changed))), made.home)[1]
        except BadRecordError:
            continue
        assert not verdict.ok, place


def test_what_no_signature_covers_changes_nothing_that_is_said(made):
    """C2PA leaves names of boxes and padding open; a reader that trusts them still has to read the same claim."""
    data = made.path.read_bytes()
    root = content_trust(made.home).root_pem
    honest = read_manifest(MediaKind.PNG, data, root_pem=root)
    chunk, _ = manifest_chunk(data)
    at = data.index(chunk)
    for place in np.random.default_rng(1).integers(8, len(chunk) - 4, 300).tolist():
        changed = bytearray(data)
        changed[at + place] ^= 1
        reading = read_manifest(MediaKind.PNG, _repaired(bytes(changed)), root_pem=root)
        assert reading.state is not ManifestState.TRUSTED or reading == honest, place


def test_a_manifest_copied_to_another_picture(own, tmp_path):
    chunk, _ = manifest_chunk(own.files[0].path.read_bytes())
    other = encoded(drawing(50), "PNG")
    found, verdict = outcomes(written(tmp_path / "x.png", other[:33] + chunk + other[33:]), own.home)
    assert found["manifest"] is Outcome.FAILED
    assert "another file's" in verdict.failed[0].says
    assert verdict.origin is None


def test_a_manifest_swapped_between_two_files_of_the_home(own, tmp_path):
    chunks = [manifest_chunk(file.path.read_bytes()) for file in own.files]
    swapped = chunks[0][1][:33] + chunks[1][0] + chunks[0][1][33:]
    found, verdict = outcomes(written(tmp_path / "x.png", swapped), own.home)
    assert (found["manifest"], found["digest"], found["pixels"]) == (Outcome.FAILED, Outcome.ABSENT, Outcome.HELD)
    assert not verdict.ok


def test_signed_with_an_unknown_key(own, tmp_path):
    stranger = Home.open(Settings.load(tmp_path / "stranger"))
    theirs = publish_files(stranger, tmp_path / "theirs", {"image-1.png": encoded(drawing(1), "PNG")})
    found, verdict = outcomes(theirs.path, own.home)
    assert found["manifest"] is Outcome.FAILED
    assert "has not certified" in verdict.failed[0].says
    assert (verdict.origin.run_id, verdict.ok) == (RUN, False), "the pixels are ours, and that is said too"


def test_saved_again_without_metadata(made, tmp_path):
    pixels = Image.fromarray(np.asarray(Image.open(made.path)))
    for name, options in {"x.png": {}, "y.webp": {"lossless": True}}.items():
        pixels.save(tmp_path / name, **options)
        found, verdict = outcomes(tmp_path / name, made.home)
        assert (found["manifest"], found["digest"], found["label"]) == (Outcome.ABSENT,) * 3
        assert (found["pixels"], verdict.proven_by, verdict.ok) == (Outcome.HELD, ("pixels",), True)


def test_resized_or_compressed_gives_candidates_and_no_attribution(own, tmp_path):
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


def test_truncated(made, tmp_path):
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
def test_no_picture(made, tmp_path, data):
    with pytest.raises(BadRecordError):
        verify_content(written(tmp_path / "x.png", data), home=made.home)


def test_a_hundred_megabytes_of_garbage(made, tmp_path):
    path = tmp_path / "x.png"
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\x06WEBPVP8 ", b"GIF89a", b"\0\0\0\x20ftypisom"):
        block = np.random.default_rng(1).bytes(1 << 20)
        with path.open("wb") as file:
            file.write(head)
            for _ in range(100):
                file.write(block)
        with pytest.raises(BadRecordError):
            verify_content(path, home=made.home)


def test_larger_than_is_looked_at(made, tmp_path):
    path = written(tmp_path / "x.png", b"\x89PNG\r\n\x1a\n" + bytes(16))
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(BadRecordError, match="MiB"):
        verify_content(path, home=made.home)


def test_a_decompression_bomb(made, tmp_path):
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


def test_bytes_changed_at_random_are_refused_or_judged_and_never_attributed_by_them(made, tmp_path):
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


def test_what_is_no_regular_file(made, tmp_path):
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


def test_something_appended(made, tmp_path):
    for file in made.files:
        path = written(tmp_path / file.path.name, file.path.read_bytes() + b"more")
        try:
            assert not outcomes(path, made.home)[1].ok, file.path.name
        except BadRecordError:
            continue


def test_more_frames_behind_a_picture_of_ours(made, tmp_path):
    image = Image.open(made.path).convert("RGB")
    image.save(tmp_path / "x.png", save_all=True, append_images=[drawing(77)])
    assert outcomes(tmp_path / "x.png", made.home)[0]["pixels"] is Outcome.ABSENT


def test_deeper_samples_are_other_pixels(made, tmp_path):
    Image.fromarray(np.asarray(Image.open(made.path).convert("L")).astype(np.uint16)).save(tmp_path / "x.png")
    assert outcomes(tmp_path / "x.png", made.home)[0]["pixels"] is Outcome.ABSENT


def test_a_label_alone_proves_nothing(made, tmp_path):
    _, stripped = manifest_chunk(made.path.read_bytes())
    at = stripped.index(b"IDAT") - 4
    other = encoded(drawing(60), "PNG")
    labelled = stripped[:at] + other[other.index(b"IDAT") - 4 :]
    found, verdict = outcomes(written(tmp_path / "x.png", labelled), made.home)
    assert (found["label"], verdict.origin) == (Outcome.UNPROVEN, None)
