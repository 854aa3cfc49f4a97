"""Has lineage events say which file they were imported from."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Applies the revision."""
    op.add_column("gs_lineage_events", sa.Column("imported", sa.String(64), nullable=True))
