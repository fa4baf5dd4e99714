"""The tables of ACH: by files what waits for one or was sent, and the files; how many debits came back."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.columns import seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.seals import seal_whole, sealed
from services.transactions.domain.ach import EntryKind, EntryStatus, FileStatus
from services.transactions.domain.bank_accounts import HolderType
from services.transactions.tables.metadata import metadata

# Who is paid, or drawn from, is written once.
ach_entries = sa.Table(
    "ach_entries",
    metadata,
    text("org_id", key=True),
    text("ach_entry_id", key=True),
    text("kind"),
    text("provider_key"),
    text("transaction_id", null=True),  # of a prenote: none
    text("reversed_entry_id", null=True),  # that a reversal takes back
    text("party_id"),
    text("bank_account_id"),
    sa.Column("is_inbound", sa.Boolean, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.CHAR(3), nullable=False),
    sa.Column("presentment", sa.Integer, nullable=False),
    text("routing_number"),
    sa.Column("account_number_encrypted", pg.BYTEA, nullable=False),  # vault.py
    text("account_type"),
    text("holder_type"),
    text("account_holder_name"),
    text("description"),
    text("status"),
    text("ach_file_id", null=True),
    sa.Column("trace_no", sa.Integer),
    sa.Column("effective_on", sa.Date),
    text("return_code", null=True),
    sa.Column("returned_on", sa.Date),
    text("change_code", null=True),
    time("created_at"),
    time("updated_at"),
    sa.Column("version", sa.BigInteger, nullable=False),
    seal(),
    one_of("kind", EntryKind),
    one_of("status", EntryStatus),
    one_of("holder_type", HolderType),
    sa.CheckConstraint("amount_minor >= 0 AND (amount_minor = 0) = (kind = 'PRENOTE')", name="prenote_has_no_amount"),
    sa.CheckConstraint("(transaction_id IS NULL) = (kind = 'PRENOTE')", name="prenote_has_no_transaction"),
    sa.CheckConstraint(
        "(reversed_entry_id IS NOT NULL) = (kind = 'REVERSAL') AND (kind <> 'REVERSAL' OR is_inbound)",
        name="reversal_takes_back",
    ),
    sa.CheckConstraint(
        "num_nonnulls(ach_file_id, trace_no, effective_on) ="
        " CASE WHEN status = 'WAITING' OR status = 'WITHDRAWN' AND ach_file_id IS NULL THEN 0 ELSE 3 END",
        name="sent_in_a_file",
    ),
    sa.CheckConstraint(
        "num_nonnulls(return_code, returned_on) = CASE WHEN status = 'RETURNED' THEN 2 ELSE 0 END", name="returned"
    ),
    sa.UniqueConstraint("org_id", "provider_key", name="ach_entries_key"),
    sa.UniqueConstraint("org_id", "trace_no", name="ach_entries_trace_no"),
    sa.Index("ach_entries_transaction", "org_id", "transaction_id"),
    sa.Index(  # once
        "ach_entries_reversed",
        *("reversed_entry_id", "org_id"),
        unique=True,
        postgresql_where=sa.text("reversed_entry_id IS NOT NULL"),
    ),
    sa.Index("ach_entries_account", "org_id", "bank_account_id", "is_inbound"),
    sa.Index("ach_entries_file", "org_id", "ach_file_id"),
    sa.Index("ach_entries_waiting", "org_id", "created_at", postgresql_where=sa.text("status = 'WAITING'")),
    sa.Index("ach_entries_id", "ach_entry_id"),
    sa.Index("ach_entries_trace", "trace_no", "org_id"),
    info=sealed(
        *("org_id", "ach_entry_id", "kind", "provider_key", "transaction_id", "reversed_entry_id"),
        *("party_id", "bank_account_id"),
        *("is_inbound", "amount_minor", "currency", "presentment", "routing_number", "account_number_encrypted"),
        *("account_type", "holder_type", "account_holder_name", "description", "status"),
        *("ach_file_id", "trace_no", "effective_on", "return_code"),
        *("returned_on", "change_code", "created_at", "updated_at", "version"),
    ),
)

ach_files = sa.Table(
    "ach_files",
    metadata,
    text("org_id", key=True),
    text("ach_file_id", key=True),
    sa.Column("created_on", sa.Date, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    text("status"),
    sa.Column("entry_count", sa.Integer, nullable=False),
    sa.Column("debit_minor", sa.BigInteger, nullable=False),
    sa.Column("credit_minor", sa.BigInteger, nullable=False),
    text("digest", null=True),  # as the vault makes it, of what was released
    time("leaves_by", null=True),
    time("settles_at", null=True),
    sa.Column("is_acknowledged", sa.Boolean, nullable=False),
    time("left_at", null=True),
    time("fetched_at", null=True),
    time("held_at", null=True),
    time("put_back_at", null=True),
    text("rejected_because", null=True),
    time("created_at"),
    time("updated_at"),
    sa.Column("version", sa.BigInteger, nullable=False),
    seal(),
    one_of("status", FileStatus),
    sa.CheckConstraint("(digest IS NULL) = (status IN ('MADE', 'WITHDRAWN'))", name="released_as_it_is"),
    sa.CheckConstraint(
        "(leaves_by IS NULL) = (settles_at IS NULL) AND (leaves_by IS NULL OR leaves_by < settles_at)", name="same_day"
    ),
    sa.CheckConstraint("(left_at IS NULL) = (status IN ('MADE', 'WITHDRAWN', 'RELEASED'))", name="left_once"),
    sa.CheckConstraint(
        "num_nonnulls(fetched_at, held_at) <= CASE WHEN left_at IS NULL THEN 0 ELSE 1 END",
        name="fetched_or_held_once_it_left",
    ),
    sa.CheckConstraint("(rejected_because IS NULL) = (status <> 'REJECTED')", name="rejected_with_reason"),
    sa.CheckConstraint("is_acknowledged OR status NOT IN ('ACCEPTED', 'REJECTED')", name="acknowledged_if_it_is"),
    sa.Index("ach_files_day", "org_id", "created_on"),
    sa.Index("ach_files_not_left", "org_id", postgresql_where=sa.text("status IN ('MADE', 'RELEASED')")),
    sa.Index(
        "ach_files_not_fetched",
        *("ach_file_id", "org_id"),
        postgresql_where=sa.text("left_at IS NOT NULL AND fetched_at IS NULL"),
    ),
    sa.Index(
        "ach_files_acknowledged",
        *("created_on", "org_id", "ach_file_id"),
        postgresql_where=sa.text("is_acknowledged"),
    ),
    sa.Index(
        "ach_files_unanswered",
        *("created_on", "org_id", "ach_file_id"),
        postgresql_where=sa.text("is_acknowledged AND status = 'LEFT'"),
    ),
    info=sealed(
        *("org_id", "ach_file_id", "created_on", "number", "status", "entry_count", "debit_minor", "credit_minor"),
        *("digest", "leaves_by", "settles_at", "is_acknowledged"),
        *("left_at", "fetched_at", "held_at", "put_back_at", "rejected_because"),
        *("created_at", "updated_at", "version"),
    ),
)

# What was last counted of each organization, whoever carries its debits.
ach_return_rates = sa.Table(
    "ach_return_rates",
    metadata,
    text("org_id", key=True),
    sa.Column("debit_count", sa.BigInteger, nullable=False),
    sa.Column("unauthorized_count", sa.BigInteger, nullable=False),
    sa.Column("administrative_count", sa.BigInteger, nullable=False),
    sa.Column("return_count", sa.BigInteger, nullable=False),
    time("updated_at"),
    sa.Column("version", sa.BigInteger, nullable=False),
    seal(),
    sa.CheckConstraint(
        "debit_count >= 0 AND unauthorized_count >= 0 AND administrative_count >= 0"
        " AND unauthorized_count + administrative_count <= return_count",
        name="counted_within",
    ),
)
seal_whole(ach_return_rates)
