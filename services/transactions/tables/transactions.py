"""The tables of transactions: what moves, what became of it, and for whom it was ordered."""

from __future__ import annotations

import sqlalchemy as sa
from realco.transactions.v1.transactions_pb2 import Transaction
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.columns import json, seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.leases import lease_columns
from services.chassis.data.seals import sealed
from services.transactions.domain.disputes import DisputeStatus
from services.transactions.domain.rails import BY_HAND, RAILS
from services.transactions.domain.reversals import ReversalReason, ReversalStatus
from services.transactions.domain.states import ENDED, Status
from services.transactions.domain.types import TYPES
from services.transactions.tables.indexes import external_index
from services.transactions.tables.metadata import metadata

# Of a transaction whose money arrived and may still be sent back, or is being taken back by a reversal. The job's query
# says it in the words of the index.
MAY_COME_BACK = (
    "finality = 'PROVISIONAL' AND (status IN ('SETTLED', 'COMPLETED') OR reversal_status IN ('ORDERED', 'SETTLED'))"
)
_NEWEST = ("created_at", "transaction_id")


def _index_of(what: str) -> sa.Index:
    """The transactions of one of these, as lists have them."""
    where = sa.text(f"{what} IS NOT NULL")
    return sa.Index(f"transactions_{what.removesuffix('_id')}", "org_id", what, *_NEWEST, postgresql_where=where)


_ENDED = ", ".join(repr(each.value) for each in sorted(ENDED))

# A bank's reference as it is compared: people type it in capitals or not, in wide letters, with blanks, dashes or none.
PLAIN_REFERENCE = "upper(regexp_replace(normalize(bank_reference, NFKC), '[^[:alnum:]]', '', 'g'))"
# Whether a transaction keeps its reference for itself: what was confirmed in error does not.
KEEPS_REFERENCE = (
    "bank_reference IS NOT NULL AND (status <> 'RETURNED' OR failure ->> 'code' IS DISTINCT FROM 'CONFIRMED_IN_ERROR')"
)

