"""The tables of ACH by Plaid: the bank accounts that it knows by a token, and what it authorized."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.columns import seal, text, time
from services.chassis.data.seals import sealed
from services.transactions.tables.metadata import metadata

# Once a bank account and its number: with the token money is drawn and paid, so it is as secret as the number.
plaid_items = sa.Table(
    "plaid_items",
    metadata,
    text("org_id", key=True),
    text("account_id", key=True),  # Plaid's
    text("bank_account_id"),
    text("account_number_digest"),  # vault.py
    sa.Column("access_token_encrypted", pg.BYTEA, nullable=False),  # vault.py
    time("created_at"),
    seal(),
    sa.UniqueConstraint("org_id", "bank_account_id", "account_number_digest", name="plaid_items_number"),
    info=sealed(
        *("org_id", "account_id", "bank_account_id", "account_number_digest", "access_token_encrypted", "created_at")
    ),
)

# An authorization makes one transfer at most. An attempt has one that has not ended.
plaid_transfers = sa.Table(
    "plaid_transfers",
    metadata,
    text("org_id", key=True),
    text("authorization_id", key=True),
    text("provider_key"),
    sa.Column("number", sa.Integer, nullable=False),  # of the attempt's authorizations, from 1
    text("reference"),
    sa.Column("presentment", sa.Integer, nullable=False),
    sa.Column("is_inbound", sa.Boolean, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.CHAR(3), nullable=False),
    text("account_id"),
    text("transfer_id", null=True),  # none until it is known to have been made
    time("ended_at", null=True),  # when it was certain that it makes none any more
    time("created_at"),
    time("updated_at"),
    sa.Column("version", sa.BigInteger, nullable=False),
    seal(),
    sa.CheckConstraint("transfer_id IS NULL OR ended_at IS NULL", name="made_or_ended"),
    sa.UniqueConstraint("org_id", "provider_key", "number", name="plaid_transfers_key"),
    sa.Index("plaid_transfers_reference", "org_id", "reference"),
    info=sealed(
        *("org_id", "authorization_id", "provider_key", "number", "reference", "presentment", "is_inbound"),
        *("amount_minor", "currency", "account_id", "transfer_id", "ended_at", "created_at", "updated_at", "version"),
    ),
)
