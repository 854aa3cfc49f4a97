"""Finds the subject that a person means: a model version, run, dataset, digest or media file."""

import re
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Column, ColumnElement, CompoundSelect, Connection, Select, inspect, or_, select, text, union_all

from governance.digest import sha256_file, tree_digest
from governance.errors import IntegrityError, UnknownSubjectError
from governance.imported_lineage import EXTERNAL, static_name
from infra.database import Database
from infra.tables import artifacts, assets, lineage_edges, lineage_events, model_versions, runs

MIN_PREFIX = 6
_PREFIX = re.compile(r"[0-9a-f-]{6,64}", re.ASCII | re.IGNORECASE)
_HINT = "name a model (name/version or name@alias), a run id, a dataset folder or digest, or a picture made here"


def resolve_subject(db: Database, text: str, *, paths: bool = True) -> str:
    """Returns the subject string that a text means.

    Args:
        db: The database.
        text: ``name/version``, ``name@alias``, a run id, a digest, a prefix of six characters or more of either, a
            dataset folder, a media file, or a subject string as reports show it.
        paths: Whether it may be a path of this machine; not where somebody asks from elsewhere.

    Raises:
        UnknownSubjectError: Nothing, or more than one thing, is recorded by that name.
    """
    if "\0" in text:  # in no record: PostgreSQL has no such text
        raise UnknownSubjectError(f"nothing is recorded by the name {text!r:.200}", hint=_HINT)
    with db.read() as connection:
        for candidates in (_subjects(connection, text), _versions(connection, text), _aliases(connection, text)):
            if candidates:
                return _only(text, candidates)
        found_path, problem = _from_path(connection, text) if text and paths else (None, "")
        if found_path is not None:
            return found_path
        if _PREFIX.fullmatch(text) and (candidates := _prefixed(connection, text.lower())):
            return _only(text, candidates)
    raise UnknownSubjectError(problem or f"nothing is recorded by the name {text!r:.200}", hint=_HINT)


def version_of(subject: str) -> tuple[str, int] | None:
    """Returns name and version of a model version's subject string, None for other subjects."""
    kind, _, rest = subject.partition(":")
    name, _, version = rest.rpartition("/")
    return (name, int(version)) if kind == "model-version" and name and version.isascii() and version.isdigit() else None


def _only(text: str, candidates: Iterable[str]) -> str:
    found = sorted(set(candidates))
    if len(found) > 1:
        raise UnknownSubjectError(f"{text!r} is the beginning of more than one name", hint="it could be " + ", ".join(found[:4]))
    return found[0]


def _subjects(connection: Connection, text: str) -> list[str]:
    kind, _, rest = text.partition(":")
    if kind == "model-version":
        return _versions(connection, rest)
    if kind == "run":
        return [text] if connection.execute(select(runs.c.run_id).where(runs.c.run_id == rest)).first() else []
    known = select(artifacts.c.digest).where(artifacts.c.kind == kind, artifacts.c.digest == rest)
    if connection.execute(known).first() is not None:
        return [text]
    if kind == EXTERNAL and any(connection.execute(query).first() is not None for query in (_stated(text), _described(text))):
        return [text]
    if kind == "media" and _knows_media(connection, rest):
        return [text]
    return []


def _knows_media(connection: Connection, sha256: str) -> bool:
    """Returns whether a file was made here, or others were made from it."""
    columns = assets.c
    found = select(columns.sha256).where(or_(columns.sha256 == sha256, columns.source_sha256 == sha256)).limit(1)
    return connection.execute(found).first() is not None


def _stated(subject: str) -> CompoundSelect[int]:
    columns = lineage_edges.c
    return union_all(*(select(columns.event_id).where(column == subject) for column in (columns.source, columns.target)))


def _described(subject: str) -> Select[int]:
    """Returns what finds static lineage about a dataset: events that state no edge of it."""
    columns = lineage_events.c
    return select(columns.id).where(columns.run_id == static_name(subject), columns.imported.is_not(None))


