"""What the database of distributions refuses to both of its roles: see everywhere.py."""

from __future__ import annotations

_LINE = '{"tier": 0, "kind": "x", "amount_minor": 100, "claim_minor": null, "claims_minor": 0}'
_LINES = f"'[{_LINE}]'"


def _with_lines(lines: str) -> str:
    return (
        "INSERT INTO allocations (org_id, allocation_id, distribution_id, offering_id, payee_type, party_id, currency,"
        " amount_minor, lines, status, created_at, updated_at) VALUES ('org_1', 'all_3', 'dist_1', 'off_1',"
        f" 'INVESTOR', 'pty_3', 'USD', 100, '{lines}', 'PENDING', now(), now())"
    )


# What no role may do is done to these rows: of each kind one that its rule protects.
ROWS = (
    (
        "INSERT INTO offerings (org_id, offering_id, display_name, sponsor_party_id, escrow_account_id, exemption,"
        " currency, target_minor, maximum_minor, open_at, deadline_at, tiers, receivables_policy, status, created_by,"
        " makers, created_at, updated_at) VALUES ('org_1', 'off_1', 'x', 'pty_s', 'esc_1', 'REG_CF', 'USD', 100, 200,"
        " now(), now() + interval '1 day', '[[\"SPLIT\", {}]]', 'BLOCK', 'OPEN', 'ann', '[\"ann\"]', now(), now())"
    ),
    (
        "INSERT INTO investments (org_id, investment_id, offering_id, party_id, currency, amount_minor, status,"
        " created_by, created_at, updated_at)"
        " VALUES ('org_1', 'inv_1', 'off_1', 'pty_1', 'USD', 100, 'PENDING', 'ann', now(), now())"
    ),
    "INSERT INTO contributions VALUES ('org_1', 'txn_1', 'inv_1', 100, 1, 1, false, false, false, 100)",
    (
        "INSERT INTO distributions (org_id, distribution_id, offering_id, type, currency, amount_minor,"
        " distribution_date, status, tier_totals, created_by, makers, created_at, updated_at) VALUES ('org_1',"
        " 'dist_1', 'off_1', 'SPECIAL', 'USD', 100, '2026-01-01', 'DRAFT', '[]', 'ann', '[\"ann\"]', now(), now())"
    ),
    (
        "INSERT INTO allocations (org_id, allocation_id, distribution_id, offering_id, payee_type,"
        " party_id, currency,"
        " amount_minor, lines, status, created_at, updated_at) VALUES ('org_1', 'all_1', 'dist_1', 'off_1',"
        f" 'INVESTOR', 'pty_1', 'USD', 100, {_LINES}, 'PENDING', now(), now())"
    ),
    (
        "INSERT INTO allocations SELECT org_id, 'all_2', distribution_id, offering_id, payee_type, 'pty_2',"
        " currency,"
        " amount_minor, set_off_minor, lines, status, NULL, 0, NULL, created_at, updated_at FROM allocations"
    ),
    (
        "INSERT INTO payouts (org_id, request_key, saga_id, type, offering_id, allocation_id, distribution_id,"
        " escrow_account_id, party_id, currency, amount_minor, attempt, status, created_at, updated_at) VALUES"
        " ('org_1', 'key_1', 'saga_1', 'DISTRIBUTION', 'off_1', 'all_1', 'dist_1', 'esc_1', 'pty_1', 'USD', 100, 1,"
        " 'REQUESTED', now(), now())"
    ),
    "INSERT INTO moves VALUES ('org_1', 'off_1', 1, NULL, 'OPEN', 'ann', now())",
    (
        "INSERT INTO sagas (org_id, saga_id, kind, subject_id, actor, makers_and_checkers, due_at)"
        " VALUES ('org_1', 'saga_1', 'EXECUTION', 'dist_1', 'ann', '[]', now())"
    ),
    (
        "UPDATE distributions SET version = version + 1, status = 'PENDING_APPROVAL', submitted_by = 'ann',"
        " expires_at = now() + interval '1 day'"
    ),
)
# Columns that are never changed, by table: whoever tries lacks the right.
FIXED = {
    "offerings": "sponsor_party_id escrow_account_id exemption currency target_minor maximum_minor created_by",
    "investments": "offering_id party_id currency amount_minor created_by created_at",
    "contributions": "investment_id",
    "distributions": "offering_id type currency amount_minor distribution_date created_by created_at",
    "allocations": "distribution_id payee_type party_id currency amount_minor",
    "payouts": "saga_id type offering_id party_id bank_account_id escrow_account_id currency attempt",
    "moves": "to_status actor moved_at",
    "sagas": "kind subject_id actor makers_and_checkers signed_in_at api_key_id",
}
# Refused for what the rows are.
RULES = {
    "work put off for ever": ("UPDATE sagas SET due_at = 'infinity'", "42501"),
    "work put off for longer than a day": ("UPDATE sagas SET due_at = now() + interval '25 hours'", "42501"),
    "an earlier state of a contribution": ("UPDATE contributions SET version = 0", "42501"),
    "an offering closed at once": (
        "UPDATE offerings SET status = 'CLOSED', closing_date = '2026-01-01'",
        "23514",
    ),
    "an investment that begins active": (
        (
            "INSERT INTO investments (org_id, investment_id, offering_id, party_id, currency, amount_minor, status,"
            " created_by, created_at, updated_at)"
            " VALUES ('org_1', 'inv_2', 'off_1', 'pty_1', 'USD', 1, 'ACTIVE', 'ann', now(), now())"
        ),
        "23514",
    ),
    "a move that is still to come": (
        "INSERT INTO moves VALUES ('org_1', 'dist_1', 3, 'PENDING_APPROVAL', 'APPROVED', 'x', now())",
        "42501",
    ),
    "a distribution paid at once": ("UPDATE distributions SET status = 'COMPLETED'", "23514"),
    "a distribution approved by its maker": (
        (
            "UPDATE distributions SET version = 3, status = 'APPROVED', approved_by = 'ann', calculated_by = 'ann',"
            " content_hash = 'x', approved_hash = 'x', basis_version = 1"
        ),
        "23514",
    ),
    "allocations of what waits for approval removed": (
        "DELETE FROM allocations WHERE allocation_id = 'all_2'",
        "23514",
    ),
    "tiers of what waits for approval replaced": (
        (
            'UPDATE distributions SET tier_totals = \'[{"kind": "x", "investors_minor": 1, "sponsor_minor": 0,'
            ' "explanation": {"statement": "x", "rule": "x", "operands": [], "source": ""}}]\''
        ),
        "23514",
    ),
    "an allocation of a draft moved, so that its line of history can be written": (
        (
            "UPDATE distributions SET version = 3, status = 'DRAFT', submitted_by = NULL, expires_at = NULL;"
            " UPDATE allocations SET version = 2, status = 'PROCESSING' WHERE allocation_id = 'all_2'"
        ),
        "23514",
    ),
    "a line of history of an investment, of which another table has a row": (
        (
            "INSERT INTO offerings SELECT (jsonb_populate_record(o, jsonb_build_object('offering_id', 'inv_9',"
            " 'escrow_account_id', 'esc_9'))).* FROM offerings o;"
            " INSERT INTO moves VALUES ('org_1', 'inv_9', 1, NULL, 'OPEN', 'ann', now())"
        ),
        "42501",
    ),
    "a line of history of where nothing came from": (
        "INSERT INTO moves SELECT org_id, allocation_id, version, 'ON_HOLD', status, 'ann', now() FROM allocations",
        "42501",
    ),
    "a line of history of a beginning": (
        "INSERT INTO moves SELECT org_id, allocation_id, version, NULL, status, 'ann', now() FROM allocations",
        "42501",
    ),
    "the same by who names another organization meanwhile": (
        "DELETE FROM allocations WHERE allocation_id = 'all_2' RETURNING set_config('app.org_id', 'org_2', true)",
        "23514",
    ),
    "lines of an allocation replaced": ("UPDATE allocations SET lines = '[]'", "23514"),
    "an allocation added to what waits for approval": (_with_lines(f"[{_LINE}]"), "23514"),
    "an allocation paid at once": ("UPDATE allocations SET status = 'COMPLETED'", "23514"),
    "a payout that begins completed": (
        (
            "INSERT INTO payouts (org_id, request_key, saga_id, type, offering_id, escrow_account_id, party_id,"
            " currency, amount_minor, attempt, status, created_at, updated_at) VALUES ('org_1', 'key_2', 's',"
            " 'ESCROW_WITHDRAWAL', 'off_1', 'esc_1', 'p', 'USD', 1, 1, 'COMPLETED', now(), now())"
        ),
        "23514",
    ),
    "a payout of less that is not set off": ("UPDATE payouts SET amount_minor = 1", "23514"),
    "a payout of less than is set off": ("UPDATE payouts SET amount_minor = 1, set_off_minor = 1", "23514"),
    "more set off than there is": ("UPDATE allocations SET version = 2, set_off_minor = 101", "23514"),
    "a payout taken back": ("UPDATE payouts SET status = 'LOST'", "23514"),
    "lines that are not the whole": (_with_lines("[]"), "23514"),
    "lines that are not positive": (
        _with_lines(f"[{_LINE}, {_LINE.replace('100', '1')}, {_LINE.replace('100', '-1')}]"),
        "23514",
    ),
}
