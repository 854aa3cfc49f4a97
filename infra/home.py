"""A home: the folder that holds everything groundswell keeps on one machine, and the database behind it."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select

from governance.ledger import parse_entry
from governance.platform_keys import CREATED, ROTATED, require_signing
from infra.append_failures import count_failure
from infra.database import Database
from infra.errors import BackendUnavailableError, BadSettingError
from infra.identities import initialise_home
from infra.keys import LOG_KEY, PACKAGE_KEY, PLATFORM_KEYS, Keys
from infra.mlflow_client import is_server, other_database
from infra.promotion.guards import install_guards
from infra.settings import Settings, child_environment, user_name
from infra.tables import ledger_entries

if TYPE_CHECKING:
    from infra.package_keys import PackageKeys

SHIPPED = "shipped"


@dataclass(frozen=True)
class Home:
    """An open home; cheap to open.

    Attributes:
        settings: Where it and its backends are.
        database: The one database.
        keys: Its keys.
    """

    settings: Settings
    database: Database
    keys: Keys

    @classmethod
    def open(cls, settings: Settings, *, create: bool = True, keep_guards: bool = True) -> "Home":
        """Opens a home, after making what it lacks.

        Args:
            settings: Where it is.
            create: Whether to make a home where there is none.
            keep_guards: Whether to put back triggers around MLflow's aliases that are missing; not where somebody is to be told.

        Raises:
            BadSettingError: There is no home, and none is to be made; or its keys are not those of its database.
            BackendUnavailableError: The folder or the database cannot be written.
            IntegrityError: The database is damaged.
        """
        path = settings.home
        settings.export()
        if not create and not (path / "keys").is_dir():
            raise BadSettingError(
                f"there is no home at {path}", hint="`groundswell run training` makes one; or name it with --home"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackendUnavailableError(
                f"the home {path} cannot be made: {error.strerror}", hint="name another with --home"
            ) from error
        database = Database.open(settings.database_url)
        database.on_failure = partial(count_failure, path / "metrics")
        try:
            _settle_keys(database, path / "keys")
            _check_keys(database, path / "keys")
            keys = Keys.create(path / "keys")
            initialise_home(database, keys, admin_name=user_name())
            _check_keys(database, path / "keys")  # another host may have made its home on the same new database
            if keep_guards:
                install_guards(database)
        except BaseException:
            database.close()
            raise
        return cls(settings=settings, database=database, keys=keys)

    @property
    def path(self) -> Path:
        """The home's folder."""
        return self.settings.home

    @property
    def work(self) -> Path:
        """Work by fingerprint: outputs and checkpoints."""
        return self.path / "work"

    @property
    def datasets(self) -> Path:
        """Imported datasets."""
        return self.path / "datasets"

    @property
    def reports(self) -> Path:
        """Lineage reports."""
        return self.path / "reports"

    @property
    def metrics(self) -> Path:
        """Prometheus text files."""
        return self.path / "metrics"

    @property
    def quarantine(self) -> Path:
        """Outputs that were not what they were recorded to be."""
        return self.path / "quarantine"

    @property
    def package_cache(self) -> Path:
        """Packages by root digest that were brought here from a remote store."""
        return self.path / "cache" / "packages"

    def step_cache(self, step: str) -> Path:
        """Where a step keeps what depends on its inputs alone and can be made again."""
        return self.path / "cache" / step

    @property
    def runs_dir(self) -> Path:
        """Logs and progress of runs."""
        return self.path / "runs"

    @property
    def package_signing_key(self) -> Path:
        """The private key that signs packages.

        Raises:
            RefusedError: It was revoked.
        """
        self.require_signing_key()
        return self.keys.private_path(PACKAGE_KEY)

    @property
    def package_keys(self) -> "PackageKeys":
        """The public keys that packages are verified with: those that the signed ledger names.

        Raises:
            IntegrityError: The ledger does not hold where it names them.
        """
        from infra.package_keys import PackageKeys, proven_history

        with self.database.read() as connection:
            return PackageKeys(proven_history(connection, PACKAGE_KEY, self.keys).keys)

    def require_signing_key(self) -> None:
        """Checks that packages can be signed; to be asked before there is work that ends with it.

        Raises:
            RefusedError: The key was revoked, and another is to be made first.
        """
        from infra.platform_keys import key_history

        with self.database.read() as connection:
            require_signing(key_history(connection, PACKAGE_KEY))

    def run_folder(self, run_id: str) -> Path:
        """Returns the folder with the logs and progress of one run."""
        return self.runs_dir / run_id

    @cached_property
    def has_mlflow_schema(self) -> bool:
        """Whether MLflow's tables are in the database, whoever made them."""
        with self.database.read() as connection:
            return bool(inspect(connection).has_table("registered_models"))

    def begin_mlflow_schema(self) -> None:
        """Begins to make MLflow's tables, in a process of its own; whoever needs them first waits for it.

        Where an MLflow server stands before the database, making them is the server's business.

        Raises:
            BackendUnavailableError: There is a server, but its tables are not in the database.
        """
        if self.has_mlflow_schema:
            return
        uri = self.settings.mlflow_tracking_uri
        if is_server(uri):
            raise other_database(uri, self.database.name)
        subprocess.Popen(
            [sys.executable, "-m", "infra.mlflow_init", str(self.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
        )

    def codec_folder(self, codec: str) -> Path:
        """Returns the folder of a codec.

        Args:
            codec: ``shipped``, or a folder.

        Raises:
            BadSettingError: There is no codec there.
        """
        if codec == SHIPPED:
            from infra.shipped_codec import import_shipped_codec

            return import_shipped_codec(self.database, self.path / "codecs")
        folder = Path(codec).expanduser().absolute()
        if not (folder / "config.json").is_file():
            raise BadSettingError(
                f"there is no codec at {folder}", hint="`groundswell run codec` trains one; its outcome names the folder"
            )
        return folder


def _settle_keys(database: Database, folder: Path) -> None:
    """Has a rotation that died finished, or taken back."""
    keys = Keys(folder)
    if any(keys.staged_path(name).exists() for name in PLATFORM_KEYS):
        from infra.key_rotation import settle_rotations

        settle_rotations(database, keys)


def _check_keys(database: Database, folder: Path) -> None:
    """Refuses a home on the database of another: its checkpoints and packages would be signed by keys that nobody knows."""
    with database.read() as connection:
        known = {name: pem for name in (LOG_KEY, PACKAGE_KEY) if (pem := _known_key(connection, name)) is not None}
    for name, pem in known.items():
        path = folder / "public" / f"{name}.pem"
        if not (path.is_file() and path.read_text(encoding="utf-8") == pem):
            raise BadSettingError(
                f"the keys in {folder} are not those of database {database.name}",
                hint="hosts on one database share one home's keys: copy that home's keys folder here",
            )


def _known_key(connection: Connection, name: str) -> str | None:
    """Returns the current key of a name, without a look at those before it."""
    columns = ledger_entries.c
    query = select(columns.entry).where(columns.subject == f"key:{name}", columns.action.in_((CREATED, ROTATED)))
    data = connection.execute(query.order_by(columns.index.desc()).limit(1)).scalar()
    pem = parse_entry(bytes(data)).details.get("public_key_pem") if data is not None else None
    return pem if isinstance(pem, str) else None
