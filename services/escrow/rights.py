"""What the roles of escrow may do with its tables: read the book, and edit escrow accounts; functions do the rest."""

from __future__ import annotations

from services.chassis.data.rights import CHASSIS, EVERY, READ, Grant, Rights, Table, both, read_only

RIGHTS: Table = {
    **CHASSIS,
    "escrow_accounts": both(
        insert=(
            *(
                "org_id",
                "escrow_account_id",
                "display_name",
                "currency",
                "sponsor_party_id",
                "status",
                "custodian_name",
            ),
            *("custodian_account_last4", "freezes", "unfrozen_at", "unfrozen_by"),
            *("change_digest", "change_proof", "closed_at", "closed_by", "external_id", "metadata", "version"),
            *("created_at", "created_by", "updated_at", "seal"),
        ),
        update=(
            *("display_name", "custodian_name", "custodian_account_last4", "external_id", "metadata"),
            *("status", "freezes", "unfrozen_at", "unfrozen_by"),
            *("change_digest", "change_proof"),
            *("closed_at", "closed_by", "version", "updated_at", "seal"),
        ),
    ),
    "ledger_account_kinds": read_only(),
    "ledger_accounts": read_only(),
    "journal_entries": read_only(),
    "ledger_entries": read_only(),
    "book_checks": Rights(READ, Grant(insert=EVERY, update=("sequence", "seal"))),
    "holds": read_only(),
    "refused_postings": Rights(
        READ, Grant(delete="It is 30 days old, which a trigger sees to: nobody repeats a posting so late.")
    ),
}
