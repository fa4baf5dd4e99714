"""What the database of transactions refuses to both of its roles: see everywhere.py."""

from __future__ import annotations

# What no role may do is done to these rows: of each kind one that its rule protects.
ROWS = (
    (
        "INSERT INTO bank_accounts (org_id, bank_account_id, party_id, account_holder_name, routing_number,"
        " account_number_encrypted, account_number_digest, account_number_last4, account_type, holder_type,"
        " default_for_payouts, status, version, created_by, makers, created_at, updated_at) VALUES ('org_1', 'ba_1',"
        " 'pty_1', 'Ann', '021000021', 'x', 'd', '6789', 'CHECKING', 'PERSON', true, 'PENDING', 1, 'ann', '{ann}',"
        " now(), now())"
    ),
    (
        "INSERT INTO transactions (org_id, transaction_id, type, status, previous_status, version, payment_method,"
        " amount_minor, currency, escrow_account_id, party_id, bank_account_id, account_number_digest, provider,"
        " created_by, created_at, updated_at, due_at) VALUES ('org_1', 'txn_1', 'DEPOSIT', 'INITIATED', NULL, 1,"
        " 'ACH', 100, 'USD', 'esc_1', 'pty_1', 'ba_1', 'd', 'sandbox', 'ann', now(), now(), now())"
    ),
    "INSERT INTO transaction_history VALUES ('org_1', 'txn_1', 1, NULL, 'INITIATED', NULL, 'ann', now())",
    "INSERT INTO provider_payments VALUES ('org_1', 'txn_1', 1, 1, 'sandbox', 'key_1', 'pay_1', now(), true)",
    "INSERT INTO ach_return_rates VALUES ('org_1', 100, 1, 1, 3, now(), 1)",
    (
        "INSERT INTO ach_entries (org_id, ach_entry_id, kind, provider_key, transaction_id, party_id, bank_account_id,"
        " is_inbound, amount_minor, currency, presentment, routing_number, account_number_encrypted, account_type,"
        " holder_type, account_holder_name, description, status, created_at, updated_at, version) VALUES ('org_1',"
        " 'ach_1', 'PAYMENT', 'key_1', 'txn_1', 'pty_1', 'ba_1', true, 100, 'USD', 1, '021000021', 'x', 'CHECKING',"
        " 'PERSON', 'Ann', 'DEPOSIT', 'WAITING', now(), now(), 1)"
    ),
    (
        "INSERT INTO ach_files (org_id, ach_file_id, created_on, number, status, entry_count, debit_minor,"
        " credit_minor, is_acknowledged, created_at, updated_at, version) VALUES ('org_1', 'achf_1', '2024-12-02', 0,"
        " 'MADE', 1, 100, 0, false, now(), now(), 1)"
    ),
    (
        "INSERT INTO bank_account_verifications (org_id, verification_id, bank_account_id, account_number_digest,"
        " provider, status, created_by, created_at, updated_at, version) VALUES ('org_1', 'bav_1', 'ba_1', 'd',"
        " 'sandbox', 'REQUESTED', 'ann', now(), now(), 1)"
    ),
    "INSERT INTO plaid_items VALUES ('org_1', 'acc_1', 'ba_1', 'd', 'x', now())",
    (
        "INSERT INTO plaid_transfers (org_id, authorization_id, provider_key, number, reference, presentment,"
        " is_inbound, amount_minor, currency, account_id, created_at, updated_at, version) VALUES ('org_1', 'auth_1',"
        " 'key_1', 1, 'txn_1', 1, true, 100, 'USD', 'acc_1', now(), now(), 1)"
    ),
    "INSERT INTO feed_cursors VALUES ('feed', '7', 1, now(), 'none')",
    (
        "INSERT INTO vault_keys (vault_key_id, purpose, wrapped_key, wrapped_by, created_at, updated_at, version,"
        " proof_digest) VALUES ('vk_1', 'SEAL', 'x', 'w_1', now(), now(), 1, 'keys' || sha256('true'))"
    ),
    "INSERT INTO payout_requests VALUES ('org_1', 'key_1', 'x', 'txn_1', NULL, now())",
    (
        "INSERT INTO received_webhooks (webhook_id, provider, provider_event_id, event_type, body, created_at, due_at,"
        " proof_digest) VALUES ('whk_1', 'sandbox', 'evt_1', 'settled', 'x', now(), now(), 'keys' || sha256('true'))"
    ),
    (
        "INSERT INTO webhooks (org_id, webhook_id, provider, provider_event_id, event_type, status, transaction_id,"
        " created_at) VALUES ('org_1', 'whk_1', 'sandbox', 'evt_1', 'settled', 'RECEIVED', 'txn_1', now())"
    ),
    (
        "INSERT INTO payment_exceptions (org_id, payment_exception_id, kind, subject, status, cause,"
        " occurrence_count, openings, created_at, opened_at, last_seen_at, updated_at, version) VALUES ('org_1',"
        " 'exc_1', 'PAID_TWICE', 'txn_1', 'OPEN', 'x', 1, 1, now(), now(), now(), now(), 1)"
    ),
    "INSERT INTO payment_exception_history VALUES ('org_1', 'exc_1', 1, NULL, 'OPEN', 'x', 'ann', now())",
    (
        "INSERT INTO provider_sweeps VALUES ('feed', 'po_1', 'sandbox', 100, 'USD', 'PENDING', now(), now(), 'ba_1',"
        " 'WAITING', false, now(), 1)"
    ),
    (
        "INSERT INTO sweeps VALUES ('org_1', 'swp_1', 'feed', 'sandbox', 'po_1', 'PENDING', 100, 'USD', now(), 'ba_1',"
        " true, NULL, now(), now(), now(), 1)"
    ),
    (
        "INSERT INTO sweep_lines VALUES ('org_1', 'swl_1', 'swp_1', 'sandbox', 'move_1', 'PAYMENT', NULL, NULL, 100, 0,"
        " 100, 'USD', now())"
    ),
)
# Columns that are never changed, by table: whoever tries lacks the right.
FIXED = {
    "bank_accounts": "org_id bank_account_id party_id account_holder_name routing_number account_number_encrypted"
    " account_number_digest account_number_last4 account_type holder_type replaces_bank_account_id created_by"
    " name_match has_token_number created_at",
    "transactions": "org_id transaction_id type payment_method amount_minor currency escrow_account_id party_id"
    " to_escrow_account_id bank_account_id account_number_digest is_corporate approval_reason investment_id"
    " distribution_id allocation_id refunded_transaction_id replaced_transaction_id provider created_by"
    " request_subject request_role idempotency_key signed_in_at"
    " api_key_id created_at",
    "transaction_history": "to_status actor occurred_at",
    "provider_payments": "provider provider_key attempt is_debit",
    "ach_return_rates": "org_id",
    "ach_entries": "org_id ach_entry_id kind provider_key transaction_id reversed_entry_id party_id bank_account_id"
    " is_inbound amount_minor currency presentment routing_number account_number_encrypted account_type holder_type"
    " account_holder_name description created_at",
    "ach_files": "org_id ach_file_id created_on number is_acknowledged leaves_by settles_at created_at",
    "bank_account_verifications": "org_id verification_id bank_account_id account_number_digest provider created_by"
    " created_at",
    "plaid_items": "org_id account_id bank_account_id account_number_digest access_token_encrypted created_at",
    "plaid_transfers": "org_id authorization_id provider_key number reference presentment is_inbound amount_minor"
    " currency account_id created_at",
    "feed_cursors": "feed",
    "vault_keys": "vault_key_id purpose created_at",
    "payout_requests": "fingerprint transaction_id failure",
    "received_webhooks": "provider provider_event_id event_type provider_reference created_at proof_digest",
    "webhooks": "provider provider_event_id transaction_id created_at",
    "payment_exceptions": "org_id payment_exception_id kind subject transaction_id bank_account_id provider"
    " provider_payment_id file_name currency escrow_account_id party_id investment_id distribution_id allocation_id"
    " created_at",
    "payment_exception_history": "to_status note actor occurred_at",
    "provider_sweeps": "feed provider_sweep_id",
    "sweeps": "org_id sweep_id feed provider provider_sweep_id currency destination made_at created_at",
    "sweep_lines": "org_id sweep_line_id sweep_id provider provider_movement_id kind transaction_id escrow_account_id"
    " gross_minor fee_minor net_minor currency created_at",
}
# Refused for what the rows are.
RULES = {
    "work put off for ever": ("UPDATE transactions SET due_at = 'infinity'", "42501"),
    "work that no job looks for": ("UPDATE transactions SET due_at = NULL", "23514"),
    "a webhook that is never applied": ("UPDATE received_webhooks SET due_at = NULL", "42501"),
    "a webhook with a proof made up": ("UPDATE received_webhooks SET due_at = NULL, proof = 'false'", "42501"),
    "events read from an earlier place": ("UPDATE feed_cursors SET reached = '1'", "42501"),
    "an account that is verified by nobody": (
        "UPDATE bank_account_verifications SET version = 2, status = 'VERIFIED'",
        "23514",
    ),
    "a second verification of an account at once": (
        (
            'INSERT INTO bank_account_verifications SELECT (jsonb_populate_record(v, \'{"verification_id": "b"}\')).*'
            " FROM bank_account_verifications v"
        ),
        "23505",
    ),
    "a key of the vault that is spoilt": (
        "UPDATE vault_keys SET wrapped_key = 'y', version = 2, proof = 'false'",
        "42501",
    ),
    "a key of the vault wrapped by another without a version": (
        "UPDATE vault_keys SET wrapped_by = 'w_2', proof = 'true'",
        "42501",
    ),
    "a webhook put off for ever": ("UPDATE received_webhooks SET due_at = 'infinity'", "42501"),
    "a status without the way to it": ("UPDATE transactions SET status = 'SETTLED'", "23514"),
    "another amount of what does not wait for its money": (
        "UPDATE transactions SET version = 2, corrected_minor = 1, correction_note = 'x', corrected_by = 'bob'",
        "23514",
    ),
    "a difference that nobody explains": ("UPDATE transactions SET version = 2, correction_note = 'x'", "23514"),
    "an approval that nobody gave": (
        (
            "UPDATE transactions SET version = 2, makers_and_checkers = '[\"bob\"]';"
            " UPDATE transactions SET version = 3, makers_and_checkers = '[]'"
        ),
        "23514",
    ),
    "a statement that nobody made any more": (
        (
            "UPDATE transactions SET version = 2, former_correctors = '[\"bob\"]';"
            " UPDATE transactions SET version = 3, former_correctors = '[]'"
        ),
        "23514",
    ),
    "a bank's reference that names nothing": (
        "UPDATE transactions SET version = 2, confirmed_by = 'bob', bank_reference = '--'",
        "23514",
    ),
    "a transaction made again": ("UPDATE transactions SET version = 1, status = 'APPROVED'", "42501"),
    "a payment sent earlier": ("UPDATE provider_payments SET sent_at = sent_at - interval '1 hour'", "42501"),
    "a file that is accepted before it left": (
        "UPDATE ach_files SET version = 2, status = 'ACCEPTED', digest = 'x', left_at = now()",
        "23514",
    ),
    "a file that is rejected for nothing": (
        "UPDATE ach_files SET version = 2, status = 'REJECTED', digest = 'x'",
        "23514",
    ),
    **{
        f"a number of an entry learned anew ({changed})": (
            (
                "UPDATE ach_entries SET version = 2, status = 'SENT', ach_file_id = 'achf_1', trace_no = 1,"
                " effective_on = '2024-12-03';"
                f" UPDATE ach_entries SET version = 3, {changed}"
            ),
            "42501",
        )
        for changed in ("trace_no = 2", "ach_file_id = 'achf_2'", "effective_on = '2024-12-04'")
    },
    "an entry that came back for another reason": (
        (
            "UPDATE ach_entries SET version = 2, status = 'RETURNED', ach_file_id = 'achf_1', trace_no = 1,"
            " effective_on = '2024-12-03', return_code = 'R10', returned_on = '2024-12-04';"
            " UPDATE ach_entries SET version = 3, return_code = 'R01'"
        ),
        "42501",
    ),
    "a file that left anew": (
        (
            "UPDATE ach_files SET version = 2, status = 'LEFT', digest = 'x', left_at = now(), fetched_at = now();"
            " UPDATE ach_files SET version = 3, fetched_at = NULL"
        ),
        "42501",
    ),
    "other sums of a file that was released": (
        (
            "UPDATE ach_files SET version = 2, status = 'RELEASED', digest = 'x';"
            " UPDATE ach_files SET version = 3, debit_minor = 1"
        ),
        "42501",
    ),
    "an entry altered so that it can be put back": ("UPDATE ach_entries SET change_code = 'C01'", "42501"),
    "a file altered so that it can be put back": ("UPDATE ach_files SET updated_at = now()", "42501"),
    "a payment that came back otherwise": (
        (
            "UPDATE provider_payments SET outcome = 'RETURNED', return_code = 'R10', ended_at = now();"
            " UPDATE provider_payments SET return_code = 'R01'"
        ),
        "42501",
    ),
    "the seal of a payment taken for a moment": ("UPDATE provider_payments SET seal = 'x'", "42501"),
    "a payment known by another name": ("UPDATE provider_payments SET provider_reference = 'pay_2'", "42501"),
    "a deleted account back": (
        (
            "UPDATE bank_accounts SET version = 2, status = 'DELETED', default_for_payouts = false;"
            " UPDATE bank_accounts SET version = 3, status = 'ACTIVE'"
        ),
        "23514",
    ),
    "an account to which money goes at once": (
        "UPDATE bank_accounts SET version = 2, status = 'ACTIVE'",
        "23514",
    ),
    "an account that was typed, and that a bank confirms": (
        "UPDATE bank_accounts SET version = 2, status = 'ACTIVE', confirmation = 'BANK', confirmed_at = created_at",
        "23514",
    ),
    "an account that nobody says who confirmed": (
        "UPDATE bank_accounts SET version = 2, status = 'ACTIVE', confirmed_at = now()",
        "23514",
    ),
    "an account that a bank confirms once persons were asked": (
        (
            "INSERT INTO bank_accounts (org_id, bank_account_id, party_id, account_holder_name, routing_number,"
            " account_number_encrypted, account_number_digest, account_number_last4, account_type, holder_type,"
            " default_for_payouts, status, version, created_by, makers, name_match, created_at, updated_at)"
            " VALUES ('org_1', 'ba_3', 'pty_1', 'Ann', '021000021', 'x', 'e', '6780', 'CHECKING', 'PERSON', false,"
            " 'PENDING', 1, 'ann', '{ann}', 'MATCHES', now(), now());"
            " UPDATE bank_accounts SET version = 2 WHERE bank_account_id = 'ba_3';"
            " UPDATE bank_accounts SET version = 3, status = 'ACTIVE', confirmation = 'BANK', confirmed_at = created_at"
            " WHERE bank_account_id = 'ba_3'"
        ),
        "42501",
    ),
    "a default that a bank alone has confirmed, and not at first": (
        (
            "INSERT INTO bank_accounts (org_id, bank_account_id, party_id, account_holder_name, routing_number,"
            " account_number_encrypted, account_number_digest, account_number_last4, account_type, holder_type,"
            " default_for_payouts, status, version, created_by, makers, name_match, created_at, updated_at)"
            " VALUES ('org_1', 'ba_3', 'pty_1', 'Ann', '021000021', 'x', 'e', '6780', 'CHECKING', 'PERSON', false,"
            " 'PENDING', 1, 'ann', '{ann}', 'MATCHES', now(), now());"
            " UPDATE bank_accounts SET version = 2, status = 'ACTIVE', confirmation = 'BANK', confirmed_at = created_at"
            " WHERE bank_account_id = 'ba_3';"
            " UPDATE bank_accounts SET version = 3, default_for_payouts = true WHERE bank_account_id = 'ba_3'"
        ),
        "42501",
    ),
    "a bank that confirms an account long after it was linked": (
        (
            "INSERT INTO bank_accounts (org_id, bank_account_id, party_id, account_holder_name, routing_number,"
            " account_number_encrypted, account_number_digest, account_number_last4, account_type, holder_type,"
            " default_for_payouts, status, version, created_by, makers, name_match, created_at, updated_at)"
            " VALUES ('org_1', 'ba_3', 'pty_1', 'Ann', '021000021', 'x', 'e', '6780', 'CHECKING', 'PERSON', false,"
            " 'PENDING', 1, 'ann', '{ann}', 'MATCHES', now(), now());"
            " UPDATE bank_accounts SET version = 2, status = 'ACTIVE', confirmation = 'BANK',"
            " confirmed_at = now() + interval '1 day' WHERE bank_account_id = 'ba_3'"
        ),
        "23514",
    ),
    "an account that replaces itself": (
        "UPDATE bank_accounts SET version = 2, replaced_by_bank_account_id = 'ba_1'",
        "23514",
    ),
    "an account that begins blocked": (
        (
            "INSERT INTO bank_accounts (org_id, bank_account_id, party_id, account_holder_name, routing_number,"
            " account_number_encrypted, account_number_digest, account_number_last4, account_type, holder_type,"
            " default_for_payouts, status, version, created_by, makers, created_at, updated_at)"
            " SELECT org_id, 'ba_2', party_id, account_holder_name, routing_number, account_number_encrypted,"
            " account_number_digest, account_number_last4, account_type, holder_type, false, 'BLOCKED', 1, created_by,"
            " makers, now(), updated_at FROM bank_accounts"
        ),
        "23514",
    ),
    "a webhook's body rewritten": ("UPDATE received_webhooks SET body = 'y'", "42501"),
    "a webhook that failed before it came": ("UPDATE webhooks SET status = 'LOST'", "23514"),
    "an exception that nobody resolved": (
        "UPDATE payment_exceptions SET status = 'RESOLVED', version = 2",
        "23514",
    ),
    "an exception that begins resolved": (
        (
            "INSERT INTO payment_exceptions (org_id, payment_exception_id, kind, subject, status, cause,"
            " occurrence_count, openings, resolved_by, resolved_at, resolution_note, created_at, opened_at,"
            " last_seen_at, updated_at, version) VALUES ('org_1', 'exc_2', 'PAID_TWICE', 'txn_1', 'RESOLVED', 'x', 1,"
            " 1, 'bob', now(), 'x', now(), now(), now(), now(), 1)"
        ),
        "23514",
    ),
    "a resolution of an exception that is made up": (
        "INSERT INTO payment_exception_history VALUES ('org_1', 'exc_1', 2, 'OPEN', 'RESOLVED', 'x', 'bob', now())",
        "42501",
    ),
    "a move that is not listed": (
        "INSERT INTO transaction_history VALUES ('org_1', 'txn_1', 2, 'INITIATED', 'SETTLED', '', 'x', now())",
        "42501",
    ),
    "a move that is still to come": (
        "INSERT INTO transaction_history VALUES ('org_1', 'txn_1', 2, 'INITIATED', 'APPROVED', '', 'x', now())",
        "42501",
    ),
    "a move told once more": (
        (
            "UPDATE transactions SET version = 2;"
            " INSERT INTO transaction_history VALUES ('org_1', 'txn_1', 2, NULL, 'INITIATED', '', 'x', now())"
        ),
        "42501",
    ),
}
