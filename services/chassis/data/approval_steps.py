"""The steps of `steps.py` that make the table of what waits for a second person, or waited for one."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.chassis.data.guards import Op

# The states of approvals (values/approval.py) as they were then.
APPROVAL_MOVES = """
    >PENDING PENDING>APPROVED PENDING>EXECUTED PENDING>REJECTED PENDING>EXPIRED PENDING>CANCELLED
    APPROVED>EXECUTED APPROVED>FAILED
"""


def create_approvals(op: Op) -> None:
    op.create_table(
        "approvals",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("effect_hash", sa.Text(), nullable=False),
        sa.Column("anew_hash", sa.Text(), nullable=False),
        sa.Column("asked_etag", sa.Text(), nullable=True),
        sa.Column("matter_hash", sa.Text(), nullable=False),
        sa.Column("makers", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("beneficiary_party_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_role", sa.Text(), nullable=False),
        sa.Column("signed_in_at", sa.BigInteger(), nullable=True),
        sa.Column("api_key_id", sa.Text(), nullable=True),
        sa.Column("earlier_askers", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("approvers_needed", sa.Integer(), nullable=False),
        sa.Column("approver_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("approved_at", postgresql.ARRAY(sa.TIMESTAMP(timezone=True)), nullable=False),
        sa.Column("approver_signed_in_at", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("result_id", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("result_hash", sa.Text(), nullable=True),
        sa.Column("failure", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("comments", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("(status = 'APPROVED') = (due_at IS NOT NULL)", name="approvals_due_until_done"),
        sa.CheckConstraint(
            "status IN ('PENDING', 'APPROVED', 'EXECUTED', 'FAILED', 'REJECTED', 'EXPIRED', 'CANCELLED')",
            name="status_known",
        ),
        sa.CheckConstraint(
            "status NOT IN ('APPROVED', 'EXECUTED', 'FAILED')"
            " OR decided_by = ANY (approver_ids) AND decided_at IS NOT NULL"
            " AND cardinality(approver_ids) >= approvers_needed",
            name="approvals_decided",
        ),
        sa.CheckConstraint("(amount_minor IS NULL) = (currency IS NULL)", name="approvals_amount"),
        sa.CheckConstraint("NOT approver_ids && makers", name="approvals_maker_is_no_checker"),
        sa.CheckConstraint(
            "approvers_needed >= 1 AND cardinality(approver_ids) = cardinality(approved_at)"
            " AND cardinality(approver_ids) = cardinality(approver_signed_in_at)",
            name="approvals_approvers",
        ),
        sa.CheckConstraint("created_by = ANY (makers)", name="approvals_made"),
        sa.PrimaryKeyConstraint("org_id", "approval_id"),
    )
    _index(op)


def _index(op: Op) -> None:
    op.create_index("approvals_created", "approvals", ["org_id", "created_at", "approval_id"], unique=False)
    op.create_index(
        "approvals_due", "approvals", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index(
        "approvals_pending", "approvals", ["expires_at"], unique=False, postgresql_where=sa.text("status = 'PENDING'")
    )
    op.create_index("approvals_effect", "approvals", ["org_id", "effect_hash"], unique=False)
    op.create_index("approvals_matter", "approvals", ["org_id", "matter_hash", "created_at"], unique=False)
    op.create_index("approvals_resource", "approvals", ["org_id", "resource_id"], unique=False)
