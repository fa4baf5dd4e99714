"""The table of what was asked of a provider so that the holder of a bank account verifies it there."""

from __future__ import annotations

import sqlalchemy as sa

from services.chassis.data.columns import json, seal, text, time
from services.chassis.data.constraints import one_of
from services.chassis.data.seals import sealed
from services.transactions.domain.verifications import VerificationStatus
from services.transactions.tables.metadata import metadata

# An account has one that has not failed. It is there before the provider is asked, and counts for one number alone.
bank_account_verifications = sa.Table(
    "bank_account_verifications",
    metadata,
    text("org_id", key=True),
    text("verification_id", key=True),
    *map(text, ("bank_account_id", "account_number_digest", "provider")),
    text("provider_reference", null=True),  # none until the provider has answered
    text("status"),
    text("action_url", null=True),
    time("expires_at", null=True),
    json("failure", null=True),
    time("verified_at", null=True),
    text("created_by"),
    time("created_at"),
    time("updated_at"),
    sa.Column("version", sa.BigInteger, nullable=False),
    seal(),
    one_of("status", VerificationStatus),
    sa.CheckConstraint("(status = 'FAILED') = (failure IS NOT NULL)", name="failed_for_a_reason"),
    sa.CheckConstraint("action_url IS NULL OR status = 'WAITING'", name="waits_on_a_page"),
    sa.CheckConstraint(
        "status NOT IN ('WAITING', 'VERIFIED') OR provider_reference IS NOT NULL", name="known_to_its_provider"
    ),
    sa.CheckConstraint("status <> 'VERIFIED' OR verified_at IS NOT NULL", name="verified_at_a_time"),
    sa.Index(
        "bank_account_verifications_open",
        "org_id",
        "bank_account_id",
        "provider",
        unique=True,
        postgresql_where=sa.text("status <> 'FAILED'"),
    ),
    sa.Index("bank_account_verifications_account", "org_id", "bank_account_id", "created_at", "verification_id"),
    sa.Index("bank_account_verifications_id", "verification_id"),
    info=sealed(
        *("org_id", "verification_id", "bank_account_id", "account_number_digest", "provider", "provider_reference"),
        *("status", "action_url", "expires_at", "failure", "verified_at"),
        *("created_by", "created_at", "updated_at", "version"),
    ),
)
