"""The tables of sweeps: the whole of each as it was last read, and of each organization its part and its lines."""

from __future__ import annotations

import sqlalchemy as sa

from services.chassis.data.columns import seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.seals import seal_whole
from services.transactions.domain.sweeps import Explanation, LineKind, SweepStatus
from services.transactions.tables.metadata import metadata

# No organization's: what a job compares with what the provider says now. How much the whole is nobody is shown.
provider_sweeps = sa.Table(
    "provider_sweeps",
    metadata,
    text("feed", key=True),
    text("provider_sweep_id", key=True),
    text("provider"),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.CHAR(3), nullable=False),
    text("status"),
    time("arrives_at"),
    time("made_at"),
    text("destination"),
    text("explanation"),
    sa.Column("is_overdue", sa.Boolean, nullable=False),
    time("updated_at"),
    sa.Column("version", sa.BigInteger, nullable=False),
    seal(),
    one_of("status", SweepStatus),
    one_of("explanation", Explanation),
    sa.CheckConstraint("version >= 1", name="sweep_begins"),
    # Which one was the last before another.
    sa.Index("provider_sweeps_made", "feed", "currency", "made_at", "provider_sweep_id"),
)
seal_whole(provider_sweeps)

sweeps = sa.Table(
    "sweeps",
    metadata,
    text("org_id", key=True),
    text("sweep_id", key=True),
    text("feed"),
    text("provider"),
    text("provider_sweep_id"),
    text("status"),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.CHAR(3), nullable=False),
    time("arrives_at"),
    text("destination"),
    sa.Column("is_explained", sa.Boolean, nullable=False),
    text("failure_code", null=True),
    time("made_at"),
    time("created_at"),
    time("updated_at"),
    sa.Column("version", sa.BigInteger, nullable=False),
    seal(),
    one_of("status", SweepStatus),
    sa.UniqueConstraint("org_id", "provider", "provider_sweep_id", name="sweeps_provider_id"),
    sa.Index("sweeps_newest", "org_id", "created_at", "sweep_id"),
    sa.Index("sweeps_arrival", "org_id", "arrives_at"),
    sa.Index("sweeps_made", "org_id", "feed", "currency", "made_at", "provider_sweep_id"),
    # Whose parts there are of a sweep.
    sa.Index("sweeps_owners", "provider", "provider_sweep_id", "org_id"),
)
seal_whole(sweeps)

# Append-only. A movement is in one sweep: what a provider has in a second one is not counted twice.
sweep_lines = sa.Table(
    "sweep_lines",
    metadata,
    text("org_id", key=True),
    text("sweep_line_id", key=True),
    text("sweep_id"),
    text("provider"),
    text("provider_movement_id"),
    text("kind"),
    text("transaction_id", null=True),
    text("escrow_account_id", null=True),
    sa.Column("gross_minor", sa.BigInteger, nullable=False),
    sa.Column("fee_minor", sa.BigInteger, nullable=False),
    sa.Column("net_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.CHAR(3), nullable=False),
    time("created_at"),
    seal(),
    one_of("kind", LineKind),
    sa.CheckConstraint("net_minor = gross_minor - fee_minor", name="line_adds_up"),
    sa.CheckConstraint("(transaction_id IS NULL) = (escrow_account_id IS NULL)", name="transaction_whole"),
    # Also by which it is found whether any organization has a line of a movement.
    sa.UniqueConstraint("provider", "provider_movement_id", "org_id", name="sweep_lines_movement"),
    sa.ForeignKeyConstraint(["org_id", "sweep_id"], ["sweeps.org_id", "sweeps.sweep_id"], name="sweep"),
    sa.ForeignKeyConstraint(
        ["org_id", "transaction_id"], ["transactions.org_id", "transactions.transaction_id"], name="transaction"
    ),
    sa.Index("sweep_lines_newest", "org_id", "created_at", "sweep_line_id"),
    sa.Index("sweep_lines_sweep", "org_id", "sweep_id", "created_at", "sweep_line_id"),
    sa.Index("sweep_lines_transaction", "org_id", "transaction_id", "created_at", "sweep_line_id"),
    sa.Index("sweep_lines_escrow_account", "org_id", "escrow_account_id", "created_at", "sweep_line_id"),
)
seal_whole(sweep_lines)
