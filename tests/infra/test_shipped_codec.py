"""The shipped codec and the evidence of its training."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from governance.digest import tree_digest
from governance.errors import IntegrityError
from infra.database import Database
from infra.home import Home
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.lineage import upstream
from infra.shipped_codec import SHIPPED_FOLDER, import_shipped_codec, verify_evidence


@pytest.fixture
def evidence() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SHIPPED_FOLDER / "evidence.json").read_text())
    return found


@pytest.fixture
def digest() -> str:
    return tree_digest(SHIPPED_FOLDER / "codec")


def test_the_codec_comes_with_a_lineage_that_reaches_its_data(home: Home, digest: str) -> None:
    folder = home.codec_folder("shipped")
    assert tree_digest(folder) == digest
    with home.database.read() as connection:
        graph = upstream(connection, f"codec:{digest}")
    assert [node for node in graph.nodes if node.startswith("dataset:")]
    assert verify_ledger(home.database, home.keys.log_public_key()).ok


def test_a_home_takes_the_evidence_over_once(home: Home) -> None:
    assert home.codec_folder("shipped") == home.codec_folder("shipped")
    assert len(list(iter_entries(home.database, action="codec.imported"))) == 1


def test_it_beats_patch_pca_of_equal_latent_shape_by_three_decibels_on_held_out_pictures() -> None:
    report = json.loads((SHIPPED_FOLDER / "codec" / "report.json").read_text())
    for size in report["sizes"].values():
        assert size["holdout"]["psnr"] - size["holdout"]["patch_pca_psnr"] >= 3


def test_a_changed_copy_is_refused(home: Home) -> None:
    folder = home.codec_folder("shipped")
    weights = folder / "codec.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"not the one that was shipped"):
        home.codec_folder("shipped")


@pytest.mark.parametrize("change", ["entry", "proof", "checkpoint", "codec"])
def test_evidence_that_was_changed_is_refused(evidence: dict[str, Any], digest: str, change: str) -> None:
    verify_evidence(evidence, codec_digest=digest)
    forged = copy.deepcopy(evidence)
    if change == "entry":
        forged["entries"][0]["entry"] = forged["entries"][0]["entry"].replace("codec", "kodec", 1)
    elif change == "proof":
        forged["entries"][0]["proof"][0] = "00" * 32
    elif change == "checkpoint":
        lines = forged["checkpoint"].split("\n")
        forged["checkpoint"] = "\n".join([lines[0], "8", *lines[2:]])
    with pytest.raises(IntegrityError):
        verify_evidence(forged, codec_digest="0" * 64 if change == "codec" else digest)


def test_a_killed_copy_leaves_nothing_under_the_final_name(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infra.shipped_codec.os.replace", killed)
    database: Database = home.database
    with pytest.raises(KeyboardInterrupt):
        import_shipped_codec(database, tmp_path / "codecs")
    monkeypatch.undo()
    assert tree_digest(import_shipped_codec(database, tmp_path / "codecs")) == tree_digest(SHIPPED_FOLDER / "codec")
