"""What the attackers of test_takeovers try: who says yes, what one person does alone, what a login writes."""

from __future__ import annotations

from collections.abc import Iterator

from demo.harness.bank import ROUTING_NUMBER, account_number_of
from demo.harness.money import usd
from demo.harness.rest import Json, RestClient
from services.chassis.values.ids import new_id
from tests.e2e.organization import open_client, person_of
from tests.e2e.takeover_scene import Scene, build_entry

# Who says yes to what one admin asked for -> the refusal.
CHECKERS = {
    "admin-1": "MAKER_IS_CHECKER",
    "another account of admin-1": "MAKER_IS_CHECKER",
    "admin-1 in capital letters": "MAKER_IS_CHECKER",
    "a program of admin-1": "PERSON_REQUIRED",
    "a stolen laptop of admin-2": "INSUFFICIENT_USER_AUTHENTICATION",
    "an investor": "PERMISSION_DENIED",
    "an auditor": "PERMISSION_DENIED",
    "an admin of another organization": "NOT_FOUND",
}

# What was not asked for in the session of that admin, or waits no more once the others had their turn: a service asked
# for the first, nobody approves the wires, and of the hold the one is done, so that the other cannot be.
NOT_OF_THE_SESSION = {
    "the proceeds",
    "a wire that never came",
    "cash of the issuer that never came",
    "the end of a hold",
    "held money to fees",
}


def sign_in(scene: Scene, who: str) -> RestClient:
    """With an account of its own, so that the log tells the attackers apart."""
    org, role, person, signed_in = scene.org, "admin", who, ["pwd", "otp", "mfa"]
    match who:
        case "a program of admin-1":
            return org.sign_in_program(org.make_api_key("ESCROW_WRITE", "TRANSACTIONS_WRITE", "APPROVALS_READ"))
        case "another account of admin-1":
            person = "admin-1"
        case "admin-1 in capital letters":
            person = "ADMIN-1"
        case "a stolen laptop of admin-2":
            person, signed_in = "admin-2", ["pwd"]
        case "an investor" | "an owner of a payout account":
            role, person = "investor", person_of(scene.investor)
        case "an auditor" | "a sponsor":
            role = who.split()[1]
        case "an admin who is the sponsor" | "an admin who is the investor":
            person = person_of(scene.sponsor if who.endswith("sponsor") else scene.investor)
    org_id = "org-elsewhere" if "another organization" in who else org.org_id
    token = org.instance.identity.issue_token(
        role, who.replace(" ", "-"), org_id, person=person.replace(" ", "-"), signed_in=signed_in
    )
    return open_client(org.instance, who, token)