def _versions(connection: Connection, text: str) -> list[str]:
    key = version_of(f"model-version:{text}")
    if key is None or key[1] >= 1 << 31:
        return []
    columns = model_versions.c
    found = connection.execute(select(columns.version).where(columns.name == key[0], columns.version == key[1])).first()
    return [f"model-version:{key[0]}/{key[1]}"] if found else []


def _aliases(connection: Connection, name_and_alias: str) -> list[str]:
    name, at, alias = name_and_alias.rpartition("@")
    if not at or not name or not inspect(connection).has_table("registered_model_aliases"):
        return []
    query = text("SELECT version FROM registered_model_aliases WHERE name = :name AND alias = :alias")
    return [
        subject
        for (version,) in connection.execute(query, {"name": name, "alias": alias})
        for subject in _versions(connection, f"{name}/{version}")
    ]


def _from_path(connection: Connection, text: str) -> tuple[str | None, str]:
    """Returns the subject of a file or folder, and otherwise what is wrong with it, if it is there at all."""
    path = Path(text)
    try:
        if path.is_file():
            digest = sha256_file(path)
            if _knows_media(connection, digest):
                return f"media:{digest}", ""
            return None, f"{path} (SHA-256 {digest}) was not made here, or was changed since"
        if path.is_dir():
            return _from_folder(connection, path)
    except IntegrityError as error:
        return None, error.diagnosis
    except (OSError, ValueError) as error:
        return None, f"{text!r:.200} cannot be read: {getattr(error, 'strerror', None) or error}"
    return None, ""


def _from_folder(connection: Connection, path: Path) -> tuple[str | None, str]:
    digests = [tree_digest(path)]
    if (path / "model.sig").is_file():
        digests.append(tree_digest(path, exclude={"model.sig"}))
    found = connection.execute(select(artifacts.c.kind, artifacts.c.digest).where(artifacts.c.digest.in_(digests))).first()
    if found is not None:
        return f"{found.kind}:{found.digest}", ""
    return None, f"the folder {path} (digest {digests[0]}) is not recorded, or was changed since"


def _prefixed(connection: Connection, prefix: str) -> list[str]:
    by_run = select(runs.c.run_id).where(_begins(runs.c.run_id, prefix)).limit(3)
    found = [f"run:{run_id}" for (run_id,) in connection.execute(by_run)]
    columns = artifacts.c
    by_digest = select(columns.kind, columns.digest).where(_begins(columns.digest, prefix)).limit(3)
    found += [f"{kind}:{digest}" for kind, digest in connection.execute(by_digest)]
    by_media = select(assets.c.sha256).where(_begins(assets.c.sha256, prefix)).distinct().limit(3)
    return found + [f"media:{sha256}" for (sha256,) in connection.execute(by_media)]


def _begins(column: Column[str], prefix: str) -> ColumnElement[bool]:
    """Says that a hexadecimal name begins so, by a range besides: SQLite uses no index for LIKE."""
    return column.startswith(prefix, autoescape=True) & (column >= prefix) & (column < f"{prefix}g")


def graph_node(connection: Connection, subject: str) -> str:
    """Returns the graph's node for a subject: of a model version its package; empty for a run, which is none.

    Raises:
        UnknownSubjectError: There is no such model version.
    """
    if (key := version_of(subject)) is not None:
        columns = model_versions.c
        row = connection.execute(select(columns.root_digest).where(columns.name == key[0], columns.version == key[1])).first()
        if row is None:
            raise UnknownSubjectError(f"no model version {key[0]}/{key[1]}", hint="`groundswell models list` shows them")
        return f"package:{row.root_digest}"
    return "" if subject.startswith("run:") else subject


def run_of_step(subject: str) -> str:
    """Returns the run id in a step's or run's subject string."""
    return subject.partition(":")[2].partition("/")[0]


def digest_of(subject: str) -> str:
    """Returns the digest in an artifact's subject string."""
    return subject.partition(":")[2]
