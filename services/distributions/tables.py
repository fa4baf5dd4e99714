"""The tables of the distributions service: the schema's single statement, with every constraint the database keeps.

Amounts are minor units of the row's currency. The organization leads every key, so no key joins the rows of two
organizations, and an organization's rows can move to another cluster whole. `version` grows by one with every change
of a row, and is what its etag is made of.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from realco.distributions.v1.distributions_pb2 import Distribution
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data import heard_persons
from services.chassis.data import tables as chassis_tables
from services.chassis.data.columns import external, json, minor, seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.leases import lease_columns
from services.chassis.data.seals import seal_whole, sealed
from services.distributions.domain import states
from services.distributions.domain.distribution import PayeeType
from services.distributions.domain.offering import Exemption, ReceivablesPolicy
from services.distributions.domain.payout import PayoutType
from services.distributions.domain.sagas import SagaKind

metadata = sa.MetaData()
chassis_tables.attach(metadata)
heard_persons.attach(metadata)


def _changes() -> tuple[sa.Column[Any], ...]:
    return (
        time("created_at"),
        time("updated_at"),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
        seal(),  # services/chassis/data/aggregates.py
    )


def _of(table: str, key: str) -> sa.ForeignKeyConstraint:
    """The row of another table that this one belongs to, in the same organization."""
    return sa.ForeignKeyConstraint(["org_id", key], [f"{table}.org_id", f"{table}.{key}"])


# Every move of an offering, an investment, a distribution or an allocation: append-only.
moves = sa.Table(
    "moves",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("subject_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),  # the row's, after the move
    text("from_status", null=True),  # null: it was made
    text("to_status"),
    text("actor"),
    time("moved_at"),
)

offerings = sa.Table(
    "offerings",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("offering_id", sa.Text, primary_key=True),
    text("display_name"),
    text("sponsor_party_id"),
    text("escrow_account_id"),
    text("exemption"),
    text("currency"),
    minor("target_minor"),
    minor("maximum_minor"),
    time("open_at"),
    time("deadline_at"),
    sa.Column("early_close_noticed_on", sa.Date),  # when the deadline was last brought forward
    # The agreed tiers in order, as [kind, parameters]: agreed, read and replaced as a whole, so one value.
    json("tiers"),
    text("receivables_policy"),
    text("status"),
    minor("committed_minor"),
    minor("funded_minor"),  # what the book says: the sum of the investments' subscriptions
    minor("incoming_minor"),  # what banks have of contributions, and the book has not
    sa.Column("closing_date", sa.Date),
    sa.Column("closing_attempt", sa.Integer, nullable=False, server_default="0"),
    text("closing_saga_id", null=True),  # of the closing that was asked for last
    json("closing_failure", null=True),
    text("proceeds_bank_account_id", null=True),
    text("proceeds_transaction_id", null=True),
    json("proceeds_failure", null=True),
    text("refund_note", null=True),
    # How many distributions were declared. A calculation names the number it was made on (basis_version).
    sa.Column("declarations", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("edition", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("declared_through", sa.Date),  # the date of the last declared distribution
    *external(),
    text("created_by"),
    json("makers"),  # persons: none of them has it closed
    *_changes(),
    sa.UniqueConstraint("org_id", "escrow_account_id", name="offerings_escrow_account_id_key"),
    sa.Index("offerings_external_id", "org_id", "external_id", postgresql_where=sa.text("external_id IS NOT NULL")),
    sa.CheckConstraint("target_minor > 0 AND maximum_minor >= target_minor", name="offerings_target"),
    # Behind the row lock: two commitments at once cannot pass the maximum.
    sa.CheckConstraint("committed_minor BETWEEN 0 AND maximum_minor", name="offerings_not_over_committed"),
    sa.CheckConstraint("deadline_at > open_at", name="offerings_deadline"),
    sa.CheckConstraint("status <> 'CLOSED' OR closing_date IS NOT NULL", name="offerings_closing_date"),
    sa.CheckConstraint("jsonb_array_length(tiers) > 0", name="offerings_tiers"),
    one_of("exemption", Exemption),
    one_of("receivables_policy", ReceivablesPolicy),
    one_of("status", states.OfferingStatus),
)

# What the book says is kept as sums that do not depend on the order of events: domain/investment.py.
investments = sa.Table(
    "investments",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("investment_id", sa.Text, primary_key=True),
    text("offering_id"),
    text("party_id"),
    text("currency"),
    minor("amount_minor"),
    minor("funded_minor"),
    minor("at_risk_minor"),  # of its contributions: in the book, and a bank may still take it back
    # What of its contributions went for another of the party, stands on UNAPPLIED, or is owed: domain/investment.py.
    *map(minor, ("made_up_minor", "unapplied_minor", "unapplied_made_up_minor", "receivable_minor")),
    minor("on_its_way_minor"),  # of its contributions that a bank had when the others were cancelled
    time("clears_at", null=True),  # when those of them that had arrived are past their return risk
    minor("refunded_minor"),
    minor("released_minor"),  # what the closing took: the capital contributed
    minor("unreturned_minor"),  # capital, less what declared distributions returned
    # Preferred return earned and not declared, in 1/365,000,000 of a minor unit (six decimals x 365): always whole.
    sa.Column("accrued_units", sa.Numeric(38, 0), nullable=False, server_default="0"),
    sa.Column("accrued_through", sa.Date),
    minor("distributed_minor"),  # what of declared distributions was paid
    sa.Column("accrual_start_date", sa.Date),
    text("status"),
    text("refund_requested_by", null=True),  # who cancels it: the money goes back in this name once it is cleared
    sa.Column("refund_signed_in_at", sa.BigInteger),  # by which sign-in that was asked for, in seconds since 1970
    text("refund_api_key_id", null=True),
    json("refund_makers_and_checkers", null=True),  # who else asked for that, and who approved it
    # Persons posted some of it by hand, once at least: what is given back of it then is for two persons to say.
    sa.Column("has_entries_by_hand", sa.Boolean, nullable=False, server_default=sa.false()),
    minor("refund_approved_minor"),  # what two persons saw in it when they decided that it goes back
    json("refund_failure", null=True),
    sa.Column("earlier_refund_failures", pg.JSONB, nullable=False, server_default="[]"),  # the last first
    text("cancelling_saga_id", null=True),  # asks transactions to cancel what waits; null once it is answered
    *external(),
    text("created_by"),
    *_changes(),
    _of("offerings", "offering_id"),
    sa.Index(
        "investments_cancelling_saga",
        "org_id",
        "cancelling_saga_id",
        "investment_id",
        postgresql_where=sa.text("cancelling_saga_id IS NOT NULL"),
    ),
    sa.Index("investments_offering", "org_id", "offering_id", "created_at", "investment_id"),
    sa.Index("investments_party", "org_id", "party_id", "created_at", "investment_id"),
    sa.Index("investments_external_id", "org_id", "external_id", postgresql_where=sa.text("external_id IS NOT NULL")),
    sa.CheckConstraint("amount_minor > 0", name="investments_amount"),
    sa.CheckConstraint("unreturned_minor BETWEEN 0 AND released_minor", name="investments_unreturned"),
    sa.CheckConstraint("distributed_minor >= 0", name="investments_distributed"),
    sa.CheckConstraint("at_risk_minor >= 0", name="investments_at_risk"),
    sa.CheckConstraint("on_its_way_minor >= 0", name="investments_on_its_way"),
    # Only the waterfall calls a payee SPONSOR.
    sa.CheckConstraint("party_id <> 'SPONSOR'", name="investments_investor"),
    sa.CheckConstraint(
        "(status IN ('CANCELLING', 'CANCELLED')) = (refund_requested_by IS NOT NULL)", name="investments_cancelling"
    ),
    sa.CheckConstraint(
        "(refund_requested_by IS NULL) = (refund_makers_and_checkers IS NULL)", name="investments_refund_mandate"
    ),
    one_of("status", states.InvestmentStatus),
)

# One row a contribution: what the newest report of transactions says, and what the book has of it.
contributions = sa.Table(
    "contributions",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("transaction_id", sa.Text, primary_key=True),
    text("investment_id"),
    minor("amount_minor"),
    sa.Column("reported_version", sa.BigInteger, nullable=False),  # of the transaction, in its newest report
    sa.Column("version", sa.BigInteger, nullable=False),  # of this row, with every change
    sa.Column("counted", sa.Boolean, nullable=False),  # it is COMPLETED: no longer at risk
    sa.Column("on_its_way", sa.Boolean, nullable=False),  # a bank has it
    sa.Column("came_back", sa.Boolean, nullable=False),  # by the book
    minor("booked_minor"),  # by the book
    seal(),
    _of("investments", "investment_id"),
    sa.Index("contributions_investment", "org_id", "investment_id"),
)

distributions = sa.Table(
    "distributions",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("distribution_id", sa.Text, primary_key=True),
    text("offering_id"),
    text("type"),
    text("currency"),
    minor("amount_minor"),
    sa.Column("distribution_date", sa.Date, nullable=False),
    text("description", null=True),
    text("status"),
    text("content_hash", null=True),
    sa.Column("basis_version", sa.BigInteger),  # offerings.declarations when it was calculated
    sa.Column("allocation_count", sa.Integer, nullable=False, server_default="0"),
    json("tier_totals"),  # what each tier pays, in the order of the terms; a trigger keeps them once it was submitted
    minor("paid_minor"),  # of the allocations that were paid
    json("failure", null=True),
    *external(),
    text("created_by"),
    text("calculated_by", null=True),
    text("submitted_by", null=True),
    text("approved_by", null=True),
    text("approved_hash", null=True),
    json("makers"),  # persons: whoever had a part in making it, however often it was made again
    time("expires_at", null=True),  # until when it may be approved, or executed once it is
    time("declared_at", null=True),
    text("execution_saga_id", null=True),
    *_changes(),
    _of("offerings", "offering_id"),
    sa.Index("distributions_offering", "org_id", "offering_id", "created_at", "distribution_id"),
    sa.Index("distributions_external_id", "org_id", "external_id", postgresql_where=sa.text("external_id IS NOT NULL")),
    # Of all distributions calculated on the same past, one at most is ever declared: its declaration is a new past.
    sa.Index(
        "distributions_one_a_basis",
        "org_id",
        "offering_id",
        "basis_version",
        unique=True,
        postgresql_where=sa.text("declared_at IS NOT NULL OR status = 'QUEUED'"),
    ),
    sa.CheckConstraint("amount_minor > 0", name="distributions_amount"),
    sa.CheckConstraint("paid_minor BETWEEN 0 AND amount_minor", name="distributions_paid"),
    sa.CheckConstraint(
        "approved_by IS NULL OR NOT makers @> to_jsonb(approved_by)", name="distributions_maker_is_not_checker"
    ),
    sa.CheckConstraint(
        "(status IN ('PENDING_APPROVAL', 'APPROVED')) = (expires_at IS NOT NULL)", name="distributions_expires"
    ),
    sa.CheckConstraint(
        "status IN ('DRAFT', 'PENDING_APPROVAL', 'CANCELLED')"
        " OR (approved_by IS NOT NULL AND calculated_by IS NOT NULL AND submitted_by IS NOT NULL"
        " AND approved_hash = content_hash AND content_hash IS NOT NULL AND basis_version IS NOT NULL)",
        name="distributions_approved",
    ),
    one_of("type", Distribution.Type.DESCRIPTOR),
    one_of("status", states.DistributionStatus),
)

allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("allocation_id", sa.Text, primary_key=True),
    text("distribution_id"),
    text("offering_id"),
    text("payee_type"),
    text("party_id"),
    text("currency"),
    minor("amount_minor"),
    minor("set_off_minor"),  # what of it was set off against what the payee owed: it is not paid
    json("lines"),  # what each tier pays to the payee; a trigger sees to it that they sum to the amount, and stay
    text("status"),
    text("transaction_id", null=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    json("failure", null=True),
    *_changes(),
    _of("distributions", "distribution_id"),
    sa.Index("allocations_payee", "org_id", "distribution_id", "party_id", "payee_type", unique=True),
    sa.Index("allocations_party", "org_id", "party_id", "distribution_id"),
    sa.CheckConstraint("amount_minor > 0", name="allocations_amount"),
    sa.CheckConstraint("set_off_minor BETWEEN 0 AND amount_minor", name="allocations_set_off"),
    one_of("payee_type", PayeeType),
    one_of("status", states.AllocationStatus),
)

_OPEN_PAYOUT = "status IN ('REQUESTED', 'CREATED')"


def _one_open(name: str, key: str, where: str = _OPEN_PAYOUT) -> sa.Index:
    """At most one open payout of the same."""
    return sa.Index(f"payouts_one_open_{name}", "org_id", key, unique=True, postgresql_where=sa.text(where))


# One row an attempt to pay somebody; its key is the idempotency key transactions is called with.
payouts = sa.Table(
    "payouts",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("request_key", sa.Text, primary_key=True),
    text("saga_id"),
    text("type"),
    text("offering_id"),
    text("investment_id", null=True),
    text("distribution_id", null=True),
    text("allocation_id", null=True),
    text("escrow_account_id"),
    text("party_id"),
    *(text(name, null=True) for name in ("bank_account_id", "payment_method")),
    sa.Column("refund_approved", sa.Boolean, nullable=False, server_default=sa.false()),  # by two persons
    sa.Column("asked_again", sa.Boolean, nullable=False, server_default=sa.false()),  # by a person, of a refund
    text("currency"),
    minor("amount_minor"),  # what is paid: without what was set off
    sa.Column("set_off_minor", sa.BigInteger),  # null: escrow is to be asked how much is set off
    sa.Column("attempt", sa.Integer, nullable=False),
    text("status"),
    text("transaction_id", null=True),
    # Transaction.version of the newest event applied: an older one changes nothing.
    sa.Column("transaction_version", sa.BigInteger, nullable=False, server_default="0"),
    json("failure", null=True),
    *_changes(),
    _of("offerings", "offering_id"),
    _of("investments", "investment_id"),
    _of("allocations", "allocation_id"),
    sa.UniqueConstraint("org_id", "transaction_id", name="payouts_transaction_id_key"),
    # Nobody is paid twice: an attempt is made only when the one before it has definitely ended.
    _one_open("an_allocation", "allocation_id"),
    _one_open("an_investment", "investment_id"),
    _one_open("proceeds", "offering_id", f"type = 'ESCROW_WITHDRAWAL' AND {_OPEN_PAYOUT}"),
    sa.Index("payouts_requested", "org_id", "saga_id", postgresql_where=sa.text("status = 'REQUESTED'")),
    # All attempts to pay the same, by what never changes of them.
    sa.Index("payouts_allocation", "org_id", "allocation_id", postgresql_where=sa.text("allocation_id IS NOT NULL")),
    sa.Index("payouts_investment", "org_id", "investment_id", postgresql_where=sa.text("investment_id IS NOT NULL")),
    sa.Index("payouts_proceeds", "org_id", "escrow_account_id", postgresql_where=sa.text("type = 'ESCROW_WITHDRAWAL'")),
    sa.CheckConstraint(
        "amount_minor >= 0 AND attempt > 0 AND (amount_minor > 0 OR set_off_minor > 0) AND set_off_minor >= 0",
        name="payouts_amount",
    ),
    # Nothing is asked of transactions before it is known how much that is.
    sa.CheckConstraint("set_off_minor IS NOT NULL OR status = 'REQUESTED'", name="payouts_set_off"),
    one_of("type", PayoutType),
    sa.CheckConstraint(
        "(type = 'DISTRIBUTION') = (allocation_id IS NOT NULL) AND (type = 'REFUND') = (investment_id IS NOT NULL)",
        name="payouts_subject",
    ),
    one_of("status", states.PayoutStatus),
)

# Work that a crash must not lose: what to look at, when it is due by the database's clock, and for whom it is done.
# What is to be done is what the offering, the distribution or the payouts say, and each of them names its saga: none is
# due where nothing is left, and one that was begun for an earlier closing does nothing in this one.
sagas = sa.Table(
    "sagas",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("saga_id", sa.Text, primary_key=True),
    text("kind"),
    text("subject_id"),
    text("actor"),
    json("makers_and_checkers"),  # persons, beside the actor: what it has paid rests on their yes
    # In which session the actor asked for it: what is to be approved of it counts by that one.
    sa.Column("signed_in_at", sa.BigInteger),  # in seconds since 1970; where a service asked: none
    text("api_key_id", null=True),
    text("last_error", null=True),
    time("created_at", default="now()"),
    *lease_columns(),
    seal(),
    sa.Index("sagas_due", "kind", "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    one_of("kind", SagaKind),
    info=sealed(
        "org_id", "saga_id", "kind", "subject_id", "actor", "signed_in_at", "api_key_id", "makers_and_checkers"
    ),
)

# How far the journal of each escrow account is counted that an offering uses: in which life of escrow's database, and
# up to which entry. One that waits to be counted anew is work.
counted_journals = sa.Table(
    "counted_journals",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("escrow_account_id", sa.Text, primary_key=True),
    text("incarnation"),
    sa.Column("journal_sequence", sa.BigInteger, nullable=False),
    sa.Column("legs_counted", sa.Integer, nullable=False),  # of the entry after it
    text("told_incarnation"),
    sa.Column("told_sequence", sa.BigInteger, nullable=False),  # while it waits
    json("past_incarnations"),
    time("waits_since", null=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    *lease_columns(),
    seal(),
    sa.Index("counted_journals_due", "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    # Nobody has one wait for ever by taking away when it is due.
    sa.CheckConstraint("(waits_since IS NULL) = (due_at IS NULL)", name="counted_journals_waits"),
    info=sealed(
        *("org_id", "escrow_account_id", "incarnation", "journal_sequence", "legs_counted"),
        *("told_incarnation", "told_sequence", "past_incarnations", "waits_since", "version"),
    ),
)

# Of these a seal covers the whole row.
for _table in (offerings, investments, contributions, distributions, allocations, payouts):
    seal_whole(_table)
