import json
import re
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from governance.digest import file_digests
from governance.errors import BadRecordError
from governance.model_records import figures
from tests.infra.package_inputs import ATTRIBUTION, make_package

_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]")


@pytest.fixture
def bom(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((make_package(tmp_path) / "mlbom.cdx.json").read_text())
    return found


def test_document_is_valid_cyclonedx(tmp_path: Path) -> None:
    text = (make_package(tmp_path) / "mlbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_validator_is_awake(bom: dict[str, Any]) -> None:
    bom["metadata"]["component"]["modelCard"]["unknown"] = 1
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom)) is not None


def test_metrics_carry_intervals_and_references(bom: dict[str, Any]) -> None:
    metrics = bom["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    kid = next(m for m in metrics if m["type"] == "kid")
    assert kid == {"type": "kid", "value": "0.0731", "confidenceInterval": {"lowerBound": "0.061", "upperBound": "0.0853"}}
    accuracy = {m.get("slice", ""): m["value"] for m in metrics if m["type"] == "category_accuracy"}
    assert accuracy == {"": "0.8125", "chance": "0.5", "real": "0.975"}


def test_data_codec_and_encoder_are_components(bom: dict[str, Any]) -> None:
    components = {c["bom-ref"]: c for c in bom["components"]}
    assert components["training-data"]["copyright"] == ATTRIBUTION
    assert components["training-data"]["licenses"] == [{"license": {"name": "CC-BY-SA-4.0"}}]
    assert components["text-encoder"]["hashes"][0]["content"] == "ee" * 32
    assert components["library:torch"]["purl"] == "pkg:pypi/torch@2.13.0%2Bcpu"


def test_every_other_file_is_listed_with_its_digest(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    bom = json.loads((package / "mlbom.cdx.json").read_text())
    listed = {c["name"]: c["hashes"][0]["content"] for c in bom["components"] if c["type"] == "file"}
    assert listed == file_digests(package, exclude={"mlbom.cdx.json"})


def test_serial_number_follows_from_the_contents(tmp_path: Path) -> None:
    def serial(package: Path) -> str:
        return str(json.loads((package / "mlbom.cdx.json").read_text())["serialNumber"])

    first, again, other = make_package(tmp_path / "a"), make_package(tmp_path / "b"), make_package(tmp_path / "c", weight=0.75)
    assert serial(first) == serial(again) != serial(other)
    assert not _DATE.search((first / "mlbom.cdx.json").read_text())


@pytest.mark.parametrize(
    "report", [{}, {"metrics": {}}, {"metrics": []}, {"metrics": {"kid": "low"}}, {"metrics": {"kid": float("nan")}}]
)
def test_report_without_usable_metrics_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(BadRecordError):
        figures(report)


def test_interval_and_references_belong_to_their_figure() -> None:
    found = {
        f.name: f for f in figures({"metrics": {"kid": 1.5, "kid_low": 1, "kid_high": 2, "kid_noise": 9, "real": 3, "low": 4}})
    }
    assert found.keys() == {"kid", "real", "low"}
    assert (found["kid"].low, found["kid"].high, found["kid"].references) == (1, 2, {"noise": 9})
