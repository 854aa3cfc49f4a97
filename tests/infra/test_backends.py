import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from infra.backends import check_backends
from infra.errors import BackendUnavailableError, BadSettingError
from infra.settings import Settings
from tests.answering import answering
from tests.servers_s3 import S3Server, free_port


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, database_url="sqlite:///x", mlflow_tracking_uri="sqlite:///x", artifact_root=str(tmp_path))


def test_home_on_this_machine_has_nothing_to_ask(settings: Settings) -> None:
    check_backends(settings)


def test_servers_that_answer_are_taken(settings: Settings, s3_bucket: str) -> None:
    with answering(lambda handler: handler.reply(200)) as url:
        check_backends(replace(settings, mlflow_tracking_uri=url, artifact_root=f"s3://{s3_bucket}/mlflow"))


def test_mlflow_server_that_is_not_there_is_told_at_once(settings: Settings) -> None:
    began = time.monotonic()
    uri = f"http://user:canary-password@127.0.0.1:{free_port()}"
    with pytest.raises(BackendUnavailableError, match="MLflow at http://127") as caught:
        check_backends(replace(settings, mlflow_tracking_uri=uri))
    assert "canary" not in caught.value.diagnosis
    assert time.monotonic() - began < 10


def test_mlflow_server_with_errors_is_told(settings: Settings) -> None:
    with answering(lambda handler: handler.reply(502)) as url, pytest.raises(BackendUnavailableError, match="502"):
        check_backends(replace(settings, mlflow_tracking_uri=url))


def test_bucket_that_is_not_there_is_told(settings: Settings, s3_environment: S3Server) -> None:
    with pytest.raises(BackendUnavailableError, match="no such bucket"):
        check_backends(replace(settings, artifact_root="s3://no-such-bucket-there/x"))


def test_artifact_root_with_a_password_is_refused(settings: Settings) -> None:
    with pytest.raises(BadSettingError) as caught:
        check_backends(replace(settings, artifact_root="s3://key:canary-secret@bucket/x"))
    assert "canary" not in caught.value.diagnosis


def test_asking_imports_no_mlflow() -> None:
    code = "import sys, infra.backends; sys.exit(any(name in sys.modules for name in ('mlflow', 's3fs', 'fsspec', 'botocore')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
