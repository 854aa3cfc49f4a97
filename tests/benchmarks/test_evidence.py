import json
import sys
from pathlib import Path

import pytest

from benchmarks import evidence
from infra.home import Home
from infra.ledger_verification import verify_ledger
from infra.tables import artifacts


def test_a_bundle_is_exported_and_verified_each_way_and_told(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with home.database.unit_of_work() as uow:
        row = {"digest": "d" * 64, "kind": "dataset", "location": "gone", "facts": "{}", "created": uow.time}
        uow.connection.execute(artifacts.insert().values(**row))
        uow.append("dataset.imported", f"dataset:{'d' * 64}", {})
    told = tmp_path / "evidence.json"
    arguments = ["evidence", str(home.path), "dddddddd", "--repeat", "2", "--json", str(told), "--note", "a test"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert evidence.main() == 0
    document = json.loads(told.read_text())
    assert (document["note"], document["machine"]["cores"] > 0) == ("a test", True)
    assert document["log_size"] > document["num_entries"] > 0
    assert all(0 < one["median"] <= one["slowest"] for one in document["seconds"].values())
    printed = capsys.readouterr().out
    assert all(f"| {what} |" in printed for what in document["seconds"])
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()
    monkeypatch.setattr(sys, "argv", ["evidence", str(tmp_path / "none"), "x"])
    assert evidence.main() == 3
    assert "is no home" in capsys.readouterr().err
