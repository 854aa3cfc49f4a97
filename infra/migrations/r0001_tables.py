"""The tables as they were before revisions were kept, with the triggers that refuse changes on SQLite."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SAME_KEY = {
    "gs_ledger_entries": '"index" = NEW."index"',
    "gs_ledger_nodes": "level = NEW.level AND position = NEW.position",
    "gs_ledger_checkpoints": "size = NEW.size",
}


def upgrade() -> None:
    """Applies the revision."""
    _create_ledger()
    _create_runs()
    _create_artifacts()
    _create_lineage()
    op.execute("INSERT INTO gs_ledger_head (id, size) VALUES (1, 0)")
    if op.get_bind().dialect.name == "sqlite":
        _create_triggers()


def _create_ledger() -> None:
    op.create_table(
        "gs_ledger_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "gs_ledger_entries",
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(512), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("index"),
    )
    op.create_index("ix_gs_ledger_entries_action", "gs_ledger_entries", ["action"])
    op.create_index("ix_gs_ledger_entries_run_id", "gs_ledger_entries", ["run_id"])
    op.create_index("ix_gs_ledger_entries_subject", "gs_ledger_entries", ["subject"])
    op.create_table(
        "gs_ledger_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("level", "position"),
    )
    op.create_table(
        "gs_ledger_checkpoints",
        sa.Column("size", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("time", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("size"),
    )
    op.create_table(
        "gs_commitments",
        sa.Column("commitment", sa.String(64), nullable=False),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("commitment"),
    )
    op.create_table(
        "gs_identities",
        sa.Column("identity_id", sa.String(64), nullable=False),
        sa.Column("name_commitment", sa.String(64), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("public_key_pem", sa.Text(), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("revoked", sa.String(32), nullable=True),
        sa.PrimaryKeyConstraint("identity_id"),
    )


def _create_runs() -> None:
    op.create_table(
        "gs_runs",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("pipeline", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("runner", sa.String(32), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("started", sa.String(32), nullable=False),
        sa.Column("ended", sa.String(32), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("host", sa.String(255), nullable=True),
        sa.Column("mlflow_run_id", sa.String(64), nullable=True),
        sa.Column("overhead_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_table(
        "gs_steps",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("step", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("started", sa.String(32), nullable=False),
        sa.Column("ended", sa.String(32), nullable=True),
        sa.Column("work_s", sa.Float(), nullable=True),
        sa.Column("record", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("mlflow_run_id", sa.String(64), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["gs_runs.run_id"]),
        sa.PrimaryKeyConstraint("run_id", "step"),
    )
    op.create_index("gs_steps_fingerprint", "gs_steps", ["fingerprint"])


def _create_artifacts() -> None:
    op.create_table(
        "gs_artifacts",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("digest", "kind"),
    )
    op.create_table(
        "gs_model_versions",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("root_digest", sa.String(64), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("mlflow_model_id", sa.String(64), nullable=True),
        sa.Column("created", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("name", "version"),
        sa.UniqueConstraint("name", "root_digest"),
    )
    op.create_table(
        "gs_assets",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("model_name", sa.String(255), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("root_digest", sa.String(64), nullable=False),
        sa.Column("seed", sa.String(32), nullable=False),
        sa.Column("condition_commitment", sa.String(64), nullable=False),
        sa.Column("file_name", sa.String(255), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "run_id", "position"),
    )


def _create_lineage() -> None:
    op.create_table(
        "gs_lineage_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("event_type", sa.String(16), nullable=False),
        sa.Column("time", sa.String(32), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_gs_lineage_events_run_id", "gs_lineage_events", ["run_id"])
    op.create_table(
        "gs_lineage_edges",
        sa.Column("source", sa.String(512), nullable=False),
        sa.Column("target", sa.String(512), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["gs_lineage_events.id"]),
        sa.PrimaryKeyConstraint("source", "target"),
    )
    op.create_index("gs_lineage_edges_target", "gs_lineage_edges", ["target"])


def _create_triggers() -> None:
    for table, same_key in _SAME_KEY.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
        exists = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same_key})"  # noqa: S608  # constants
        op.execute(f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} {exists} {refuse}")
