"""What the roles of distributions may do with its tables: who invested, who gets what and who approved it stay."""

from __future__ import annotations

from services.chassis.data.rights import CHASSIS, EVERY, HEARD_PERSONS, LEASE, Table, appended, both

_VERSION = ("version", "updated_at", "seal")
_CALCULATED = (
    "A trigger lets go of drafts' alone; what is executed is calculated again, and compared with what was approved."
)

RIGHTS: Table = {
    **CHASSIS,
    **HEARD_PERSONS,
    "moves": appended(),
    "offerings": both(
        insert=EVERY,
        update=(
            *("display_name", "deadline_at", "early_close_noticed_on", "tiers", "receivables_policy"),
            *("external_id", "metadata"),
            *("status", "committed_minor", "funded_minor", "incoming_minor", "refund_note"),
            *("closing_date", "closing_attempt", "closing_saga_id", "closing_failure"),
            *("proceeds_bank_account_id", "proceeds_transaction_id", "proceeds_failure"),
            *("declarations", "declared_through", "edition", "makers", *_VERSION),
        ),
    ),
    "investments": both(
        insert=EVERY,
        update=(
            *("funded_minor", "made_up_minor", "unapplied_minor", "unapplied_made_up_minor"),
            *("at_risk_minor", "receivable_minor", "on_its_way_minor", "clears_at"),
            *("refunded_minor", "released_minor", "unreturned_minor"),
            *("accrued_units", "accrued_through", "distributed_minor", "accrual_start_date"),
            *("status", "refund_requested_by", "refund_signed_in_at", "refund_api_key_id"),
            *("refund_makers_and_checkers", "refund_approved_minor", "refund_failure", "cancelling_saga_id"),
            "earlier_refund_failures",
            *("has_entries_by_hand", *_VERSION),
        ),
    ),
    "contributions": both(
        insert=EVERY,
        update=(
            *("amount_minor", "reported_version", "counted", "on_its_way", "booked_minor", "came_back"),
            *("version", "seal"),
        ),
    ),
    "distributions": both(
        insert=EVERY,
        update=(
            *("status", "content_hash", "basis_version", "allocation_count", "tier_totals", "paid_minor", "failure"),
            *("calculated_by", "submitted_by", "approved_by", "approved_hash", "declared_at"),
            *("makers", "expires_at", "execution_saga_id", *_VERSION),
        ),
    ),
    # A calculation takes the place of an earlier one, as long as the distribution is a draft. Its lines are written
    # anew with each change, as they are.
    "allocations": both(
        insert=EVERY,
        update=("lines", "set_off_minor", "status", "transaction_id", "attempts", "failure", *_VERSION),
        delete=_CALCULATED,
    ),
    # A trigger lets the amount change by what is set off of it, once, and in no other way.
    "payouts": both(
        insert=EVERY,
        update=(
            *("amount_minor", "set_off_minor", "status", "transaction_id", "transaction_version", "failure"),
            *_VERSION,
        ),
    ),
    "counted_journals": both(
        insert=EVERY,
        update=(
            *("incarnation", "journal_sequence", "legs_counted", "told_incarnation", "told_sequence"),
            *("past_incarnations", "waits_since", "version", "seal", *LEASE),
        ),
    ),
    "sagas": both(insert=EVERY, update=("last_error", *LEASE)),
}
