"""Evidence about a trained model and a picture, checked without the platform."""

import base64
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from governance.bundle import content
from governance.bundle.verify import SUMS, read_bundle, verify_files
from governance.digest import sha256_file
from governance.dsse import key_id
from infra.source_revision import source_revision
from tests.lone_python import run_alone
from tests.openlineage_schemas import Schemas
from tests.pipelines.calling import call
from tests.pipelines.conftest import Trained

STEPS = ("validate_data", "encode_latents", "train_dit", "evaluate", "register_model")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("auditor") / "verify.py"
    program.write_bytes(content.verifier())
    return program


@pytest.fixture(scope="module")
def home(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained.copy(tmp_path_factory.mktemp("evidence") / "home")


Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def check(lone_python: Path, verifier: Path) -> Check:
    """Runs the verifier as somebody does whose Python has `cryptography` and nothing else."""
    return lambda *arguments: run_alone(lone_python, verifier, *arguments)


def test_a_models_bundle_convinces_with_the_key_alone(home: Path, trained: Trained, check: Check, tmp_path: Path) -> None:
    version, bundle = trained.document["model_version"], tmp_path / "model.zip"
    exported = call(home, "--json", "bundle", "export", version, "-o", bundle)
    assert exported.exit_code == 0, exported.stderr
    files = read_bundle(bundle)
    assert {"MODEL_CARD.md", "DATA_CARD.md", "mlbom.cdx.json", "report.html", "lineage.json"} < set(files)
    assert b"CC0" in files["DATA_CARD.md"]
    (statement,) = (json.loads(data) for name, data in files.items() if name.startswith("attestations/"))
    public = (home / "keys" / "public" / "package-signing.pem").read_text()
    signer = SSlibKey.from_crypto(load_pem_public_key(public.encode()), keyid=key_id(public))
    assert len(Envelope.from_dict(statement).verify([signer], 1)) == 1  # another library's word for the signature
    payload = json.loads(base64.b64decode(statement["payload"]))
    assert payload["subject"][0]["name"] == version
    assert {one["name"] for one in payload["predicate"]["buildDefinition"]["resolvedDependencies"]} > {
        "dataset",
        "code:train_dit",
    }
    entries = [json.loads(json.loads(line)["entry"]) for line in files["entries.jsonl"].splitlines()]
    actions = {entry["action"] for entry in entries}
    assert {"dataset.imported", "step.completed", "model.registered", "identity.created", "key.created"} < actions
    events = json.loads(files["lineage.json"])
    assert {event["job"]["name"] for event in events} >= {"training.train_dit", "training.register_model"}
    held = check(bundle, "--key", home / "keys" / "public" / "log.pem")
    assert (held.returncode, held.stderr) == (0, "")
    assert f"model-version:{version}" in held.stdout
    with bundle.open("wb") as file:
        kept = {name: data for name, data in files.items() if name != SUMS}
        content.write_zip(file, content.with_checksums({**kept, "MODEL_CARD.md": b"# Trained on nothing\n"}))
    refused = check(bundle, "--key", home / "keys" / "public" / "log.pem")
    assert refused.returncode == 4
    assert "MODEL_CARD.md is not the file that was exported" in refused.stderr
    shown = call(home, "models", "show", version)
    assert "provenance" in shown.stdout
    assert "signed with package-signing" in shown.stdout
    verified = call(home, "audit", "verify")
    assert verified.exit_code == 0, verified.stdout + verified.stderr


def test_any_changed_byte_of_any_file_of_a_models_bundle_is_reported_naming_the_file(
    home: Path, trained: Trained, tmp_path: Path
) -> None:
    bundle = tmp_path / "model.zip"
    assert call(home, "bundle", "export", trained.document["model_version"], "-o", bundle).exit_code == 0
    files, key = read_bundle(bundle), (home / "keys" / "public" / "log.pem").read_bytes()
    assert verify_files(files, key).problems == []
    chosen = random.Random(6962)
    for name, data in files.items():
        for position in {0, len(data) - 1, *(chosen.randrange(len(data)) for _ in range(10))}:
            changed = bytearray(data)
            changed[position] ^= chosen.randrange(1, 256)
            problems = verify_files({**files, name: bytes(changed)}, key).problems
            assert any(problem.startswith(name) or (name == SUMS and SUMS in problem) for problem in problems), (
                name,
                position,
                problems,
            )


def test_events_of_a_run_hold_to_the_published_schemas_and_tell_how_good_the_data_are(home: Path, trained: Trained) -> None:
    schemas = Schemas()
    told = call(home, "lineage", trained.document["model_version"], "--format", "openlineage")
    events = [json.loads(line) for line in told.stdout.splitlines()]
    for event in events:
        schemas.check_event(event)
    own = [event["job"] for event in events if event["job"]["name"].startswith("training.")]
    assert {job["name"].partition(".")[2] for job in own} == set(STEPS)
    assert {job["facets"].get("sourceCodeLocation", {}).get("version", "") for job in own} == {source_revision()}
    (validated,) = (one for one in events if one["job"]["name"] == "training.validate_data" and one["eventType"] == "COMPLETE")
    (dataset,) = validated["inputs"]
    assertions = dataset["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert {"error", "warn"} == {each["severity"] for each in assertions}
    assert all(each["success"] for each in assertions if each["severity"] == "error")
    (digests,) = (each for each in assertions if each["description"] == "Digests are SHA-256")
    assert (digests["assertion"], digests["column"]) == ("expect_column_values_to_match_regex", "manifest.sha256")
    assert dataset["facets"]["groundswell_licences"]["licences"] == ["CC0-1.0"]


def test_a_pictures_bundle_leads_to_its_data(home: Path, trained: Trained, check: Check, tmp_path: Path) -> None:
    made = call(home, "--json", "generate", trained.document["model_version"], "--label", "cat", "-n", 1, "--out", tmp_path)
    assert made.exit_code == 0, made.stderr
    picture, bundle = Path(made.document["files"][0]["path"]), tmp_path / "picture.zip"
    exported = call(home, "bundle", "export", picture, "-o", bundle)
    assert exported.exit_code == 0, exported.stderr
    files = read_bundle(bundle)
    entries = [json.loads(json.loads(line)["entry"]) for line in files["entries.jsonl"].splitlines()]
    assert {"asset.generated", "model.registered", "dataset.imported"} < {entry["action"] for entry in entries}
    assert "MODEL_CARD.md" in files
    key = home / "keys" / "public" / "log.pem"
    assert check(bundle, "--key", key, "--file", picture).returncode == 0
    shown = call(home, "lineage", picture, "--format", "json").document["pictures"]
    assert (shown[0]["caption"], shown[0]["sha256"]) == ("The picture", sha256_file(picture))
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert check(bundle, "--key", key, "--file", picture).returncode == 4
