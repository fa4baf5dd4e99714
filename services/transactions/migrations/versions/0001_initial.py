"""The tables transactions begins with, the moves they allow, and the triggers that hold rows to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.guards import SEARCH_PATH, append_only, fix_once, guard_moves, hold_history
from services.chassis.data.migrations import close
from services.chassis.data.steps import create_chassis_tables, create_heard_persons
from services.transactions.rights import RIGHTS

revision = "0001"
down_revision = None
compatible_with = "0001"

# A move names the status it comes from; every published change counts the version by one; facts agreed with compliance
# never change.
_GUARD = f"""
CREATE FUNCTION transactions_guard() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.version <> 1 OR NEW.previous_status IS NOT NULL THEN
      RAISE EXCEPTION 'a transaction begins with version 1, and no status before' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
  END IF;
  IF NEW.status <> OLD.status
     AND (NEW.previous_status IS DISTINCT FROM OLD.status OR NEW.version <> OLD.version + 1) THEN
    RAISE EXCEPTION 'a move starts from the status there is' USING ERRCODE = '23514';
  END IF;
  IF NEW.status = OLD.status AND NEW.previous_status IS DISTINCT FROM OLD.previous_status THEN
    RAISE EXCEPTION 'only a move has another status before' USING ERRCODE = '23514';
  END IF;
  IF NEW.version NOT IN (OLD.version, OLD.version + 1) THEN
    RAISE EXCEPTION 'the version counts each change' USING ERRCODE = '23514';
  END IF;
  IF (NEW.org_id, NEW.transaction_id, NEW.type, NEW.amount_minor, NEW.currency, NEW.party_id, NEW.escrow_account_id,
      NEW.bank_account_id, NEW.account_number_digest, NEW.is_corporate, NEW.approval_reason,
      NEW.payment_method, NEW.created_by)
     IS DISTINCT FROM
     (OLD.org_id, OLD.transaction_id, OLD.type, OLD.amount_minor, OLD.currency, OLD.party_id, OLD.escrow_account_id,
      OLD.bank_account_id, OLD.account_number_digest, OLD.is_corporate, OLD.approval_reason,
      OLD.payment_method, OLD.created_by) THEN
    RAISE EXCEPTION 'what a transaction moves never changes' USING ERRCODE = '23514';
  END IF;
  IF NOT NEW.makers_and_checkers @> OLD.makers_and_checkers THEN
    RAISE EXCEPTION 'who asked for it or approved it stays known' USING ERRCODE = '23514';
  END IF;
  IF NOT NEW.former_correctors @> OLD.former_correctors THEN
    RAISE EXCEPTION 'who said what comes stays known' USING ERRCODE = '23514';
  END IF;
  IF (NEW.corrected_minor, NEW.correction_note, NEW.corrected_by, NEW.corrected_signed_in_at, NEW.corrected_api_key_id)
     IS DISTINCT FROM
     (OLD.corrected_minor, OLD.correction_note, OLD.corrected_by, OLD.corrected_signed_in_at, OLD.corrected_api_key_id)
     AND (OLD.status, NEW.status) IS DISTINCT FROM ('PENDING_SETTLEMENT', 'PENDING_SETTLEMENT') THEN
    RAISE EXCEPTION 'how much arrives is corrected before it is confirmed' USING ERRCODE = '23514';
  END IF;
  RETURN NEW;
END $$
"""

# What the provider calls a payment is learned once, and so is how it ended; in which file an entry went, by which
# number its bank names it, and what became of either. Whoever altered one of these would have a return find nothing.
_LEARNED = {
    "provider_payments": ("provider_reference", "outcome return_code ended_at"),
    "ach_entries": ("ach_file_id trace_no effective_on", "return_code returned_on"),
    "ach_files": ("digest", "left_at", "fetched_at", "rejected_because"),
}
_REFUSE_EARLIER = """
CREATE TRIGGER refuse_earlier BEFORE UPDATE OF sent_at ON provider_payments FOR EACH ROW
WHEN (NEW.sent_at < OLD.sent_at) EXECUTE FUNCTION realco_refuse()
"""
# What the bank is to acknowledge is what was released.
_REFUSE_OTHER_SUMS = """
CREATE TRIGGER refuse_other_sums BEFORE UPDATE OF entry_count, debit_minor, credit_minor ON ach_files FOR EACH ROW
WHEN (OLD.status <> 'MADE' AND ROW(NEW.entry_count, NEW.debit_minor, NEW.credit_minor)
      IS DISTINCT FROM ROW(OLD.entry_count, OLD.debit_minor, OLD.credit_minor)) EXECUTE FUNCTION realco_refuse()
"""
# A bank says of an account what it says when it is linked, in its first change. Afterwards persons do, and whatever is
# made the default then is theirs to confirm.
_REFUSE_LATE_BANK = """
CREATE TRIGGER refuse_late_bank BEFORE UPDATE OF confirmation, default_for_payouts ON bank_accounts FOR EACH ROW
WHEN (NEW.confirmation = 'BANK' AND (NEW.default_for_payouts AND NOT OLD.default_for_payouts
      OR OLD.confirmation IS DISTINCT FROM 'BANK' AND (OLD.version <> 1 OR OLD.status <> 'PENDING')))
EXECUTE FUNCTION realco_refuse()
"""
# An attempt has no version, but all that changes of it changes once, or goes on. So what somebody altered stays without
# a seal, and is told for good: how a debit ended, which is not noted then, is missed in the return rates.
_REFUSE_LONE_SEAL = """
CREATE TRIGGER refuse_lone_seal BEFORE UPDATE OF seal ON provider_payments FOR EACH ROW
WHEN (NEW.seal IS DISTINCT FROM OLD.seal
      AND ROW(NEW.provider_reference, NEW.sent_at, NEW.outcome, NEW.return_code, NEW.ended_at)
          IS NOT DISTINCT FROM ROW(OLD.provider_reference, OLD.sent_at, OLD.outcome, OLD.return_code, OLD.ended_at))
