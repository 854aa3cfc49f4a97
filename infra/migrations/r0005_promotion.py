"""Adds the tables of promotion: policies, requests, champions, and what is to be told about them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Applies the revision."""
    op.create_table(
        "gs_policies",
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("environment", "number"),
    )
    op.create_table(
        "gs_promotions",
        sa.Column("promotion_id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("root_digest", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("policy_digest", sa.String(64), nullable=False),
        sa.Column("evidence_root", sa.String(64), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("requester", sa.String(64), nullable=False),
        sa.Column("trainers", sa.Text(), nullable=False),
        sa.Column("reason_commitment", sa.String(64), nullable=True),
        sa.Column("expected_version", sa.Integer(), nullable=True),
        sa.Column("expected_digest", sa.String(64), nullable=True),
        sa.Column("previous", sa.String(32), nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("requested", sa.String(32), nullable=False),
        sa.Column("expires", sa.String(32), nullable=False),
        sa.Column("changed", sa.String(32), nullable=False),
        sa.Column("lapses", sa.String(32), nullable=True),
        sa.PrimaryKeyConstraint("promotion_id"),
    )
    op.create_index("gs_promotions_model", "gs_promotions", ["name", "environment"])
    op.create_index("gs_promotions_package", "gs_promotions", ["root_digest"])
    op.create_table(
        "gs_champions",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("root_digest", sa.String(64), nullable=False),
        sa.Column("promotion_id", sa.String(32), nullable=False),
        sa.Column("since", sa.String(32), nullable=False),
        sa.Column("expires", sa.String(32), nullable=False),
        sa.Column("entry_index", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["entry_index"], ["gs_ledger_entries.index"]),
        sa.PrimaryKeyConstraint("name", "environment"),
    )
    op.create_table(
        "gs_outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt", sa.String(32), nullable=False),
        sa.Column("delivered_to", sa.Text(), nullable=False),
        sa.Column("delivered", sa.String(32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("gs_outbox_waiting", "gs_outbox", ["delivered", "next_attempt"])
