"""The tables of exceptions: what a person has to look at, and the history of each."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.columns import seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.seals import seal_whole
from services.transactions.domain.exceptions import ExceptionKind, ExceptionStatus
from services.transactions.tables.metadata import metadata

# What it is about is written once.
payment_exceptions = sa.Table(
    "payment_exceptions",
    metadata,
    text("org_id", key=True),
    text("payment_exception_id", key=True),  # a code of the service's over what it is about
    text("kind"),
    text("subject"),
    text("status"),
    text("cause"),
    text("transaction_id", null=True),
    text("bank_account_id", null=True),
    text("provider", null=True),
    text("provider_payment_id", null=True),
    text("file_name", null=True),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("currency", sa.CHAR(3)),
    text("escrow_account_id", null=True),
    text("party_id", null=True),
    text("investment_id", null=True),
    text("distribution_id", null=True),
    text("allocation_id", null=True),
    sa.Column("makers", pg.ARRAY(sa.Text), nullable=False, server_default="{}"),  # each time that it was found
    sa.Column("occurrence_count", sa.BigInteger, nullable=False),
    sa.Column("openings", sa.BigInteger, nullable=False),
    text("assignee", null=True),
    text("resolved_by", null=True),
    time("resolved_at", null=True),
    text("resolution_note", null=True),
    time("created_at"),
    time("opened_at"),
    time("last_seen_at"),
    time("updated_at"),
    sa.Column("version", sa.BigInteger, nullable=False),
    seal(),
    one_of("kind", ExceptionKind),
    one_of("status", ExceptionStatus),
    sa.CheckConstraint("(amount_minor IS NULL) = (currency IS NULL)", name="amount_whole"),
    sa.CheckConstraint(
        "num_nonnulls(resolved_by, resolved_at, resolution_note) IN (0, 3)"
        " AND (status <> 'RESOLVED' OR resolved_by IS NOT NULL)",
        name="resolved_by_a_person",
    ),
    sa.Index("payment_exceptions_newest", "org_id", "created_at", "payment_exception_id"),
    sa.Index("payment_exceptions_transaction", "org_id", "transaction_id", "created_at", "payment_exception_id"),
    sa.Index("payment_exceptions_escrow_account", "org_id", "escrow_account_id", "created_at", "payment_exception_id"),
    sa.Index("payment_exceptions_party", "org_id", "party_id", "created_at", "payment_exception_id"),
    # What is open about something, each time that money moves which might have been waited for.
    sa.Index("payment_exceptions_subject", "org_id", "kind", "subject", postgresql_where=sa.text("status = 'OPEN'")),
    sa.Index(
        "payment_exceptions_open",
        "org_id",
        "created_at",
        "payment_exception_id",
        postgresql_where=sa.text("status = 'OPEN'"),
    ),
)
seal_whole(payment_exceptions)

# Append-only: when each was opened and resolved, by whom, and what was found.
payment_exception_history = sa.Table(
    "payment_exception_history",
    metadata,
    text("org_id", key=True),
    text("payment_exception_id", key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    text("from_status", null=True),
    text("to_status"),
    text("note"),
    text("actor"),
    time("occurred_at"),
    sa.ForeignKeyConstraint(
        ["org_id", "payment_exception_id"],
        ["payment_exceptions.org_id", "payment_exceptions.payment_exception_id"],
        name="payment_exception",
    ),
)
