import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from governance.errors import IntegrityError, UnknownSubjectError
from governance.package_layout import SIGNATURE
from infra.database import Database
from infra.errors import BackendUnavailableError
from infra.mlflow_client import connect, ensure_experiment
from infra.mlflow_registry import MlflowRegistry, find_version, list_versions, open_version, reconcile
from infra.model_package import package_root_digest
from infra.package_keys import PackageKeys
from infra.tables import artifacts, ledger_entries, model_versions
from tests.infra.package_inputs import NAME, copy_home_with_schema, make_package, package_keys, write_key

METRICS = {"kid": 0.0731, "category_accuracy": 0.8125}
INPUTS = {"dataset": "da" * 32, "codec": "c0" * 32}


@dataclass
class Home:
    uri: str
    root: str
    db: Database
    private: Path
    public: PackageKeys
    cache: Path

    def registry(self, mlflow_run_id: str | None = None) -> MlflowRegistry:
        return MlflowRegistry(self.db, self.uri, self.root, self.private, "alice", "run-1", lambda: mlflow_run_id)

    def register(self, package: Path, **options: Any) -> Any:
        return self.registry(**options).register(package, name=NAME, metrics=METRICS, inputs=INPUTS)

    def mlflow(self) -> Any:
        return connect(self.uri, self.root)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    folder = tmp_path / "home"
    copy_home_with_schema(folder)
    uri = f"sqlite:///{folder / 'groundswell.db'}"
    private, public = write_key(tmp_path / "keys")
    with Database.open(uri) as db:
        yield Home(
            uri=uri,
            root=str(folder / "mlartifacts"),
            db=db,
            private=private,
            public=package_keys(public),
            cache=tmp_path / "cache",
        )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path / "made")


REGISTERED = select(ledger_entries).where(ledger_entries.c.action == "model.registered")


def test_registering_records_version_artifact_and_entry_together(home: Home, package: Path) -> None:
    registered = home.register(package)
    assert (registered.name, registered.version) == (NAME, 1)
    assert registered.root_digest == package_root_digest(package)
    assert (package / SIGNATURE).is_file()
    with home.db.read() as connection:
        row = connection.execute(select(model_versions)).one()
        artifact = connection.execute(select(artifacts)).one()
        entry = connection.execute(REGISTERED).one()
    assert (row.root_digest, row.run_id) == (registered.root_digest, "run-1")
    assert (artifact.kind, artifact.digest, artifact.location) == ("package", registered.root_digest, row.location)
    assert (entry.action, entry.subject, entry.run_id) == ("model.registered", f"model-version:{NAME}/1", "run-1")
    assert registered.root_digest.encode() in entry.entry
    assert b'"kid":"0.0731"' in entry.entry


def test_registered_package_opens_from_the_artifact_store(home: Home, package: Path) -> None:
    home.register(package)
    shutil.rmtree(package)
    version = find_version(home.db, f"{NAME}/1")
    opened = open_version(version, home.public, home.cache)
    assert opened.root_digest == version.root_digest
    assert str(opened.folder).startswith(home.root)


