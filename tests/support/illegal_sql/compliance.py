"""What the database of compliance refuses to both of its roles: see everywhere.py."""

from __future__ import annotations

# What no role may do is done to these rows: of each kind one that its rule protects.
ROWS = (
    (
        "INSERT INTO parties (org_id, party_id, kind, legal_name, name_skeleton, accreditation, external_id,"
        " metadata, version, created_at, updated_at) VALUES ('org_1', 'pty_1', 'LLC', 'x', 'x',"
        " 'ACCREDITED', '', '{}', 1, now(), now())"
    ),
    "INSERT INTO party_persons VALUES ('org_1', 'pty_1', 'ann', 'x', 1, 'ann', now(), now())",
    (
        "INSERT INTO compliance_checks (org_id, compliance_check_id, check_type, status, resource_type, resource_id,"
        " party_id, direction, amount_minor, currency, created_at, updated_at) VALUES ('org_1', 'chk_1',"
        " 'LIMIT_CHECK', 'FAILED', 'TRANSACTION', 'txn_1', 'pty_1', 'IN', 100, 'USD', now(), now())"
    ),
    (
        "INSERT INTO limit_usage (org_id, transaction_id, party_id, amount_minor, currency, counted, version,"
        " counted_at, seal) VALUES ('org_1', 'txn_1', 'pty_1', 100, 'USD', true, 0, now(), 'x')"
    ),
    (
        "INSERT INTO api_keys (org_id, api_key_id, display_name, scopes, status, expires_at, created_by, next_digest,"
        " next_made_at, next_grace_seconds, external_id, metadata, version, created_at, updated_at) VALUES ('org_1',"
        " 'key_1', 'ERP', '{ESCROW_READ}', 'PENDING_APPROVAL', now(), 'ann', 'x', now(), 0, '', '{}', 1, now(), now())"
    ),
    "INSERT INTO transaction_limits VALUES ('org_1', 'DAILY_DEPOSIT', 'USD', now(), 100, 'ann')",
)
# Columns that are never changed, by table: whoever tries lacks the right.
FIXED = {
    "parties": "org_id party_id created_at",
    "party_persons": "party_id person_id title version created_by created_at act_started_at signed_in_at api_key_id",
    "compliance_checks": (
        "check_type resource_type resource_id party_id direction amount_minor currency failure makers created_at"
    ),
    "api_keys": "display_name scopes expires_at created_by external_id metadata created_at",
    "limit_usage": "party_id amount_minor currency counted_at",
    "default_limits": "amount_minor limit_type",
    "transaction_limits": "amount_minor set_by set_at",
}
# Refused for what the rows are.
RULES = {
    "another amount than arrived": (
        "UPDATE limit_usage SET arrived_minor = 2; UPDATE limit_usage SET arrived_minor = 1",
        "42501",
    ),
    "a check altered so that it can be put back": ("UPDATE compliance_checks SET note = 'x'", "42501"),
    "a check that failed and passes": ("UPDATE compliance_checks SET status = 'PASSED'", "23514"),
    "a check that begins expired": (
        (
            "INSERT INTO compliance_checks (org_id, compliance_check_id, check_type, status, resource_type,"
            " resource_id,"
            " party_id, created_at, updated_at) VALUES ('org_1', 'chk_2', 'KYC', 'EXPIRED', 'PARTY',"
            " 'pty_1', 'pty_1',"
            " now(), now())"
        ),
        "23514",
    ),
    "a party cleared by nobody": (
        (
            "INSERT INTO compliance_checks (org_id, compliance_check_id, check_type, status, resource_type,"
            " resource_id,"
            " party_id, created_at, updated_at) VALUES ('org_1', 'chk_2', 'KYC', 'PASSED', 'PARTY', 'pty_1',"
            " 'pty_1',"
            " now(), now())"
        ),
        "23514",
    ),
    "a key that begins to work": (
        (
            "INSERT INTO api_keys (org_id, api_key_id, display_name, scopes, status, expires_at, created_by,"
            " approved_by, secret_digest, secret_made_at, external_id, metadata, version, created_at, updated_at)"
            " VALUES ('org_1', 'key_2', 'ERP', '{ESCROW_READ}', 'ACTIVE', now(), 'ann', 'bob', 'x', now(), '', '{}', 1,"
            " now(), now())"
        ),
        "23514",
    ),
    "a key that its holder approves": (
        (
            "UPDATE api_keys SET version = 2, status = 'ACTIVE', approved_by = 'ann', secret_digest = next_digest,"
            " secret_made_at = next_made_at"
        ),
        "23514",
    ),
    "an older state of a key": ("UPDATE api_keys SET version = 0", "42501"),
    "an end of sessions": ("UPDATE ended_sessions SET ended_at = 'epoch'", "42501"),
    "an end of sessions before this moment": (
        "INSERT INTO ended_sessions VALUES ('org_1', 'ann', now() - interval '1 s', 'bob', 'x')",
        "42501",
    ),
    "an end of sessions in time to come": (
        "INSERT INTO ended_sessions VALUES ('org_1', 'ann', now() + interval '1 s', 'bob', 'x')",
        "42501",
    ),
    "an end of sessions that is taken back": ("DELETE FROM ended_sessions", "42501"),
    "a limit to begin with": ("INSERT INTO default_limits VALUES ('DAILY_DEPOSIT', 'EUR', 1, now())", "42501"),
}
