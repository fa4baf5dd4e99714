"""The table of the vault's keys."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.columns import seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.seals import sealed
from services.transactions.domain.vault_keys import Purpose
from services.transactions.tables.metadata import metadata

# Some tens of rows, and no organization's: what is sealed for whom is bound to each value.
vault_keys = sa.Table(
    "vault_keys",
    metadata,
    text("vault_key_id", key=True),
    text("purpose"),
    sa.Column("wrapped_key", pg.BYTEA, nullable=False),  # wrapping.py
    text("wrapped_by"),
    time("created_at"),
    time("updated_at"),
    sa.Column("version", sa.BigInteger, nullable=False),
    # Nobody wraps it anew, or spoils it, but who proves to be this service. The proof itself is not kept.
    sa.Column("proof_digest", pg.BYTEA, nullable=False),
    sa.Column("proof", pg.BYTEA),
    seal(),
    one_of("purpose", Purpose),
    sa.Index("vault_keys_index", "purpose", unique=True, postgresql_where=sa.text("purpose = 'INDEX'")),
    info=sealed(
        *("vault_key_id", "purpose", "wrapped_key", "wrapped_by"),
        *("created_at", "updated_at", "version", "proof_digest"),
    ),
)
