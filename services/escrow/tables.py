"""The tables escrow owns: the schema's single statement.

- Accounts have a number each, which never leaves the database, and the ledger is keyed by them: a row says once where
  it belongs, and its indexes compare integers. Triggers see to it that both numbers of a leg and its organization
  belong together. One escrow account is one shard.
- The app role reads them and writes almost none: the book changes through the functions of migrations/sql alone.
- Amounts are minor units of the escrow account's currency; no other currency can enter it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from realco.escrow.v1.holds_pb2 import Hold
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import base as pg_base
from sqlalchemy.types import UserDefinedType

from services.chassis.data import tables as chassis_tables
from services.chassis.data.columns import text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.seals import sealed
from services.escrow.domain.account import Status
from services.escrow.domain.chart import Direction
from services.escrow.domain.holds import HoldStatus
from services.escrow.domain.journal import EntryType


class XID8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id, which never wraps."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "XID8"


pg_base.ischema_names["xid8"] = XID8  # so that reflection, and with it the drift check, knows the type

metadata = sa.MetaData()
chassis_tables.attach(metadata)

_ESCROW_ACCOUNT = ("org_id", "escrow_account_id", "escrow_no")
_ACCOUNT = ("org_id", "escrow_account_id", "kind", "party_id")  # the key of a ledger account
# Under a counter of 2^62 no sum of two overflows 64 bits.
_AMOUNT = "amount_minor > 0 AND amount_minor < 4611686018427387904"


def _counter(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _number(name: str) -> sa.Column[int]:
    """A number that the database gives to a row, and that no other row ever gets."""
    return sa.Column(name, sa.BigInteger, sa.Identity(always=True), nullable=False)


def _sum(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Numeric, nullable=False, server_default="0")


# The row every posting locks. `entry_sequence` numbers its journal entries without gaps, in the order of their
# commits; `booked_at` never goes back, so the order of time is the order of the numbers.
escrow_accounts = sa.Table(
    "escrow_accounts",
    metadata,
    text("org_id", key=True),
    text("escrow_account_id", key=True),
    _number("escrow_no"),
    text("display_name"),
    sa.Column("currency", sa.CHAR(3), nullable=False),
    text("sponsor_party_id"),
    text("status", default="ACTIVE"),
    text("custodian_name"),
    text("custodian_account_last4", default=""),
    sa.Column("freezes", pg.JSONB, nullable=False, server_default=sa.text("'[]'")),
    time("unfrozen_at", null=True),
    text("unfrozen_by", null=True),
    # Nobody changes it who cannot prove to be the service (chassis/data/seals.py): each version has its own proof.
    sa.Column("change_digest", pg.BYTEA),
    sa.Column("change_proof", pg.BYTEA),
    time("closed_at", null=True),
    text("closed_by", null=True),
    text("external_id", null=True),
    sa.Column("metadata", pg.JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),  # of what a person edits
    _counter("entry_sequence"),
    time("booked_at", default="'0001-01-02T00:00Z'"),
    time("created_at"),
    text("created_by"),
    time("updated_at"),
    sa.Column("seal", pg.BYTEA),
    sa.UniqueConstraint("escrow_no", name="escrow_accounts_number"),
    sa.UniqueConstraint(*_ESCROW_ACCOUNT, name="escrow_accounts_numbered"),
    one_of("status", Status),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_iso"),
    sa.CheckConstraint(
        "(status = 'FROZEN') = (freezes <> '[]')"
        " AND jsonb_array_length(freezes) = jsonb_array_length(jsonb_path_query_array(freezes,"
        """ '$[*] ? (@.note != "" && @.frozen_by != "" && @.frozen_at starts with "20")'))""",
        name="frozen_for_a_reason",
    ),
    sa.CheckConstraint("num_nulls(unfrozen_at, unfrozen_by) <> 1", name="unfrozen_by_somebody"),
    sa.CheckConstraint(
        "num_nonnulls(closed_at, closed_by) = CASE WHEN status = 'CLOSED' THEN 2 ELSE 0 END", name="closed_by_somebody"
    ),
    sa.Index("escrow_accounts_newest", "org_id", "created_at", "escrow_account_id"),
    sa.Index(
        "escrow_accounts_external_id",
        "org_id",
        "external_id",
        postgresql_where=sa.text("external_id IS NOT NULL"),
    ),
    # All but what the book's own functions write.
    info=sealed(
        *("org_id", "escrow_account_id", "display_name", "currency", "sponsor_party_id", "status", "custodian_name"),
        *("custodian_account_last4", "freezes", "unfrozen_at", "unfrozen_by"),
        *("change_digest", "change_proof", "closed_at", "closed_by", "external_id", "metadata", "version"),
        *("created_at", "created_by", "updated_at"),
    ),
    postgresql_with={"fillfactor": "50"},
)

# The chart of accounts of services/escrow/domain/chart.py, for constraints and functions: the same in every
# organization. migrations/replay.py fills it.
ledger_account_kinds = sa.Table(
    "ledger_account_kinds",
    metadata,
    text("kind", key=True),
    sa.Column("of_party", sa.Boolean, nullable=False),
    text("normal_balance"),
    sa.Column("may_be_overdrawn", sa.Boolean, nullable=False),
    one_of("normal_balance", Direction),
    sa.UniqueConstraint("kind", "of_party", "normal_balance", "may_be_overdrawn", name="ledger_account_kinds_line"),
)

# What was ever debited and credited has no bound: what somebody books there and back fills nothing.
# What the chart says of its kind stands in each row, and the foreign key holds it there: so a CHECK can read it.
ledger_accounts = sa.Table(
    "ledger_accounts",
    metadata,
    text("org_id", key=True),
    text("escrow_account_id", key=True),
    text("kind", key=True),
    text("party_id", key=True, default=""),  # empty where it belongs to nobody in particular
    _number("account_no"),
    sa.Column("escrow_no", sa.BigInteger, nullable=False),
    sa.Column("of_party", sa.Boolean, nullable=False),
    text("normal_balance"),
    sa.Column("may_be_overdrawn", sa.Boolean, nullable=False),
    _sum("debits_posted"),
    _sum("credits_posted"),
    _sum("debits_pending"),
    _sum("credits_pending"),
    _counter("held"),
    _counter("entry_sequence"),
    sa.UniqueConstraint("account_no", name="ledger_accounts_number"),
    sa.ForeignKeyConstraint(list(_ESCROW_ACCOUNT), [f"escrow_accounts.{name}" for name in _ESCROW_ACCOUNT]),
    sa.ForeignKeyConstraint(
        ["kind", "of_party", "normal_balance", "may_be_overdrawn"],
        [f"ledger_account_kinds.{name}" for name in ("kind", "of_party", "normal_balance", "may_be_overdrawn")],
        name="ledger_accounts_in_the_chart",
    ),
    sa.CheckConstraint("of_party = (party_id <> '') AND length(party_id) <= 64", name="party_where_there_is_one"),
    sa.CheckConstraint("held = 0 OR held > 0 AND normal_balance = 'CREDIT'", name="held_where_owed"),
    sa.CheckConstraint(
        "CASE WHEN may_be_overdrawn THEN held = 0"
        " WHEN normal_balance = 'DEBIT'"
        " THEN debits_posted - credits_posted >= held AND debits_pending >= credits_pending"
        " ELSE credits_posted - debits_posted >= held AND credits_pending >= debits_pending END",
        name="not_overdrawn",
    ),
    # For what is kept back of cash where somebody is paid.
    sa.Index(
        "ledger_accounts_held",
        "org_id",
        "escrow_account_id",
        postgresql_include=["held"],
        postgresql_where=sa.text("held > 0"),
    ),
    sa.CheckConstraint("abs(debits_posted - credits_posted) < 4611686018427387904", name="posted_in_bounds"),
    sa.CheckConstraint("abs(debits_pending - credits_pending) < 4611686018427387904", name="pending_in_bounds"),
    postgresql_with={"fillfactor": "50"},
)

# Append-only. `created_xid` closes an entry: legs come in the transaction that made it, or never.
# As `is_by_hand` of domain/journal.py says it.
BY_HAND = (
    "transaction_id IS NULL AND type NOT IN ('RELEASE', 'DISTRIBUTION', 'SET_OFF') OR type = 'CAPTURE'"
    " OR type = 'REVERSAL' AND created_by NOT LIKE 'service:%'"
)

journal_entries = sa.Table(
    "journal_entries",
    metadata,
    sa.Column("escrow_no", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("created_xid", XID8, nullable=False, server_default=sa.text("pg_current_xact_id()")),
    time("effective_at"),
    time("created_at"),
    sa.Column("leg_count", sa.Integer, nullable=False),
    # 128 bits of a digest of who asked under which key; see services/escrow/domain/journal.py.
    sa.Column("request_key", pg.UUID(as_uuid=True), nullable=False),
    text("org_id"),
    text("journal_entry_id"),
    sa.Column("fingerprint", pg.BYTEA, nullable=False),
    sa.Column("seal", pg.BYTEA),  # of the entry and its legs; see services/escrow/posting/checks.py
    text("type"),
    text("description"),
    text("created_by"),
    text("transaction_id", null=True),
    text("investment_id", null=True),
    text("distribution_id", null=True),
    text("reverses_journal_entry_id", null=True),
    text("external_id", null=True),
    sa.Column("metadata", pg.JSONB),
    sa.UniqueConstraint("journal_entry_id", "org_id", name="journal_entries_id_key"),
    sa.UniqueConstraint("request_key", "org_id", name="journal_entries_request_key"),
    # Else nobody could name the entry, and so reverse it.
    sa.CheckConstraint("journal_entry_id ~ '^je_[0-9A-Za-z_-]{1,60}$'", name="has_an_id_of_ours"),
    sa.CheckConstraint("sequence > 0", name="sequence_from_one"),
    sa.CheckConstraint("leg_count >= 2", name="two_legs_at_least"),
    sa.CheckConstraint("effective_at <= created_at", name="booked_after_it_happened"),
    one_of("type", EntryType),
    sa.CheckConstraint("reverses_journal_entry_id <> journal_entry_id", name="reverses_another"),
    sa.Index(
        "journal_entries_reversed_once",
        "reverses_journal_entry_id",
        "org_id",
        unique=True,
        postgresql_where=sa.text("reverses_journal_entry_id IS NOT NULL"),
    ),
    # It begins with what is rare: while a table is young and unmeasured, the planner takes any index whose first
    # columns fit, and would read a whole account for one transaction.
    sa.Index(
        "journal_entries_transaction",
        "transaction_id",
        "escrow_no",
        postgresql_where=sa.text("transaction_id IS NOT NULL"),
    ),
    sa.Index(
        "journal_entries_external_id",
        "external_id",
        "escrow_no",
        postgresql_where=sa.text("external_id IS NOT NULL"),
    ),
    sa.Index("journal_entries_by_hand", "escrow_no", "created_at", postgresql_where=sa.text(BY_HAND)),
    # For where money of an escrow account came from: migrations/sql/sources_of.sql.
    sa.Index("journal_entries_transfers", "escrow_no", postgresql_where=sa.text("type = 'TRANSFER'")),
)

# Up to which number the entries of an escrow account were looked at, and all were booked by this service. The seal
# names the entry that has the number, too, and the incarnation of the database (posting/checks.py).
book_checks = sa.Table(
    "book_checks",
    metadata,
    text("org_id", key=True),
    text("escrow_account_id", key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("seal", pg.BYTEA, nullable=False),
    sa.ForeignKeyConstraint(
        ["org_id", "escrow_account_id"], ["escrow_accounts.org_id", "escrow_accounts.escrow_account_id"]
    ),
)

# Postings that were refused for what the book held: the same request gets the same refusal for 30 days. The seal is
# part of the key: what somebody else had refused under the key of a request is never its answer.
refused_postings = sa.Table(
    "refused_postings",
    metadata,
    sa.Column("request_key", pg.UUID(as_uuid=True), primary_key=True),
    text("org_id", key=True),
    sa.Column("seal", pg.BYTEA, primary_key=True),
    sa.Column("fingerprint", pg.BYTEA, nullable=False),
    text("verdict"),
    text("subject", null=True),
    text("kind", null=True),
    text("party_id", null=True),
    sa.Column("available", sa.BigInteger),
    sa.Column("requested", sa.BigInteger),
    time("created_at", default="now()"),
    sa.Index("refused_postings_created_at", "created_at"),
)

# Append-only. `debit` and `pending` are the side and the layer. `posted_after` and `pending_after` are the ledger
# account's balances after the entry, on its normal side: a balance at an instant is one row.
ledger_entries = sa.Table(
    "ledger_entries",
    metadata,
    sa.Column("account_no", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("escrow_no", sa.BigInteger, nullable=False),
    sa.Column("journal_sequence", sa.BigInteger, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("posted_after", sa.BigInteger, nullable=False),
    sa.Column("pending_after", sa.BigInteger, nullable=False),
    time("effective_at"),
    time("created_at"),
    sa.Column("leg", sa.Integer, nullable=False),
    sa.Column("debit", sa.Boolean, nullable=False),
    sa.Column("pending", sa.Boolean, nullable=False),
    text("org_id"),
    sa.CheckConstraint("sequence > 0", name="sequence_from_one"),
    sa.CheckConstraint("leg > 0", name="leg_from_one"),
    sa.CheckConstraint(_AMOUNT, name="amount_positive"),
    # The legs of an entry, and the whole ledger in booking order.
    sa.Index("ledger_entries_booked", "escrow_no", "journal_sequence", "leg", unique=True),
    # What was booked long after it happened; see balances_at in migrations/sql.
    sa.Index(
        "ledger_entries_late",
        "account_no",
        "effective_at",
        postgresql_where=sa.text("(created_at - effective_at) > interval '00:01:00'"),
    ),
)

holds = sa.Table(
    "holds",
    metadata,
    text("org_id", key=True),
    text("escrow_account_id", key=True),
    text("hold_id", key=True),
    text("kind"),
    text("party_id", default=""),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    _counter("captured_minor"),
    _counter("overridden_minor"),
    text("status", default="PLACED"),
    text("reason"),
    text("description", default=""),
    text("transaction_id", null=True),
    text("external_id", null=True),
    sa.Column("metadata", pg.JSONB, nullable=False, server_default=sa.text("'{}'")),
    time("expires_at", null=True),
    time("created_at"),
    text("created_by"),
    time("resolved_at", null=True),
    text("resolved_by", null=True),
    text("replaces_hold_id", null=True),
    text("returned_transaction_id", null=True),
    # Nobody ends it, or says when it ends, who cannot prove to be the service (chassis/data/seals.py).
    sa.Column("end_digest", pg.BYTEA, nullable=False),
    sa.Column("seal", pg.BYTEA),
    sa.ForeignKeyConstraint(
        list(_ACCOUNT),
        [f"ledger_accounts.{name}" for name in _ACCOUNT],
    ),
    sa.CheckConstraint(_AMOUNT, name="amount_positive"),
    one_of("status", HoldStatus),
    one_of("reason", Hold.Reason.DESCRIPTOR),
    sa.CheckConstraint(
        "num_nonnulls(resolved_at, resolved_by) = CASE WHEN status = 'PLACED' THEN 0 ELSE 2 END",
        name="resolved_when_not_placed",
    ),
    sa.CheckConstraint(
        "CASE status WHEN 'CAPTURED' THEN captured_minor > 0 AND captured_minor <= amount_minor"
        " ELSE captured_minor = 0 END",
        name="captured_within",
    ),
    sa.CheckConstraint(
        "CASE status WHEN 'OVERRIDDEN' THEN overridden_minor > 0 AND overridden_minor <= amount_minor"
        " ELSE overridden_minor = 0 END",
        name="overridden_within",
    ),
    sa.CheckConstraint(
        "(status = 'OVERRIDDEN') = (returned_transaction_id IS NOT NULL)", name="overridden_by_a_return"
    ),
    sa.Index("holds_newest", "org_id", "escrow_account_id", "created_at", "hold_id"),
    sa.Index("holds_external_id", "org_id", "external_id", postgresql_where=sa.text("external_id IS NOT NULL")),
    sa.Index(
        "holds_expiring",
        "expires_at",
        postgresql_where=sa.text("status = 'PLACED' AND expires_at IS NOT NULL"),
    ),
    sa.Index("holds_open", *_ACCOUNT, postgresql_where=sa.text("status = 'PLACED'")),
    # What was placed. How and when it ends is written with the proof alone.
    info=sealed(
        *("org_id", "escrow_account_id", "hold_id", "kind", "party_id", "amount_minor", "reason", "description"),
        *("transaction_id", "external_id", "metadata", "created_at", "created_by", "replaces_hold_id", "end_digest"),
    ),
)
