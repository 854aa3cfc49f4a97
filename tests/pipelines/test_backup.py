"""A home in which a model was trained, backed up and restored on PostgreSQL."""

from pathlib import Path

import pytest

from tests.pipelines.calling import call, run_training
from tests.pipelines.conftest import Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_trained_home_goes_on_after_a_restore_on_postgresql(trained: Trained, tmp_path: Path, postgres_url: str) -> None:
    file, home = tmp_path / "backup.tar", tmp_path / "restored"
    variables = {"GROUNDSWELL_DATABASE_URL": postgres_url}
    made = call(trained.home.path, "--json", "backup", "-o", file, "--work")
    assert made.exit_code == 0, made.stderr
    restored = call(home, "--json", "restore", file, **variables)
    assert restored.exit_code == 0, restored.stderr
    assert restored.document["engine"] == "postgresql"
    size = made.document["ledger_size"]
    verified = call(home, "--json", "audit", "verify", **variables)
    assert (verified.exit_code, verified.document["num_entries"]) == (0, size + 1)
    shown = call(home, "--json", "models", "show", "groundswell-dit/1", **variables)
    assert (shown.exit_code, shown.document["verified"]) == (0, True)
    assert shown.document["location"].startswith(str(home))
    assert call(home, "lineage", "groundswell-dit/1", "-o", tmp_path / "lineage.html", **variables).exit_code == 0
    again = run_training(home, trained.settings, **variables)
    assert again.exit_code == 0, again.stderr
    assert again.document["reused_all"]
    assert call(home, "--json", "audit", "verify", **variables).exit_code == 0
