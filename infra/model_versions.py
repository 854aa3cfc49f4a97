"""Registered model versions: looked up by plain SQL, so that asking costs no import of MLflow."""

import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, Row, column, inspect, select, table

from governance.errors import IntegrityError, RefusedError, UnknownSubjectError
from governance.package_layout import SIGNATURE
from infra.database import Database
from infra.locking import lock
from infra.model_package import ModelPackage, open_with_key, require_folder
from infra.objects.store import get_tree, is_remote, local_path
from infra.package_keys import PackageKeys
from infra.tables import model_versions

_SPECIFIER = re.compile(r"(?P<name>[^/@\s]+)(?:/(?P<version>[1-9][0-9]{0,8})|@(?P<alias>[A-Za-z0-9._-]+))")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DELETED = "Deleted_Internal"

# MLflow's own tables.
_aliases = table("registered_model_aliases", column("name"), column("alias"), column("version"), column("workspace"))
_mlflow_versions = table("model_versions", column("name"), column("version"), column("current_stage"), column("workspace"))
_WORKSPACE = "default"


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered version of a model: our row, with MLflow's aliases of it.

    Attributes:
        name: The model's name.
        version: Its version.
        root_digest: The root digest of its package.
        location: Where the package is: a folder, or the URL of a place on a remote store, without credentials.
        run_id: The run that registered it.
        metrics: Evaluation metrics.
        inputs: Digests of what it was made from, by name.
        mlflow_model_id: MLflow's logged model.
        created: When it was registered.
        aliases: Environments that point at it.
    """

    name: str
    version: int
    root_digest: str
    location: str
    run_id: str | None
    metrics: Mapping[str, float]
    inputs: Mapping[str, str]
    mlflow_model_id: str | None
    created: str
    aliases: tuple[str, ...]

    @property
    def subject(self) -> str:
        """The version's name in ledger and lineage."""
        return f"model-version:{self.name}/{self.version}"


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """How MLflow's registry and ours differ, as ``name/version``.

    Attributes:
        unrecorded: In MLflow without our row and ledger entry; refused everywhere.
        vanished: Registered here, gone from MLflow.
    """

    unrecorded: tuple[str, ...]
    vanished: tuple[str, ...]


def find_version(db: Database, specifier: str) -> ModelVersion:
    """Returns the version that ``name/3`` or ``name@alias`` names.

    Raises:
        UnknownSubjectError: There is no such version or alias, or the specifier is neither form.
        IntegrityError: MLflow has the version, but it was never registered here.
    """
    match = _SPECIFIER.fullmatch(specifier)
    if match is None:
        raise UnknownSubjectError(f"{specifier!r} names no model version", hint="write name/3 or name@alias")
    name = match["name"]
    with db.read() as connection:
        version = int(match["version"]) if match["version"] else _aliased(connection, name, match["alias"])
        key = (model_versions.c.name == name) & (model_versions.c.version == version)
        row = connection.execute(select(model_versions).where(key)).first()
        if row is not None:
            return _version(connection, row)
        if (name, version) in _known_to_mlflow(connection):
            raise IntegrityError(
                f"{name}/{version} is in MLflow but was never registered here, so it is refused",
                hint="register models with the training pipeline; `groundswell models list` shows what is registered",
            )
    raise UnknownSubjectError(f"there is no model version {specifier}", hint="see `groundswell models list`")


def list_versions(db: Database) -> list[ModelVersion]:
    """Returns every registered version, by name and version."""
    with db.read() as connection:
        rows = connection.execute(select(model_versions).order_by(model_versions.c.name, model_versions.c.version)).all()
        return [_version(connection, row) for row in rows]


def versions_of(connection: Connection, root_digests: Collection[str]) -> list[ModelVersion]:
    """Returns the versions that some packages are registered as, by name and version."""
    rows = connection.execute(select(model_versions).order_by(model_versions.c.name, model_versions.c.version)).all()
    return [_version(connection, row) for row in rows if row.root_digest in root_digests]


def open_version(version: ModelVersion, keys: PackageKeys, cache: Path) -> ModelPackage:
    """Opens the package of a registered version after verifying all of it.

    A package on a remote store is brought into the cache first. What is in the cache is verified each time, and brought anew if
    it was damaged; the store is not asked as long as it verifies.

    Args:
        version: The version.
        keys: The package-signing keys, see `infra.home.Home.package_keys`.
        cache: Where packages from remote stores are kept, by root digest.

    Raises:
        IntegrityError: The package is not what was registered, naming the file; or none of the keys has signed it.
        RefusedError: The key that has signed it was revoked.
        BackendUnavailableError: The store cannot be reached.
    """
    digest = version.root_digest
    if not is_remote(version.location):
        return _open(local_path(version.location), digest, keys)
    if not _DIGEST.fullmatch(digest):
        raise IntegrityError(f"the root digest of {version.name}/{version.version} is none: {digest!r:.80}")
    folder, partial = cache / digest, cache / f"{digest}.partial"
    with lock(cache / f"{digest}.lock"):
        try:
            return _open(folder, digest, keys)
        except (IntegrityError, RefusedError):  # in the store it may be signed again
            shutil.rmtree(folder, ignore_errors=True)
        get_tree(version.location, partial)
        try:
            package = _open(partial, digest, keys)
        except (IntegrityError, RefusedError):
            shutil.rmtree(partial)
            raise
        partial.rename(folder)
        return replace(package, folder=folder)


def _open(folder: Path, digest: str, keys: PackageKeys) -> ModelPackage:
    require_folder(folder)
    return open_with_key(folder, expected_digest=digest, public_key=keys.of_signature(folder / SIGNATURE))


def reconcile(db: Database) -> Reconciliation:
    """Compares MLflow's registry with ours; to be asked at start."""
    with db.read() as connection:
        ours = {(row.name, row.version) for row in connection.execute(select(model_versions.c.name, model_versions.c.version))}
        theirs = _known_to_mlflow(connection)
    return Reconciliation(unrecorded=_names(theirs - ours), vanished=_names(ours - theirs))


def _aliased(connection: Connection, name: str, alias: str) -> int:
    found = None
    if inspect(connection).has_table(_aliases.name):
        key = (_aliases.c.name == name) & (_aliases.c.alias == alias) & (_aliases.c.workspace == _WORKSPACE)
        found = connection.execute(select(_aliases.c.version).where(key)).scalar()
    if found is None:
        raise UnknownSubjectError(f"model {name} has no alias {alias}", hint="see `groundswell models list`")
    return int(found)


def _known_to_mlflow(connection: Connection) -> set[tuple[str, int]]:
    if not inspect(connection).has_table(_mlflow_versions.name):
        return set()
    versions = _mlflow_versions.c
    query = select(versions.name, versions.version).where(versions.current_stage != _DELETED, versions.workspace == _WORKSPACE)
    return {(row.name, int(row.version)) for row in connection.execute(query)}


def _version(connection: Connection, row: Row[tuple[object, ...]]) -> ModelVersion:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    aliases: tuple[str, ...] = ()
    if inspect(connection).has_table(_aliases.name):
        key = (_aliases.c.name == row.name) & (_aliases.c.version == row.version) & (_aliases.c.workspace == _WORKSPACE)
        aliases = tuple(sorted(connection.execute(select(_aliases.c.alias).where(key)).scalars()))
    values |= {"metrics": json.loads(values["metrics"]), "inputs": json.loads(values["inputs"])}
    return ModelVersion(**values, aliases=aliases)


def _names(versions: set[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(f"{name}/{version}" for name, version in sorted(versions))
