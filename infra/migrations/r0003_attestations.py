"""Adds the tables of signed statements and of withdrawn items."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Applies the revision."""
    op.create_table(
        "gs_attestations",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(512), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.Column("signer", sa.String(64), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_gs_attestations_subject", "gs_attestations", ["subject"])
    op.create_index("ix_gs_attestations_run_id", "gs_attestations", ["run_id"])
    op.create_table(
        "gs_withdrawals",
        sa.Column("dataset", sa.String(64), nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("reason_commitment", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "item"),
    )
    op.create_index("ix_gs_withdrawals_item", "gs_withdrawals", ["item"])
