"""Has lineage events say which file they were imported from, and model versions found by their digest without a scan."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Applies the revision."""
    op.add_column("gs_lineage_events", sa.Column("imported", sa.String(64), nullable=True))
    op.create_index("gs_model_versions_root_digest", "gs_model_versions", ["root_digest"])
