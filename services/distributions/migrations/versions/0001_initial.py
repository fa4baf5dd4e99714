"""The tables distributions begins with, what guards them, and what the app role may do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from services.chassis.data.guards import SEARCH_PATH, append_only, guard_moves, hold_history
from services.chassis.data.migrations import close
from services.chassis.data.steps import create_chassis_tables, create_heard_persons
from services.distributions.rights import RIGHTS

revision = "0001"
down_revision = None
compatible_with = "0001"

# domain/states.py as it stood then; a test compares it with the database.
_MOVES = {
    "offerings": """
        >OPEN OPEN>CLOSING CLOSING>CLOSED CLOSING>OPEN OPEN>REFUNDING REFUNDING>REFUNDED REFUNDED>REFUNDING
    """,
    "investments": """
        >PENDING PENDING>ACTIVE ACTIVE>COMPLETED PENDING>CANCELLING CANCELLING>CANCELLED CANCELLED>CANCELLING
        PENDING>RECONFIRM_REQUIRED RECONFIRM_REQUIRED>PENDING RECONFIRM_REQUIRED>CANCELLING
    """,
    "distributions": """
        >DRAFT DRAFT>PENDING_APPROVAL PENDING_APPROVAL>APPROVED APPROVED>QUEUED QUEUED>PROCESSING PROCESSING>COMPLETED
        PENDING_APPROVAL>DRAFT APPROVED>DRAFT DRAFT>CANCELLED PENDING_APPROVAL>CANCELLED APPROVED>CANCELLED
        QUEUED>FAILED PROCESSING>FAILED PROCESSING>PARTIALLY_FAILED COMPLETED>PARTIALLY_FAILED
        FAILED>PROCESSING PARTIALLY_FAILED>PROCESSING
    """,
    "allocations": """
        >PENDING PENDING>PROCESSING PROCESSING>COMPLETED PENDING>ON_HOLD ON_HOLD>PENDING PENDING>CANCELLED
        ON_HOLD>CANCELLED
        PROCESSING>FAILED PROCESSING>RETURNED COMPLETED>RETURNED FAILED>PROCESSING RETURNED>PROCESSING
    """,
    "payouts": """
        >REQUESTED REQUESTED>CREATED REQUESTED>COMPLETED REQUESTED>FAILED REQUESTED>RETURNED
        CREATED>COMPLETED CREATED>FAILED CREATED>RETURNED
        COMPLETED>FAILED COMPLETED>RETURNED FAILED>COMPLETED FAILED>RETURNED RETURNED>COMPLETED RETURNED>FAILED
    """,
}
_REFUSE_WRONG_LINES = f"""
    CREATE FUNCTION refuse_wrong_lines() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM inserted WHERE amount_minor IS DISTINCT FROM (
                SELECT sum((line ->> 'amount_minor')::bigint) FROM jsonb_array_elements(lines) AS line
                HAVING min((line ->> 'amount_minor')::bigint) > 0
            )
        ) THEN
            RAISE EXCEPTION 'allocations: the lines of an allocation are positive and sum to its amount'
            USING ERRCODE = '23514';
        END IF;
        RETURN NULL;
    END $$
"""
# What an allocation pays is replaced by a new calculation, never edited.
_REFUSE_AMOUNT_CHANGE = f"""
    CREATE FUNCTION refuse_amount_change() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
    BEGIN
        RAISE EXCEPTION '%: amounts are not edited', TG_TABLE_NAME USING ERRCODE = '23514';
    END $$
"""
# A calculation may take the place of another as long as nobody was asked to approve it. Of another organization than
# the one that is named by now the distribution is not seen, and so is no draft. It is locked: who took a snapshot while
# it was a draft is refused by that, once it is none.
_REFUSE_LATE_CALCULATION = f"""
    CREATE FUNCTION refuse_late_calculation() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
    BEGIN
        PERFORM FROM distributions d
        WHERE (d.org_id, d.distribution_id) IN (SELECT org_id, distribution_id FROM changed) FOR SHARE;
        IF EXISTS (
            SELECT FROM changed c WHERE NOT EXISTS (
                SELECT FROM distributions d
                WHERE d.org_id = c.org_id AND d.distribution_id = c.distribution_id AND d.status = 'DRAFT'
            )
        ) THEN
            RAISE EXCEPTION '%: only a draft is calculated', TG_TABLE_NAME USING ERRCODE = '23514';
        END IF;
        RETURN NULL;
    END $$
