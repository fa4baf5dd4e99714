"""The table of bank accounts."""

from __future__ import annotations

import sqlalchemy as sa
from realco.transactions.v1.bank_accounts_pb2 import BankAccount
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.columns import seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.seals import sealed
from services.transactions.domain.bank_accounts import (
    BankAccountStatus,
    BlockReason,
    Confirmation,
    HolderType,
    NameMatch,
)
from services.transactions.tables.indexes import external_index
from services.transactions.tables.metadata import metadata

bank_accounts = sa.Table(
    "bank_accounts",
    metadata,
    text("org_id", key=True),
    text("bank_account_id", key=True),
    text("party_id"),
    text("account_holder_name"),
    text("routing_number"),
    sa.Column("account_number_encrypted", pg.BYTEA, nullable=False),  # vault.py; the only copy
    text("account_number_digest"),  # vault.py: the same for the same account
    text("account_number_last4"),
    text("account_type"),
    text("holder_type"),
    sa.Column("default_for_payouts", sa.Boolean, nullable=False),
    text("status"),
    *(text(name, null=True) for name in ("block_reason", "block_network_code", "external_id")),
    sa.Column("metadata", pg.JSONB, nullable=False, server_default="{}"),
    sa.Column("version", sa.BigInteger, nullable=False),
    text("created_by"),
    text("annotated_by", null=True),  # who wrote external_id and metadata, where that is not who added it
    sa.Column("makers", pg.ARRAY(sa.Text), nullable=False),  # who made it, or changed where its money goes
    # What a bank asked us to correct is another account, which replaces this one once two persons say so.
    text("replaces_bank_account_id", null=True),
    text("replaced_by_bank_account_id", null=True),
    text("name_match", null=True),  # what its bank said when it was linked; none where it was typed
    sa.Column("has_token_number", sa.Boolean, nullable=False, server_default="false"),
    time("confirmed_at", null=True),
    text("confirmation", null=True),
    time("created_at"),
    time("updated_at"),
    seal(),
    one_of("status", BankAccountStatus),
    one_of("block_reason", BlockReason),
    one_of("account_type", BankAccount.AccountType.DESCRIPTOR),
    one_of("holder_type", HolderType),
    one_of("name_match", NameMatch),
    one_of("confirmation", Confirmation),
    # Of a PENDING one: it becomes the default when it is confirmed.
    sa.CheckConstraint(
        "NOT default_for_payouts OR status IN ('PENDING', 'ACTIVE', 'SUSPENDED')", name="default_is_live"
    ),
    sa.CheckConstraint("status <> 'ACTIVE' OR confirmed_at IS NOT NULL", name="active_is_confirmed"),
    sa.CheckConstraint("(confirmed_at IS NULL) = (confirmation IS NULL)", name="confirmed_by_somebody"),
    # A bank's word is good for a person's account in the name of the party, by its own number, when it is linked; a
    # trigger sees to that, and that persons confirm what is to be the default later.
    sa.CheckConstraint(
        "confirmation <> 'BANK' OR (name_match IS NOT NULL AND name_match = 'MATCHES' AND holder_type = 'PERSON'"
        " AND NOT has_token_number AND replaces_bank_account_id IS NULL AND confirmed_at = created_at)",
        name="bank_confirms_its_own",
    ),
    sa.CheckConstraint("name_match IS NOT NULL OR NOT has_token_number", name="token_is_linked"),
    sa.CheckConstraint(
        "bank_account_id NOT IN (replaces_bank_account_id, replaced_by_bank_account_id)", name="replaced_by_another"
    ),
    # What a file of the bank asked for alone is paid by nobody: a person wants it, beside who confirms it.
    sa.CheckConstraint(
        "status <> 'ACTIVE' OR replaces_bank_account_id IS NULL OR cardinality(makers) > 1", name="wanted_by_a_person"
    ),
    sa.Index(
        "bank_accounts_default",
        "org_id",
        "party_id",
        unique=True,
        postgresql_where=sa.text("default_for_payouts AND status = 'ACTIVE'"),
    ),
    sa.Index("bank_accounts_party", "org_id", "party_id", "created_at", "bank_account_id"),
    sa.Index("bank_accounts_newest", "org_id", "created_at", "bank_account_id"),
    sa.Index("bank_accounts_number", "org_id", "account_number_digest"),
    external_index("bank_accounts", "bank_account_id"),
    info=sealed(
        *("org_id", "bank_account_id", "party_id", "account_holder_name", "routing_number", "account_number_digest"),
        *("account_number_last4", "account_type", "holder_type", "default_for_payouts"),
        *("status", "version", "created_by", "makers"),
        *("created_at", "confirmed_at", "confirmation", "block_reason", "block_network_code"),
        *("name_match", "has_token_number"),
        *("replaces_bank_account_id", "replaced_by_bank_account_id"),
    ),
)
