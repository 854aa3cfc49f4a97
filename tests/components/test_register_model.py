from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.ports import Ports, RegisteredModel
from components.register_model.config import Config
from components.register_model.step import run
from governance.digest import file_digests, tree_digest
from governance.errors import BadRecordError, IntegrityError, RefusedError
from governance.package_layout import package_root_digest
from tests.infra.package_inputs import CODE_DIGESTS, NAME, write_inputs


class Silent:
    """Tracking, progress and metrics of nobody."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@dataclass
class FakeRegistry:
    calls: list[dict[str, Any]] = field(default_factory=list)

    def register(self, package: Path, *, name: str, metrics: Mapping[str, float], inputs: Mapping[str, str]) -> RegisteredModel:
        self.calls.append({"name": name, "metrics": metrics, "inputs": inputs})
        return RegisteredModel(name=name, version=1, root_digest=package_root_digest(package))


def run_step(root: Path, inputs: Mapping[str, Path], registry: FakeRegistry) -> tuple[Path, Any]:
    package = root / "partial" / "package"
    package.mkdir(parents=True)
    ports = Ports(tracking=Silent(), progress=Silent(), metrics=Silent(), scratch=root, registry=registry)
    config = Config(name=NAME, code_digests=CODE_DIGESTS)
    return package, run(config, inputs, {"package": package}, ports)


def test_package_is_built_and_registered(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    registry = FakeRegistry()
    package, report = run_step(tmp_path, inputs, registry)
    digest = package_root_digest(package)
    assert report.facts == {"name": NAME, "version": 1, "root_digest": digest, "licences": {"CC-BY-SA-4.0": 5}}
    assert report.summary == f"registered {NAME}/1, root digest {digest[:12]}"
    assert report.metrics["kid"] == 0.0731
    assert report.metrics["category_accuracy_chance"] == 0.5
    (call,) = registry.calls
    assert call["inputs"] == {name: tree_digest(path) for name, path in inputs.items()}
    assert call["metrics"] == report.metrics
    for output, names in report.artifacts.items():
        assert all((tmp_path / "partial" / output / name).is_file() for name in names)


def test_same_work_gives_the_same_package(tmp_path: Path) -> None:
    first, _ = run_step(tmp_path / "a", write_inputs(tmp_path / "a" / "in"), FakeRegistry())
    second, _ = run_step(tmp_path / "b", write_inputs(tmp_path / "b" / "in"), FakeRegistry())
    assert file_digests(first) == file_digests(second)


def test_data_that_failed_validation_is_refused_before_registering(tmp_path: Path) -> None:
    registry = FakeRegistry()
    with pytest.raises(RefusedError):
        run_step(tmp_path, write_inputs(tmp_path / "inputs", validation_success=False), registry)
    assert registry.calls == []


def test_codec_of_another_model_is_refused(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    (inputs["codec"] / "report.json").write_text("{}")
    with pytest.raises(IntegrityError, match="codec"):
        run_step(tmp_path, inputs, FakeRegistry())


def test_unreadable_manifest_is_named(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    (inputs["dataset"] / "manifest.parquet").write_bytes(b"no parquet")
    with pytest.raises(BadRecordError, match=r"manifest\.parquet"):
        run_step(tmp_path, inputs, FakeRegistry())


@pytest.mark.parametrize("options", [{"nmae": "x"}, {"name": "../x"}, {"name": "a/b"}, {"name": ""}])
def test_bad_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Config(**options)
