"""Has generated media be found by their pixels and by how they look, too."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Applies the revision."""
    op.add_column("gs_assets", sa.Column("pixels_sha256", sa.String(64), nullable=True))
    op.add_column("gs_assets", sa.Column("fingerprint", sa.String(160), nullable=True))
    op.create_index("gs_assets_pixels", "gs_assets", ["pixels_sha256"])
