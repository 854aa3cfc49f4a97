"""What a step's container is given."""

from pathlib import Path

import pytest

from infra.settings import Settings
from pipelines.runners import container_options, network_mode


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ({}, "none"),
        ({"GROUNDSWELL_DATABASE_URL": "postgresql+psycopg://db.example/gs"}, None),
        ({"GROUNDSWELL_DATABASE_URL": "postgresql+psycopg://127.0.0.1/gs"}, "host"),
        ({"GROUNDSWELL_ARTIFACT_ROOT": "s3://bucket/x"}, None),
        ({"GROUNDSWELL_ARTIFACT_ROOT": "s3://bucket/x", "AWS_ENDPOINT_URL": "http://localhost:9000"}, "host"),
    ],
)
def test_a_container_gets_no_network_that_it_does_not_need(
    urls: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in urls.items():
        monkeypatch.setenv(name, value)
    assert network_mode(Settings.load(tmp_path)) == expected


def test_a_container_has_no_privilege_and_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_SECRET", "not for containers")
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    home, data = tmp_path / "home", tmp_path / "data"
    job = {
        "images": {"train_dit": "sha256:0"},
        "options": {"user": "1000:1000"},
        "arguments": {"run_id": "r", "dataset": str(home / "datasets" / "d"), "codec": str(data)},
    }
    options = container_options(job, Settings.load(home))
    assert options["user"] == "1000:1000"
    assert options["cap_drop"] == ["ALL"]
    assert options["read_only"] is True
    assert "HOST_SECRET" not in options["environment"]
    assert [(mount["Source"], mount["ReadOnly"]) for mount in options["mounts"]] == [(str(data), True)]
