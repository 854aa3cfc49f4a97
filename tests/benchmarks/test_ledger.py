import json

import pytest

from benchmarks import ledger
from benchmarks.ledger_measures import percentile
from model_core.errors import BadDataError


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_figure_is_measured_written_and_shown(kind, tmp_path, capsys):
    path = tmp_path / "ledger.json"
    arguments = ["--entries", "300", "--turns", "3", "--repeat", "1", "--database", kind, "--folder", str(tmp_path)]
    assert ledger.main([*arguments, "--json", str(path)]) == 0
    document = json.loads(path.read_text())
    found = document["databases"][kind]
    assert found["verification"]["entries"] > 300
    assert 10 << 20 < found["verification"]["peak_memory_bytes"] < 200 << 20
    assert 0 < found["proofs"]["most_hashes"] <= 10
    assert (found["appends"]["batch"], found["single_appends"]["batch"]) == (100, 1)
    assert found["appends"]["bare_entries_per_s"] > 0
    shown = capsys.readouterr().out
    assert shown == f"{ledger.table(document)}\n"
    assert shown.count("\n") == 17
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger.json"]


def test_an_unknown_database_is_one_line_and_a_hint(capsys):
    assert ledger.main(["--database", "oracle"]) == 3
    assert capsys.readouterr().err == "error: there is no database 'oracle'\nhint: choose from sqlite, postgresql\n"


def test_a_missing_server_is_said(monkeypatch, tmp_path):
    def missing():
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")

    monkeypatch.setattr(ledger, "postgres_server", missing)
    with pytest.raises(BadDataError, match="not installed"), ledger.databases("postgresql", tmp_path):
        pass


def test_a_percentile_is_one_of_the_values():
    values = list(range(1, 101))
    assert [percentile(values, share) for share in (0.0, 0.01, 0.5, 0.99, 1.0)] == [1, 1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([3, 1, 2], 0.99) == 3
