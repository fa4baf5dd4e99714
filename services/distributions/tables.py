"""The tables of the distributions service: the schema's single statement, with every constraint the database keeps.

Amounts are minor units of the row's currency. Ids lead every key and the organization follows, so that a foreign key
can never join two organizations' rows.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data import tables as chassis_tables

metadata = sa.MetaData()
chassis_tables.attach(metadata)

_TIME = sa.TIMESTAMP(timezone=True)


def _text(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null, server_default=default)


def _minor(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _times() -> tuple[sa.Column[object], sa.Column[object]]:
    return sa.Column("created_at", _TIME, nullable=False), sa.Column("updated_at", _TIME, nullable=False)


def _status(table: str, *values: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"status IN ({listed})", name=f"{table}_status")


# Which statuses follow which; a trigger refuses every other move. Filled by the migration, read by nobody else.
allowed_moves = sa.Table(
    "allowed_moves",
    metadata,
    sa.Column("machine", sa.Text, primary_key=True),
    sa.Column("from_status", sa.Text, primary_key=True),
    sa.Column("to_status", sa.Text, primary_key=True),
)

offerings = sa.Table(
    "offerings",
    metadata,
    sa.Column("offering_id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, primary_key=True),
    _text("display_name"),
    _text("sponsor_party_id"),
    _text("escrow_account_id"),
    _text("exemption"),
    _text("currency"),
    _minor("target_minor"),
    _minor("maximum_minor"),
    sa.Column("open_at", _TIME, nullable=False),
    sa.Column("deadline_at", _TIME, nullable=False),
    sa.Column("early_close_noticed_on", sa.Date),  # when the deadline was last brought forward
    sa.Column("tiers", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("preferred_rate_bps", sa.Integer, nullable=False),
    sa.Column("catch_up_sponsor_share_bps", sa.Integer, nullable=False),
    sa.Column("sponsor_carry_bps", sa.Integer, nullable=False),
    _text("status"),
    _minor("committed_minor"),
    _minor("funded_minor"),  # what the book says: the sum of the investments' subscriptions
    sa.Column("closing_date", sa.Date),
    sa.Column("closing_attempt", sa.Integer, nullable=False, server_default="0"),
    _text("proceeds_bank_account_id", default=""),
    _text("proceeds_transaction_id", default=""),
    _text("proceeds_failure", default=""),
    _text("refund_reason", default=""),
    # How many distributions were declared. A calculation names the number it was made on (basis_version).
    sa.Column("declarations", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("declared_through", sa.Date),  # the date of the last declared distribution
    _text("created_by"),
    *_times(),
    sa.UniqueConstraint("escrow_account_id", name="offerings_escrow_account_id_key"),
    sa.Index("offerings_org", "org_id", "offering_id"),
    sa.CheckConstraint("target_minor > 0 AND maximum_minor >= target_minor", name="offerings_target"),
    # The wall behind the row lock: two commitments at once cannot pass the maximum.
    sa.CheckConstraint("committed_minor BETWEEN 0 AND maximum_minor", name="offerings_not_over_committed"),
    sa.CheckConstraint("deadline_at > open_at", name="offerings_deadline"),
    sa.CheckConstraint("status <> 'CLOSED' OR closing_date IS NOT NULL", name="offerings_closing_date"),
    _status("offerings", "OPEN", "CLOSING", "CLOSED", "REFUNDING", "REFUNDED"),
)

# What the book says is kept as sums that do not depend on the order of events: `funded_minor` from journal entries,
# `completed_minor` from transactions past their return risk, `refunded_minor` from the refunds among the entries.
investments = sa.Table(
    "investments",
    metadata,
    sa.Column("investment_id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, primary_key=True),
    _text("offering_id"),
    _text("party_id"),
    _text("currency"),
    _minor("amount_minor"),
    _minor("funded_minor"),
    _minor("completed_minor"),
    _minor("refunded_minor"),
    _minor("released_minor"),  # what the closing took: the capital contributed
    _minor("unreturned_minor"),  # capital, less what declared distributions returned
    # Preferred return earned and not declared, in 1/3,650,000 of a minor unit (basis points x 365): always whole.
    sa.Column("accrued_units", sa.Numeric(38, 0), nullable=False, server_default="0"),
    sa.Column("accrued_through", sa.Date),
    _minor("distributed_minor"),  # what of declared distributions was paid
    sa.Column("accrual_start_date", sa.Date),
    _text("status"),
    _text("refund_requested_by", null=True),  # who wants the money back: it goes as soon as it is cleared
    _text("refund_failure", default=""),
    *_times(),
    sa.ForeignKeyConstraint(["offering_id", "org_id"], ["offerings.offering_id", "offerings.org_id"]),
    sa.Index("investments_org", "org_id", "investment_id"),
    sa.Index("investments_offering", "offering_id", "investment_id"),
    sa.Index("investments_investor", "org_id", "party_id", "investment_id"),
    sa.CheckConstraint("amount_minor > 0", name="investments_amount"),
    sa.CheckConstraint("unreturned_minor BETWEEN 0 AND released_minor", name="investments_unreturned"),
    sa.CheckConstraint("distributed_minor >= 0", name="investments_distributed"),
    # Only the waterfall calls a payee SPONSOR.
    sa.CheckConstraint("party_id <> 'SPONSOR'", name="investments_investor"),
    _status("investments", "PENDING", "RECONFIRM_REQUIRED", "ACTIVE", "COMPLETED", "CANCELLED"),
)

# One row a contribution that transactions reported on: the newest report (by its version) is the one that counts.
contributions = sa.Table(
    "contributions",
    metadata,
    sa.Column("transaction_id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, primary_key=True),
    _text("investment_id"),
    _minor("amount_minor"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("counted", sa.Boolean, nullable=False),
    sa.ForeignKeyConstraint(["investment_id", "org_id"], ["investments.investment_id", "investments.org_id"]),
    sa.Index("contributions_investment", "investment_id"),
)

distributions = sa.Table(
    "distributions",
    metadata,
    sa.Column("distribution_id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, primary_key=True),
    _text("offering_id"),
    _text("type"),
    _text("currency"),
    _minor("amount_minor"),
    sa.Column("distribution_date", sa.Date, nullable=False),
    _text("description", default=""),
    _text("status"),
    _text("content_hash", default=""),
    sa.Column("basis_version", sa.BigInteger),  # offerings.declarations when it was calculated
    sa.Column("allocation_count", sa.Integer, nullable=False, server_default="0"),
    _text("failure", default=""),
    _text("created_by"),
    _text("calculated_by", null=True),
    _text("submitted_by", null=True),
    _text("approved_by", null=True),
    _text("approved_hash", null=True),
    sa.Column("declared_at", _TIME),
    *_times(),
    sa.ForeignKeyConstraint(["offering_id", "org_id"], ["offerings.offering_id", "offerings.org_id"]),
    sa.Index("distributions_org", "org_id", "distribution_id"),
    sa.Index("distributions_offering", "offering_id", "distribution_id"),
    # Of all distributions calculated on the same past, one at most is ever declared: its declaration is a new past.
    sa.Index(
        "distributions_one_a_basis",
        "offering_id",
        "basis_version",
        unique=True,
        postgresql_where=sa.text("declared_at IS NOT NULL OR status = 'QUEUED'"),
    ),
    sa.CheckConstraint("amount_minor > 0", name="distributions_amount"),
    sa.CheckConstraint(
        "approved_by IS NULL OR approved_by NOT IN (created_by, calculated_by, submitted_by)",
        name="distributions_maker_is_not_checker",
    ),
    sa.CheckConstraint(
        "status IN ('DRAFT', 'PENDING_APPROVAL', 'CANCELLED')"
        " OR (approved_by IS NOT NULL AND calculated_by IS NOT NULL AND submitted_by IS NOT NULL"
        " AND approved_hash = content_hash AND content_hash <> '' AND basis_version IS NOT NULL)",
        name="distributions_approved",
    ),
    _status(
        "distributions",
        "DRAFT",
        "PENDING_APPROVAL",
        "APPROVED",
        "QUEUED",
        "PROCESSING",
        "COMPLETED",
        "PARTIALLY_FAILED",
        "FAILED",
        "CANCELLED",
    ),
)

distribution_tiers = sa.Table(
    "distribution_tiers",
    metadata,
    sa.Column("distribution_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("org_id", sa.Text, primary_key=True),
    _text("tier"),
    _minor("investors_minor"),
    _minor("sponsor_minor"),
    _text("working"),
    sa.ForeignKeyConstraint(["distribution_id", "org_id"], ["distributions.distribution_id", "distributions.org_id"]),
)

allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("allocation_id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, primary_key=True),
    _text("distribution_id"),
    _text("payee_type"),
    _text("party_id"),
    _text("currency"),
    _minor("return_of_capital_minor"),
    _minor("preferred_return_minor"),
    _minor("catch_up_minor"),
    _minor("split_minor"),
    _minor("total_minor"),
    _text("status"),
    _text("transaction_id", default=""),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _text("failure", default=""),
    sa.Column("updated_at", _TIME, nullable=False),
    sa.ForeignKeyConstraint(["distribution_id", "org_id"], ["distributions.distribution_id", "distributions.org_id"]),
    sa.Index("allocations_payee", "distribution_id", "party_id", "payee_type", unique=True),
    sa.CheckConstraint(
        "total_minor > 0"
        " AND total_minor = return_of_capital_minor + preferred_return_minor + catch_up_minor + split_minor"
        " AND least(return_of_capital_minor, preferred_return_minor, catch_up_minor, split_minor) >= 0",
        name="allocations_total",
    ),
    sa.CheckConstraint("payee_type IN ('INVESTOR', 'SPONSOR')", name="allocations_payee_type"),
    _status("allocations", "PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED", "ON_HOLD", "RETURNED"),
)

_OPEN_PAYOUT = "status IN ('REQUESTED', 'CREATED')"

# One row an attempt to pay somebody; its key is the idempotency key transactions is called with.
payouts = sa.Table(
    "payouts",
    metadata,
    sa.Column("request_key", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, primary_key=True),
    _text("saga_id"),
    _text("type"),
    _text("offering_id"),
    _text("investment_id", null=True),
    _text("distribution_id", null=True),
    _text("allocation_id", null=True),
    _text("escrow_account_id"),
    _text("party_id"),
    _text("bank_account_id", default=""),
    _text("currency"),
    _minor("amount_minor"),
    sa.Column("attempt", sa.Integer, nullable=False),
    _text("status"),
    _text("transaction_id", null=True),
    # Transaction.version of the newest event applied: an older one changes nothing.
    sa.Column("transaction_version", sa.BigInteger, nullable=False, server_default="0"),
    _text("failure", default=""),
    *_times(),
    sa.ForeignKeyConstraint(["offering_id", "org_id"], ["offerings.offering_id", "offerings.org_id"]),
    sa.ForeignKeyConstraint(["investment_id", "org_id"], ["investments.investment_id", "investments.org_id"]),
    sa.ForeignKeyConstraint(["allocation_id", "org_id"], ["allocations.allocation_id", "allocations.org_id"]),
    sa.UniqueConstraint("transaction_id", name="payouts_transaction_id_key"),
    # Nobody is paid twice: an attempt is made only when the one before it has definitely ended.
    sa.Index("payouts_one_open_an_allocation", "allocation_id", unique=True, postgresql_where=sa.text(_OPEN_PAYOUT)),
    sa.Index("payouts_one_open_an_investment", "investment_id", unique=True, postgresql_where=sa.text(_OPEN_PAYOUT)),
    sa.Index(
        "payouts_one_open_proceeds",
        "offering_id",
        unique=True,
        postgresql_where=sa.text(f"type = 'ESCROW_WITHDRAWAL' AND {_OPEN_PAYOUT}"),
    ),
    sa.Index("payouts_requested", "saga_id", postgresql_where=sa.text("status = 'REQUESTED'")),
    sa.CheckConstraint("amount_minor > 0 AND attempt > 0", name="payouts_amount"),
    sa.CheckConstraint("type IN ('DISTRIBUTION', 'ESCROW_WITHDRAWAL', 'REFUND')", name="payouts_type"),
    sa.CheckConstraint(
        "(type = 'DISTRIBUTION') = (allocation_id IS NOT NULL) AND (type = 'REFUND') = (investment_id IS NOT NULL)",
        name="payouts_subject",
    ),
    _status("payouts", "REQUESTED", "CREATED", "COMPLETED", "FAILED", "RETURNED"),
)

# Work that a crash must not lose: where it stands, when it is due, and for whom it acts. `epoch` fences: it counts the
# claims, and an outcome is written only by whoever made the last one.
sagas = sa.Table(
    "sagas",
    metadata,
    sa.Column("saga_id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, primary_key=True),
    _text("kind"),
    _text("subject_id"),
    _text("step"),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("due_at", _TIME, nullable=False),
    sa.Column("lease_until", _TIME),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _text("last_error", default=""),
    _text("actor"),
    *_times(),
    sa.Index("sagas_due", "kind", "due_at", postgresql_where=sa.text("step <> 'DONE'")),
    sa.CheckConstraint("kind IN ('CLOSING', 'REFUND', 'EXECUTION', 'RESEND')", name="sagas_kind"),
    sa.CheckConstraint("step IN ('RELEASE', 'DECLARE', 'PAY', 'DONE')", name="sagas_step"),
)

# Every table whose rows belong to an organization: row level security is forced on each.
OF_ORGANIZATIONS = (
    offerings,
    investments,
    contributions,
    distributions,
    distribution_tiers,
    allocations,
    payouts,
    sagas,
)
