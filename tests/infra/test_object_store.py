"""Artifacts on S3 and elsewhere, against a real server and through a relay that cuts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from governance.digest import file_digests, sha256_file, tree_digest
from governance.errors import IntegrityError
from infra.errors import BackendUnavailableError, BadSettingError
from infra.objects.s3_upload import PART_BYTES
from infra.objects.store import PARTIAL, get_tree, open_store, put_tree, verify_tree
from tests import stored_trees
from tests.servers_s3 import Relay, S3Server
from tests.stored_trees import LARGE, NUM_PARTS

large_tree = pytest.fixture(scope="module")(stored_trees.large_tree)
tree = pytest.fixture(stored_trees.small_tree)
url = pytest.fixture(stored_trees.place_in)


def location_of(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if kind == "s3":
        return str(request.getfixturevalue("url"))
    folder = tmp_path / "store with space"
    return {"folder": str(folder), "file": folder.as_uri(), "memory": f"memory://{tmp_path.name}/store"}[kind]


def bucket_of(url: str) -> str:
    return url.split("/")[2]


@pytest.mark.parametrize("kind", ["folder", "file", "s3", "memory"])
def test_tree_comes_back_as_it_was(kind: str, tree: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    location = location_of(kind, tmp_path, request)
    put_tree(tree, location)
    put_tree(tree, location)
    get_tree(location, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(tree)
    assert not (tmp_path / "back" / PARTIAL).exists()


def test_every_object_carries_its_digest(tree: Path, url: str, s3_server: S3Server) -> None:
    put_tree(tree, url)
    client = s3_server.client()
    keys = s3_server.keys(bucket_of(url))
    digests = {f"some/place/{name}": digest for name, digest in file_digests(tree).items()}
    assert keys.keys() == digests.keys()
    for key in keys:
        assert client.head_object(Bucket=bucket_of(url), Key=key)["Metadata"] == {"sha256": digests[key]}


def test_large_file_goes_and_comes_in_parts(large_tree: Path, url: str, s3_relay: Relay, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    put_tree(large_tree, url, progress=lambda *given: done.append(given))
    assert len(s3_relay.sent("PUT", "partNumber=")) == NUM_PARTS
    total = sum(path.stat().st_size for path in large_tree.rglob("*") if path.is_file())
    assert done[-1] == (total, total)
    assert [count for count, _ in done] == sorted(count for count, _ in done)
    s3_relay.reset()
    get_tree(url, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(large_tree)
    assert len(s3_relay.sent("GET", LARGE)) == NUM_PARTS


def test_what_is_there_already_is_not_sent_again(large_tree: Path, url: str, s3_relay: Relay) -> None:
    put_tree(large_tree, url)
    s3_relay.reset()
    put_tree(large_tree, url)
    assert s3_relay.sent("PUT", ".") == s3_relay.sent("POST", ".") == []
    assert s3_relay.bytes_up < 20_000


def test_changed_file_is_sent_anew(tree: Path, url: str, tmp_path: Path) -> None:
    put_tree(tree, url)
    (tree / "config.json").write_text("[]")
    put_tree(tree, url)
    get_tree(url, tmp_path / "back")
    assert (tmp_path / "back" / "config.json").read_text() == "[]"


def test_upload_whose_connection_was_cut_sends_only_missing_parts(
    large_tree: Path, url: str, s3_relay: Relay, s3_server: S3Server, tmp_path: Path
) -> None:
    s3_relay.cut_up_after = 2 * PART_BYTES + PART_BYTES // 2
    with pytest.raises(BackendUnavailableError, match=r"127\.0\.0\.1.*connection"):
        put_tree(large_tree, url)
    client, bucket = s3_server.client(), bucket_of(url)
    [upload] = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    parts = client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]).get("Parts", [])
    assert f"some/place/{LARGE}" not in s3_server.keys(bucket)
    s3_relay.reset()
    put_tree(large_tree, url)
    assert len(s3_relay.sent("PUT", "partNumber=")) <= NUM_PARTS - len(parts)
    assert s3_relay.bytes_up < (NUM_PARTS - len(parts)) * PART_BYTES + 50_000
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    get_tree(url, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(large_tree)


def test_killed_upload_is_taken_up(large_tree: Path, url: str, s3_relay: Relay, s3_server: S3Server) -> None:
    code = "import sys, pathlib; from infra.objects.store import put_tree; put_tree(pathlib.Path(sys.argv[1]), sys.argv[2])"
    child = subprocess.Popen([sys.executable, "-c", code, str(large_tree), url])
    client, bucket = s3_server.client(), bucket_of(url)

    def parts() -> list[int]:
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        found = [client.list_parts(Bucket=bucket, Key=u["Key"], UploadId=u["UploadId"]).get("Parts", []) for u in uploads]
        return [part["PartNumber"] for page in found for part in page]

    # Slow the child down, so that it is killed between two parts.
    deadline = time.monotonic() + 60
    while not parts() and time.monotonic() < deadline:
        time.sleep(0.01)
    s3_relay.stalled = True
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    s3_relay.stalled = False
    time.sleep(1)  # what was on its way arrives, or breaks off
    kept = parts()
    s3_relay.reset()
    put_tree(large_tree, url)
    if kept:  # it may have got as far as completing the upload
        assert len(s3_relay.sent("PUT", "partNumber=")) <= NUM_PARTS - len(kept)  # what was on its way may arrive late
    assert s3_server.keys(bucket)[f"some/place/{LARGE}"] == (large_tree / LARGE).stat().st_size


def test_unfinished_upload_of_other_content_is_aborted(large_tree: Path, url: str, s3_server: S3Server, tmp_path: Path) -> None:
    client, bucket, key = s3_server.client(), bucket_of(url), f"some/place/{LARGE}"
    foreign = client.create_multipart_upload(Bucket=bucket, Key=key, Metadata={"sha256": "0" * 64})["UploadId"]
    client.upload_part(Bucket=bucket, Key=key, UploadId=foreign, PartNumber=1, Body=b"x" * PART_BYTES)
    neighbour = client.create_multipart_upload(Bucket=bucket, Key=f"{key}.other")["UploadId"]
    put_tree(large_tree, url)
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["UploadId"] for upload in left] == [neighbour]
    get_tree(url, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(large_tree)


def test_unfinished_upload_with_the_metadata_of_other_content_is_not_trusted(
    large_tree: Path, url: str, s3_server: S3Server, tmp_path: Path
) -> None:
    client, bucket, key = s3_server.client(), bucket_of(url), f"some/place/{LARGE}"
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, Metadata={"sha256": "0" * 64})["UploadId"]
    with (large_tree / LARGE).open("rb") as file:
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=file.read(PART_BYTES))
    put_tree(large_tree, url)
    assert client.head_object(Bucket=bucket, Key=key)["Metadata"] == {"sha256": sha256_file(large_tree / LARGE)}
    get_tree(url, tmp_path / "back")


def test_download_whose_connection_was_cut_is_taken_up(large_tree: Path, url: str, s3_relay: Relay, tmp_path: Path) -> None:
    put_tree(large_tree, url)
    s3_relay.reset()
    s3_relay.cut_down_after = 3 * PART_BYTES
    with pytest.raises(BackendUnavailableError):
        get_tree(url, tmp_path / "back")
    assert not (tmp_path / "back" / LARGE).exists()
    kept = sum(path.stat().st_size for path in (tmp_path / "back" / PARTIAL).iterdir())
    s3_relay.reset()
    get_tree(url, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(large_tree)
    assert s3_relay.bytes_down < (large_tree / LARGE).stat().st_size - kept + 100_000


def test_damaged_partial_file_is_fetched_anew(large_tree: Path, url: str, s3_relay: Relay, tmp_path: Path) -> None:
    put_tree(large_tree, url)
    s3_relay.cut_down_after = s3_relay.bytes_down + 3 * PART_BYTES
    with pytest.raises(BackendUnavailableError):
        get_tree(url, tmp_path / "back")
    for partial in (tmp_path / "back" / PARTIAL).iterdir():
        partial.write_bytes(os.urandom(PART_BYTES))
    s3_relay.reset()
    get_tree(url, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(large_tree)


@pytest.mark.parametrize("kind", ["folder", "s3", "memory"])
@pytest.mark.parametrize("harm", ["change", "remove", "add"])
def test_verification_names_what_is_not_as_it_was_stored(
    kind: str, harm: str, tree: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    location = location_of(kind, tmp_path, request)
    put_tree(tree, location)
    verify_tree(tree, location)
    name = "added.json" if harm == "add" else "config.json"
    if harm == "add":
        other = tmp_path / "other"
        other.mkdir()
        (other / name).write_text("[]")
        put_tree(other, location)
    elif harm == "change":
        (tree / name).write_text("[]")
    else:
        (tree / name).rename(tree / "renamed.json")
        name = "renamed.json"
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        verify_tree(tree, location)


@pytest.mark.parametrize("name", ["config.json", LARGE])
def test_tampered_object_is_named_and_never_written(
    name: str, large_tree: Path, url: str, s3_server: S3Server, tmp_path: Path
) -> None:
    put_tree(large_tree, url)
    client, bucket, key = s3_server.client(), bucket_of(url), f"some/place/{name}"
    metadata = client.head_object(Bucket=bucket, Key=key)["Metadata"]
    data = bytearray((large_tree / name).read_bytes())
    data[-1] ^= 1
    client.put_object(Bucket=bucket, Key=key, Body=bytes(data), Metadata=metadata)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        get_tree(url, tmp_path / "back")
    assert not (tmp_path / "back" / name).exists()
    put_tree(large_tree, url)
    get_tree(url, tmp_path / "again")
    assert tree_digest(tmp_path / "again") == tree_digest(large_tree)


def test_object_without_a_digest_is_judged_by_whoever_knows_what_it_should_be(
    tree: Path, url: str, s3_server: S3Server, tmp_path: Path
) -> None:
    put_tree(tree, url)
    client, key, kept = s3_server.client(), "some/place/config.json", (tree / "config.json").read_bytes()
    client.put_object(Bucket=bucket_of(url), Key=key, Body=kept)
    verify_tree(tree, url)
    get_tree(url, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(tree)
    client.put_object(Bucket=bucket_of(url), Key=key, Body=kept + b" ")
    with pytest.raises(IntegrityError, match=r"config\.json"):
        verify_tree(tree, url)
    get_tree(url, tmp_path / "changed")
    assert tree_digest(tmp_path / "changed") != tree_digest(tree)


@pytest.mark.parametrize(
    "name", ["../escaped", "a/../../b", "/absolute", "a//b", "back\\slash", "bidi\u202e", ".partial/x", "C:/x"]
)
def test_name_that_leaves_the_folder_is_refused(name: str, tree: Path, url: str, s3_server: S3Server, tmp_path: Path) -> None:
    put_tree(tree, url)
    s3_server.client().put_object(Bucket=bucket_of(url), Key=f"some/place/{name}", Body=b"x", Metadata={"sha256": "0" * 64})
    with pytest.raises(IntegrityError, match="refused"):
        get_tree(url, tmp_path / "back")
    assert list((tmp_path / "back").iterdir()) == []


def test_object_that_is_file_and_folder_at_once_is_refused(url: str, s3_server: S3Server, tmp_path: Path) -> None:
    import hashlib

    for key in ("a", "a/b"):
        metadata = {"sha256": hashlib.sha256(b"x").hexdigest()}
        s3_server.client().put_object(Bucket=bucket_of(url), Key=f"some/place/{key}", Body=b"x", Metadata=metadata)
    with pytest.raises(IntegrityError, match="one name"):
        get_tree(url, tmp_path / "back")


def test_neighbours_of_the_prefix_are_left_alone(tree: Path, url: str, s3_server: S3Server, tmp_path: Path) -> None:
    put_tree(tree, url)
    s3_server.client().put_object(Bucket=bucket_of(url), Key="some/placebo", Body=b"x")
    get_tree(url, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(tree)


@pytest.mark.parametrize("kind", ["s3", "folder", "memory"])
def test_nothing_there_is_told(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    location = location_of(kind, tmp_path, request)
    with pytest.raises(IntegrityError, match="nothing at"):
        get_tree(location, tmp_path / "back")


def test_link_in_a_tree_is_refused(tree: Path, url: str) -> None:
    (tree / "link").symlink_to("/etc/hostname")
    with pytest.raises(IntegrityError, match="link"):
        put_tree(tree, url)


@pytest.mark.parametrize(
    "location",
    [
        "nonsense://x/y",
        "mlflow-artifacts:/1/x",
        "mlflow-artifacts://host/1",
        "http://127.0.0.1/x",
        "s3:///x",
        "s3://key:secret@bucket/x",
        "s3://key@bucket/x",
    ],
)
def test_location_where_nothing_can_be_stored_is_told_before_anything_is_sent(location: str) -> None:
    with pytest.raises(BadSettingError):
        open_store(location)


def test_local_store_imports_no_s3(tree: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from infra.objects.store import put_tree; put_tree(pathlib.Path(sys.argv[1]), sys.argv[2]);"
        "sys.exit(any(name in sys.modules for name in ('s3fs', 'fsspec', 'botocore', 'aiohttp')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tree), str(tmp_path / "store")], check=False).returncode == 0
