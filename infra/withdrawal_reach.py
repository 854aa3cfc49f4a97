"""What withdrawals reach: by lineage, from a dataset with withdrawn items to all that was made from it, and back."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Select, String, distinct, func, literal, select

from governance.errors import RefusedError
from governance.withdrawal import Withdrawal, items_text
from infra.batched_rows import rows_by
from infra.database import Database
from infra.lineage_subjects import digest_of, graph_node, run_of_step
from infra.model_versions import ModelVersion, versions_of
from infra.tables import assets, lineage_edges, runs, steps, withdrawals
from infra.withdrawals import withdrawals_from

_DATASET = "dataset:"


@dataclass(frozen=True, kw_only=True)
class ReachedRun:
    """A run in which a step worked with the data."""

    run_id: str
    pipeline: str
    status: str
    started: str


@dataclass(frozen=True, kw_only=True)
class ReachedMedia:
    """A generated file whose model goes back to the data."""

    sha256: str
    file_name: str
    model: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Reach:
    """All that was made from some datasets.

    Attributes:
        models: Registered versions, by name and version.
        runs: Runs, oldest first.
        media: Generated files, oldest first.
    """

    models: tuple[ModelVersion, ...]
    runs: tuple[ReachedRun, ...]
    media: tuple[ReachedMedia, ...]


def reached_from(connection: Connection, datasets: Collection[str]) -> Reach:
    """Returns what was made from some datasets, whichever of their items it used; one recursive query finds it.

    Args:
        connection: An open connection.
        datasets: The datasets' digests.
    """
    nodes = {subject for subject, _ in connection.execute(_reached(datasets))}
    packages = {digest_of(node) for node in nodes if node.startswith("package:")}
    run_ids = {run_of_step(node) for node in nodes if node.startswith("step:")}
    media = {digest_of(node) for node in nodes if node.startswith("media:")}
    run_rows = sorted(rows_by(connection, runs, runs.c.run_id, run_ids), key=lambda row: (row["started"], row["run_id"]))
    asset_rows = sorted(rows_by(connection, assets, assets.c.sha256, media), key=lambda row: (row["created"], row["position"]))
    return Reach(
        models=tuple(versions_of(connection, packages)),
        runs=tuple(
            ReachedRun(run_id=row["run_id"], pipeline=row["pipeline"], status=row["status"], started=row["started"])
            for row in run_rows
        ),
        media=tuple(
            ReachedMedia(
                sha256=row["sha256"],
                file_name=row["file_name"],
                model=f"{row['model_name']}/{row['model_version']}",
                run_id=row["run_id"],
            )
            for row in asset_rows
        ),
    )


def withdrawals_reaching(connection: Connection, subject: str, *, through_codecs: bool = True) -> tuple[Withdrawal, ...]:
    """Returns the withdrawals that reach a subject: of items of datasets that it was made from, or is.

    Args:
        connection: An open connection.
        subject: A model version, package, run, media file, dataset, or any other artifact.
        through_codecs: Whether the data behind a codec counts; the latents of clean data are clean whatever codec made them.

    Returns:
        The withdrawals, oldest first.

    Raises:
        UnknownSubjectError: The subject is a model version that is not registered.
    """
    return tuple(withdrawals_from(connection, _datasets_behind(connection, subject, through_codecs=through_codecs)))


def require_none_behind(db: Database, subject: str, name: str) -> None:
    """Refuses what was made from data of which items were withdrawn since; the data behind a codec do not count.

    Args:
        db: The database.
        subject: What something is to be learned from.
        name: What to call it.

    Raises:
        RefusedError: Withdrawals reach it.
    """
    with db.read() as connection:
        found = withdrawals_reaching(connection, subject, through_codecs=False)
        count = num_withdrawn(connection, found)
    if count:
        raise RefusedError(
            f"{name} was made from data of which {items_text(count)} {'was' if count == 1 else 'were'} withdrawn",
            hint="import the data again, which leaves withdrawn items out, and run the pipeline from its first step",
        )


def num_withdrawn_by_package(connection: Connection) -> Mapping[str, int]:
    """Returns how many withdrawn items reach each package, by root digest; packages that none reaches are left out."""
    behind: dict[str, set[str]] = {}
    for subject, dataset in connection.execute(_reached(kind="package")):
        behind.setdefault(digest_of(subject), set()).add(dataset)
    counts = {datasets: _num_items(connection, datasets) for datasets in set(map(frozenset, behind.values()))}
    return {package: counts[frozenset(datasets)] for package, datasets in behind.items()}


def num_withdrawn(connection: Connection, found: Iterable[Withdrawal]) -> int:
    """Returns how many different items some withdrawals are of: the same picture may have been in several datasets."""
    return _num_items(connection, {withdrawal.dataset for withdrawal in found})


def _num_items(connection: Connection, datasets: Collection[str]) -> int:
    query = select(func.count(distinct(withdrawals.c.item))).where(withdrawals.c.dataset.in_(sorted(datasets)))
    return int(connection.execute(query).scalar_one())


def _reached(datasets: Collection[str] | None = None, *, kind: str = "") -> Select[str, str]:
    """Returns the query for each subject that withdrawals reach, with the dataset that it goes back to.

    Args:
        datasets: Only from these datasets; from all where None.
        kind: Only subjects of this kind.
    """
    columns = withdrawals.c
    begin = select((literal(_DATASET, String) + columns.dataset).label("subject"), columns.dataset.label("dataset")).distinct()
    if datasets is not None:
        begin = begin.where(columns.dataset.in_(sorted(datasets)))
    reached = begin.cte("reached", recursive=True)
    edges = lineage_edges.c
    reached = reached.union(select(edges.target, reached.c.dataset).join(reached, edges.source == reached.c.subject))
    query = select(reached.c.subject, reached.c.dataset)
    return query.where(reached.c.subject.startswith(f"{kind}:")) if kind else query


def _datasets_behind(connection: Connection, subject: str, *, through_codecs: bool) -> set[str]:
    """Returns the digests of the datasets that a subject was made from, or is; UNION ends cycles."""
    node = graph_node(connection, subject)
    columns = steps.c
    named = literal("step:", String) + columns.run_id + "/" + columns.step
    begin = (
        select(literal(node, String).label("subject"))
        if node
        else select(named.label("subject")).where(columns.run_id == subject.removeprefix("run:"))
    )
    reached = begin.cte("reached", recursive=True)
    edges = lineage_edges.c
    further = select(edges.source).join(reached, edges.target == reached.c.subject)
    reached = reached.union(further if through_codecs else further.where(~edges.source.startswith("codec:")))
    query = select(reached.c.subject).where(reached.c.subject.startswith(_DATASET))
    return {digest_of(found) for found in connection.execute(query).scalars()}
