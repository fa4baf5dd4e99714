"""The book: its tables, the functions that alone may write it, and what the database refuses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from services.chassis.data.guards import append_only, guard_moves, keep
from services.chassis.data.migrations import close
from services.chassis.data.steps import create_chassis_tables
from services.escrow.migrations.replay import replay_current
from services.escrow.rights import RIGHTS
from services.escrow.tables import XID8

revision = "0001"
down_revision = None
compatible_with = "0001"

# domain/account.py as it stood then; a test compares it with the database.
_MOVES = {
    "escrow_accounts": """
        >ACTIVE ACTIVE>FROZEN ACTIVE>LIQUIDATING ACTIVE>CLOSED FROZEN>ACTIVE LIQUIDATING>ACTIVE LIQUIDATING>FROZEN
        LIQUIDATING>CLOSED
    """,
}


def upgrade() -> None:
    create_chassis_tables(op)
    _create_escrow_accounts()
    _create_ledger_account_kinds()
    _create_ledger_accounts()
    _create_journal_entries()
    _create_book_checks()
    _create_refused_postings()
    _create_ledger_entries()
    _create_holds()
    append_only(op, "journal_entries", "ledger_entries")
    for name in ("escrow_accounts", "ledger_accounts", "holds"):
        op.execute(
            f"CREATE TRIGGER refuse_removal BEFORE DELETE OR TRUNCATE ON {name}"
            " FOR EACH STATEMENT EXECUTE FUNCTION realco_refuse()"
        )
    guard_moves(op, _MOVES)
    keep(op, "refused_postings", "created_at", 30)
    replay_current(op)
    close(op, "escrow", RIGHTS)


def _create_escrow_accounts() -> None:
    op.create_table(
        "escrow_accounts",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("escrow_account_id", sa.Text(), nullable=False),
        sa.Column("escrow_no", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("sponsor_party_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="ACTIVE", nullable=False),
        sa.Column("custodian_name", sa.Text(), nullable=False),
        sa.Column("custodian_account_last4", sa.Text(), server_default="", nullable=False),
        sa.Column("freezes", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("unfrozen_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("unfrozen_by", sa.Text(), nullable=True),
        sa.Column("change_digest", postgresql.BYTEA(), nullable=True),
        sa.Column("change_proof", postgresql.BYTEA(), nullable=True),
        sa.Column("closed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("entry_sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "booked_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("'0001-01-02T00:00Z'"), nullable=False
        ),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint(
            (
                "(status = 'FROZEN') = (freezes <> '[]')"
                " AND jsonb_array_length(freezes) = jsonb_array_length(jsonb_path_query_array(freezes,"
                """ '$[*] ? (@.note != "" && @.frozen_by != "" && @.frozen_at starts with "20")'))"""
            ),
            name="frozen_for_a_reason",
        ),
        sa.CheckConstraint("num_nulls(unfrozen_at, unfrozen_by) <> 1", name="unfrozen_by_somebody"),
        sa.CheckConstraint(
            "num_nonnulls(closed_at, closed_by) = CASE WHEN status = 'CLOSED' THEN 2 ELSE 0 END",
            name="closed_by_somebody",
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_iso"),
        sa.CheckConstraint("status IN ('ACTIVE', 'FROZEN', 'LIQUIDATING', 'CLOSED')", name="status_known"),
        sa.PrimaryKeyConstraint("org_id", "escrow_account_id"),
        sa.UniqueConstraint("escrow_no", name="escrow_accounts_number"),
        sa.UniqueConstraint("org_id", "escrow_account_id", "escrow_no", name="escrow_accounts_numbered"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "escrow_accounts_external_id",
        "escrow_accounts",
        ["org_id", "external_id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "escrow_accounts_newest", "escrow_accounts", ["org_id", "created_at", "escrow_account_id"], unique=False
    )


def _create_ledger_account_kinds() -> None:
    op.create_table(
        "ledger_account_kinds",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("of_party", sa.Boolean(), nullable=False),
        sa.Column("normal_balance", sa.Text(), nullable=False),
        sa.Column("may_be_overdrawn", sa.Boolean(), nullable=False),
        sa.CheckConstraint("normal_balance IN ('DEBIT', 'CREDIT')", name="normal_balance_known"),
        sa.PrimaryKeyConstraint("kind"),
        sa.UniqueConstraint("kind", "of_party", "normal_balance", "may_be_overdrawn", name="ledger_account_kinds_line"),
    )


def _create_ledger_accounts() -> None:
    op.create_table(
        "ledger_accounts",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("escrow_account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), server_default="", nullable=False),
        sa.Column("account_no", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("escrow_no", sa.BigInteger(), nullable=False),
        sa.Column("of_party", sa.Boolean(), nullable=False),
        sa.Column("normal_balance", sa.Text(), nullable=False),
        sa.Column("may_be_overdrawn", sa.Boolean(), nullable=False),
        sa.Column("debits_posted", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("credits_posted", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("debits_pending", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("credits_pending", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("held", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("entry_sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            (
                "CASE WHEN may_be_overdrawn THEN held = 0 WHEN normal_balance = 'DEBIT' THEN debits_posted - "
                "credits_posted >= held AND debits_pending >= credits_pending ELSE credits_posted - "
                "debits_posted >= held AND credits_pending >= debits_pending END"
            ),
            name="not_overdrawn",
        ),
        sa.CheckConstraint("of_party = (party_id <> '') AND length(party_id) <= 64", name="party_where_there_is_one"),
        sa.CheckConstraint("abs(debits_pending - credits_pending) < 4611686018427387904", name="pending_in_bounds"),
        sa.CheckConstraint("abs(debits_posted - credits_posted) < 4611686018427387904", name="posted_in_bounds"),
        sa.CheckConstraint("held = 0 OR held > 0 AND normal_balance = 'CREDIT'", name="held_where_owed"),
        sa.ForeignKeyConstraint(
            ["kind", "of_party", "normal_balance", "may_be_overdrawn"],
            [
                "ledger_account_kinds.kind",
                "ledger_account_kinds.of_party",
                "ledger_account_kinds.normal_balance",
                "ledger_account_kinds.may_be_overdrawn",
            ],
            name="ledger_accounts_in_the_chart",
        ),
        sa.ForeignKeyConstraint(
            ["org_id", "escrow_account_id", "escrow_no"],
            ["escrow_accounts.org_id", "escrow_accounts.escrow_account_id", "escrow_accounts.escrow_no"],
        ),
        sa.PrimaryKeyConstraint("org_id", "escrow_account_id", "kind", "party_id"),
        sa.UniqueConstraint("account_no", name="ledger_accounts_number"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "ledger_accounts_held",
        "ledger_accounts",
        ["org_id", "escrow_account_id"],
        unique=False,
        postgresql_include=["held"],
        postgresql_where=sa.text("held > 0"),
    )


def _create_journal_entries() -> None:
    op.create_table(
        "journal_entries",
        sa.Column("escrow_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("created_xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("effective_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("leg_count", sa.Integer(), nullable=False),
        sa.Column("request_key", sa.UUID(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("journal_entry_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", postgresql.BYTEA(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("investment_id", sa.Text(), nullable=True),
        sa.Column("distribution_id", sa.Text(), nullable=True),
        sa.Column("reverses_journal_entry_id", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            (
                "type IN ('DEPOSIT', 'WITHDRAWAL', 'DISTRIBUTION', 'FEE', 'REFUND', 'ADJUSTMENT', "
                "'RECONCILIATION', 'CAPTURE', 'RELEASE', 'RETURN', 'REVERSAL', 'SET_OFF', 'TRANSFER', "
                "'PROVIDER_FEE')"
            ),
            name="type_known",
        ),
        sa.CheckConstraint("journal_entry_id ~ '^je_[0-9A-Za-z_-]{1,60}$'", name="has_an_id_of_ours"),
        sa.CheckConstraint("effective_at <= created_at", name="booked_after_it_happened"),
        sa.CheckConstraint("leg_count >= 2", name="two_legs_at_least"),
        sa.CheckConstraint("reverses_journal_entry_id <> journal_entry_id", name="reverses_another"),
        sa.CheckConstraint("sequence > 0", name="sequence_from_one"),
        sa.PrimaryKeyConstraint("escrow_no", "sequence"),
        sa.UniqueConstraint("journal_entry_id", "org_id", name="journal_entries_id_key"),
        sa.UniqueConstraint("request_key", "org_id", name="journal_entries_request_key"),
    )
    op.create_index(
        "journal_entries_external_id",
        "journal_entries",
        ["external_id", "escrow_no"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "journal_entries_by_hand",
        "journal_entries",
        ["escrow_no", "created_at"],
        unique=False,
        postgresql_where=sa.text(
            "transaction_id IS NULL AND type NOT IN ('RELEASE', 'DISTRIBUTION', 'SET_OFF') OR type = 'CAPTURE'"
            " OR type = 'REVERSAL' AND created_by NOT LIKE 'service:%'"
        ),
    )
    op.create_index(
        "journal_entries_reversed_once",
        "journal_entries",
        ["reverses_journal_entry_id", "org_id"],
        unique=True,
        postgresql_where=sa.text("reverses_journal_entry_id IS NOT NULL"),
    )
    op.create_index(
        "journal_entries_transfers",
        "journal_entries",
        ["escrow_no"],
        unique=False,
        postgresql_where=sa.text("type = 'TRANSFER'"),
    )
    op.create_index(
        "journal_entries_transaction",
        "journal_entries",
        ["transaction_id", "escrow_no"],
        unique=False,
        postgresql_where=sa.text("transaction_id IS NOT NULL"),
    )


def _create_book_checks() -> None:
    op.create_table(
        "book_checks",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("escrow_account_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "escrow_account_id"],
            ["escrow_accounts.org_id", "escrow_accounts.escrow_account_id"],
        ),
        sa.PrimaryKeyConstraint("org_id", "escrow_account_id"),
    )


def _create_refused_postings() -> None:
    op.create_table(
        "refused_postings",
        sa.Column("request_key", sa.UUID(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=False),
        sa.Column("fingerprint", postgresql.BYTEA(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("party_id", sa.Text(), nullable=True),
        sa.Column("available", sa.BigInteger(), nullable=True),
        sa.Column("requested", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("request_key", "org_id", "seal"),
    )
    op.create_index("refused_postings_created_at", "refused_postings", ["created_at"], unique=False)


def _create_ledger_entries() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("escrow_no", sa.BigInteger(), nullable=False),
        sa.Column("journal_sequence", sa.BigInteger(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("posted_after", sa.BigInteger(), nullable=False),
        sa.Column("pending_after", sa.BigInteger(), nullable=False),
        sa.Column("effective_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("leg", sa.Integer(), nullable=False),
        sa.Column("debit", sa.Boolean(), nullable=False),
        sa.Column("pending", sa.Boolean(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.CheckConstraint("amount_minor > 0 AND amount_minor < 4611686018427387904", name="amount_positive"),
        sa.CheckConstraint("leg > 0", name="leg_from_one"),
        sa.CheckConstraint("sequence > 0", name="sequence_from_one"),
        sa.PrimaryKeyConstraint("account_no", "sequence"),
    )
    op.create_index(
        "ledger_entries_booked",
        "ledger_entries",
        ["escrow_no", "journal_sequence", "leg"],
        unique=True,
    )
    op.create_index(
        "ledger_entries_late",
        "ledger_entries",
        ["account_no", "effective_at"],
        unique=False,
        postgresql_where=sa.text("(created_at - effective_at) > interval '00:01:00'"),
    )


def _create_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("escrow_account_id", sa.Text(), nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), server_default="", nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("captured_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("overridden_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("status", sa.Text(), server_default="PLACED", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("resolved_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("replaces_hold_id", sa.Text(), nullable=True),
        sa.Column("returned_transaction_id", sa.Text(), nullable=True),
        sa.Column("end_digest", postgresql.BYTEA(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint(
            "num_nonnulls(resolved_at, resolved_by) = CASE WHEN status = 'PLACED' THEN 0 ELSE 2 END",
            name="resolved_when_not_placed",
        ),
        sa.CheckConstraint(
            (
                "CASE status WHEN 'CAPTURED' THEN captured_minor > 0 AND captured_minor <= amount_minor ELSE "
                "captured_minor = 0 END"
            ),
            name="captured_within",
        ),
        sa.CheckConstraint(
            (
                "CASE status WHEN 'OVERRIDDEN' THEN overridden_minor > 0 AND overridden_minor <= amount_minor ELSE "
                "overridden_minor = 0 END"
            ),
            name="overridden_within",
        ),
        sa.CheckConstraint(
            "(status = 'OVERRIDDEN') = (returned_transaction_id IS NOT NULL)", name="overridden_by_a_return"
        ),
        sa.CheckConstraint("reason IN ('RETURN_RISK', 'DISPUTE', 'MANUAL')", name="reason_known"),
        sa.CheckConstraint(
            "status IN ('PLACED', 'CAPTURED', 'RELEASED', 'EXPIRED', 'OVERRIDDEN')", name="status_known"
        ),
        sa.CheckConstraint("amount_minor > 0 AND amount_minor < 4611686018427387904", name="amount_positive"),
        sa.ForeignKeyConstraint(
            ["org_id", "escrow_account_id", "kind", "party_id"],
            [
                "ledger_accounts.org_id",
                "ledger_accounts.escrow_account_id",
                "ledger_accounts.kind",
                "ledger_accounts.party_id",
            ],
        ),
        sa.PrimaryKeyConstraint("org_id", "escrow_account_id", "hold_id"),
    )
    op.create_index(
        "holds_open",
        "holds",
        ["org_id", "escrow_account_id", "kind", "party_id"],
        unique=False,
        postgresql_where=sa.text("status = 'PLACED'"),
    )
    op.create_index(
        "holds_expiring",
        "holds",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'PLACED' AND expires_at IS NOT NULL"),
    )
    op.create_index(
        "holds_external_id",
        "holds",
        ["org_id", "external_id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index("holds_newest", "holds", ["org_id", "escrow_account_id", "created_at", "hold_id"], unique=False)