EXECUTE FUNCTION realco_refuse()
"""
# What was received is no organization's: a request may have a webhook of its organization applied again, and no more.
_REPLAY = f"""
CREATE FUNCTION replay_webhook(p_org text, p_webhook text) RETURNS boolean LANGUAGE sql SECURITY DEFINER
SET {SEARCH_PATH} AS $$
  UPDATE received_webhooks SET epoch = epoch + 1, tries = 0, due_at = clock_timestamp()
  WHERE webhook_id = p_webhook
    AND EXISTS (SELECT FROM webhooks WHERE org_id = p_org AND webhook_id = p_webhook)
  RETURNING true
$$
"""
# Of a late return only its webhook may tell, so a login alone does not end one that is to be applied: who does gives a
# text of which the row has the digest. It is not kept, so that it proves nothing when the webhook is applied once more.
_END_WEBHOOK = f"""
CREATE FUNCTION end_webhook() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
BEGIN
  IF OLD.due_at IS NOT NULL AND NEW.due_at IS NULL
     AND sha256(NEW.proof) IS DISTINCT FROM substr(OLD.proof_digest, 5) THEN
    RAISE EXCEPTION 'a webhook is applied before it is done with' USING ERRCODE = '42501';
  END IF;
  NEW.proof := NULL;
  RETURN NEW;
END $$
"""
# With a key of the vault spoilt, nothing opens that it sealed: who wraps it anew gives a text of which the row has the
# digest, another one each time.
_WRAP_KEY = f"""
CREATE FUNCTION wrap_vault_key() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
BEGIN
  IF NEW.version <> OLD.version + 1
     OR sha256(NEW.proof) IS DISTINCT FROM substr(OLD.proof_digest, 5) THEN
    RAISE EXCEPTION 'a key is wrapped anew by its service alone' USING ERRCODE = '42501';
  END IF;
  NEW.proof := NULL;
  RETURN NEW;
END $$
"""
# A body is what the provider wrote, until it is forgotten.
_KEEP_BODY = f"""
CREATE FUNCTION keep_webhook_body() RETURNS trigger LANGUAGE plpgsql SET {SEARCH_PATH} AS $$
BEGIN
  IF NEW.body IS NOT NULL OR OLD.due_at IS NOT NULL THEN
    RAISE EXCEPTION 'the body of a webhook is forgotten or stays' USING ERRCODE = '42501';
  END IF;
  RETURN NEW;
