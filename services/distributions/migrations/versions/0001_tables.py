"""The tables distributions begins with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from services.chassis.data.migrations import create_chassis_tables

revision = "0001"
down_revision = None
compatible_with = "0001"


def upgrade() -> None:
    create_chassis_tables(op)
    _allowed_moves()
    _offerings()
    _sagas()
    _distributions()
    _investments()
    _allocations()
    _contributions()
    _distribution_tiers()
    _payouts()


def _allowed_moves() -> None:
    op.create_table(
        "allowed_moves",
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=False),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("machine", "from_status", "to_status"),
    )


def _offerings() -> None:
    op.create_table(
        "offerings",
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
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
        sa.Column("tiers", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("preferred_rate_bps", sa.Integer(), nullable=False),
        sa.Column("catch_up_sponsor_share_bps", sa.Integer(), nullable=False),
        sa.Column("sponsor_carry_bps", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("committed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("funded_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("closing_date", sa.Date(), nullable=True),
        sa.Column("closing_attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("proceeds_bank_account_id", sa.Text(), server_default="", nullable=False),
        sa.Column("proceeds_transaction_id", sa.Text(), server_default="", nullable=False),
        sa.Column("refund_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("declarations", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("declared_through", sa.Date(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("status <> 'CLOSED' OR closing_date IS NOT NULL", name="offerings_closing_date"),
        sa.CheckConstraint("status IN ('OPEN', 'CLOSING', 'CLOSED', 'REFUNDING', 'REFUNDED')", name="offerings_status"),
        sa.CheckConstraint("committed_minor BETWEEN 0 AND maximum_minor", name="offerings_not_over_committed"),
        sa.CheckConstraint("deadline_at > open_at", name="offerings_deadline"),
        sa.CheckConstraint("target_minor > 0 AND maximum_minor >= target_minor", name="offerings_target"),
        sa.PrimaryKeyConstraint("offering_id", "org_id"),
        sa.UniqueConstraint("escrow_account_id", name="offerings_escrow_account_id_key"),
    )
    op.create_index("offerings_org", "offerings", ["org_id", "offering_id"], unique=False)


def _sagas() -> None:
    op.create_table(
        "sagas",
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("lease_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('CLOSING', 'REFUND', 'EXECUTION', 'RESEND')", name="sagas_kind"),
        sa.CheckConstraint("step IN ('RELEASE', 'DECLARE', 'PAY', 'DONE')", name="sagas_step"),
        sa.PrimaryKeyConstraint("saga_id", "org_id"),
    )
    op.create_index("sagas_due", "sagas", ["kind", "due_at"], unique=False, postgresql_where=sa.text("step <> 'DONE'"))


def _distributions() -> None:
    op.create_table(
        "distributions",
        sa.Column("distribution_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("distribution_date", sa.Date(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("basis_version", sa.BigInteger(), nullable=True),
        sa.Column("allocation_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failure", sa.Text(), server_default="", nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("calculated_by", sa.Text(), nullable=True),
        sa.Column("submitted_by", sa.Text(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_hash", sa.Text(), nullable=True),
        sa.Column("declared_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            (
                "status IN ('DRAFT', 'PENDING_APPROVAL', 'APPROVED', 'QUEUED', 'PROCESSING', 'COMPLETED',"
                " 'PARTIALLY_FAILED', 'FAILED', 'CANCELLED')"
            ),
            name="distributions_status",
        ),
        sa.CheckConstraint(
            (
                "status IN ('DRAFT', 'PENDING_APPROVAL', 'CANCELLED') OR (approved_by IS NOT NULL"
                " AND calculated_by IS NOT NULL AND submitted_by IS NOT NULL"
                " AND approved_hash = content_hash AND content_hash <> '' AND basis_version IS NOT NULL)"
            ),
            name="distributions_approved",
        ),
        sa.CheckConstraint("amount_minor > 0", name="distributions_amount"),
        sa.CheckConstraint(
            "approved_by IS NULL OR approved_by NOT IN (created_by, calculated_by, submitted_by)",
            name="distributions_maker_is_not_checker",
        ),
        sa.ForeignKeyConstraint(
            ["offering_id", "org_id"],
            ["offerings.offering_id", "offerings.org_id"],
        ),
        sa.PrimaryKeyConstraint("distribution_id", "org_id"),
    )
    op.create_index("distributions_offering", "distributions", ["offering_id", "distribution_id"], unique=False)
    op.create_index(
        "distributions_one_a_basis",
        "distributions",
        ["offering_id", "basis_version"],
        unique=True,
        postgresql_where=sa.text("declared_at IS NOT NULL OR status = 'QUEUED'"),
    )
    op.create_index("distributions_org", "distributions", ["org_id", "distribution_id"], unique=False)


def _investments() -> None:
    op.create_table(
        "investments",
        sa.Column("investment_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("funded_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("released_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unreturned_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("accrued_units", sa.Numeric(precision=38, scale=0), server_default="0", nullable=False),
        sa.Column("accrued_through", sa.Date(), nullable=True),
        sa.Column("distributed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("accrual_start_date", sa.Date(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("refund_requested_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("party_id <> 'SPONSOR'", name="investments_investor"),
        sa.CheckConstraint(
            "status IN ('PENDING', 'RECONFIRM_REQUIRED', 'ACTIVE', 'COMPLETED', 'CANCELLED')", name="investments_status"
        ),
        sa.CheckConstraint("amount_minor > 0", name="investments_amount"),
        sa.CheckConstraint("distributed_minor >= 0", name="investments_distributed"),
        sa.CheckConstraint("unreturned_minor BETWEEN 0 AND released_minor", name="investments_unreturned"),
        sa.ForeignKeyConstraint(
            ["offering_id", "org_id"],
            ["offerings.offering_id", "offerings.org_id"],
        ),
        sa.PrimaryKeyConstraint("investment_id", "org_id"),
    )
    op.create_index("investments_investor", "investments", ["org_id", "party_id", "investment_id"], unique=False)
    op.create_index("investments_offering", "investments", ["offering_id", "investment_id"], unique=False)
    op.create_index("investments_org", "investments", ["org_id", "investment_id"], unique=False)


def _allocations() -> None:
    op.create_table(
        "allocations",
        sa.Column("allocation_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("distribution_id", sa.Text(), nullable=False),
        sa.Column("payee_type", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("return_of_capital_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("preferred_return_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("catch_up_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("split_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failure", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("payee_type IN ('INVESTOR', 'SPONSOR')", name="allocations_payee_type"),
        sa.CheckConstraint(
            ("status IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED', 'ON_HOLD', 'RETURNED')"),
            name="allocations_status",
        ),
        sa.CheckConstraint(
            (
                "total_minor > 0"
                " AND total_minor = return_of_capital_minor + preferred_return_minor + catch_up_minor + split_minor"
                " AND least(return_of_capital_minor, preferred_return_minor, catch_up_minor, split_minor) >= 0"
            ),
            name="allocations_total",
        ),
        sa.ForeignKeyConstraint(
            ["distribution_id", "org_id"],
            ["distributions.distribution_id", "distributions.org_id"],
        ),
        sa.PrimaryKeyConstraint("allocation_id", "org_id"),
    )
    op.create_index("allocations_payee", "allocations", ["distribution_id", "party_id", "payee_type"], unique=True)


def _contributions() -> None:
    op.create_table(
        "contributions",
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("investment_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["investment_id", "org_id"],
            ["investments.investment_id", "investments.org_id"],
        ),
        sa.PrimaryKeyConstraint("transaction_id", "org_id"),
    )
    op.create_index("contributions_investment", "contributions", ["investment_id"], unique=False)


def _distribution_tiers() -> None:
    op.create_table(
        "distribution_tiers",
        sa.Column("distribution_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("investors_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sponsor_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("working", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["distribution_id", "org_id"],
            ["distributions.distribution_id", "distributions.org_id"],
        ),
        sa.PrimaryKeyConstraint("distribution_id", "position", "org_id"),
    )


def _payouts() -> None:
    op.create_table(
        "payouts",
        sa.Column("request_key", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("investment_id", sa.Text(), nullable=True),
        sa.Column("distribution_id", sa.Text(), nullable=True),
        sa.Column("allocation_id", sa.Text(), nullable=True),
        sa.Column("escrow_account_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("bank_account_id", sa.Text(), server_default="", nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("transaction_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failure", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            (
                "(type = 'DISTRIBUTION') = (allocation_id IS NOT NULL)"
                " AND (type = 'REFUND') = (investment_id IS NOT NULL)"
            ),
            name="payouts_subject",
        ),
        sa.CheckConstraint(
            "status IN ('REQUESTED', 'CREATED', 'COMPLETED', 'FAILED', 'RETURNED')", name="payouts_status"
        ),
        sa.CheckConstraint("type IN ('DISTRIBUTION', 'ESCROW_WITHDRAWAL', 'REFUND')", name="payouts_type"),
        sa.CheckConstraint("amount_minor > 0 AND attempt > 0", name="payouts_amount"),
        sa.ForeignKeyConstraint(
            ["allocation_id", "org_id"],
            ["allocations.allocation_id", "allocations.org_id"],
        ),
        sa.ForeignKeyConstraint(
            ["investment_id", "org_id"],
            ["investments.investment_id", "investments.org_id"],
        ),
        sa.ForeignKeyConstraint(
            ["offering_id", "org_id"],
            ["offerings.offering_id", "offerings.org_id"],
        ),
        sa.PrimaryKeyConstraint("request_key", "org_id"),
        sa.UniqueConstraint("transaction_id", name="payouts_transaction_id_key"),
    )
    op.create_index(
        "payouts_one_open_an_allocation",
        "payouts",
        ["allocation_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('REQUESTED', 'CREATED')"),
    )
    op.create_index(
        "payouts_one_open_an_investment",
        "payouts",
        ["investment_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('REQUESTED', 'CREATED')"),
    )
    op.create_index(
        "payouts_one_open_proceeds",
        "payouts",
        ["offering_id"],
        unique=True,
        postgresql_where=sa.text("type = 'ESCROW_WITHDRAWAL' AND status IN ('REQUESTED', 'CREATED')"),
    )
    op.create_index(
        "payouts_requested", "payouts", ["saga_id"], unique=False, postgresql_where=sa.text("status = 'REQUESTED'")
    )
