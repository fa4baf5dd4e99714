"""What the roles of compliance may do with its tables: what was asked and decided stays."""

from __future__ import annotations

from services.chassis.data.rights import CHASSIS, EVERY, Table, appended, both, read_only

RIGHTS: Table = {
    **CHASSIS,
    "parties": both(
        insert=EVERY,
        update=(
            *("kind", "legal_name", "name_skeleton", "accreditation"),
            *("annual_income_minor", "annual_income_currency", "net_worth_minor", "net_worth_currency"),
            *("external_id", "metadata", "version", "updated_at", "seal"),
        ),
    ),
    "party_persons": appended(),
    "former_persons": appended(),
    "ended_sessions": appended(),
    "api_keys": both(
        insert=EVERY,
        update=(
            *("status", "approved_by", "revoked_by", "secret_digest", "secret_made_at"),
            *("former_digest", "former_made_at", "former_until", "next_digest", "next_made_at", "next_grace_seconds"),
            *("last_used_at", "version", "updated_at", "seal"),
        ),
    ),
    "compliance_checks": both(
        insert=EVERY,
        update=("status", "explanation", "note", "reviewed_by", "reviewed_at", "expires_at", "updated_at", "seal"),
    ),
    "limit_usage": both(insert=EVERY, update=("arrived_minor", "counted", "version", "seal")),
    "default_limits": read_only(),
    "transaction_limits": appended(),
    "statements": appended(),
}