END $$
"""
# domain/ as it stood then; a test compares it with the database.
_MOVES = {
    "transactions": """
        >INITIATED INITIATED>PENDING_APPROVAL INITIATED>APPROVED INITIATED>FAILED INITIATED>CANCELLED
        PENDING_APPROVAL>APPROVED PENDING_APPROVAL>CANCELLED APPROVED>QUEUED APPROVED>CANCELLED QUEUED>PROCESSING
        QUEUED>FAILED QUEUED>CANCELLED PROCESSING>PENDING_SETTLEMENT PROCESSING>SETTLED PROCESSING>PENDING_RETRY
        PROCESSING>FAILED PENDING_SETTLEMENT>SETTLED PENDING_SETTLEMENT>RETURNED PENDING_SETTLEMENT>FAILED
        PENDING_SETTLEMENT>REVERSED PENDING_SETTLEMENT>CANCELLED SETTLED>COMPLETED SETTLED>RETURNED SETTLED>REVERSED
        COMPLETED>RETURNED COMPLETED>REVERSED FAILED>PENDING_RETRY RETURNED>PENDING_RETRY PENDING_RETRY>QUEUED
        PENDING_RETRY>CANCELLED PENDING_RETRY>FAILED
    """,
    "bank_accounts": """
        >PENDING PENDING>ACTIVE PENDING>SUSPENDED PENDING>BLOCKED PENDING>DELETED ACTIVE>PENDING ACTIVE>SUSPENDED
        ACTIVE>BLOCKED ACTIVE>DELETED SUSPENDED>ACTIVE SUSPENDED>BLOCKED SUSPENDED>DELETED BLOCKED>PENDING
        BLOCKED>DELETED
    """,
    "webhooks": """
        >RECEIVED >APPLIED >FAILED RECEIVED>APPLIED RECEIVED>FAILED APPLIED>RECEIVED FAILED>RECEIVED
    """,
    "payment_exceptions": ">OPEN OPEN>RESOLVED RESOLVED>OPEN",
    "sweeps": ">PENDING >SETTLED >FAILED PENDING>SETTLED PENDING>FAILED SETTLED>FAILED",
}


def upgrade() -> None:
    create_chassis_tables(op)
    create_heard_persons(op)
    _create_bank_accounts()
    _create_transactions()
    _create_transaction_indexes()
    _create_records()
    _create_ach()
    _create_plaid()
    _create_verifications()
    _create_vault_keys()
    _create_requests()
    _create_exceptions()
    _create_sweeps()
    op.execute(_GUARD)
    op.execute(
        "CREATE TRIGGER transactions_guard BEFORE INSERT OR UPDATE ON transactions"
        " FOR EACH ROW EXECUTE FUNCTION transactions_guard()"
    )
    fix_once(op, _LEARNED)
    op.execute(_REFUSE_EARLIER)
    op.execute(_REFUSE_OTHER_SUMS)
    op.execute(_REFUSE_LONE_SEAL)
    op.execute(_REFUSE_LATE_BANK)
    op.execute(_END_WEBHOOK)
    op.execute(
        "CREATE TRIGGER end_webhook BEFORE UPDATE OF due_at, proof ON received_webhooks"
        " FOR EACH ROW EXECUTE FUNCTION end_webhook()"
    )
    op.execute(_WRAP_KEY)
    op.execute(
        "CREATE TRIGGER wrap_vault_key BEFORE UPDATE ON vault_keys FOR EACH ROW EXECUTE FUNCTION wrap_vault_key()"
    )
    op.execute(_KEEP_BODY)
    op.execute(
        "CREATE TRIGGER keep_webhook_body BEFORE UPDATE OF body ON received_webhooks FOR EACH ROW"
        " WHEN (OLD.body IS DISTINCT FROM NEW.body) EXECUTE FUNCTION keep_webhook_body()"
    )
    op.execute(_REPLAY)
    guard_moves(op, _MOVES)
    hold_history(op, "transaction_history", "transaction_id", {"transactions": "transaction_id"})
    hold_history(
        op, "payment_exception_history", "payment_exception_id", {"payment_exceptions": "payment_exception_id"}
    )
    append_only(op, "transaction_history", "payout_requests", "payment_exception_history", "sweep_lines")
    close(op, "transactions", RIGHTS)


def _create_bank_accounts() -> None:
    op.create_table(
        "bank_accounts",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("bank_account_id", sa.Text(), nullable=False),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("account_holder_name", sa.Text(), nullable=False),
        sa.Column("routing_number", sa.Text(), nullable=False),
        sa.Column("account_number_encrypted", pg.BYTEA(), nullable=False),
        sa.Column("account_number_digest", sa.Text(), nullable=False),
        sa.Column("account_number_last4", sa.Text(), nullable=False),
        sa.Column("account_type", sa.Text(), nullable=False),
        sa.Column("holder_type", sa.Text(), nullable=False),
        sa.Column("default_for_payouts", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("block_reason", sa.Text(), nullable=True),
        sa.Column("block_network_code", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", pg.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("annotated_by", sa.Text(), nullable=True),
        sa.Column("makers", pg.ARRAY(sa.Text()), nullable=False),
        sa.Column("replaces_bank_account_id", sa.Text(), nullable=True),
        sa.Column("replaced_by_bank_account_id", sa.Text(), nullable=True),
        sa.Column("name_match", sa.Text(), nullable=True),
        sa.Column("has_token_number", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("confirmed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("confirmation", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint(
            "NOT default_for_payouts OR status IN ('PENDING', 'ACTIVE', 'SUSPENDED')", name="default_is_live"
        ),
        sa.CheckConstraint("status <> 'ACTIVE' OR confirmed_at IS NOT NULL", name="active_is_confirmed"),
        sa.CheckConstraint("(confirmed_at IS NULL) = (confirmation IS NULL)", name="confirmed_by_somebody"),
        sa.CheckConstraint(
            "confirmation <> 'BANK' OR (name_match IS NOT NULL AND name_match = 'MATCHES' AND holder_type = 'PERSON'"
            " AND NOT has_token_number AND replaces_bank_account_id IS NULL AND confirmed_at = created_at)",
            name="bank_confirms_its_own",
        ),
        sa.CheckConstraint("name_match IS NOT NULL OR NOT has_token_number", name="token_is_linked"),
        sa.CheckConstraint("name_match IN ('MATCHES', 'DIFFERS', 'NOT_TOLD', 'SIMILAR')", name="name_match_known"),
        sa.CheckConstraint("confirmation IN ('PERSONS', 'BANK')", name="confirmation_known"),
        sa.CheckConstraint(
            "bank_account_id NOT IN (replaces_bank_account_id, replaced_by_bank_account_id)",
            name="replaced_by_another",
        ),
        sa.CheckConstraint(
            "status <> 'ACTIVE' OR replaces_bank_account_id IS NULL OR cardinality(makers) > 1",
            name="wanted_by_a_person",
        ),
        sa.CheckConstraint("holder_type IN ('PERSON', 'COMPANY')", name="holder_type_known"),
        sa.CheckConstraint("account_type IN ('CHECKING', 'SAVINGS')", name="account_type_known"),
        sa.CheckConstraint("block_reason IN ('RETURNED_BY_BANK', 'ALTERED')", name="block_reason_known"),
        sa.CheckConstraint("status IN ('PENDING', 'ACTIVE', 'SUSPENDED', 'BLOCKED', 'DELETED')", name="status_known"),
        sa.PrimaryKeyConstraint("org_id", "bank_account_id"),
    )
    op.create_index(
        "bank_accounts_default",
        "bank_accounts",
        ["org_id", "party_id"],
        unique=True,
        postgresql_where=sa.text("default_for_payouts AND status = 'ACTIVE'"),
    )
    op.create_index("bank_accounts_number", "bank_accounts", ["org_id", "account_number_digest"], unique=False)
    op.create_index("bank_accounts_newest", "bank_accounts", ["org_id", "created_at", "bank_account_id"], unique=False)
    op.create_index(
        "bank_accounts_party", "bank_accounts", ["org_id", "party_id", "created_at", "bank_account_id"], unique=False
    )
    op.create_index(
        "bank_accounts_external",
        "bank_accounts",
        ["org_id", "external_id", "created_at", "bank_account_id"],
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )


_PLAIN_REFERENCE = "upper(regexp_replace(normalize(bank_reference, NFKC), '[^[:alnum:]]', '', 'g'))"
_MAY_COME_BACK = (
    "finality = 'PROVISIONAL' AND (status IN ('SETTLED', 'COMPLETED') OR reversal_status IN ('ORDERED', 'SETTLED'))"
)
_TRANSACTION_CHECKS = {
    "finality_known": "finality IN ('PROVISIONAL', 'FINAL')",
    "dispute_status_known": (
        "dispute_status IN ('NONE', 'NEEDS_RESPONSE', 'UNDER_REVIEW', 'WON', 'LOST', 'MONEY_AWAITED')"
    ),
    "reversal_status_known": (
        "reversal_status IN ('ORDERED', 'SETTLED', 'COMPLETED', 'FAILED', 'RETURNED', 'DRAWN_IN_EXCESS')"
    ),
    "reversal_reason_known": "reversal_reason IN ('DUPLICATE', 'WRONG_RECEIVER', 'WRONG_AMOUNT')",
    "reversal_whole": (
        "(reversal_status IS NULL) = (reversal_reason IS NULL)"
        " AND (reversal_status IS NULL) = (reversal_ordered_at IS NULL)"
    ),
    "reversal_settled_has_a_time": (
        "(reversal_settled_at IS NULL) = (reversal_risk_end_at IS NULL)"
        " AND (reversal_status IS NULL OR reversal_status IN ('ORDERED', 'FAILED') OR reversal_settled_at IS NOT NULL)"
    ),
    "reversal_ended_has_a_time": (
        "(reversal_ended_at IS NULL) = (reversal_status IS NULL OR reversal_status IN ('ORDERED', 'SETTLED'))"
    ),
    "refunds_a_card": "(type = 'REFUND' AND payment_method = 'CARD') = (refunded_transaction_id IS NOT NULL)",
    "card_whole": "(card_brand IS NULL) = (card_last4 IS NULL)",
    "card_by_four_digits": "card_last4 ~ '^[0-9]{4}$'",
    "dispute_named": "(dispute_status = 'NONE') = (dispute_reference IS NULL)",
    "payment_method_known": "payment_method IN ('ACH', 'CARD', 'WIRE', 'CHECK', 'INTERNAL_TRANSFER')",
    "reconciliation_status_known": "reconciliation_status IN ('UNRECONCILED', 'TENTATIVE', 'RECONCILED')",
    "work_is_due": (
        "due_at IS NOT NULL OR status NOT IN ('INITIATED', 'QUEUED', 'PROCESSING')"
        " AND (status <> 'PENDING_SETTLEMENT' OR payment_method IN ('CHECK', 'INTERNAL_TRANSFER', 'WIRE'))"
        f" AND NOT ({_MAY_COME_BACK})"
    ),
    "what_may_come_back_is_looked_at": f"next_look_at IS NOT NULL OR NOT ({_MAY_COME_BACK})",
    "retry_has_a_time": "status <> 'PENDING_RETRY' OR next_attempt_at IS NOT NULL",
    "settled_has_a_time": "status NOT IN ('SETTLED', 'COMPLETED') OR settled_at IS NOT NULL",
    "status_known": (
        "status IN ('INITIATED', 'PENDING_APPROVAL', 'APPROVED', 'QUEUED', 'PROCESSING', 'PENDING_SETTLEMENT',"
        " 'SETTLED', 'COMPLETED', 'FAILED', 'RETURNED', 'PENDING_RETRY', 'CANCELLED', 'REVERSED')"
    ),
    "type_known": "type IN ('DEPOSIT', 'ESCROW_DEPOSIT', 'DISTRIBUTION', 'ESCROW_WITHDRAWAL', 'REFUND', 'WITHDRAWAL', "
    "'CONSTRUCTION_DRAW', 'PLATFORM_FEE', 'REFERRAL_FEE', 'TRANSFER')",
    "born_initiated": "previous_status IS NOT NULL OR status = 'INITIATED'",
    "amount_positive": "amount_minor > 0 AND amount_minor < 4611686018427387904",
    "presentments_three_at_most": "presentments BETWEEN 0 AND 3 AND attempts >= presentments",
    "confirmation_whole": "(confirmed_by IS NULL) = (bank_reference IS NULL)",
    "bank_reference_named": f"{_PLAIN_REFERENCE} <> ''",
    "correction_explained": (
        "(corrected_minor IS NULL) = (correction_note IS NULL)"
        " AND (corrected_minor IS NULL OR corrected_by IS NOT NULL)"
    ),
    "corrected_otherwise": (
        "corrected_minor <> amount_minor AND corrected_minor > 0 AND corrected_minor < 4611686018427387904"
    ),
    "maker_is_not_checker": (
        "created_by IS DISTINCT FROM approved_by AND created_by IS DISTINCT FROM confirmed_by"
        " AND (corrected_by IS NULL OR corrected_by IS DISTINCT FROM confirmed_by)"
    ),
    "approver_does_not_send": "NOT escrow_booked OR NOT makers_and_checkers @> to_jsonb(confirmed_by)",
    "transfer_names_another": (
        "(to_escrow_account_id IS NOT NULL) = (payment_method = 'INTERNAL_TRANSFER')"
        " AND (type = 'TRANSFER') = (to_escrow_account_id IS NOT NULL) AND to_escrow_account_id <> escrow_account_id"
    ),
    "account_is_bound": "(bank_account_id IS NULL) = (account_number_digest IS NULL)",
    "fees_add_up": "earlier_fees_minor BETWEEN 0 AND coalesce(provider_fee_minor, 0)",
    "corporate_by_account": "NOT is_corporate OR bank_account_id IS NOT NULL",
    "approved_by_a_person": "approval_reason IS NULL OR approved_by IS NOT NULL"
    " OR status IN ('INITIATED', 'PENDING_APPROVAL', 'FAILED', 'CANCELLED')",
}


def _create_transactions() -> None:
    op.create_table(
        "transactions",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("previous_status", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("payment_method", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("escrow_account_id", sa.Text(), nullable=False),
        sa.Column("to_escrow_account_id", sa.Text(), nullable=True),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("bank_account_id", sa.Text(), nullable=True),
        sa.Column("account_number_digest", sa.Text(), nullable=True),
        sa.Column("is_corporate", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("approval_reason", sa.Text(), nullable=True),
        sa.Column("investment_id", sa.Text(), nullable=True),
        sa.Column("refunded_transaction_id", sa.Text(), nullable=True),
        sa.Column("replaced_transaction_id", sa.Text(), nullable=True),
        sa.Column("distribution_id", sa.Text(), nullable=True),
        sa.Column("allocation_id", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("failure", pg.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("presentments", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("first_presented_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_reference", sa.Text(), nullable=True),
        sa.Column("payer_action_url", sa.Text(), nullable=True),
        sa.Column("bank_reference", sa.Text(), nullable=True),
        sa.Column("corrected_minor", sa.BigInteger(), nullable=True),
        sa.Column("correction_note", sa.Text(), nullable=True),
        sa.Column("corrected_by", sa.Text(), nullable=True),
        sa.Column("corrected_signed_in_at", sa.BigInteger(), nullable=True),
        sa.Column("corrected_api_key_id", sa.Text(), nullable=True),
        sa.Column("card_brand", sa.Text(), nullable=True),
        sa.Column("card_last4", sa.Text(), nullable=True),
        sa.Column("former_correctors", pg.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("dispute_status", sa.Text(), server_default="NONE", nullable=False),
        sa.Column("dispute_reference", sa.Text(), nullable=True),
        sa.Column("dispute_reason", sa.Text(), nullable=True),
        sa.Column("dispute_due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reversal_status", sa.Text(), nullable=True),
        sa.Column("reversal_reason", sa.Text(), nullable=True),
        sa.Column("reversal_ordered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reversal_settled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reversal_risk_end_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reversal_ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reversal_failure", pg.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("provider_fee_minor", sa.BigInteger(), nullable=True),
        sa.Column("earlier_fees_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reconciliation_status", sa.Text(), server_default="UNRECONCILED", nullable=False),
        sa.Column("finality", sa.Text(), server_default="PROVISIONAL", nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", pg.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("makers_and_checkers", pg.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("confirmed_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("settled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("return_risk_end_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("final_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_look_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("request_subject", sa.Text(), nullable=True),
        sa.Column("request_role", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("signed_in_at", sa.BigInteger(), nullable=True),
        sa.Column("api_key_id", sa.Text(), nullable=True),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("escrow_booked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.ForeignKeyConstraint(
            ["org_id", "bank_account_id"],
            ["bank_accounts.org_id", "bank_accounts.bank_account_id"],
            name="bank_account",
        ),
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
        sa.PrimaryKeyConstraint("org_id", "transaction_id"),
    )
    for name, condition in _TRANSACTION_CHECKS.items():
        op.create_check_constraint(name, "transactions", condition)


def _create_transaction_indexes() -> None:
    op.create_index(
        "transactions_account",
        "transactions",
        ["org_id", "escrow_account_id", "created_at", "transaction_id"],
        unique=False,
    )
    op.create_index(
        "transactions_transfer",
        "transactions",
        ["org_id", "to_escrow_account_id", "created_at", "transaction_id"],
        unique=False,
        postgresql_where=sa.text("to_escrow_account_id IS NOT NULL"),
    )
    op.create_index(
        "transactions_account_status",
        "transactions",
        ["org_id", "escrow_account_id", "status", "created_at", "transaction_id"],
        unique=False,
    )
    op.create_index(
        "transactions_distribution",
        "transactions",
        ["org_id", "distribution_id", "created_at", "transaction_id"],
        unique=False,
        postgresql_where=sa.text("distribution_id IS NOT NULL"),
    )
    op.create_index(
        "transactions_one_instead",
        "transactions",
        ["org_id", "replaced_transaction_id"],
        unique=True,
        postgresql_where=sa.text(
            "replaced_transaction_id IS NOT NULL AND status NOT IN ('CANCELLED', 'FAILED', 'RETURNED', 'REVERSED')"
        ),
    )
    op.create_index(
        "transactions_bank_reference",
        "transactions",
        ["org_id", "bank_reference", "created_at", "transaction_id"],
        postgresql_where=sa.text("bank_reference IS NOT NULL"),
    )
    op.create_index(
        "transactions_provider_reference",
        "transactions",
        ["org_id", "provider_reference", "created_at", "transaction_id"],
        postgresql_where=sa.text("provider_reference IS NOT NULL"),
    )
    op.create_index(
        "transactions_one_by_bank_reference",
        "transactions",
        [
            "org_id",
            "escrow_account_id",
            sa.literal_column(_PLAIN_REFERENCE),
        ],
        unique=True,
        postgresql_where=sa.text(
            "bank_reference IS NOT NULL"
            " AND (status <> 'RETURNED' OR failure ->> 'code' IS DISTINCT FROM 'CONFIRMED_IN_ERROR')"
        ),
    )
    op.create_index(
        "transactions_due",
        "transactions",
        ["status", "due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "transactions_external",
        "transactions",
        ["org_id", "external_id", "created_at", "transaction_id"],
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "transactions_investment",
        "transactions",
        ["org_id", "investment_id", "created_at", "transaction_id"],
        postgresql_where=sa.text("investment_id IS NOT NULL"),
    )
    op.create_index(
        "transactions_announced",
        "transactions",
        ["next_look_at"],
        postgresql_where=sa.text("status = 'PENDING_SETTLEMENT' AND next_look_at IS NOT NULL"),
    )
    op.create_index(
        "transactions_provisional",
        "transactions",
        ["next_look_at"],
        postgresql_where=sa.text(_MAY_COME_BACK),
    )
    op.create_index(
        "transactions_reversals",
        "transactions",
        ["org_id", "transaction_id"],
        postgresql_where=sa.text("reversal_status IS NOT NULL"),
    )
    op.create_index("transactions_newest", "transactions", ["org_id", "created_at", "transaction_id"], unique=False)
    op.create_index(
        "transactions_party", "transactions", ["org_id", "party_id", "created_at", "transaction_id"], unique=False
    )
    op.create_index(
        "transactions_retries",
        "transactions",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'PENDING_RETRY'"),
    )
    op.create_index(
        "transactions_status", "transactions", ["org_id", "status", "created_at", "transaction_id"], unique=False
    )


def _create_records() -> None:
    op.create_table(
        "transaction_history",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(version = 1) = (from_status IS NULL) AND (version > 1 OR to_status = 'INITIATED')",
            name="history_begins_initiated",
        ),
        sa.ForeignKeyConstraint(
            ["org_id", "transaction_id"], ["transactions.org_id", "transactions.transaction_id"], name="transaction"
        ),
        sa.PrimaryKeyConstraint("org_id", "transaction_id", "version"),
    )
    op.create_index(
        "transaction_history_settled",
        "transaction_history",
        ["org_id", "transaction_id", "occurred_at"],
        unique=False,
        postgresql_where=sa.text("to_status = 'SETTLED'"),
    )
    op.create_index(
        "transaction_history_returned",
        "transaction_history",
        ["org_id", "occurred_at", "transaction_id"],
        unique=False,
        postgresql_where=sa.text("to_status = 'RETURNED'"),
    )
    op.create_table(
        "provider_payments",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("presentment", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_key", sa.Text(), nullable=False),
        sa.Column("provider_reference", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("is_debit", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("return_code", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint("outcome IN ('RETURNED', 'FAILED', 'CANCELLED')", name="outcome_known"),
        sa.CheckConstraint(
            "(outcome IS NULL) = (ended_at IS NULL) AND (return_code IS NULL OR outcome = 'RETURNED')",
            name="ended_once",
        ),
        sa.ForeignKeyConstraint(
            ["org_id", "transaction_id"], ["transactions.org_id", "transactions.transaction_id"], name="transaction"
        ),
        sa.PrimaryKeyConstraint("org_id", "transaction_id", "attempt"),
        sa.UniqueConstraint("org_id", "provider", "provider_key", name="provider_payments_key"),
        sa.UniqueConstraint("org_id", "provider", "provider_reference", name="provider_payments_reference"),
    )
    op.create_index(
        "provider_payments_owner", "provider_payments", ["provider", "provider_reference", "org_id", "attempt"]
    )
    op.create_index("provider_payments_transaction", "provider_payments", ["transaction_id", "org_id", "attempt"])
    op.create_index(
        "provider_payments_debits",
        "provider_payments",
        ["org_id", "sent_at", "transaction_id", "attempt"],
        postgresql_where=sa.text("is_debit"),
    )
    op.create_index(
        "provider_payments_returns",
        "provider_payments",
        ["org_id", "ended_at", "transaction_id", "attempt"],
        postgresql_where=sa.text("outcome = 'RETURNED'"),
    )
    op.create_table(
        "ach_return_rates",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("debit_count", sa.BigInteger(), nullable=False),
        sa.Column("unauthorized_count", sa.BigInteger(), nullable=False),
        sa.Column("administrative_count", sa.BigInteger(), nullable=False),
        sa.Column("return_count", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint(
            "debit_count >= 0 AND unauthorized_count >= 0 AND administrative_count >= 0"
            " AND unauthorized_count + administrative_count <= return_count",
            name="counted_within",
        ),
        sa.PrimaryKeyConstraint("org_id"),
    )


def _create_ach() -> None:
    op.create_table(
        "ach_entries",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("ach_entry_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider_key", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("reversed_entry_id", sa.Text(), nullable=True),
        sa.Column("party_id", sa.Text(), nullable=False),
        sa.Column("bank_account_id", sa.Text(), nullable=False),
        sa.Column("is_inbound", sa.Boolean(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("presentment", sa.Integer(), nullable=False),
        sa.Column("routing_number", sa.Text(), nullable=False),
        sa.Column("account_number_encrypted", pg.BYTEA(), nullable=False),
        sa.Column("account_type", sa.Text(), nullable=False),
        sa.Column("holder_type", sa.Text(), nullable=False),
        sa.Column("account_holder_name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("ach_file_id", sa.Text(), nullable=True),
        sa.Column("trace_no", sa.Integer(), nullable=True),
        sa.Column("effective_on", sa.Date(), nullable=True),
        sa.Column("return_code", sa.Text(), nullable=True),
        sa.Column("returned_on", sa.Date(), nullable=True),
        sa.Column("change_code", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint("kind IN ('PAYMENT', 'PRENOTE', 'REVERSAL')", name="kind_known"),
        sa.CheckConstraint(
            "amount_minor >= 0 AND (amount_minor = 0) = (kind = 'PRENOTE')", name="prenote_has_no_amount"
        ),
        sa.CheckConstraint("(transaction_id IS NULL) = (kind = 'PRENOTE')", name="prenote_has_no_transaction"),
        sa.CheckConstraint(
            "(reversed_entry_id IS NOT NULL) = (kind = 'REVERSAL') AND (kind <> 'REVERSAL' OR is_inbound)",
            name="reversal_takes_back",
        ),
        sa.CheckConstraint("holder_type IN ('PERSON', 'COMPANY')", name="holder_type_known"),
        sa.CheckConstraint("status IN ('WAITING', 'SENT', 'WITHDRAWN', 'RETURNED')", name="status_known"),
        sa.CheckConstraint(
            "num_nonnulls(ach_file_id, trace_no, effective_on) ="
            " CASE WHEN status = 'WAITING' OR status = 'WITHDRAWN' AND ach_file_id IS NULL THEN 0 ELSE 3 END",
            name="sent_in_a_file",
        ),
        sa.CheckConstraint(
            "num_nonnulls(return_code, returned_on) = CASE WHEN status = 'RETURNED' THEN 2 ELSE 0 END", name="returned"
        ),
        sa.PrimaryKeyConstraint("org_id", "ach_entry_id"),
        sa.UniqueConstraint("org_id", "provider_key", name="ach_entries_key"),
        sa.UniqueConstraint("org_id", "trace_no", name="ach_entries_trace_no"),
    )
    op.create_index("ach_entries_transaction", "ach_entries", ["org_id", "transaction_id"])
    op.create_index(
        "ach_entries_reversed",
        "ach_entries",
        ["reversed_entry_id", "org_id"],
        unique=True,
        postgresql_where=sa.text("reversed_entry_id IS NOT NULL"),
    )
    op.create_index("ach_entries_account", "ach_entries", ["org_id", "bank_account_id", "is_inbound"])
    op.create_index("ach_entries_file", "ach_entries", ["org_id", "ach_file_id"])
    op.create_index(
        "ach_entries_waiting", "ach_entries", ["org_id", "created_at"], postgresql_where=sa.text("status = 'WAITING'")
    )
    op.create_index("ach_entries_id", "ach_entries", ["ach_entry_id"])
    op.create_index("ach_entries_trace", "ach_entries", ["trace_no", "org_id"])
    op.create_table(
        "ach_files",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("ach_file_id", sa.Text(), nullable=False),
        sa.Column("created_on", sa.Date(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("entry_count", sa.Integer(), nullable=False),
        sa.Column("debit_minor", sa.BigInteger(), nullable=False),
        sa.Column("credit_minor", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("leaves_by", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("settles_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("is_acknowledged", sa.Boolean(), nullable=False),
        sa.Column("left_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("fetched_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("held_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("put_back_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("rejected_because", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint(
            "status IN ('MADE', 'WITHDRAWN', 'RELEASED', 'LEFT', 'ACCEPTED', 'REJECTED')", name="status_known"
        ),
        sa.CheckConstraint(
            "(leaves_by IS NULL) = (settles_at IS NULL) AND (leaves_by IS NULL OR leaves_by < settles_at)",
            name="same_day",
        ),
        sa.CheckConstraint("(left_at IS NULL) = (status IN ('MADE', 'WITHDRAWN', 'RELEASED'))", name="left_once"),
        sa.CheckConstraint("(rejected_because IS NULL) = (status <> 'REJECTED')", name="rejected_with_reason"),
        sa.CheckConstraint("is_acknowledged OR status NOT IN ('ACCEPTED', 'REJECTED')", name="acknowledged_if_it_is"),
        sa.CheckConstraint("(digest IS NULL) = (status IN ('MADE', 'WITHDRAWN'))", name="released_as_it_is"),
        sa.CheckConstraint(
            "num_nonnulls(fetched_at, held_at) <= CASE WHEN left_at IS NULL THEN 0 ELSE 1 END",
            name="fetched_or_held_once_it_left",
        ),
        sa.PrimaryKeyConstraint("org_id", "ach_file_id"),
    )
    op.create_index("ach_files_day", "ach_files", ["org_id", "created_on"])
    op.create_index(
        "ach_files_not_left", "ach_files", ["org_id"], postgresql_where=sa.text("status IN ('MADE', 'RELEASED')")
    )
    op.create_index(
        "ach_files_not_fetched",
        "ach_files",
        ["ach_file_id", "org_id"],
        postgresql_where=sa.text("left_at IS NOT NULL AND fetched_at IS NULL"),
    )
    op.create_index(
        "ach_files_acknowledged",
        "ach_files",
        ["created_on", "org_id", "ach_file_id"],
        postgresql_where=sa.text("is_acknowledged"),
    )
    op.create_index(
        "ach_files_unanswered",
        "ach_files",
        ["created_on", "org_id", "ach_file_id"],
        postgresql_where=sa.text("is_acknowledged AND status = 'LEFT'"),
    )


def _create_plaid() -> None:
    op.create_table(
        "plaid_items",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("bank_account_id", sa.Text(), nullable=False),
        sa.Column("account_number_digest", sa.Text(), nullable=False),
        sa.Column("access_token_encrypted", pg.BYTEA(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "account_id"),
        sa.UniqueConstraint("org_id", "bank_account_id", "account_number_digest", name="plaid_items_number"),
    )
    op.create_table(
        "plaid_transfers",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("authorization_id", sa.Text(), nullable=False),
        sa.Column("provider_key", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("presentment", sa.Integer(), nullable=False),
        sa.Column("is_inbound", sa.Boolean(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("transfer_id", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint("transfer_id IS NULL OR ended_at IS NULL", name="made_or_ended"),
        sa.PrimaryKeyConstraint("org_id", "authorization_id"),
        sa.UniqueConstraint("org_id", "provider_key", "number", name="plaid_transfers_key"),
    )
    op.create_index("plaid_transfers_reference", "plaid_transfers", ["org_id", "reference"])
    op.create_table(
        "feed_cursors",
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("reached", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint("version >= 1", name="cursor_begins"),
        sa.PrimaryKeyConstraint("feed"),
    )


def _create_verifications() -> None:
    op.create_table(
        "bank_account_verifications",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("verification_id", sa.Text(), nullable=False),
        sa.Column("bank_account_id", sa.Text(), nullable=False),
        sa.Column("account_number_digest", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_reference", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("action_url", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("failure", pg.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("verified_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint("status IN ('REQUESTED', 'WAITING', 'VERIFIED', 'FAILED')", name="status_known"),
        sa.CheckConstraint("(status = 'FAILED') = (failure IS NOT NULL)", name="failed_for_a_reason"),
        sa.CheckConstraint("action_url IS NULL OR status = 'WAITING'", name="waits_on_a_page"),
        sa.CheckConstraint(
            "status NOT IN ('WAITING', 'VERIFIED') OR provider_reference IS NOT NULL", name="known_to_its_provider"
        ),
        sa.CheckConstraint("status <> 'VERIFIED' OR verified_at IS NOT NULL", name="verified_at_a_time"),
        sa.PrimaryKeyConstraint("org_id", "verification_id"),
    )
    op.create_index(
        "bank_account_verifications_open",
        "bank_account_verifications",
        ["org_id", "bank_account_id", "provider"],
        unique=True,
        postgresql_where=sa.text("status <> 'FAILED'"),
    )
    op.create_index(
        "bank_account_verifications_account",
        "bank_account_verifications",
        ["org_id", "bank_account_id", "created_at", "verification_id"],
    )
    op.create_index("bank_account_verifications_id", "bank_account_verifications", ["verification_id"])


def _create_vault_keys() -> None:
    op.create_table(
        "vault_keys",
        sa.Column("vault_key_id", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("wrapped_key", pg.BYTEA(), nullable=False),
        sa.Column("wrapped_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("proof_digest", pg.BYTEA(), nullable=False),
        sa.Column("proof", pg.BYTEA(), nullable=True),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint("purpose IN ('SEAL', 'INDEX')", name="purpose_known"),
        sa.PrimaryKeyConstraint("vault_key_id"),
    )
    op.create_index(
        "vault_keys_index", "vault_keys", ["purpose"], unique=True, postgresql_where=sa.text("purpose = 'INDEX'")
    )


def _create_requests() -> None:
    op.create_table(
        "payout_requests",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", pg.BYTEA(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("failure", pg.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint("(transaction_id IS NULL) <> (failure IS NULL)", name="created_or_refused"),
        sa.PrimaryKeyConstraint("org_id", "idempotency_key"),
    )
    op.create_table(
        "received_webhooks",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_event_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("body", pg.BYTEA(), nullable=True),
        sa.Column("provider_reference", sa.Text(), nullable=True),
        sa.Column("ignored_because", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("proof_digest", pg.BYTEA(), nullable=True),
        sa.Column("proof", pg.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("webhook_id"),
        sa.UniqueConstraint("provider", "provider_event_id", name="received_webhooks_event"),
    )
    op.create_index(
        "received_webhooks_due", "received_webhooks", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index(
        "received_webhooks_bodies", "received_webhooks", ["created_at"], postgresql_where=sa.text("body IS NOT NULL")
    )
    op.create_table(
        "webhooks",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_event_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("failure", pg.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("applied_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('RECEIVED', 'APPLIED', 'FAILED')", name="status_known"),
        sa.ForeignKeyConstraint(
            ["org_id", "transaction_id"], ["transactions.org_id", "transactions.transaction_id"], name="transaction"
        ),
        sa.PrimaryKeyConstraint("org_id", "webhook_id"),
    )
    op.create_index("webhooks_newest", "webhooks", ["org_id", "created_at", "webhook_id"], unique=False)


def _create_exceptions() -> None:
    op.create_table(
        "payment_exceptions",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("payment_exception_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("bank_account_id", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("provider_payment_id", sa.Text(), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.CHAR(length=3), nullable=True),
        sa.Column("escrow_account_id", sa.Text(), nullable=True),
        sa.Column("party_id", sa.Text(), nullable=True),
        sa.Column("investment_id", sa.Text(), nullable=True),
        sa.Column("distribution_id", sa.Text(), nullable=True),
        sa.Column("allocation_id", sa.Text(), nullable=True),
        sa.Column("makers", pg.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("occurrence_count", sa.BigInteger(), nullable=False),
        sa.Column("openings", sa.BigInteger(), nullable=False),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("resolved_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("resolution_note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('PAYMENT_NOT_OURS', 'PAID_TWICE', 'ORDER_GIVEN_UP', 'RETURN_TO_REVIEW', 'WEBHOOK_FAILED',"
            " 'BANK_ACCOUNT_ALTERED', 'ACH_CHANGE_ASKED_FOR', 'ACH_FILE_UNREADABLE', 'ACH_RETURN_NOT_OURS',"
            " 'ACH_FILE_FOREIGN', 'ACH_FILE_ALTERED', 'ACH_FILE_NOT_FETCHED',"
            " 'ACH_UNAUTHORIZED_RATE', 'ACH_ADMINISTRATIVE_RATE', 'ACH_OVERALL_RATE', 'ACH_FILE_REJECTED',"
            " 'ACH_FILE_NOT_ACKNOWLEDGED', 'ACH_ACKNOWLEDGEMENT_NOT_OURS', 'ACH_REJECTED_FILE_PAID',"
            " 'CARD_DISPUTED', 'ACH_FILE_NOT_APPLIED', 'PAYOUT_NOT_REVERSED',"
            " 'SWEEP_NOT_EXPLAINED', 'SWEEP_FAILED', 'SWEEP_REDIRECTED', 'PAYOUT_NOT_PAID', 'SHORTFALL',"
            " 'SWEEP_OVERDUE', 'MONEY_NOT_APPLIED')",
            name="kind_known",
        ),
        sa.CheckConstraint("status IN ('OPEN', 'RESOLVED')", name="status_known"),
        sa.CheckConstraint("(amount_minor IS NULL) = (currency IS NULL)", name="amount_whole"),
        sa.CheckConstraint(
            "num_nonnulls(resolved_by, resolved_at, resolution_note) IN (0, 3)"
            " AND (status <> 'RESOLVED' OR resolved_by IS NOT NULL)",
            name="resolved_by_a_person",
        ),
        sa.PrimaryKeyConstraint("org_id", "payment_exception_id"),
    )
    newest = ["org_id", "created_at", "payment_exception_id"]
    op.create_index("payment_exceptions_newest", "payment_exceptions", newest)
    op.create_index(
        "payment_exceptions_transaction",
        "payment_exceptions",
        ["org_id", "transaction_id", "created_at", "payment_exception_id"],
    )
    for name in ("escrow_account", "party"):
        op.create_index(f"payment_exceptions_{name}", "payment_exceptions", ["org_id", f"{name}_id", *newest[1:]])
    op.create_index(
        "payment_exceptions_subject",
        "payment_exceptions",
        ["org_id", "kind", "subject"],
        postgresql_where=sa.text("status = 'OPEN'"),
    )
    op.create_index(
        "payment_exceptions_open", "payment_exceptions", newest, postgresql_where=sa.text("status = 'OPEN'")
    )
    op.create_table(
        "payment_exception_history",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("payment_exception_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "payment_exception_id"],
            ["payment_exceptions.org_id", "payment_exceptions.payment_exception_id"],
            name="payment_exception",
        ),
        sa.PrimaryKeyConstraint("org_id", "payment_exception_id", "version"),
    )


def _create_sweeps() -> None:
    op.create_table(
        "provider_sweeps",
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("provider_sweep_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("arrives_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("made_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("is_overdue", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint("status IN ('PENDING', 'SETTLED', 'FAILED')", name="status_known"),
        sa.CheckConstraint("explanation IN ('WAITING', 'EXPLAINED', 'UNEXPLAINED')", name="explanation_known"),
        sa.CheckConstraint("version >= 1", name="sweep_begins"),
        sa.PrimaryKeyConstraint("feed", "provider_sweep_id"),
    )
    made = ["currency", "made_at", "provider_sweep_id"]
    op.create_index("provider_sweeps_made", "provider_sweeps", ["feed", *made])
    op.create_table(
        "sweeps",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("sweep_id", sa.Text(), nullable=False),
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_sweep_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("arrives_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("is_explained", sa.Boolean(), nullable=False),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("made_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint("status IN ('PENDING', 'SETTLED', 'FAILED')", name="status_known"),
        sa.PrimaryKeyConstraint("org_id", "sweep_id"),
        sa.UniqueConstraint("org_id", "provider", "provider_sweep_id", name="sweeps_provider_id"),
    )
    op.create_index("sweeps_newest", "sweeps", ["org_id", "created_at", "sweep_id"])
    op.create_index("sweeps_arrival", "sweeps", ["org_id", "arrives_at"])
    op.create_index("sweeps_made", "sweeps", ["org_id", "feed", *made])
    op.create_index("sweeps_owners", "sweeps", ["provider", "provider_sweep_id", "org_id"])
    op.create_table(
        "sweep_lines",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("sweep_line_id", sa.Text(), nullable=False),
        sa.Column("sweep_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_movement_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("escrow_account_id", sa.Text(), nullable=True),
        sa.Column("gross_minor", sa.BigInteger(), nullable=False),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False),
        sa.Column("net_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", pg.BYTEA(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('PAYMENT', 'RETURN', 'REFUND', 'DISPUTE', 'FEE', 'OTHER', 'FAILED_SWEEP')", name="kind_known"
        ),
        sa.CheckConstraint("net_minor = gross_minor - fee_minor", name="line_adds_up"),
        sa.CheckConstraint("(transaction_id IS NULL) = (escrow_account_id IS NULL)", name="transaction_whole"),
        sa.PrimaryKeyConstraint("org_id", "sweep_line_id"),
        sa.UniqueConstraint("provider", "provider_movement_id", "org_id", name="sweep_lines_movement"),
        sa.ForeignKeyConstraint(["org_id", "sweep_id"], ["sweeps.org_id", "sweeps.sweep_id"], name="sweep"),
        sa.ForeignKeyConstraint(
            ["org_id", "transaction_id"], ["transactions.org_id", "transactions.transaction_id"], name="transaction"
        ),
    )
    newest = ["created_at", "sweep_line_id"]
    op.create_index("sweep_lines_newest", "sweep_lines", ["org_id", *newest])
    op.create_index("sweep_lines_sweep", "sweep_lines", ["org_id", "sweep_id", *newest])
    op.create_index("sweep_lines_transaction", "sweep_lines", ["org_id", "transaction_id", *newest])
    op.create_index("sweep_lines_escrow_account", "sweep_lines", ["org_id", "escrow_account_id", *newest])
