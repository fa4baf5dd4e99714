"""The table of what providers may have been asked."""

from __future__ import annotations

import sqlalchemy as sa

from services.chassis.data.columns import seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.seals import sealed
from services.transactions.domain.return_rates import Outcome
from services.transactions.tables.metadata import metadata


def _index_attempts(name: str, time: str, where: str) -> sa.Index:
    return sa.Index(name, "org_id", time, "transaction_id", "attempt", postgresql_where=sa.text(where))


# What the provider may have been asked: one row an attempt, written before it is asked and never deleted.
provider_payments = sa.Table(
    "provider_payments",
    metadata,
    text("org_id", key=True),
    text("transaction_id", key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("presentment", sa.Integer, nullable=False),
    text("provider"),
    text("provider_key"),
    text("provider_reference", null=True),  # none until the provider is known to have it
    time("sent_at"),  # when the provider was last about to be asked
    sa.Column("is_debit", sa.Boolean, nullable=False),  # drawn from a bank account of the party
    # Of a debit that ended otherwise than well, how; a bank's code where it came back.
    text("outcome", null=True),
    text("return_code", null=True),
    time("ended_at", null=True),
    seal(),
    one_of("outcome", Outcome),
    sa.CheckConstraint(
        "(outcome IS NULL) = (ended_at IS NULL) AND (return_code IS NULL OR outcome = 'RETURNED')", name="ended_once"
    ),
    sa.ForeignKeyConstraint(
        ["org_id", "transaction_id"], ["transactions.org_id", "transactions.transaction_id"], name="transaction"
    ),
    sa.UniqueConstraint("org_id", "provider", "provider_key", name="provider_payments_key"),
    sa.UniqueConstraint("org_id", "provider", "provider_reference", name="provider_payments_reference"),
    # A webhook names a payment, and not whose it is.
    sa.Index("provider_payments_owner", "provider", "provider_reference", "org_id", "attempt"),
    sa.Index("provider_payments_transaction", "transaction_id", "org_id", "attempt"),
    # What return rates are counted of.
    _index_attempts("provider_payments_debits", "sent_at", "is_debit"),
    _index_attempts("provider_payments_returns", "ended_at", "outcome = 'RETURNED'"),
    info=sealed(
        *("org_id", "transaction_id", "attempt", "presentment", "provider", "provider_key", "provider_reference"),
        *("sent_at", "is_debit", "outcome", "return_code", "ended_at"),
    ),
)
