"""What the roles of transactions may do with its tables: what money moves, where and for whom is written once."""

from __future__ import annotations

from services.chassis.data.rights import (
    CHASSIS,
    EVERY,
    HEARD_PERSONS,
    LEASE,
    NOTHING,
    Grant,
    Rights,
    Table,
    appended,
    both,
)

RIGHTS: Table = {
    **CHASSIS,
    **HEARD_PERSONS,
    "bank_accounts": both(
        insert=EVERY,
        update=(
            "default_for_payouts",
            "status",
            "block_reason",
            "block_network_code",
            "makers",
            "replaced_by_bank_account_id",
            "confirmed_at",
            "confirmation",
            "external_id",
            "metadata",
            "annotated_by",
            "version",
            "updated_at",
            "seal",
        ),
    ),
    "transactions": both(
        insert=EVERY,
        update=(
            *("status", "previous_status", "version", "updated_at"),
            *("failure", "attempts", "presentments", "next_attempt_at", "first_presented_at", "provider_reference"),
            "payer_action_url",
            *("card_brand", "card_last4"),
            *("dispute_status", "dispute_reference", "dispute_reason", "dispute_due_at"),
            *("reversal_status", "reversal_reason", "reversal_ordered_at", "reversal_settled_at"),
            *("reversal_risk_end_at", "reversal_ended_at", "reversal_failure"),
            *("provider_fee_minor", "earlier_fees_minor"),
            *("finality", "bank_reference"),
            *("approved_by", "makers_and_checkers", "confirmed_by"),
            *(
                "corrected_minor",
                "correction_note",
                "corrected_by",
                "corrected_signed_in_at",
                "corrected_api_key_id",
                "former_correctors",
                "settled_at",
                "return_risk_end_at",
                "final_at",
                "next_look_at",
            ),
            *("escrow_booked", "seal", *LEASE),
        ),
        # Its version counts what is published of it, and these are not.
        onward=("escrow_booked", "next_look_at"),
    ),
    "transaction_history": appended(),
    "provider_payments": both(
        insert=EVERY, update=("provider_reference", "sent_at", "outcome", "return_code", "ended_at", "seal")
    ),
    "ach_return_rates": both(
        insert=EVERY,
        update=(
            *("debit_count", "return_count", "unauthorized_count", "administrative_count"),
            *("updated_at", "version", "seal"),
        ),
    ),
    "ach_entries": both(
        insert=EVERY,
        update=(
            *("status", "ach_file_id", "trace_no", "effective_on", "return_code", "returned_on", "change_code"),
            *("version", "updated_at", "seal"),
        ),
    ),
    "ach_files": both(
        insert=EVERY,
        update=(
            *("status", "entry_count", "debit_minor", "credit_minor"),
            *("digest", "left_at", "fetched_at", "held_at", "put_back_at", "rejected_because"),
            *("version", "updated_at", "seal"),
        ),
    ),
    "bank_account_verifications": both(
        insert=EVERY,
        update=(
            *("provider_reference", "status", "action_url", "expires_at", "failure", "verified_at"),
            *("version", "updated_at", "seal"),
        ),
    ),
    "plaid_items": appended(),
    "plaid_transfers": both(insert=EVERY, update=("transfer_id", "ended_at", "version", "updated_at", "seal")),
    # No organization's: jobs of the worker's read events and sweeps.
    "feed_cursors": Rights(
        NOTHING, Grant(insert=EVERY, update=("reached", "version", "updated_at", "incarnation", "seal"))
    ),
    # No organization's: a job of the worker's reads sweeps.
    "provider_sweeps": Rights(
        NOTHING,
        Grant(
            insert=EVERY,
            update=(
                *("provider", "amount_minor", "currency", "status", "arrives_at", "made_at", "destination"),
                *("explanation", "is_overdue", "version", "updated_at", "seal"),
            ),
        ),
    ),
    "sweeps": both(
        insert=EVERY,
        update=(
            *("status", "amount_minor", "arrives_at", "is_explained", "failure_code"),
            *("updated_at", "version", "seal"),
        ),
    ),
    "sweep_lines": appended(),
    # No organization's, and no request's: values are opened with what a job has unwrapped.
    "vault_keys": Rights(
        NOTHING,
        Grant(
            insert=EVERY,
            update=("wrapped_key", "wrapped_by", "version", "updated_at", "proof_digest", "proof", "seal"),
        ),
    ),
    "payout_requests": appended(),
    # No organization's, so no request reads it: replay_webhook is what a request may do to it. Old bodies are emptied.
    "received_webhooks": Rights(NOTHING, Grant(insert=EVERY, update=("body", "ignored_because", "proof", *LEASE))),
    "webhooks": both(insert=EVERY, update=("status", "failure", "applied_at")),
    "payment_exceptions": both(
        insert=EVERY,
        update=(
            *("status", "cause", "amount_minor", "makers", "occurrence_count", "openings", "assignee"),
            *("resolved_by", "resolved_at", "resolution_note"),
            *("opened_at", "last_seen_at", "updated_at", "version", "seal"),
        ),
    ),
    "payment_exception_history": appended(),
}
