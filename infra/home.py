"""A home: the folder that holds everything groundswell keeps on one machine, and the database behind it."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import inspect

from infra.database import Database
from infra.errors import BackendUnavailableError, BadSettingError
from infra.identities import initialise_home
from infra.keys import PACKAGE_KEY, Keys
from infra.settings import Settings, child_environment, user_name

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
    def open(cls, settings: Settings, *, create: bool = True) -> "Home":
        """Opens a home, after making what it lacks.

        Args:
            settings: Where it is.
            create: Whether to make a home where there is none.

        Raises:
            BadSettingError: There is no home, and none is to be made.
            BackendUnavailableError: The folder or the database cannot be written.
            IntegrityError: The database is damaged.
        """
        path = settings.home
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
        home = cls(settings=settings, database=Database.open(settings.database_url), keys=Keys.create(path / "keys"))
        initialise_home(home.database, home.keys, admin_name=user_name())
        return home

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
    def runs_dir(self) -> Path:
        """Logs and progress of runs."""
        return self.path / "runs"

    @property
    def package_signing_key(self) -> Path:
        """The private key that signs packages."""
        return self.keys.private_path(PACKAGE_KEY)

    @property
    def package_public_key(self) -> Path:
        """The public key that packages are verified with."""
        return self.keys.public_path(PACKAGE_KEY)

    def run_folder(self, run_id: str) -> Path:
        """Returns the folder with the logs and progress of one run."""
        return self.runs_dir / run_id

    @cached_property
    def has_mlflow_schema(self) -> bool:
        """Whether MLflow's tables are in the database."""
        return bool(inspect(self.database.engine).has_table("registered_models"))

    def begin_mlflow_schema(self) -> None:
        """Begins to make MLflow's tables, in a process of its own; whoever needs them first waits for it."""
        uri = self.settings.mlflow_tracking_uri
        if uri.partition(":")[0] not in {"http", "https"} and not self.has_mlflow_schema:
            subprocess.Popen(
                [sys.executable, "-m", "infra.mlflow_init", uri, self.settings.artifact_root],
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
