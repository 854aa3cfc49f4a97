"""The registry port on MLflow: signs a package, stores it as a logged model, registers a version of it.

The package is stored and verified first, at the location of a logged model that is still pending; MLflow only records where. Then
MLflow's version is made, outside any unit of work. It counts as registered when our row and its ledger entry commit together; an
MLflow version without them is refused everywhere. Wherever the process dies, the next attempt at the same package takes up the
pending model, whose objects are not sent again, or the version that MLflow already has.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from governance import dsse
from governance.canonical import canonical_text, decimals
from governance.errors import IntegrityError
from governance.model_records import RegisteredModel
from governance.package_layout import SIGNATURE
from governance.platform_keys import fingerprint_of, require_unrevoked
from infra.database import Database
from infra.key_pem import public_pem
from infra.keys import PACKAGE_KEY
from infra.mlflow_client import connect, ensure_experiment, translated_mlflow_errors
from infra.model_package import ModelPackage, open_with_key, sign_package
from infra.model_signature import load_private_key, signer_of
from infra.model_versions import ModelVersion, Reconciliation, find_version, list_versions, open_version, reconcile
from infra.objects.store import is_remote, local_path, open_store, put_tree, verify_tree
from infra.platform_keys import key_history
from infra.tables import artifacts, model_versions

__all__ = ["MlflowRegistry", "ModelVersion", "Reconciliation", "find_version", "list_versions", "open_version", "reconcile"]

_EXPERIMENT = "groundswell-models"  # for a model that was registered outside any MLflow run
_DIGEST_LENGTH = 36  # MLflow's column for a data set's digest; the whole one is in the tags
_ROOT_DIGEST = "root_digest"
_FAILED = "FAILED"
_MODEL_ID = "logged_model_id"  # a tag, because a database store does not keep the version's own field


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A version as MLflow has it."""

    version: int
    location: str
    model_id: str


class MlflowRegistry:
    """Registers model packages for one run.

    Args:
        db: The home's database.
        tracking_uri: MLflow's store or server.
        artifact_root: Where MLflow keeps artifacts.
        private_key_pem: The package-signing key.
        actor: The identity that registers.
        run_id: The groundswell run.
        mlflow_run_id: Gives MLflow's id of the step's run, None if there is none; may wait for it.
    """

    def __init__(
        self,
        db: Database,
        tracking_uri: str,
        artifact_root: str,
        private_key_pem: Path,
        actor: str,
        run_id: str,
        mlflow_run_id: Callable[[], str | None],
    ) -> None:
        self._db = db
        self._tracking_uri = tracking_uri
        self._artifact_root = artifact_root
        self._private_key_pem = private_key_pem
        self._actor = actor
        self._run_id = run_id
        self._mlflow_run_id = mlflow_run_id

    def register(self, package: Path, *, name: str, metrics: Mapping[str, float], inputs: Mapping[str, str]) -> RegisteredModel:
        """Signs a finished package and registers it; a package already registered under this name keeps its version.

        Args:
            package: The folder of the package, complete but for its signature.
            name: The model's name.
            metrics: Evaluation metrics to log with the version.
            inputs: Digests of what it was made from, by name.

        Raises:
            IntegrityError: The folder is not exactly a package, or an earlier registration of it was tampered with.
            RefusedError: The key was revoked while the package was stored.
            BackendUnavailableError: MLflow or the database cannot be reached or written.
            BadSettingError: The key cannot be used.
        """
        signed = sign_package(package, self._private_key_pem)
        with self._db.read() as connection:
            existing = _find_existing(connection, name, signed.root_digest)
        if existing is not None:
            version, location = existing
            self._verify_stored(signed, location)
        else:
            with translated_mlflow_errors(self._tracking_uri):
                stored = self._store(signed, name=name, metrics=metrics, inputs=inputs)
            version = self._record(stored, name=name, root_digest=signed.root_digest, metrics=metrics, inputs=inputs)
        return RegisteredModel(name=name, version=version, root_digest=signed.root_digest)

    def _store(self, package: ModelPackage, *, name: str, metrics: Mapping[str, float], inputs: Mapping[str, str]) -> _Stored:
        client = connect(self._tracking_uri, self._artifact_root, database=self._db)
        run_id = self._mlflow_run_id()
        run = client.get_run(run_id) if run_id is not None else None
        experiment_id = run.info.experiment_id if run else ensure_experiment(client, _EXPERIMENT, self._artifact_root)
        open_store(client.get_experiment(experiment_id).artifact_location)  # refuses a place where nothing can be stored
        versions = list(client.search_model_versions(f"name = '{name}'"))
        unfinished = self._unfinished_version(client, versions, package, name)
        if unfinished is not None:
            return unfinished
        tags = {_ROOT_DIGEST: package.root_digest, "groundswell.run_id": self._run_id}
        tags |= {f"{kind}_digest": digest for kind, digest in inputs.items()}
        taken = {version.tags.get(_MODEL_ID) for version in versions}
        model = _unfinished_model(client, experiment_id, name, package.root_digest, taken) or client.create_logged_model(
            experiment_id, name=name, source_run_id=run_id, tags=tags, model_type="groundswell"
        )
        self._store_verified(package, model.artifact_location)
        if run is not None:
            _link(client, run, model, metrics=metrics, inputs=inputs)
        client.finalize_logged_model(model.model_id, "READY")
        _ensure_registered_model(client, name)
        created = client.create_model_version(
            name,
            source=model.artifact_location,
            run_id=run_id,
            tags={**tags, _MODEL_ID: model.model_id},
            model_id=model.model_id,
            await_creation_for=0,
        )
        return _Stored(version=int(created.version), location=_location(model), model_id=model.model_id)

    def _unfinished_version(self, client: Any, versions: list[Any], package: ModelPackage, name: str) -> _Stored | None:
        """Returns the version of this package that an attempt left in MLflow before our row was written."""
        with self._db.read() as connection:
            recorded = set(connection.execute(select(model_versions.c.version).where(model_versions.c.name == name)).scalars())
        for found in versions:
            model_id = found.tags.get(_MODEL_ID)
            if int(found.version) in recorded or found.tags.get(_ROOT_DIGEST) != package.root_digest or not model_id:
                continue
            model = client.get_logged_model(model_id)
            try:
                self._store_verified(package, model.artifact_location)
            except IntegrityError:
                continue
            return _Stored(version=int(found.version), location=_location(model), model_id=model_id)
        return None

    def _store_verified(self, package: ModelPackage, location: str) -> None:
        put_tree(package.folder, location)
        self._verify_stored(package, location)

    def _verify_stored(self, package: ModelPackage, location: str) -> None:
        """Verifies a stored package; on a remote store by its digests, and its signature when it is opened.

        The signature is another one each time that the same package is signed, and may be of a key that was rotated since.
        """
        public_key = load_private_key(self._private_key_pem).public_key()
        signer = dsse.key_id(public_pem(public_key).decode())
        if is_remote(location) or signer_of(local_path(location) / SIGNATURE) != signer:
            verify_tree(package.folder, location, unchecked={SIGNATURE})
        else:
            open_with_key(local_path(location), expected_digest=package.root_digest, public_key=public_key)

    def _record(
        self, stored: _Stored, *, name: str, root_digest: str, metrics: Mapping[str, float], inputs: Mapping[str, str]
    ) -> int:
        signer = fingerprint_of(public_pem(load_private_key(self._private_key_pem).public_key()).decode())
        with self._db.unit_of_work() as uow:
            require_unrevoked(key_history(uow.connection, PACKAGE_KEY), signer)
            existing = _find_existing(uow.connection, name, root_digest)
            if existing is not None:
                return existing[0]
            uow.connection.execute(
                insert(model_versions).values(
                    name=name,
                    version=stored.version,
                    root_digest=root_digest,
                    location=stored.location,
                    run_id=self._run_id,
                    metrics=canonical_text(dict(metrics), floats=True),
                    inputs=canonical_text(dict(inputs)),
                    mlflow_model_id=stored.model_id,
                    created=uow.time,
                )
            )
            _insert_artifact(uow.connection, root_digest, location=stored.location, name=name, created=uow.time)
            details = {
                "name": name,
                "version": stored.version,
                "root_digest": root_digest,
                "inputs": dict(inputs),
                "metrics": decimals(dict(metrics)),
                "mlflow_model_id": stored.model_id,
                "created": uow.time,
                "public_key_sha256": signer,
            }
            uow.append(
                "model.registered", f"model-version:{name}/{stored.version}", details, actor=self._actor, run_id=self._run_id
            )
        return stored.version