transactions = sa.Table(
    "transactions",
    metadata,
    text("org_id", key=True),
    text("transaction_id", key=True),
    text("type"),
    # Triggers let it move along the edges of domain/states.py, from the status there is, and the version grow by one.
    text("status"),
    text("previous_status", null=True),  # of a new one: none
    sa.Column("version", sa.BigInteger, nullable=False),
    text("payment_method"),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.CHAR(3), nullable=False),
    text("escrow_account_id"),
    text("to_escrow_account_id", null=True),  # of a transfer
    text("party_id"),
    text("bank_account_id", null=True),  # of checks, and of wires that come in: none
    text("account_number_digest", null=True),  # of that account, as it was: nothing else is paid or drawn from
    # Drawn from a company's account, as two persons say: it comes back by the rules of companies.
    sa.Column("is_corporate", sa.Boolean, nullable=False, server_default=sa.false()),
    text("approval_reason", null=True),  # why a second person approves it, whatever compliance says
    text("investment_id", null=True),
    text("refunded_transaction_id", null=True),  # the contribution by card that a refund gives back
    text("replaced_transaction_id", null=True),  # the first payout of staff that came to nothing, which it pays instead
    *(text(name, null=True) for name in ("distribution_id", "allocation_id", "description")),
    json("failure", null=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("presentments", sa.Integer, nullable=False, server_default="0"),
    time("next_attempt_at", null=True),
    time("first_presented_at", null=True),
    text("provider"),
    text("provider_reference", null=True),
    text("payer_action_url", null=True),  # where the payer confirms the current attempt to the provider
    text("bank_reference", null=True),  # of a wire or check that a person confirmed
    # What its bank brings, where that is not the amount that was announced; who said so last, in which session.
    sa.Column("corrected_minor", sa.BigInteger),
    text("correction_note", null=True),
    text("corrected_by", null=True),
    sa.Column("corrected_signed_in_at", sa.BigInteger),  # in seconds since 1970
    text("corrected_api_key_id", null=True),
    # Of the card that it was paid by, or goes back to: no more of a number is ever here.
    *(text(name, null=True) for name in ("card_brand", "card_last4")),
    # Who said before that another amount comes; how much, each TransactionUpdated told.
    sa.Column("former_correctors", pg.JSONB, nullable=False, server_default="[]"),
    sa.Column("dispute_status", sa.Text, nullable=False, server_default="NONE"),
    text("dispute_reference", null=True),  # the provider's id of the last dispute
    text("dispute_reason", null=True),
    time("dispute_due_at", null=True),  # until when the card's bank waits for an answer
    # How a payout that was paid in error is taken back, once: what is not there was not ordered.
    text("reversal_status", null=True),
    text("reversal_reason", null=True),
    time("reversal_ordered_at", null=True),
    time("reversal_settled_at", null=True),
    time("reversal_risk_end_at", null=True),  # from when it counts, if it has not come back
    time("reversal_ended_at", null=True),
    json("reversal_failure", null=True),
    # What the provider has kept for itself, where it says so; and how much of that by attempts before the current one.
    sa.Column("provider_fee_minor", sa.BigInteger),
    sa.Column("earlier_fees_minor", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("reconciliation_status", sa.Text, nullable=False, server_default="UNRECONCILED"),
    # Stored, not computed from the time, so that its change is published as any other.
    sa.Column("finality", sa.Text, nullable=False, server_default="PROVISIONAL"),
    text("external_id", null=True),
    sa.Column("metadata", pg.JSONB, nullable=False, server_default="{}"),
    text("created_by"),
    text("approved_by", null=True),
    # Persons, beside who made it: who made the account that is paid, who asked for it where it was ordered or here, and
    # who approved that.
    sa.Column("makers_and_checkers", pg.JSONB, nullable=False, server_default="[]"),
    text("confirmed_by", null=True),
    time("created_at"),
    time("updated_at"),
    time("settled_at", null=True),
    time("return_risk_end_at", null=True),
    time("final_at", null=True),
    # When it is next to be seen whether the money came back: counted from the provider's last answer. Of what is
    # announced, until when it is waited for.
    time("next_look_at", null=True),
    # Who sent the request, and under which key: the job that finishes it settles what its replay answers the sender.
    text("request_subject", null=True),
    text("request_role", null=True),
    text("idempotency_key", null=True),
    # In which session it was asked for: what is approved or confirmed later counts by that one.
    sa.Column("signed_in_at", sa.BigInteger),  # in seconds since 1970; where a service asked: none
    text("api_key_id", null=True),
    *lease_columns(),
    sa.Column("escrow_booked", sa.Boolean, nullable=False, server_default=sa.false()),
    seal(),
    sa.ForeignKeyConstraint(
        ["org_id", "bank_account_id"], ["bank_accounts.org_id", "bank_accounts.bank_account_id"], name="bank_account"
    ),
    sa.CheckConstraint("amount_minor > 0 AND amount_minor < 4611686018427387904", name="amount_positive"),
    sa.CheckConstraint("presentments BETWEEN 0 AND 3 AND attempts >= presentments", name="presentments_three_at_most"),
    sa.CheckConstraint("previous_status IS NOT NULL OR status = 'INITIATED'", name="born_initiated"),
    sa.CheckConstraint("(confirmed_by IS NULL) = (bank_reference IS NULL)", name="confirmation_whole"),
    sa.CheckConstraint(f"{PLAIN_REFERENCE} <> ''", name="bank_reference_named"),
    sa.CheckConstraint(
        "(corrected_minor IS NULL) = (correction_note IS NULL)"
        " AND (corrected_minor IS NULL OR corrected_by IS NOT NULL)",
        name="correction_explained",
    ),
    sa.CheckConstraint(
        "corrected_minor <> amount_minor AND corrected_minor > 0 AND corrected_minor < 4611686018427387904",
        name="corrected_otherwise",
    ),
    sa.CheckConstraint(
        "created_by IS DISTINCT FROM approved_by AND created_by IS DISTINCT FROM confirmed_by"
        " AND (corrected_by IS NULL OR corrected_by IS DISTINCT FROM confirmed_by)",
        name="maker_is_not_checker",
    ),
    # Whose money the book has let go is a payout.
    sa.CheckConstraint(
        "NOT escrow_booked OR NOT makers_and_checkers @> to_jsonb(confirmed_by)", name="approver_does_not_send"
    ),
    sa.CheckConstraint(
        "(to_escrow_account_id IS NOT NULL) = (payment_method = 'INTERNAL_TRANSFER')"
        " AND (type = 'TRANSFER') = (to_escrow_account_id IS NOT NULL) AND to_escrow_account_id <> escrow_account_id",
        name="transfer_names_another",
    ),
    sa.CheckConstraint("(bank_account_id IS NULL) = (account_number_digest IS NULL)", name="account_is_bound"),
    sa.ForeignKeyConstraint(
        ["org_id", "refunded_transaction_id"],
        ["transactions.org_id", "transactions.transaction_id"],
        name="refunded_transaction",
    ),
    sa.ForeignKeyConstraint(
        ["org_id", "replaced_transaction_id"],
        ["transactions.org_id", "transactions.transaction_id"],
        name="replaced_transaction",
    ),
    # Nothing else goes to a card.
    sa.CheckConstraint(
        "(type = 'REFUND' AND payment_method = 'CARD') = (refunded_transaction_id IS NOT NULL)", name="refunds_a_card"
    ),
    sa.CheckConstraint("(card_brand IS NULL) = (card_last4 IS NULL)", name="card_whole"),
    sa.CheckConstraint("card_last4 ~ '^[0-9]{4}$'", name="card_by_four_digits"),
    sa.CheckConstraint("(dispute_status = 'NONE') = (dispute_reference IS NULL)", name="dispute_named"),
    sa.CheckConstraint(
        "(reversal_status IS NULL) = (reversal_reason IS NULL) AND (reversal_status IS NULL) = (reversal_ordered_at IS"
        " NULL)",
        name="reversal_whole",
    ),
    sa.CheckConstraint(
        "(reversal_settled_at IS NULL) = (reversal_risk_end_at IS NULL)"
        " AND (reversal_status IS NULL OR reversal_status IN ('ORDERED', 'FAILED') OR reversal_settled_at IS NOT NULL)",
        name="reversal_settled_has_a_time",
    ),
    sa.CheckConstraint(
        "(reversal_ended_at IS NULL) = (reversal_status IS NULL OR reversal_status IN ('ORDERED', 'SETTLED'))",
        name="reversal_ended_has_a_time",
    ),
    sa.CheckConstraint("earlier_fees_minor BETWEEN 0 AND coalesce(provider_fee_minor, 0)", name="fees_add_up"),
    sa.CheckConstraint("NOT is_corporate OR bank_account_id IS NOT NULL", name="corporate_by_account"),
    sa.CheckConstraint(
        "approval_reason IS NULL OR approved_by IS NOT NULL"
        " OR status IN ('INITIATED', 'PENDING_APPROVAL', 'FAILED', 'CANCELLED')",
        name="approved_by_a_person",
    ),
    sa.CheckConstraint(
        # Of a wire or check a person says that it arrived, or was sent, and no job asks.
        "due_at IS NOT NULL OR status NOT IN ('INITIATED', 'QUEUED', 'PROCESSING')"
        f" AND (status <> 'PENDING_SETTLEMENT' OR payment_method IN ({', '.join(map(repr, BY_HAND))}))"
        f" AND NOT ({MAY_COME_BACK})",
        name="work_is_due",
    ),
    sa.CheckConstraint(f"next_look_at IS NOT NULL OR NOT ({MAY_COME_BACK})", name="what_may_come_back_is_looked_at"),
    sa.CheckConstraint("status <> 'PENDING_RETRY' OR next_attempt_at IS NOT NULL", name="retry_has_a_time"),
    sa.CheckConstraint("status NOT IN ('SETTLED', 'COMPLETED') OR settled_at IS NOT NULL", name="settled_has_a_time"),
    one_of("status", Status),
    one_of("type", TYPES),
    one_of("payment_method", RAILS),
    one_of("dispute_status", DisputeStatus),
    one_of("reversal_status", ReversalStatus),
    one_of("reversal_reason", ReversalReason),
    one_of("finality", Transaction.Finality.DESCRIPTOR),
    one_of("reconciliation_status", Transaction.ReconciliationStatus.DESCRIPTOR),
    sa.Index("transactions_newest", "org_id", "created_at", "transaction_id"),
    sa.Index("transactions_status", "org_id", "status", "created_at", "transaction_id"),
    sa.Index("transactions_party", "org_id", "party_id", "created_at", "transaction_id"),
    sa.Index("transactions_account", "org_id", "escrow_account_id", "created_at", "transaction_id"),
    sa.Index(
        "transactions_transfer",
        "org_id",
        "to_escrow_account_id",
        *_NEWEST,
        postgresql_where=sa.text("to_escrow_account_id IS NOT NULL"),
    ),
    sa.Index("transactions_account_status", "org_id", "escrow_account_id", "status", "created_at", "transaction_id"),
    _index_of("distribution_id"),
    _index_of("investment_id"),
    _index_of("provider_reference"),
    _index_of("bank_reference"),
    external_index("transactions", "transaction_id"),
    # A bank has one wire or check under a reference, however it is written, so it confirms one transaction; another one
    # where it was confirmed in error.
    sa.Index(
        "transactions_one_by_bank_reference",
        "org_id",
        "escrow_account_id",
        sa.text(PLAIN_REFERENCE),
        unique=True,
        postgresql_where=sa.text(KEEPS_REFERENCE),
    ),
    # What came to nothing is paid once.
    sa.Index(
        "transactions_one_instead",
        *("org_id", "replaced_transaction_id"),
        unique=True,
        postgresql_where=sa.text(f"replaced_transaction_id IS NOT NULL AND status NOT IN ({_ENDED})"),
    ),
    # What the jobs look for; small, because transactions that are final are in none of them.
    sa.Index("transactions_due", "status", "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    sa.Index("transactions_retries", "next_attempt_at", postgresql_where=sa.text("status = 'PENDING_RETRY'")),
    sa.Index(
        "transactions_announced",
        "next_look_at",
        postgresql_where=sa.text("status = 'PENDING_SETTLEMENT' AND next_look_at IS NOT NULL"),
    ),
    sa.Index("transactions_provisional", "next_look_at", postgresql_where=sa.text(MAY_COME_BACK)),
    # What return rates are counted of, beside the debits that bring money in.
    sa.Index(
        "transactions_reversals",
        *("org_id", "transaction_id"),
        postgresql_where=sa.text("reversal_status IS NOT NULL"),
    ),
    info=sealed(
        *("org_id", "transaction_id", "type", "status", "version", "payment_method", "amount_minor", "currency"),
        *("escrow_account_id", "to_escrow_account_id", "party_id", "bank_account_id"),
        *("account_number_digest", "is_corporate", "approval_reason"),
        *("refunded_transaction_id", "replaced_transaction_id"),
        *("investment_id", "distribution_id", "allocation_id", "attempts", "presentments", "next_attempt_at"),
        *("first_presented_at", "failure", "provider", "provider_reference", "bank_reference", "finality"),
        "payer_action_url",
        *("card_brand", "card_last4", "dispute_status", "dispute_reference", "dispute_reason", "dispute_due_at"),
        *("reversal_status", "reversal_reason", "reversal_ordered_at", "reversal_settled_at", "reversal_risk_end_at"),
        *("reversal_ended_at", "reversal_failure"),
        *("provider_fee_minor", "earlier_fees_minor"),
        *("corrected_minor", "correction_note", "corrected_by", "corrected_signed_in_at", "corrected_api_key_id"),
        "former_correctors",
        *("created_by", "approved_by", "makers_and_checkers", "confirmed_by"),
        *("request_subject", "request_role", "idempotency_key"),
        *("created_at", "updated_at", "settled_at", "return_risk_end_at", "final_at", "next_look_at", "escrow_booked"),
        *("signed_in_at", "api_key_id"),
    ),
)

# Append-only: every move of every transaction.
_CAME = sa.text("to_status = 'SETTLED'")
CAME_BACK = sa.text("to_status = 'RETURNED'")  # as the index has it: a value that is bound later would not use it
transaction_history = sa.Table(
    "transaction_history",
    metadata,
    text("org_id", key=True),
    text("transaction_id", key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    text("from_status", null=True),
    text("to_status"),
    text("note", null=True),
    text("actor"),
    time("occurred_at"),
    sa.ForeignKeyConstraint(
        ["org_id", "transaction_id"], ["transactions.org_id", "transactions.transaction_id"], name="transaction"
    ),
    sa.CheckConstraint(
        "(version = 1) = (from_status IS NULL) AND (version > 1 OR to_status = 'INITIATED')",
        name="history_begins_initiated",
    ),
    # When money came is asked of this: nobody edits it.
    sa.Index("transaction_history_settled", "org_id", "transaction_id", "occurred_at", postgresql_where=_CAME),
    # And what came back lately, which is little beside what was paid.
    sa.Index("transaction_history_returned", "org_id", "occurred_at", "transaction_id", postgresql_where=CAME_BACK),
)

# One row an item of BatchCreatePayouts: a key makes one transaction, or is refused, for ever.
payout_requests = sa.Table(
    "payout_requests",
    metadata,
    text("org_id", key=True),
    text("idempotency_key", key=True),
    sa.Column("fingerprint", pg.BYTEA, nullable=False),
    text("transaction_id", null=True),
    json("failure", null=True),
    time("created_at"),
    seal(),
    sa.CheckConstraint("(transaction_id IS NULL) <> (failure IS NULL)", name="created_or_refused"),
    info=sealed("org_id", "idempotency_key", "fingerprint", "transaction_id", "failure"),
)
