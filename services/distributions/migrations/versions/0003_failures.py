"""Why proceeds or a refund were not paid, where whoever waits for the money looks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
compatible_with = "0002"


def upgrade() -> None:
    op.add_column("offerings", sa.Column("proceeds_failure", sa.Text(), nullable=False, server_default=""))
    op.add_column("investments", sa.Column("refund_failure", sa.Text(), nullable=False, server_default=""))