def _find_existing(connection: Connection, name: str, root_digest: str) -> tuple[int, str] | None:
    key = (model_versions.c.name == name) & (model_versions.c.root_digest == root_digest)
    row = connection.execute(select(model_versions.c.version, model_versions.c.location).where(key)).first()
    return None if row is None else (int(row.version), str(row.location))


def _insert_artifact(connection: Connection, digest: str, *, location: str, name: str, created: str) -> None:
    key = (artifacts.c.digest == digest) & (artifacts.c.kind == "package")
    if connection.execute(select(artifacts.c.digest).where(key)).first() is None:
        facts = canonical_text({"name": name})
        connection.execute(
            insert(artifacts).values(digest=digest, kind="package", location=location, facts=facts, created=created)
        )


def _ensure_registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _link(client: Any, run: Any, model: Any, *, metrics: Mapping[str, float], inputs: Mapping[str, str]) -> None:
    """Links run, model and data in MLflow, and logs the metrics with the model; safe to do again."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric

    run_id, model_id, now_ms = run.info.run_id, model.model_id, model.creation_timestamp
    if model_id not in {output.model_id for output in (run.outputs.model_outputs if run.outputs else ())}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    if (digest := inputs.get("dataset")) is not None:
        source = json.dumps({"sha256": digest})
        dataset = Dataset("dataset", digest[:_DIGEST_LENGTH], source_type="groundswell", source=source)
        client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.log_batch(run_id, metrics=[Metric(key, v, now_ms, 0, model_id=model_id, run_id=run_id) for key, v in metrics.items()])


def _unfinished_model(client: Any, experiment_id: str, name: str, root_digest: str, taken: set[str | None]) -> Any:
    """Returns the logged model that an attempt at this package began and made no version of, None if there is none."""
    words = f"name = '{name}' AND tags.{_ROOT_DIGEST} = '{root_digest}'"
    models = client.search_logged_models([experiment_id], filter_string=words)
    return next((model for model in models if model.model_id not in taken and model.status != _FAILED), None)


def _location(model: Any) -> str:
    location = str(model.artifact_location)
    return location if is_remote(location) else str(local_path(location))
