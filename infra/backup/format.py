"""What a backup holds: its members, its header, and the form of a value that both database engines understand.

A backup is an uncompressed tar file::

    backup.json              what it is a backup of; see `Header`
    checkpoint               signed note over exactly the ledger in it
    database/<table>.jsonl   one JSON object a row, column by name
    keys/**                  private keys (0600) unless left out, and public ones in keys/public
    packages/<root digest>/  registered model packages
    artifacts/**             MLflow's other artifacts, where they are in a folder
    reports/** settings.toml lineage reports; the settings without their secrets
    datasets/** codecs/** work/**   on demand
    SHA256SUMS               over all others, as sha256sum writes it; the last member

A value is JSON's own where JSON has it exactly; otherwise an object of one key says its type: ``{"base64": ...}``,
``{"float": "nan"}``, ``{"date": ...}``, ``{"time": ...}``, ``{"decimal": ...}``.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from governance.errors import BadRecordError

FORMAT: Literal["groundswell-backup/1"] = "groundswell-backup/1"
HEADER = "backup.json"
CHECKPOINT = "checkpoint"
SETTINGS = "settings.toml"
SUMS = "SHA256SUMS"
DATABASE = "database"
KEYS = "keys"
PACKAGES = "packages"
ARTIFACTS = "artifacts"
REPORTS = "reports"
WORK = ("datasets", "codecs", "work")

MAX_SMALL_BYTES = 16 << 20
"""The most that a member may hold which is read as a whole."""
MAX_LINE_BYTES = 64 << 20
MAX_MEMBERS = 1_000_000
MAX_NAME_BYTES = 4096

_TOP = frozenset({DATABASE, KEYS, PACKAGES, ARTIFACTS, REPORTS, *WORK})
_SINGLE = frozenset({HEADER, CHECKPOINT, SETTINGS, SUMS})
_ALEMBIC = "alembic_version"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is in all, and what is being done."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LedgerHead(_Strict):
    """The ledger in a backup.

    Attributes:
        size: Number of entries.
        root_hash: Root of the tree over them, in hex.
    """

    size: Count
    root_hash: Digest


class PackageHeader(_Strict):
    """A registered model package.

    Attributes:
        locations: Where it was.
        is_included: Whether its files are in the backup; otherwise they were left where they are.
    """

    locations: tuple[str, ...] = Field(strict=False)
    is_included: bool


class Header(_Strict):
    """What a backup says of itself.

    Attributes:
        format: The format's name and version.
        groundswell: The version that made it.
        created: When, RFC 3339 UTC.
        engine: The database's engine, ``sqlite`` or ``postgresql``.
        schema_revision: The revision of groundswell's tables.
        mlflow_revision: The revision of MLflow's tables, None where there were none.
        home: The home's folder.
        artifact_root: Where MLflow kept artifacts, without secrets.
        ledger: The ledger's size and root.
        tables: Number of rows by table.
        packages: Registered packages by root digest.
        has_private_keys: Whether the private keys are in it.
        has_artifacts: Whether MLflow's other artifacts are in it.
        has_work: Whether datasets, codecs and the work's outputs are in it.
    """

    format: Literal["groundswell-backup/1"] = FORMAT
    groundswell: str
    created: str
    engine: Literal["sqlite", "postgresql"]
    schema_revision: str
    mlflow_revision: str | None
    home: str
    artifact_root: str
    ledger: LedgerHead
    tables: Mapping[str, Count]
    packages: Mapping[Digest, PackageHeader]
    has_private_keys: bool
    has_artifacts: bool
    has_work: bool

    def to_bytes(self) -> bytes:
        """Renders the member."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def parse_header(data: bytes) -> Header:
    """Parses the header of a backup.

    Raises:
        BadRecordError: It is none, or of a format that this version does not know.
    """
    try:
        return Header.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        hint = f"the backup was made by another version of groundswell: {FORMAT} is known here" if where == "format" else ""
        raise BadRecordError(f"{HEADER} of the backup cannot be used: {where}: {first['msg']}", hint=hint) from error


def is_version_table(name: str) -> bool:
    """Returns whether a table only says which schema a database has; such a table is in the header instead."""
    return name.endswith(_ALEMBIC)


def table_member(table: str) -> str:
    """Returns the member that holds a table's rows."""
    return f"{DATABASE}/{table}.jsonl"


def is_member_name(name: str) -> bool:
    """Returns whether a backup may hold a member of this name: a known one that stays in the folder it is written to."""
    parts = name.split("/")
    is_plain = all(part not in {"", ".", ".."} for part in parts) and name.isprintable() and "\\" not in name
    is_known = name in _SINGLE if len(parts) == 1 else parts[0] in _TOP
    return is_plain and is_known and len(name.encode()) <= MAX_NAME_BYTES


def encode_value(value: Any) -> Any:
    """Returns a database's value as JSON has it.

    Raises:
        BadRecordError: It has a type that no table of groundswell's or MLflow's has.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, bytes | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"time": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    raise BadRecordError(f"a value of type {type(value).__name__} cannot be backed up")


def decode_value(value: Any) -> Any:
    """Returns the value that `encode_value` was given.

    Raises:
        BadRecordError: It is no such form.
    """
    if value is None or isinstance(value, bool | int | str | float):
        return value
    if isinstance(value, dict) and len(value) == 1:
        kind, text = next(iter(value.items()))
        if kind in _DECODERS and isinstance(text, str):
            try:
                return _DECODERS[kind](text)
            except (ValueError, binascii.Error, InvalidOperation) as error:
                raise BadRecordError(f"{text!r:.40} is no {kind}") from error
    raise BadRecordError(f"{value!r:.40} is no value of a column")


def _decode_float(text: str) -> float:
    if not re.fullmatch(r"nan|-?inf", text):
        raise ValueError(text)
    return float(text)


_DECODERS: Mapping[str, Callable[[str], Any]] = {
    "base64": lambda text: base64.b64decode(text, validate=True),
    "float": _decode_float,
    "time": datetime.fromisoformat,
    "date": date.fromisoformat,
    "decimal": Decimal,
}