def list_attempts(scene: Scene) -> Iterator[tuple[str, str, str, Json, str]]:
    """Who, the request, and the refusal: what one person tries without asking anybody."""
    offering, investment = scene.opened["offeringId"], scene.contribution["investmentId"]
    paid, proceeds = scene.contribution["transactionId"], scene.proceeds
    own, theirs = scene.contribution["bankAccountId"], scene.payable_account
    account = {"accountHolderName": "Me", "routingNumber": ROUTING_NUMBER, "accountNumber": account_number_of(1)}
    commitment = {"offeringId": offering, "termsEtag": scene.opened["termsEtag"], "amount": usd(100_00)}
    deposit = scene.org.build_contribution(scene.opened, scene.org.invest(scene.opened, scene.investor, 50_00), own)
    entry = {"journalEntry": build_entry("CASH", "DISTRIBUTABLE", 1_00)}
    limit = {"type": "DAILY_DEPOSIT", "amount": usd(1)}
    book = f"/escrow-accounts/{scene.cash}"

    for who in ("an investor", "an owner of a payout account"):
        yield who, "POST", "/bank-accounts", account | {"partyId": scene.sponsor}, "PARTY_NOT_FOUND"
        yield who, "POST", "/investments", commitment | {"partyId": scene.sponsor}, "PARTY_NOT_FOUND"
        yield who, "POST", "/transactions", deposit | {"bankAccountId": theirs}, "BANK_ACCOUNT_NOT_FOUND"
        yield who, "POST", "/transactions", deposit | {"type": "ESCROW_WITHDRAWAL"}, "INVALID_FIELD"
        yield who, "POST", "/transactions", deposit | {"type": "REFUND"}, "INVALID_FIELD"
        yield who, "POST", "/transactions", deposit | {"amount": usd(-50_00)}, "INVALID_FIELD"
        yield who, "POST", f"/transactions/{proceeds}/cancel", {}, "TRANSACTION_NOT_FOUND"
        yield who, "POST", f"/transactions/{paid}/retry", {}, "PERMISSION_DENIED"
        yield who, "POST", f"/investments/{investment}/refund/resend", {}, "NOTHING_TO_RESEND"
        yield who, "PATCH", f"/bank-accounts/{own}", {"accountNumber": account_number_of(2)}, "INVALID_FIELD"
        yield who, "PATCH", f"/bank-accounts/{theirs}", {"defaultForPayouts": True}, "BANK_ACCOUNT_NOT_FOUND"
        yield who, "DELETE", f"/bank-accounts/{theirs}", {}, "BANK_ACCOUNT_NOT_FOUND"
    for who in ("an investor", "an auditor"):
        yield who, "POST", "/escrow-accounts", scene.org.build_escrow_account(), "PERMISSION_DENIED"
        yield who, "PUT", "/transaction-limits", limit, "PERMISSION_DENIED"
        yield who, "POST", f"/offerings/{offering}/refund", {}, "PERMISSION_DENIED"
    yield "an auditor", "POST", f"{book}/freeze", {"note": "Mine."}, "PERMISSION_DENIED"
    yield "an auditor", "POST", f"/transactions/{proceeds}/cancel", {}, "PERMISSION_DENIED"
    for who in ("an investor", "an auditor", "a sponsor"):
        yield who, "POST", f"{book}/journal-entries", entry, "PERMISSION_DENIED"
        yield who, "POST", f"/transactions/{proceeds}/approve", {}, "PERMISSION_DENIED"
    confirmation = f"/transactions/{paid}/confirm", {"bankReference": "FT-2", "amount": usd(100_00)}
    yield "a sponsor", "POST", *confirmation, "PERMISSION_DENIED"
    yield "an admin", "POST", *confirmation, "PAYMENT_METHOD_NOT_SUPPORTED"
    yield "a sponsor", "POST", f"/offerings/{scene.closed['offeringId']}/close", {}, "ILLEGAL_STATUS_CHANGE"
    yield "a sponsor", "POST", f"/offerings/{scene.closed['offeringId']}/proceeds/resend", {}, "NOTHING_TO_RESEND"
    for who in ("a sponsor", "an admin"):
        yield who, "POST", "/transactions", deposit | {"type": "DISTRIBUTION"}, "INVALID_FIELD"
        yield who, "POST", "/approval-policy", {"approversNeeded": 1}, "NOT_FOUND"
        yield who, "POST", f"/offerings/{offering}/close", {}, "CLOSING_GATES_NOT_MET"
        yield who, "POST", f"/distributions/{new_id('dist')}/execute", {}, "DISTRIBUTION_NOT_FOUND"


MADE_UP_EVENT = (
    "INSERT INTO outbox (org_id, event_id, event_type, aggregate_id, aggregate_version, scope, payload, seal,"
    " occurred_at) VALUES ($1, $2, $3, 'mine', 1, '_', 'x', sha256('mine'), now())"
)
# What the logins of a service try in the organization -> the state that PostgreSQL refuses it with; empty: it is done.
SQL = {
    "transactions": {
        "UPDATE transactions SET amount_minor = amount_minor * 100": "42501",
        "UPDATE transactions SET party_id = 'pty_mine', bank_account_id = 'ba_mine'": "42501",
        "UPDATE bank_accounts SET account_number_digest = account_number_digest": "42501",
        "UPDATE bank_accounts SET created_at = now() - interval '9 days'": "42501",
        "UPDATE payout_requests SET transaction_id = NULL": "42501",
        "DELETE FROM transactions": "42501",
        "DELETE FROM transaction_history": "42501",
    },
    "escrow": {
        "UPDATE ledger_accounts SET credits_posted = 0": "42501",
        "INSERT INTO ledger_entries SELECT * FROM ledger_entries": "42501",
        "DELETE FROM journal_entries": "42501",
        "UPDATE holds SET status = 'RELEASED'": "42501",
        "ALTER TABLE journal_entries DISABLE TRIGGER USER": "42501",
    },
    "distributions": {
        "UPDATE payouts SET amount_minor = 1": "23514",
        "UPDATE investments SET party_id = 'pty_mine'": "42501",
        "UPDATE allocations SET amount_minor = 1": "42501",
        "DELETE FROM payouts": "42501",
    },
    "compliance": {
        "UPDATE statements SET content_hash = 'mine'": "42501",
        "UPDATE transaction_limits SET amount_minor = 1": "42501",
        "DELETE FROM party_persons": "42501",
        "DELETE FROM former_persons": "42501",
        "UPDATE compliance_checks SET party_id = 'pty_mine'": "42501",
    },
}