def test_mlflow_links_run_model_and_data(home: Home, package: Path) -> None:
    client = home.mlflow()
    run_id = client.create_run(ensure_experiment(client, "training", home.root)).info.run_id
    home.register(package, mlflow_run_id=run_id)
    version = client.get_model_version(NAME, "1")
    assert version.run_id == run_id
    assert version.tags["root_digest"] == package_root_digest(package)
    assert version.tags["dataset_digest"] == INPUTS["dataset"]
    model = client.get_logged_model(version.tags["logged_model_id"])
    assert model.source_run_id == run_id
    assert {m.key: m.value for m in model.metrics} == METRICS
    run = client.get_run(run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert run.inputs.dataset_inputs[0].dataset.digest == INPUTS["dataset"][:36]


def test_same_package_keeps_its_version(home: Home, package: Path) -> None:
    assert home.register(package).version == home.register(package).version == 1
    assert len(home.mlflow().search_model_versions(f"name = '{NAME}'")) == 1
    with home.db.read() as connection:
        assert len(connection.execute(REGISTERED).all()) == 1


def test_other_package_gets_the_next_version(home: Home, package: Path, tmp_path: Path) -> None:
    home.register(package)
    assert home.register(make_package(tmp_path / "other", weight=0.75)).version == 2
    assert [v.version for v in list_versions(home.db)] == [1, 2]


def test_attempt_that_died_before_our_row_is_taken_up(home: Home, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: object, **kwargs: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowRegistry, "_record", die)
        with pytest.raises(KeyboardInterrupt):
            home.register(package)
    assert reconcile(home.db).unrecorded == (f"{NAME}/1",)
    with pytest.raises(IntegrityError, match="never registered"):
        find_version(home.db, f"{NAME}/1")
    assert home.register(package).version == 1
    assert reconcile(home.db) == type(reconcile(home.db))(unrecorded=(), vanished=())
    assert len(home.mlflow().search_model_versions(f"name = '{NAME}'")) == 1


def test_stranger_in_mlflow_is_reported_and_refused(home: Home, package: Path) -> None:
    home.register(package)
    client = home.mlflow()
    client.create_model_version(NAME, source=str(package), await_creation_for=0)
    client.set_registered_model_alias(NAME, "best", "2")
    assert reconcile(home.db).unrecorded == (f"{NAME}/2",)
    for specifier in (f"{NAME}/2", f"{NAME}@best"):
        with pytest.raises(IntegrityError, match="refused"):
            find_version(home.db, specifier)
    assert [v.version for v in list_versions(home.db)] == [1]


def test_version_deleted_in_mlflow_is_reported(home: Home, package: Path) -> None:
    home.register(package)
    home.mlflow().delete_model_version(NAME, "1")
    assert reconcile(home.db).vanished == (f"{NAME}/1",)


def test_alias_names_a_version(home: Home, package: Path) -> None:
    home.register(package)
    home.mlflow().set_registered_model_alias(NAME, "best", "1")
    version = find_version(home.db, f"{NAME}@best")
    assert (version.version, version.aliases, version.subject) == (1, ("best",), f"model-version:{NAME}/1")
    assert version.metrics == METRICS
    assert version.inputs == INPUTS


@pytest.mark.parametrize("specifier", ["x/1", f"{NAME}/9", f"{NAME}@production", NAME, "", "a/b/1", f"{NAME}/0", f"{NAME}/1; --"])
def test_unknown_version_is_bad_input(home: Home, package: Path, specifier: str) -> None:
    home.register(package)
    with pytest.raises(UnknownSubjectError):
        find_version(home.db, specifier)


def test_lookups_work_before_mlflow_has_tables(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path / 'groundswell.db'}") as db:
        assert list_versions(db) == []
        assert reconcile(db).unrecorded == ()
        with pytest.raises(UnknownSubjectError):
            find_version(db, f"{NAME}@best")


def test_flipped_byte_in_the_store_is_found(home: Home, package: Path) -> None:
    home.register(package)
    version = find_version(home.db, f"{NAME}/1")
    weights = Path(version.location) / "transformer.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(IntegrityError, match=r"transformer\.safetensors"):
        open_version(version, home.public, home.cache)
    with pytest.raises(IntegrityError, match=r"transformer\.safetensors"):
        home.register(package)


def test_incomplete_package_leaves_nothing_behind(home: Home, package: Path) -> None:
    (package / "MODEL_CARD.md").unlink()
    with pytest.raises(IntegrityError, match=r"MODEL_CARD\.md"):
        home.register(package)
    with home.db.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM model_versions")).scalar() == 0
    assert list_versions(home.db) == []


def test_mlflow_out_of_reach_is_a_backend_error(home: Home, package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    registry = MlflowRegistry(
        home.db, f"sqlite:///{tmp_path / 'file' / 'x.db'}", home.root, home.private, "alice", "run-1", lambda: None
    )
    with pytest.raises(BackendUnavailableError):
        registry.register(package, name=NAME, metrics=METRICS, inputs=INPUTS)
    assert list_versions(home.db) == []
