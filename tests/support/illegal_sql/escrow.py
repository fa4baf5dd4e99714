"""What the database of escrow refuses to both of its roles: see everywhere.py."""

from __future__ import annotations

# What no role may do is done to these rows: of each kind one that its rule protects.
ROWS = (
    (
        "INSERT INTO escrow_accounts (org_id, escrow_account_id, display_name, currency, sponsor_party_id,"
        " custodian_name, created_at, updated_at, created_by)"
        " VALUES ('org_1', 'esc_1', 'x', 'USD', 'x', 'x', now(), now(), 'ann')"
    ),
    (
        "INSERT INTO refused_postings (org_id, request_key, seal, fingerprint, verdict)"
        " VALUES ('org_1', gen_random_uuid(), 'x', 'x', 'insufficient')"
    ),
)
# Columns that are never changed, by table: whoever tries lacks the right.
FIXED = {
    "escrow_accounts": ("org_id escrow_account_id currency sponsor_party_id entry_sequence booked_at created_at"),
    "ledger_account_kinds": "normal_balance may_be_overdrawn",
    "ledger_accounts": "kind party_id debits_posted credits_posted debits_pending credits_pending held",
    "journal_entries": "type description effective_at created_by",
    "ledger_entries": "amount_minor debit pending posted_after",
    "holds": "amount_minor status expires_at party_id reason",
    "refused_postings": "verdict fingerprint",
}
# Refused for what the rows are.
RULES = {
    "frozen for no reason": ("UPDATE escrow_accounts SET version = 2, status = 'FROZEN'", "23514"),
    "an unknown status": ("UPDATE escrow_accounts SET status = 'LOST'", "23514"),
    "a closed account open": (
        (
            "UPDATE escrow_accounts SET version = 2, status = 'CLOSED', closed_at = now(), closed_by = 'ann';"
            " UPDATE escrow_accounts SET version = 3, status = 'ACTIVE', closed_at = NULL, closed_by = NULL"
        ),
        "23514",
    ),
    "a refusal forgotten early": ("DELETE FROM refused_postings", "42501"),
    "a refusal made up": (
        (
            "INSERT INTO refused_postings (org_id, request_key, seal, fingerprint, verdict)"
            " VALUES ('org_1', gen_random_uuid(), 'x', 'x', 'posted')"
        ),
        "42501",
    ),
    "a hold by hand": (
        (
            "INSERT INTO holds (org_id, escrow_account_id, hold_id, kind, amount_minor, reason, created_by,"
            " created_at)"
            " VALUES ('org_1', 'esc_1', 'h', 'CASH', 1, 'MANUAL', 'x', now())"
        ),
        "42501",
    ),
    "another chart": ("INSERT INTO ledger_account_kinds VALUES ('X', false, 'DEBIT', true)", "42501"),
}