"""
# What can be taken away, and put back as it was, moves nowhere: else a line of history of such a move would stand in
# the place of one to come.
_REFUSE_MOVE_OF_DRAFT = f"""
    CREATE FUNCTION refuse_move_of_draft() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
    BEGIN
        PERFORM FROM distributions d
        WHERE d.org_id = NEW.org_id AND d.distribution_id = NEW.distribution_id AND d.status <> 'DRAFT' FOR SHARE;
        IF FOUND THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '%: nothing of a draft moves', TG_TABLE_NAME USING ERRCODE = '23514';
    END $$
"""
# Whose moves are told in `moves`.
_MOVING = {
    "offerings": "offering_id",
    "investments": "investment_id",
    "distributions": "distribution_id",
    "allocations": "allocation_id",
}


def upgrade() -> None:
    create_chassis_tables(op)
    create_heard_persons(op)
    _moves()
    _offerings()
    _sagas()
    _distributions()
    _investments()
    _allocations()
    _contributions()
    _counted_journals()
    _payouts()
    guard_moves(op, _MOVES)
    _guard_amounts()
    ids = {"offerings": "off_", "investments": "inv_", "distributions": "dist_", "allocations": "alloc_"}
    hold_history(op, "moves", "subject_id", _MOVING, ids=ids, untold={"allocations": "PENDING"})
    append_only(op, "moves")
    close(op, "distributions", RIGHTS)


def _guard_amounts() -> None:
    op.execute(_REFUSE_WRONG_LINES)
    op.execute(
        "CREATE TRIGGER refuse_wrong_lines AFTER INSERT ON allocations REFERENCING NEW TABLE AS inserted"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_wrong_lines()"
    )
    op.execute(_REFUSE_AMOUNT_CHANGE)
    op.execute(
        "CREATE TRIGGER refuse_amount_change BEFORE UPDATE OF amount_minor, lines ON allocations FOR EACH ROW"
        " WHEN ((OLD.amount_minor, OLD.lines) IS DISTINCT FROM (NEW.amount_minor, NEW.lines))"
        " EXECUTE FUNCTION refuse_amount_change()"
    )
    op.execute(
        "CREATE TRIGGER refuse_amount_change BEFORE UPDATE OF tier_totals ON distributions FOR EACH ROW"
        " WHEN (OLD.status <> 'DRAFT' AND OLD.tier_totals IS DISTINCT FROM NEW.tier_totals)"
        " EXECUTE FUNCTION refuse_amount_change()"
    )
    # What was set off stays so, and is of what is to be paid, once.
    op.execute(
        "CREATE TRIGGER refuse_set_off_change BEFORE UPDATE OF set_off_minor ON allocations FOR EACH ROW"
        " WHEN (NEW.set_off_minor < OLD.set_off_minor) EXECUTE FUNCTION refuse_amount_change()"
    )
    op.execute(
        "CREATE TRIGGER refuse_amount_change BEFORE UPDATE OF amount_minor, set_off_minor ON payouts FOR EACH ROW"
        " WHEN ((OLD.amount_minor, OLD.set_off_minor) IS DISTINCT FROM (NEW.amount_minor, NEW.set_off_minor)"
        " AND (OLD.set_off_minor IS NOT NULL OR NEW.set_off_minor IS NULL"
        " OR OLD.amount_minor <> NEW.amount_minor + NEW.set_off_minor))"
        " EXECUTE FUNCTION refuse_amount_change()"
    )
    op.execute(_REFUSE_MOVE_OF_DRAFT)
    op.execute(
        "CREATE TRIGGER refuse_move_of_draft BEFORE UPDATE OF status ON allocations FOR EACH ROW"
        " WHEN (NEW.status <> OLD.status) EXECUTE FUNCTION refuse_move_of_draft()"
    )
    op.execute(_REFUSE_LATE_CALCULATION)
    for event, rows in (("INSERT", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER refuse_late_{event.lower()} AFTER {event} ON allocations"
            f" REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION refuse_late_calculation()"
        )


def _moves() -> None:
    op.create_table(
        "moves",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("moved_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "subject_id", "version"),
    )


def _offerings() -> None:
    op.create_table(
        "offerings",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("sponsor_party_id", sa.Text(), nullable=False),
        sa.Column("escrow_account_id", sa.Text(), nullable=False),
        sa.Column("exemption", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("target_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("maximum_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("open_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("deadline_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("early_close_noticed_on", sa.Date(), nullable=True),
        sa.Column("tiers", postgresql.JSONB(), nullable=False),
        sa.Column("receivables_policy", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("committed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("funded_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("incoming_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("closing_date", sa.Date(), nullable=True),
        sa.Column("closing_attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("closing_saga_id", sa.Text(), nullable=True),
        sa.Column("closing_failure", postgresql.JSONB(), nullable=True),
        sa.Column("proceeds_bank_account_id", sa.Text(), nullable=True),
        sa.Column("proceeds_transaction_id", sa.Text(), nullable=True),
        sa.Column("proceeds_failure", postgresql.JSONB(), nullable=True),
        sa.Column("refund_note", sa.Text(), nullable=True),
        sa.Column("declarations", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("edition", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("declared_through", sa.Date(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("makers", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("status <> 'CLOSED' OR closing_date IS NOT NULL", name="offerings_closing_date"),
        sa.CheckConstraint("status IN ('OPEN', 'CLOSING', 'CLOSED', 'REFUNDING', 'REFUNDED')", name="status_known"),
        sa.CheckConstraint("exemption IN ('REG_CF', 'REG_D_506B', 'REG_D_506C')", name="exemption_known"),
        sa.CheckConstraint("receivables_policy IN ('BLOCK', 'SET_OFF')", name="receivables_policy_known"),
        sa.CheckConstraint("committed_minor BETWEEN 0 AND maximum_minor", name="offerings_not_over_committed"),
        sa.CheckConstraint("deadline_at > open_at", name="offerings_deadline"),
        sa.CheckConstraint("jsonb_array_length(tiers) > 0", name="offerings_tiers"),
        sa.CheckConstraint("target_minor > 0 AND maximum_minor >= target_minor", name="offerings_target"),
        sa.PrimaryKeyConstraint("org_id", "offering_id"),
        sa.UniqueConstraint("org_id", "escrow_account_id", name="offerings_escrow_account_id_key"),
    )
    op.create_index(
        "offerings_external_id",
        "offerings",
        ["org_id", "external_id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )


def _sagas() -> None:
    op.create_table(
        "sagas",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("makers_and_checkers", postgresql.JSONB(), nullable=False),
        sa.Column("signed_in_at", sa.BigInteger(), nullable=True),
        sa.Column("api_key_id", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("kind IN ('CLOSING', 'REFUND', 'EXECUTION', 'RESEND')", name="kind_known"),
        sa.PrimaryKeyConstraint("org_id", "saga_id"),
    )
    op.create_index(
        "sagas_due", "sagas", ["kind", "due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL")
    )


def _distributions() -> None:
    op.create_table(
        "distributions",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("distribution_id", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("distribution_date", sa.Date(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=True),
        sa.Column("basis_version", sa.BigInteger(), nullable=True),
        sa.Column("allocation_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tier_totals", postgresql.JSONB(), nullable=False),
        sa.Column("paid_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failure", postgresql.JSONB(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("calculated_by", sa.Text(), nullable=True),
        sa.Column("submitted_by", sa.Text(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_hash", sa.Text(), nullable=True),
        sa.Column("makers", postgresql.JSONB(), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("declared_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("execution_saga_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint(
            (
                "status IN ('DRAFT', 'PENDING_APPROVAL', 'APPROVED', 'QUEUED', 'PROCESSING', 'COMPLETED',"
                " 'PARTIALLY_FAILED', 'FAILED', 'CANCELLED')"
            ),
            name="status_known",
        ),
        sa.CheckConstraint(
            "type IN ('RETURN_OF_CAPITAL', 'PREFERRED_RETURN', 'PROFIT_SPLIT', 'SPECIAL')", name="type_known"
        ),
        sa.CheckConstraint(
            (
                "status IN ('DRAFT', 'PENDING_APPROVAL', 'CANCELLED') OR (approved_by IS NOT NULL AND"
                " calculated_by IS NOT NULL AND submitted_by IS NOT NULL AND approved_hash = content_hash"
                " AND content_hash IS NOT NULL AND basis_version IS NOT NULL)"
            ),
            name="distributions_approved",
        ),
        sa.CheckConstraint("amount_minor > 0", name="distributions_amount"),
        sa.CheckConstraint(
            "approved_by IS NULL OR NOT makers @> to_jsonb(approved_by)", name="distributions_maker_is_not_checker"
        ),
        sa.CheckConstraint(
            "(status IN ('PENDING_APPROVAL', 'APPROVED')) = (expires_at IS NOT NULL)", name="distributions_expires"
        ),
        sa.CheckConstraint("paid_minor BETWEEN 0 AND amount_minor", name="distributions_paid"),
        sa.ForeignKeyConstraint(
            ["org_id", "offering_id"],
            ["offerings.org_id", "offerings.offering_id"],
        ),
        sa.PrimaryKeyConstraint("org_id", "distribution_id"),
    )
    op.create_index(
        "distributions_external_id",
        "distributions",
        ["org_id", "external_id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "distributions_offering",
        "distributions",
        ["org_id", "offering_id", "created_at", "distribution_id"],
        unique=False,
    )
    op.create_index(
        "distributions_one_a_basis",
        "distributions",
        ["org_id", "offering_id", "basis_version"],
        unique=True,
        postgresql_where=sa.text("declared_at IS NOT NULL OR status = 'QUEUED'"),
    )


def _investments() -> None:
    op.create_table(
        "investments",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("investment_id", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("funded_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("at_risk_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("made_up_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unapplied_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unapplied_made_up_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("receivable_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("on_its_way_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("clears_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("refunded_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("released_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unreturned_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("accrued_units", sa.Numeric(precision=38, scale=0), server_default="0", nullable=False),
        sa.Column("accrued_through", sa.Date(), nullable=True),
        sa.Column("distributed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("accrual_start_date", sa.Date(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("refund_requested_by", sa.Text(), nullable=True),
        sa.Column("refund_signed_in_at", sa.BigInteger(), nullable=True),
        sa.Column("refund_api_key_id", sa.Text(), nullable=True),
        sa.Column("refund_makers_and_checkers", postgresql.JSONB(), nullable=True),
        sa.Column("has_entries_by_hand", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("refund_approved_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refund_failure", postgresql.JSONB(), nullable=True),
        sa.Column("earlier_refund_failures", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("cancelling_saga_id", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("party_id <> 'SPONSOR'", name="investments_investor"),
        sa.CheckConstraint(
            "status IN ('PENDING', 'ACTIVE', 'COMPLETED', 'CANCELLING', 'CANCELLED', 'RECONFIRM_REQUIRED')",
            name="status_known",
        ),
        sa.CheckConstraint(
            "(status IN ('CANCELLING', 'CANCELLED')) = (refund_requested_by IS NOT NULL)", name="investments_cancelling"
        ),
        sa.CheckConstraint(
            "(refund_requested_by IS NULL) = (refund_makers_and_checkers IS NULL)", name="investments_refund_mandate"
        ),
        sa.CheckConstraint("amount_minor > 0", name="investments_amount"),
        sa.CheckConstraint("distributed_minor >= 0", name="investments_distributed"),
        sa.CheckConstraint("at_risk_minor >= 0", name="investments_at_risk"),
        sa.CheckConstraint("on_its_way_minor >= 0", name="investments_on_its_way"),
        sa.CheckConstraint("unreturned_minor BETWEEN 0 AND released_minor", name="investments_unreturned"),
        sa.ForeignKeyConstraint(
            ["org_id", "offering_id"],
            ["offerings.org_id", "offerings.offering_id"],
        ),
        sa.PrimaryKeyConstraint("org_id", "investment_id"),
    )
    op.create_index(
        "investments_cancelling_saga",
        "investments",
        ["org_id", "cancelling_saga_id", "investment_id"],
        unique=False,
        postgresql_where=sa.text("cancelling_saga_id IS NOT NULL"),
    )
    op.create_index(
        "investments_external_id",
        "investments",
        ["org_id", "external_id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "investments_offering", "investments", ["org_id", "offering_id", "created_at", "investment_id"], unique=False
    )
    op.create_index(
        "investments_party", "investments", ["org_id", "party_id", "created_at", "investment_id"], unique=False
    )


def _allocations() -> None:
    op.create_table(
        "allocations",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("allocation_id", sa.Text(), nullable=False),
        sa.Column("distribution_id", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("payee_type", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("set_off_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lines", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failure", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("payee_type IN ('INVESTOR', 'SPONSOR')", name="payee_type_known"),
        sa.CheckConstraint(
            "status IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED', 'ON_HOLD', 'RETURNED')",
            name="status_known",
        ),
        sa.CheckConstraint("amount_minor > 0", name="allocations_amount"),
        sa.CheckConstraint("set_off_minor BETWEEN 0 AND amount_minor", name="allocations_set_off"),
        sa.ForeignKeyConstraint(
            ["org_id", "distribution_id"],
            ["distributions.org_id", "distributions.distribution_id"],
        ),
        sa.PrimaryKeyConstraint("org_id", "allocation_id"),
    )
    op.create_index("allocations_party", "allocations", ["org_id", "party_id", "distribution_id"], unique=False)
    op.create_index(
        "allocations_payee", "allocations", ["org_id", "distribution_id", "party_id", "payee_type"], unique=True
    )


def _contributions() -> None:
    op.create_table(
        "contributions",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("investment_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reported_version", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("on_its_way", sa.Boolean(), nullable=False),
        sa.Column("came_back", sa.Boolean(), nullable=False),
        sa.Column("booked_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.ForeignKeyConstraint(
            ["org_id", "investment_id"],
            ["investments.org_id", "investments.investment_id"],
        ),
        sa.PrimaryKeyConstraint("org_id", "transaction_id"),
    )
    op.create_index("contributions_investment", "contributions", ["org_id", "investment_id"], unique=False)


def _counted_journals() -> None:
    op.create_table(
        "counted_journals",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("escrow_account_id", sa.Text(), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("journal_sequence", sa.BigInteger(), nullable=False),
        sa.Column("legs_counted", sa.Integer(), nullable=False),
        sa.Column("told_incarnation", sa.Text(), nullable=False),
        sa.Column("told_sequence", sa.BigInteger(), nullable=False),
        sa.Column("past_incarnations", postgresql.JSONB(), nullable=False),
        sa.Column("waits_since", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("(waits_since IS NULL) = (due_at IS NULL)", name="counted_journals_waits"),
        sa.PrimaryKeyConstraint("org_id", "escrow_account_id"),
    )
    where = sa.text("due_at IS NOT NULL")
    op.create_index("counted_journals_due", "counted_journals", ["due_at"], unique=False, postgresql_where=where)


def _payouts() -> None:
    op.create_table(
        "payouts",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("request_key", sa.Text(), nullable=False),
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("investment_id", sa.Text(), nullable=True),
        sa.Column("distribution_id", sa.Text(), nullable=True),
        sa.Column("allocation_id", sa.Text(), nullable=True),
        sa.Column("escrow_account_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("bank_account_id", sa.Text(), nullable=True),
        sa.Column("payment_method", sa.Text(), nullable=True),
        sa.Column("refund_approved", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("asked_again", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("set_off_minor", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("transaction_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failure", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint(
            "(type = 'DISTRIBUTION') = (allocation_id IS NOT NULL) AND (type = 'REFUND') = (investment_id IS NOT NULL)",
            name="payouts_subject",
        ),
        sa.CheckConstraint(
            "status IN ('REQUESTED', 'CREATED', 'COMPLETED', 'FAILED', 'RETURNED')", name="status_known"
        ),
        sa.CheckConstraint("type IN ('DISTRIBUTION', 'ESCROW_WITHDRAWAL', 'REFUND')", name="type_known"),
        sa.CheckConstraint(
            "amount_minor >= 0 AND attempt > 0 AND (amount_minor > 0 OR set_off_minor > 0) AND set_off_minor >= 0",
            name="payouts_amount",
        ),
        sa.CheckConstraint("set_off_minor IS NOT NULL OR status = 'REQUESTED'", name="payouts_set_off"),
        sa.ForeignKeyConstraint(
            ["org_id", "allocation_id"],
            ["allocations.org_id", "allocations.allocation_id"],
        ),
        sa.ForeignKeyConstraint(
            ["org_id", "investment_id"],
            ["investments.org_id", "investments.investment_id"],
        ),
        sa.ForeignKeyConstraint(
            ["org_id", "offering_id"],
            ["offerings.org_id", "offerings.offering_id"],
        ),
        sa.PrimaryKeyConstraint("org_id", "request_key"),
        sa.UniqueConstraint("org_id", "transaction_id", name="payouts_transaction_id_key"),
    )
    op.create_index(
        "payouts_one_open_an_allocation",
        "payouts",
        ["org_id", "allocation_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('REQUESTED', 'CREATED')"),
    )
    op.create_index(
        "payouts_one_open_an_investment",
        "payouts",
        ["org_id", "investment_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('REQUESTED', 'CREATED')"),
    )
    op.create_index(
        "payouts_one_open_proceeds",
        "payouts",
        ["org_id", "offering_id"],
        unique=True,
        postgresql_where=sa.text("type = 'ESCROW_WITHDRAWAL' AND status IN ('REQUESTED', 'CREATED')"),
    )
    op.create_index(
        "payouts_requested",
        "payouts",
        ["org_id", "saga_id"],
        unique=False,
        postgresql_where=sa.text("status = 'REQUESTED'"),
    )
    op.create_index(
        "payouts_allocation",
        "payouts",
        ["org_id", "allocation_id"],
        unique=False,
        postgresql_where=sa.text("allocation_id IS NOT NULL"),
    )
    op.create_index(
        "payouts_investment",
        "payouts",
        ["org_id", "investment_id"],
        unique=False,
        postgresql_where=sa.text("investment_id IS NOT NULL"),
    )
    op.create_index(
        "payouts_proceeds",
        "payouts",
        ["org_id", "escrow_account_id"],
        unique=False,
        postgresql_where=sa.text("type = 'ESCROW_WITHDRAWAL'"),
    )
