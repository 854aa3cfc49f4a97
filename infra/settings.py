"""The settings of a home. This is the only module that reads the environment."""

import getpass
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from infra.errors import BadSettingError

_FILE_NAME = "settings.toml"
_KEYS = {
    "database_url": "GROUNDSWELL_DATABASE_URL",
    "mlflow_tracking_uri": "GROUNDSWELL_MLFLOW_URI",
    "artifact_root": "GROUNDSWELL_ARTIFACT_ROOT",
    "container_memory": "GROUNDSWELL_CONTAINER_MEMORY",
    "witnesses": "GROUNDSWELL_WITNESSES",
    "webhooks": "GROUNDSWELL_WEBHOOKS",
    "webhook_secret_file": "GROUNDSWELL_WEBHOOK_SECRET_FILE",
    "content_producer": "GROUNDSWELL_CONTENT_PRODUCER",
    "watermark": "GROUNDSWELL_WATERMARK",
}
_ENVIRONMENT = "environment"
_IMAGES = "GROUNDSWELL_IMAGES"
PASSPHRASE_FILE = "GROUNDSWELL_PASSPHRASE_FILE"  # noqa: S105 - a variable's name
"""The variable that names the file with the passphrase of whoever acts; the passphrase itself stands in no variable."""
TRAIN_JOB = "GROUNDSWELL_TRAIN_JOB"
"""The variable by which a compiled pipeline tells a training step to train on a cluster's machines."""
_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
)
_BACKEND_VARIABLES = (
    *_SECRETS,
    "AWS_CA_BUNDLE",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_USERNAME",
    "PGSSLMODE",
    "PGSSLROOTCERT",
)
_QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "False",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PYTHONUNBUFFERED": "1",
}
# What a step's result, or its speed, may depend on.
_COMPUTE_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
_MAX_PRODUCER = 200
_MIN_SECRET_LENGTH = 4  # a shorter one would blot out half of every message


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where a home and its backends are.

    Attributes:
        home: The folder of the home, absolute.
        database_url: SQLAlchemy URL of the one database.
        mlflow_tracking_uri: MLflow's tracking and registry store; the same database unless a server stands before it.
        artifact_root: Where MLflow keeps artifacts: a folder, or a URL.
        backends: What the backends' libraries read from the environment (``AWS_*``, ``PG*``, ``MLFLOW_TRACKING_*``), by name;
            some of it secret.
        container_memory: The most memory that a step's container may take, as an engine writes it (``8g``); empty for no bound.
        images: The steps' images by step, as ``name@digest``; empty where steps run outside containers.
        witnesses: Where signed checkpoints are kept outside the home: folders and ``s3://`` URLs.
        webhooks: Who is told about promotions: URLs of http or https, which may hold a token.
        webhook_secret_file: The file with what such messages are signed with.
        content_producer: Who makes what is generated here, as the label in each file says it.
        watermark: Whether what is generated here gets an invisible mark.
        train_job: What TrainJobs are made with where training is a cluster's machines' work, as JSON of
            `infra.train_jobs.plan.TrainJobPlan`; empty where the training step does it itself.
        kubeconfig: The file that names the cluster; empty in one of its pods, or for the user's own.
    """

    home: Path
    database_url: str = field(repr=False)
    mlflow_tracking_uri: str = field(repr=False)
    artifact_root: str
    backends: Mapping[str, str] = field(default_factory=dict, repr=False)
    container_memory: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    witnesses: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = field(default=(), repr=False)
    webhook_secret_file: str = ""
    content_producer: str = "groundswell"
    watermark: bool = True
    train_job: str = ""
    kubeconfig: str = ""

    @classmethod
    def load(cls, home: Path | None = None) -> "Settings":
        """Returns the settings: environment over the home's ``settings.toml`` over the embedded defaults.

        Each variable ``NAME`` may also be given as ``NAME_FILE``, the path of a file that holds its value.

        Args:
            home: The home's folder; otherwise ``GROUNDSWELL_HOME``, otherwise ``.groundswell`` in the working folder.

        Raises:
            BadSettingError: ``settings.toml`` cannot be parsed, has an unknown key, or has a secret and others can read it; the
                producer's name is none; the watermark is neither on nor off;
                a file that a variable names cannot be read; the artifact root has credentials; the path cannot stand in a URL.
        """
        path = Path(home or os.environ.get("GROUNDSWELL_HOME") or ".groundswell").expanduser().absolute()
        if any(character in str(path) for character in "?#%"):
            raise BadSettingError(
                f"the home {path} has one of ? # % in its path", hint="such a path cannot stand in a database's URL"
            )
        stored = _read_file(path / _FILE_NAME)
        values = {key: _variable(name) or stored.get(key, "") for key, name in _KEYS.items()}
        for what in ("artifact_root", "witnesses"):
            if any("@" in urlsplit(url.strip()).netloc for url in values[what].split(",")):
                raise BadSettingError(
                    f"the setting {what} has credentials in it",
                    hint="leave them out and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which are never shown",
                )
        database_url = values["database_url"] or f"sqlite:///{path / 'groundswell.db'}"
        backends = {name: _variable(name) or stored.get(_ENVIRONMENT, {}).get(name, "") for name in _BACKEND_VARIABLES}
        return cls(
            home=path,
            database_url=database_url,
            mlflow_tracking_uri=values["mlflow_tracking_uri"] or database_url,
            artifact_root=values["artifact_root"] or str(path / "mlartifacts"),
            backends={name: value for name, value in backends.items() if value},
            container_memory=values["container_memory"],
            images=_images(),
            witnesses=_listed(values["witnesses"]),
            webhooks=_listed(values["webhooks"]),
            webhook_secret_file=values["webhook_secret_file"],
            content_producer=_producer(values["content_producer"]),
            watermark=_switch("watermark", values["watermark"]),
            train_job=os.environ.get(TRAIN_JOB, ""),
            kubeconfig=os.environ.get("KUBECONFIG", ""),
        )

    def export(self) -> None:
        """Puts what the backends' libraries read into this process's environment, and so into its children's."""
        os.environ.update(self.backends)

    def container_environment(self, *, images: Mapping[str, str]) -> dict[str, str]:
        """Returns the environment of a step's container: where the backends are, and nothing else of this machine's.

        Args:
            images: The steps' images by step, as ``name@digest``, for the record.
        """
        given = {name: value for name in _COMPUTE_VARIABLES if (value := os.environ.get(name))}
        own = {
            "GROUNDSWELL_DATABASE_URL": self.database_url,
            "GROUNDSWELL_MLFLOW_URI": self.mlflow_tracking_uri,
            "GROUNDSWELL_ARTIFACT_ROOT": self.artifact_root,
            _IMAGES: json.dumps(dict(images), sort_keys=True),
        }
        return {**_QUIET, **given, **self.backends, **own}

    def redact(self, text: str) -> str:
        """Returns a text without the secrets that these settings hold."""
        secrets = [self.backends[name] for name in _SECRETS if name in self.backends]
        secrets += [secret for url in (self.database_url, self.mlflow_tracking_uri) for secret in _passwords(url)]
        for secret in sorted(filter(lambda one: len(one) >= _MIN_SECRET_LENGTH, secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def _producer(text: str) -> str:
    if len(text) > _MAX_PRODUCER or not text.isprintable():
        raise BadSettingError(
            "the setting content_producer is no name", hint=f"a name or a code in one line, at most {_MAX_PRODUCER} characters"
        )
    return text.strip() or "groundswell"


def _switch(name: str, text: str) -> bool:
    if text not in {"", "on", "off"}:
        raise BadSettingError(f"the setting {name} is {text!r:.40}", hint="on or off")
    return text != "off"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(one for part in text.split(",") if (one := part.strip()))


def child_environment() -> dict[str, str]:
    """Returns the environment for a process of a pipeline: this one's, with every library's telemetry switched off."""
    return {**os.environ, **_QUIET}


def image_name(step: str, *, version: str) -> str:
    """Returns the full name of a step's container image.

    ``GROUNDSWELL_IMAGE_PREFIX`` (default ``localhost/groundswell``) names the registry, ``GROUNDSWELL_IMAGE_TAG`` the tag.

    Args:
        step: The step's name, such as ``train_dit``.
        version: The tag where none is set.
    """
    prefix = os.environ.get("GROUNDSWELL_IMAGE_PREFIX") or "localhost/groundswell"
    tag = os.environ.get("GROUNDSWELL_IMAGE_TAG") or version
    return f"{prefix.rstrip('/')}/{step.replace('_', '-')}-python:{tag}"


def engine_address() -> str:
    """Returns the address of the container engine that the environment names, as docker and podman write it; "" for none."""
    return os.environ.get("DOCKER_HOST") or os.environ.get("CONTAINER_HOST") or ""


def runtime_folder() -> Path:
    """Returns the folder where this user's sockets are."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")


def user_name() -> str:
    """Returns the name of whoever runs this process, for the first identity of a home."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "admin"


def storage_environment() -> tuple[str | None, ...]:
    """Returns the values of what S3's libraries read from the environment, to tell whether they have changed; some are secret."""
    return tuple(os.environ.get(name) for name in _BACKEND_VARIABLES if name.startswith("AWS_"))


def passphrase_file() -> Path | None:
    """Returns the file with the passphrase of a private key, where the environment names one."""
    path = os.environ.get(PASSPHRASE_FILE)
    return Path(path) if path else None


def without_password(url: str) -> str:
    """Returns a URL as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl() if "://" in url else url


def stored_without_secrets(home: Path) -> str:
    """Returns the text of a home's ``settings.toml`` without its secrets, in TOML; "" where there is none.

    Raises:
        BadSettingError: It cannot be read.
    """
    stored = _read_file(home / _FILE_NAME)
    environment = {name: value for name, value in stored.pop(_ENVIRONMENT, {}).items() if name not in _SECRETS}
    lines = [f"{name} = {json.dumps(without_password(str(value)))}" for name, value in stored.items()]
    if environment:
        lines += [f"[{_ENVIRONMENT}]"]
        lines += [f"{name} = {json.dumps(without_password(str(value)))}" for name, value in environment.items()]
    return "".join(f"{line}\n" for line in lines)


def _passwords(url: str) -> list[str]:
    password = urlsplit(url).password if "://" in url else None
    return [password, unquote(password)] if password else []


def _variable(name: str) -> str:
    """Returns a variable of the environment, or what is in the file that ``NAME_FILE`` names; "" for neither."""
    value = os.environ.get(name)
    if value:
        return value
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise BadSettingError(f"{name}_FILE: {path} cannot be read: {reason}") from error


def _images() -> dict[str, str]:
    try:
        found = json.loads(os.environ.get(_IMAGES) or "{}")
    except ValueError as error:
        raise BadSettingError(f"{_IMAGES} is no JSON") from error
    if not isinstance(found, dict):
        raise BadSettingError(f"{_IMAGES} is no JSON object")
    return {str(step): str(image) for step, image in found.items()}


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettingError(f"{path} cannot be read: {error}", hint="it is a TOML file; see docs/OPERATIONS.md") from error
    _check_names(path, stored, known=(*_KEYS, _ENVIRONMENT))
    environment = stored.get(_ENVIRONMENT, {})
    if not isinstance(environment, dict):
        raise BadSettingError(f"{path}: {_ENVIRONMENT} is a value, not a table", hint=f"write [{_ENVIRONMENT}]")
    _check_names(path, environment, known=_BACKEND_VARIABLES)
    urls = (str(stored.get(key, "")) for key in ("database_url", "mlflow_tracking_uri"))
    secret = environment.keys() & set(_SECRETS) or any(_passwords(url) for url in urls)
    if secret and path.stat().st_mode & 0o077:
        raise BadSettingError(f"{path} holds a secret and can be read by others", hint=f"chmod 600 {path}")
    return stored


def _check_names(path: Path, values: Mapping[str, Any], *, known: tuple[str, ...]) -> None:
    for key, value in values.items():
        if key not in known:
            raise BadSettingError(f"{path}: unknown key {key!r}", hint=f"known keys: {', '.join(known)}")
        if key != _ENVIRONMENT and not isinstance(value, str):
            raise BadSettingError(f"{path}: {key} is no text", hint=f'write {key} = "..."')
