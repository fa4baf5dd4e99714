"""Indexes that several tables have alike."""

from __future__ import annotations

import sqlalchemy as sa


def external_index(table: str, key: str) -> sa.Index:
    """For lists by the client's own id."""
    where = sa.text("external_id IS NOT NULL")
    return sa.Index(f"{table}_external", "org_id", "external_id", "created_at", key, postgresql_where=where)
