"""An object store that cannot be had, refuses or is full: told in one line, without secrets, and nothing half-written counts."""

import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from infra.errors import BackendUnavailableError
from infra.objects.store import get_tree, put_tree
from tests import stored_trees
from tests.answering import answering
from tests.servers_s3 import S3Server, free_port

large_tree = pytest.fixture(scope="module")(stored_trees.large_tree)
tree = pytest.fixture(stored_trees.small_tree)
url = pytest.fixture(stored_trees.place_in)


def fails(location: str, folder: Path, *secrets: str) -> BackendUnavailableError:
    with pytest.raises(BackendUnavailableError) as caught:
        put_tree(folder, location)
    shown = f"{caught.value.diagnosis} {caught.value.hint}"
    assert "\n" not in shown
    assert caught.value.hint
    assert not any(secret in shown for secret in secrets)
    return caught.value


def test_missing_bucket_is_named(tree: Path, s3_environment: S3Server) -> None:
    error = fails("s3://no-such-bucket-here/x", tree)
    assert "s3://no-such-bucket-here/x" in error.diagnosis
    assert s3_environment.url in error.diagnosis
    assert "no such bucket" in error.diagnosis
    with pytest.raises(BackendUnavailableError, match="no such bucket"):
        get_tree("s3://no-such-bucket-here/x", tree.parent / "back")


def test_wrong_credentials_are_told_without_them(tree: Path, url: str, s3_environment: S3Server) -> None:
    s3_environment.require_signatures(True)
    try:
        error = fails(url, tree, s3_environment.access_key, s3_environment.secret_key)
    finally:
        s3_environment.require_signatures(False)
    assert "access key" in error.diagnosis


def test_missing_credentials_ask_no_metadata_service(
    tree: Path, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    asked: list[bool] = []
    with answering(lambda handler: (asked.append(True), handler.reply(404))) as metadata_url:  # type: ignore[func-returns-value]
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata_url)
        assert "no credentials" in fails(url, tree).diagnosis
    assert asked == []


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (400, "ExpiredToken", "expired"),
        (403, "SignatureDoesNotMatch", "secret key is wrong"),
        (403, "AccessDenied", "do not allow"),
        (403, "", "do not allow"),
        (507, "XMinioStorageFull", "no room"),
        (503, "SlowDown", "slow down"),
        (500, "InternalError", "internal error"),
        (418, "Teapot", "Teapot"),
    ],
)
def test_refusal_of_the_server_is_told_in_one_line(
    status: int, code: str, said: str, tree: Path, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(lambda handler: handler.reply(status, code)) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        began = time.monotonic()
        error = fails("s3://bucket/x", tree, s3_environment.secret_key)
    assert said in error.diagnosis
    assert "s3://bucket/x" in error.diagnosis
    assert endpoint in error.diagnosis
    assert time.monotonic() - began < 60


def test_server_that_is_full_in_the_middle_leaves_nothing_that_counts(
    tree: Path, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(handler: Any) -> None:
        if handler.command == "GET":
            handler.send_response(200)
            body = b"<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        else:
            handler.reply(507, "XMinioStorageFull")

    with answering(answer) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert "no room" in fails("s3://bucket/x", tree).diagnosis


def test_endpoint_that_is_not_there_is_told_at_once(
    tree: Path, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert "cannot be reached" in fails("s3://bucket/x", tree).diagnosis
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_endpoint_that_never_answers_is_given_up(tree: Path, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        began = time.monotonic()
        assert "in time" in fails("s3://bucket/x", tree).diagnosis
    assert time.monotonic() - began < 120


def test_local_disk_that_is_full_is_told(tree: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_tree(tree, url)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    with pytest.raises(BackendUnavailableError, match="no room"):
        get_tree(url, tmp_path / "back")
