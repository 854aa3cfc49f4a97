"""Has generated media be found by the id in their watermark, and by the file that they were made from."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Applies the revision."""
    op.add_column("gs_assets", sa.Column("watermark_id", sa.String(12), nullable=True))
    op.add_column("gs_assets", sa.Column("source_sha256", sa.String(64), nullable=True))
    op.create_index("gs_assets_watermark", "gs_assets", ["watermark_id"])
    op.create_index("gs_assets_source", "gs_assets", ["source_sha256"])
