import json

from benchmarks.credentials import main


def test_each_kind_of_file_is_signed_and_verified(tmp_path, capsys):
    results = tmp_path / "results.json"
    assert main(["--repeat", "1", "--assets", "50", "--copied", "1", "--json", str(results)]) == 0
    document = json.loads(results.read_text(encoding="utf-8"))
    assert {row["file"].rpartition(".")[2] for row in document["files"]} == {"png", "jpg", "webp", "mp4"}
    assert all(row["added_bytes"] > 0 and row["sign"]["cpu_ms"] > 0 for row in document["files"])
    assert document["search"]["assets"] == 50
    assert {(row["frames"], row["size"]) for row in document["watermark"]} >= {(1, 256), (1, 1024), (16, 64)}
    assert all(row[what]["cpu_ms"] > 0 for row in document["watermark"] for what in ("mark", "found", "not_found"))
    assert [row["pictures"] for row in document["copied"]] == [1, 1]
    assert "| 64x64.png |" in capsys.readouterr().out
