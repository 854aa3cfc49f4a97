import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from groundswell.cli import doctor
from infra.errors import BackendUnavailableError
from infra.home import Home
from infra.images.catalogue import catalogue
from infra.keys import LOG_KEY
from tests.groundswell.conftest import Cli


def checks(cli: Cli, home: Path) -> dict[str, dict[str, str]]:
    document = cli("--home", home, "--json", "doctor").document
    return {check["name"]: check for check in document["checks"]}


def test_everything_needed_works_here(cli: Cli, home: Home) -> None:
    called = cli("--home", home.path, "doctor")
    assert called.exit_code == 0, called.stdout
    found = checks(cli, home.path)
    assert {found[name]["status"] for name in ("python", "torch", "database", "ledger", "keys")} == {"ok"}
    assert found["mlflow"]["status"] == "absent"


def test_a_home_that_is_not_there_yet_is_no_problem(cli: Cli, tmp_path: Path) -> None:
    assert checks(cli, tmp_path / "none")["home"]["status"] == "absent"
    assert not (tmp_path / "none").exists()


def test_a_damaged_database_is_a_finding_with_exit_code_six(cli: Cli, home: Home) -> None:
    home.database.close()
    (home.path / "groundswell.db").write_bytes(b"not a database" * 100)
    called = cli("--home", home.path, "--json", "doctor")
    assert called.exit_code == 6
    assert not called.document["ok"]
    assert any(check["status"] == "missing" for check in called.document["checks"])


def test_a_key_that_others_can_read_is_a_warning(cli: Cli, home: Home) -> None:
    home.keys.private_path(LOG_KEY).chmod(0o644)
    found = checks(cli, home.path)["keys"]
    assert found["status"] == "warning"
    assert "chmod 600" in found["remedy"]


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10, 9), "missing"), ((3, 11, 0), "ok"), ((3, 13, 2), "ok"), ((3, 14, 0), "missing")]
)
def test_supported_versions_of_python(version: tuple[int, int, int], status: str) -> None:
    assert doctor.check_python(version).status == status


def test_a_missing_or_other_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda _: ["click>=8.1", "no-such-thing==1.0", 'pytest; extra == "dev"'])
    assert doctor.check_packages().found == "not installed: no-such-thing"
    monkeypatch.setattr("importlib.metadata.requires", lambda _: ["click==0.1"])
    assert doctor.check_packages().status == "warning"


@pytest.mark.parametrize(("free", "status"), [(10**8, "missing"), (2 * 10**9, "warning"), (10**11, "ok")])
def test_disk_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free * 2, free, free))
    assert doctor.check_disk(tmp_path / "not" / "there").status == status


class Built:
    """An engine that has the images that `make images` builds, and no others."""

    name = "podman"

    def find_image(self, name: str) -> None:
        if name not in {spec.image() for spec in catalogue().values() if not spec.is_layer}:
            raise BackendUnavailableError(f"there is no image {name}")


def test_images_are_looked_for_that_are_built_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.container_engine.open_engine", lambda: nullcontext(Built()))
    found = doctor.check_engine()
    assert (found.status, "images of all" in found.found) == ("ok", True), found.found
