"""The tables compliance begins with, and the limits an organization starts with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from services.chassis.data.guards import append_only, guard_moves
from services.chassis.data.migrations import close
from services.chassis.data.steps import create_chassis_tables
from services.compliance.rights import RIGHTS

revision = "0001"
down_revision = None
compatible_with = "0001"

# A transaction's check is decided when it is made; a party's waits for a person, whose answer runs out, or is about
# facts that are others by now.
_MOVES = {
    # A second person approves it; whoever ends it, ends it for good. One whose time ran out can be revoked still.
    "api_keys": """
        >PENDING_APPROVAL PENDING_APPROVAL>ACTIVE PENDING_APPROVAL>REVOKED PENDING_APPROVAL>EXPIRED ACTIVE>REVOKED
        ACTIVE>EXPIRED EXPIRED>REVOKED
    """,
    "compliance_checks": """
        >PASSED >FAILED >MANUAL_REVIEW MANUAL_REVIEW>PASSED MANUAL_REVIEW>FAILED MANUAL_REVIEW>EXPIRED PASSED>EXPIRED
    """,
}
# Sessions end at the moment in which somebody says so: not before, and not in time to come.
_REFUSE_ANOTHER_TIME = """
CREATE TRIGGER refuse_another_time BEFORE INSERT ON ended_sessions FOR EACH ROW
WHEN (NEW.ended_at <> now()) EXECUTE FUNCTION realco_refuse()
"""
# How much arrived is said once.
_REFUSE_ANOTHER_AMOUNT = """
CREATE TRIGGER refuse_another_amount BEFORE UPDATE OF arrived_minor ON limit_usage FOR EACH ROW
WHEN (NEW.arrived_minor IS DISTINCT FROM OLD.arrived_minor AND OLD.arrived_minor IS NOT NULL)
EXECUTE FUNCTION realco_refuse()
"""
# A check has no version, and its statuses no way back: so nobody alters one for the moment in which it is asked for.
_REFUSE_LONE_CHANGE = """
CREATE TRIGGER refuse_lone_change BEFORE UPDATE ON compliance_checks FOR EACH ROW
WHEN (NEW.status = OLD.status AND NEW.* IS DISTINCT FROM OLD.*) EXECUTE FUNCTION realco_refuse()
"""


def upgrade() -> None:
    create_chassis_tables(op)
    _create_tables()
    _create_api_keys()
    op.execute(
        "INSERT INTO default_limits (limit_type, currency, amount_minor, set_at) VALUES"
        " ('PER_TRANSACTION', 'USD', 25000000, '2020-01-01T00:00:00Z'),"
        " ('DAILY_DEPOSIT', 'USD', 5000000, '2020-01-01T00:00:00Z'),"
        " ('MONTHLY_DEPOSIT', 'USD', 50000000, '2020-01-01T00:00:00Z')"
    )
    guard_moves(op, _MOVES)
    append_only(op, "transaction_limits", "party_persons", "former_persons", "ended_sessions", "statements")
    op.execute(_REFUSE_ANOTHER_TIME)
    op.execute(_REFUSE_ANOTHER_AMOUNT)
    op.execute(_REFUSE_LONE_CHANGE)
    close(op, "compliance", RIGHTS)


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("secret_digest", postgresql.BYTEA(), nullable=True),
        sa.Column("secret_made_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("former_digest", postgresql.BYTEA(), nullable=True),
        sa.Column("former_made_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("former_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_digest", postgresql.BYTEA(), nullable=True),
        sa.Column("next_made_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_grace_seconds", sa.Integer(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), nullable=False),
        sa.Column("last_used_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("status IN ('PENDING_APPROVAL', 'ACTIVE', 'REVOKED', 'EXPIRED')", name="status_known"),
        sa.CheckConstraint("scopes <> '{}' AND array_position(scopes, NULL) IS NULL", name="scopes_given"),
        sa.CheckConstraint(
            "(secret_digest IS NULL) = (secret_made_at IS NULL)"
            " AND num_nonnulls(former_digest, former_made_at, former_until) IN (0, 3)"
            " AND num_nonnulls(next_digest, next_made_at, next_grace_seconds) IN (0, 3)",
            name="secrets_whole",
        ),
        sa.CheckConstraint(
            "status <> 'ACTIVE'"
            " OR (secret_digest IS NOT NULL AND approved_by IS NOT NULL AND approved_by <> created_by)",
            name="approved_by_another",
        ),
        sa.PrimaryKeyConstraint("org_id", "api_key_id"),
    )
    op.create_index("api_keys_id", "api_keys", ["api_key_id"], unique=False)
    op.create_index("api_keys_newest", "api_keys", ["org_id", "created_at", "api_key_id"], unique=False)
    op.create_index(
        "api_keys_external",
        "api_keys",
        ["org_id", "external_id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "api_keys_expiring",
        "api_keys",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('PENDING_APPROVAL', 'ACTIVE')"),
    )


def _create_tables() -> None:
    op.create_table(
        "compliance_checks",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("compliance_check_id", sa.Text(), nullable=False),
        sa.Column("check_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.CHAR(length=3), nullable=True),
        sa.Column("failure", postgresql.JSONB(), nullable=True),
        sa.Column("explanation", postgresql.JSONB(), nullable=True),
        sa.Column("makers", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("reviewed_by", sa.Text(), nullable=True),
        sa.Column("reviewed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("check_type IN ('OFAC', 'KYC', 'AML', 'LIMIT_CHECK')", name="check_type_known"),
        sa.CheckConstraint("direction IN ('IN', 'OUT')", name="direction_known"),
        sa.CheckConstraint(
            "num_nonnulls(direction, amount_minor, currency)"
            " = CASE WHEN resource_type = 'TRANSACTION' THEN 3 ELSE 0 END",
            name="amount_of_transactions",
        ),
        sa.CheckConstraint(
            "resource_type IN ('PARTY', 'TRANSACTION', 'INVESTMENT', 'BANK_ACCOUNT')", name="resource_type_known"
        ),
        sa.CheckConstraint(
            "status <> 'PASSED' OR resource_type <> 'PARTY'"
            " OR (reviewed_by IS NOT NULL AND reviewed_by <> ALL (makers))",
            name="passed_by_another",
        ),
        sa.CheckConstraint("status IN ('MANUAL_REVIEW', 'PASSED', 'FAILED', 'EXPIRED')", name="status_known"),
        sa.PrimaryKeyConstraint("org_id", "compliance_check_id"),
    )
    op.create_index(
        "compliance_checks_current",
        "compliance_checks",
        ["org_id", "party_id", "check_type"],
        unique=True,
        postgresql_where=sa.text("resource_type = 'PARTY' AND status IN ('MANUAL_REVIEW', 'PASSED')"),
    )
    op.create_index(
        "compliance_checks_expiring",
        "compliance_checks",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'PASSED'"),
    )
    op.create_index(
        "compliance_checks_party",
        "compliance_checks",
        ["org_id", "party_id", "created_at", "compliance_check_id"],
        unique=False,
    )
    op.create_index(
        "compliance_checks_newest", "compliance_checks", ["org_id", "created_at", "compliance_check_id"], unique=False
    )
    op.create_index(
        "compliance_checks_transaction",
        "compliance_checks",
        ["org_id", "resource_id"],
        unique=True,
        postgresql_where=sa.text("resource_type = 'TRANSACTION'"),
    )
    op.create_table(
        "parties",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("legal_name", sa.Text(), nullable=False),
        sa.Column("name_skeleton", sa.Text(), nullable=False),
        sa.Column("accreditation", sa.Text(), nullable=False),
        sa.Column("annual_income_minor", sa.BigInteger(), nullable=True),
        sa.Column("annual_income_currency", sa.CHAR(length=3), nullable=True),
        sa.Column("net_worth_minor", sa.BigInteger(), nullable=True),
        sa.Column("net_worth_currency", sa.CHAR(length=3), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("accreditation IN ('NON_ACCREDITED', 'ACCREDITED')", name="accreditation_known"),
        sa.CheckConstraint(
            "kind IN ('INDIVIDUAL', 'JOINT', 'LLC', 'CORPORATION', 'PARTNERSHIP', 'TRUST', 'IRA')", name="kind_known"
        ),
        sa.PrimaryKeyConstraint("org_id", "party_id"),
    )
    op.create_index("parties_alike", "parties", ["org_id", "name_skeleton", "party_id"], unique=False)
    op.create_index("parties_newest", "parties", ["org_id", "created_at", "party_id"], unique=False)
    op.create_index(
        "parties_external",
        "parties",
        ["org_id", "external_id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_table(
        "party_persons",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("act_started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("signed_in_at", sa.BigInteger(), nullable=True),
        sa.Column("api_key_id", sa.Text(), nullable=True),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.ForeignKeyConstraint(["org_id", "party_id"], ["parties.org_id", "parties.party_id"]),
        sa.CheckConstraint(
            "person_id = lower(btrim(person_id)) AND person_id <> ''"
            " AND NOT (starts_with(person_id, 'service:') OR starts_with(person_id, 'key:'))",
            name="person_id_names_a_person",
        ),
        sa.PrimaryKeyConstraint("org_id", "party_id", "person_id", "version"),
    )
    op.create_index(
        "party_persons_person",
        "party_persons",
        ["org_id", "person_id", "party_id"],
        unique=False,
        postgresql_where=sa.text("act_started_at IS NOT NULL"),
    )
    op.create_table(
        "former_persons",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.Column("has_acted", sa.Boolean(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=False),
        sa.ForeignKeyConstraint(["org_id", "party_id"], ["parties.org_id", "parties.party_id"]),
        sa.PrimaryKeyConstraint("org_id", "person_id", "party_id", "ended_at"),
    )
    op.create_table(
        "ended_sessions",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=False),
        sa.CheckConstraint(
            "person_id = lower(btrim(person_id)) AND person_id <> ''"
            " AND NOT (starts_with(person_id, 'service:') OR starts_with(person_id, 'key:'))",
            name="person_id_names_a_person",
        ),
        sa.PrimaryKeyConstraint("org_id", "person_id", "ended_at"),
    )
    op.create_table(
        "statements",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("statement_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("movement_digest", sa.Text(), nullable=False),
        sa.Column("makers", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("beneficiary_party_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("approvers_needed", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("signed_in_at", sa.BigInteger(), nullable=True),
        sa.Column("api_key_id", sa.Text(), nullable=True),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint("act IN ('REQUEST', 'APPROVAL', 'EXECUTION', 'WITHDRAWAL')", name="act_known"),
        sa.PrimaryKeyConstraint("org_id", "statement_id"),
    )
    op.create_index(
        "statements_resource", "statements", ["org_id", "kind", "resource_id", "statement_id"], unique=False
    )
    op.create_table(
        "limit_usage",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("arrived_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("counted_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=False),
        sa.CheckConstraint("amount_minor > 0 AND (arrived_minor IS NULL OR arrived_minor > 0)", name="amount_positive"),
        sa.PrimaryKeyConstraint("org_id", "transaction_id"),
    )
    op.create_index("limit_usage_window", "limit_usage", ["org_id", "party_id", "counted_at"], unique=False)
    op.create_table(
        "default_limits",
        sa.Column("limit_type", sa.Text(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("set_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "limit_type IN ('PER_TRANSACTION', 'DAILY_DEPOSIT', 'MONTHLY_DEPOSIT')", name="limit_type_known"
        ),
        sa.CheckConstraint("amount_minor > 0", name="amount_positive"),
        sa.PrimaryKeyConstraint("limit_type", "currency"),
    )
    op.create_table(
        "transaction_limits",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("limit_type", sa.Text(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("set_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.CheckConstraint(
            "limit_type IN ('PER_TRANSACTION', 'DAILY_DEPOSIT', 'MONTHLY_DEPOSIT')", name="limit_type_known"
        ),
        sa.CheckConstraint("amount_minor > 0", name="amount_positive"),
        sa.PrimaryKeyConstraint("org_id", "limit_type", "currency", "set_at"),
    )
