"""The story of docs/PROMOTION.md, from two trainings to a verified bundle, told by the command line alone."""

import base64
import hashlib
import json
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from groundswell.cli.main import main
from infra.mlflow_client import connect
from tests.pipelines.calling import run_training
from tests.pipelines.conftest import Trained, copy_home

POLICY = """
policy: groundswell-policy/1
name: strict
environment: production
approvals: {count: 2, roles: [ops, admin], at_least: {ops: 1}}
gates:
  licences: [CC0-1.0]
  evidence_max_age_days: 30
  thresholds: [{metric: kid, max: -1000}]
  non_inferiority: [{metric: kid, better: lower, margin: 1000}]
examples:
  - name: nothing is that good
    candidate: {metrics: {kid: 0.1}}
    refused_by: [threshold.kid]
"""


@dataclass(frozen=True)
class Answer:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


Teller = Callable[..., Answer]


@pytest.fixture(scope="module")
def twice(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which two models were trained; only copied."""
    home = trained.copy(tmp_path_factory.mktemp("twice") / "home")
    again = run_training(home, [*trained.settings, "train_dit.seed=5", "train_dit.num_steps=20"])
    assert again.exit_code == 0, again.stderr
    return home


@pytest.fixture
def folder(twice: Path, tmp_path: Path) -> Path:
    copy_home(twice, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def tell(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Teller:
    for name in ("GROUNDSWELL_HOME", "GROUNDSWELL_DATABASE_URL", "GROUNDSWELL_MLFLOW_URI", "GROUNDSWELL_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> Answer:
        capfd.readouterr()
        exit_code = main(["--home", str(folder), "--json", *map(str, arguments)])
        captured = capfd.readouterr()
        return Answer(exit_code, captured.out, captured.err)

    return call


def test_from_two_trainings_to_a_verified_bundle(folder: Path, tell: Teller, tmp_path: Path) -> None:
    models = [one["model"] for one in tell("models", "list").document["models"]]
    first, second = models
    name = first.partition("/")[0]
    for who, role in (("Ada", "data-scientist"), ("Olga", "ops"), ("Omar", "ops")):
        assert tell("identity", "create", who, "--role", role).exit_code == 0

    # A strict policy refuses, and says by which gate.
    policy = tmp_path / "production.yaml"
    policy.write_text(POLICY)
    assert tell("policy", "test", policy).exit_code == 0
    assert tell("--as", "Ada", "policy", "set", policy).exit_code == 5
    assert tell("policy", "set", policy).exit_code == 0
    refused = tell("--as", "Ada", "promote", "request", first)
    assert refused.exit_code == 5
    assert "refused by gate threshold.kid of production" in refused.document["error"]
    policy.write_text(POLICY.replace("max: -1000", "max: 1000").replace("refused_by: [threshold.kid]", "refused_by: []"))
    assert tell("policy", "set", policy).exit_code == 0

    # Two people, neither of whom asked or trained, let it in.
    request = tell("--as", "Olga", "promote", "request", first, "--reason", "the first that is good enough").document
    assert [gate for gate in request["gates"] if not gate["passed"]] == []
    assert tell("--as", "Olga", "promote", "approve", request["request"]).exit_code == 5
    tell("--as", "Olga", "promote", "withdraw", request["request"])
    first_request = promote(tell, first)
    client = connect(f"sqlite:///{folder}/groundswell.db", str(folder / "mlartifacts"))
    assert int(client.get_model_version_by_alias(name, "production").version) == 1

    # MLflow's own client, and plain SQL, are refused with what to do instead.
    with pytest.raises(MlflowException, match="groundswell promote request"):
        client.set_registered_model_alias(name, "production", "2")
    with closing(sqlite3.connect(folder / "groundswell.db")) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE registered_model_aliases SET version = 2")

    # The next champion, and back at once.
    promote(tell, second)
    assert int(client.get_model_version_by_alias(name, "production").version) == 2
    assert tell("--as", "Ada", "rollback", name, "--reason", "six fingers").exit_code == 5
    back = tell("--as", "Omar", "rollback", name, "--reason", "six fingers").document
    assert (back["model"], back["rolled_back"], back["request"]) == (first, second, first_request)
    assert int(client.get_model_version_by_alias(name, "production").version) == 1
    assert [one["model"] for one in tell("promote", "status").document["champions"]] == [first]

    # All of it is in evidence that needs no platform.
    assert tell("audit", "verify").document["problems"] == []
    bundle = tmp_path / "evidence.zip"
    files = tell("bundle", "export", f"{name}@production", "-o", bundle).document["files"]
    assert sum(file.startswith("approvals/") for file in files) == 2
    with zipfile.ZipFile(bundle) as archive:
        approvals = [json.loads(archive.read(file)) for file in files if file.startswith("approvals/")]
        kept = {hashlib.sha256(archive.read(file)).hexdigest() for file in files if file.startswith("promotion/")}
    for approval in approvals:
        predicate = json.loads(base64.b64decode(approval["payload"]))["predicate"]
        assert {predicate["evidenceRoot"], predicate["policyDigest"]} <= kept
    assert tell("bundle", "verify", bundle, "--key", folder / "keys" / "public" / "log.pem").exit_code == 0


def test_a_guard_that_was_taken_away_is_reported_and_put_back(folder: Path, tell: Teller) -> None:
    with closing(sqlite3.connect(folder / "groundswell.db")) as connection:
        connection.execute("DROP TRIGGER gs_guard_aliases_insert")
        connection.execute(
            "INSERT INTO registered_model_aliases (name, alias, version) SELECT name, 'production', 1 FROM model_versions LIMIT 1"
        )
        connection.commit()
    verified = tell("audit", "verify")
    assert verified.exit_code == 4
    assert any("gs_guard_aliases_insert" in problem for problem in verified.document["problems"])
    assert any("which nobody promoted" in problem for problem in verified.document["problems"])
    tell("runs", "list")
    again = tell("audit", "verify").document["problems"]
    assert [problem for problem in again if "gs_guard" in problem] == []


def promote(tell: Teller, model: str) -> str:
    """Has Ada request a model, and Olga and Omar approve it; returns the request."""
    request = tell("--as", "Ada", "promote", "request", model).document["request"]
    assert tell("--as", "Olga", "promote", "approve", request).document["state"] == "awaiting-approval"
    assert tell("--as", "Omar", "promote", "approve", request).document["state"] == "applied"
    return str(request)
