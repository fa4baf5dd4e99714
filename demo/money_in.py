"""Money comes in: people are cleared, an offering opens, and four investors pay, each in another way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from demo import cast
from demo.cast import ANA, BEN, CLEO, DAN, FUNDERS, INVESTORS, OAK, PARTIES
from demo.harness.bank import PAYOUT_FAILS
from demo.harness.money import format_minor, usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json, Refusal, UnexpectedAnswer
from demo.run import DemoRun


def spell_percent(share: Decimal) -> str:
    """`0.08` -> `8`."""
    return f"{(share * 100).normalize():f}"


def december(day: int) -> datetime:
    return datetime(2024, 12, day, 15, tzinfo=UTC)


# --- people, account, offering --------------------------------------------------------------------------------------


def write_profiles(run: DemoRun) -> str:
    for party in PARTIES:
        run.add_party(party)
    return f"{len(run.list_pending_checks())} checks wait for a person; {DAN.id} is not accredited"


def clear_parties(run: DemoRun) -> str:
    check = run.list_pending_checks()[0]
    own = run.admin.expect_refusal(
        403,
        "MAKER_IS_CHECKER",
        "POST",
        f"/compliance-checks/{check['complianceCheckId']}/review",
        {"decision": "PASSED", "note": "I wrote it, so it must be right."},
        deed="tries to clear a profile of their own making",
        etag=check["etag"],
    )
    reviewed = review_all_checks(run)
    return (
        f"{reviewed} checks PASSED in the inbox, all five cleared; "
        f"whoever wrote a profile may not clear it ({own.code})"
    )


def review_all_checks(run: DemoRun) -> int:
    """Approves every check that waits in the inbox, until all parties are cleared."""
    reviewed: set[str] = set()

    def review_waiting() -> list[str]:
        """The parties that are not cleared yet."""
        for asked in run.list_inbox(kind="REVIEW_COMPLIANCE_CHECK"):
            reviewed.add(run.approve(asked, note="The documents are good.")["approvalId"])
        parties = run.auditor.list_all("/parties", "parties", cleared="false")
        return [party["externalId"] for party in parties if party["partyId"] in run.party_ids.values()]

    wait_for("all parties to be cleared by compliance", review_waiting, lambda uncleared: not uncleared)
    return len(reviewed)


def open_offering(run: DemoRun) -> str:
    account = run.admin.post(
        "/escrow-accounts",
        {
            "displayName": "Oak Street Apartments escrow",
            "currencyCode": "USD",
            "sponsorPartyId": run.party_ids[OAK.id],
            "custodianName": "First Custody Bank",
            "custodianAccountLast4": "4417",
        },
        deed="opens the escrow account",
    )
    run.escrow_account_id = account["escrowAccountId"]
    opened = run.admin.post(
        "/offerings",
        {
            "displayName": "Oak Street Apartments",
            "sponsorPartyId": run.party_ids[OAK.id],
            "escrowAccountId": run.escrow_account_id,
            "exemption": "REG_CF",
            "targetAmount": usd(cast.TARGET_MINOR),
            "maximumAmount": usd(cast.MAXIMUM_MINOR),
            "deadlineTime": run.deadline,
        },
        deed="opens the offering",
    )
    run.offering_id = opened["offeringId"]
    tiers = {kind: tier for each in opened["terms"]["tiers"] for kind, tier in each.items()}
    rate, carry = Decimal(tiers["preferredReturn"]["rate"]), Decimal(tiers["split"]["sponsorShare"])
    return (
        f"Regulation CF, target {format_minor(cast.TARGET_MINOR)}; waterfall: capital, "
        f"{spell_percent(rate)} % preferred return, catch-up, {spell_percent(1 - carry)}/{spell_percent(carry)}"
    )


def add_bank_accounts(run: DemoRun) -> str:
    for party in INVESTORS:
        run.bank_accounts[party.id] = run.add_bank_account(party.id, party, party.test_value)
    run.bank_accounts[OAK.id] = run.add_bank_account(cast.SPONSOR_STAFF, OAK, OAK.test_value)
    run.add_bank_account(BEN.id, BEN, PAYOUT_FAILS, for_payouts=True)
    return f"{BEN.id} wants payouts at a second one, which will turn out to be wrong"


def confirm_bank_accounts(run: DemoRun) -> str:
    waiting = run.list_inbox(kind="CONFIRM_BANK_ACCOUNT")
    for approval in waiting:
        run.approve(approval)
    rows = "".join(f"\n      {each['summary']}, asked by {each['createdBy']}" for each in waiting)
    return f"{len(waiting)} were in the inbox; money goes to them from a day later on{rows}"


def make_commitments(run: DemoRun) -> str:
    for party in INVESTORS:
        client = run.client_of(party.id)
        read = client.get(f"/offerings/{run.offering_id}")
        agreed = {"offeringId": run.offering_id, "termsEtag": read["termsEtag"]}
        investment = client.post("/investments", agreed | {"amount": usd(party.commitment_minor)}, deed="commits")
        run.investments[party.id] = investment["investmentId"]
    return ", ".join(f"{party.id} {format_minor(party.commitment_minor)}" for party in INVESTORS)


# --- money in -------------------------------------------------------------------------------------------------------


def build_contribution(run: DemoRun, party: cast.Party) -> Json:
    return {
        "type": "ESCROW_DEPOSIT",
        "paymentMethod": "ACH",
        "amount": usd(party.commitment_minor),
        "escrowAccountId": run.escrow_account_id,
        "bankAccountId": run.bank_accounts[party.id],
        "investmentId": run.investments[party.id],
    }


def pay_contribution(run: DemoRun, party: cast.Party, *statuses: str) -> str:
    made = run.client_of(party.id).post("/transactions", build_contribution(run, party), deed="pays by ACH")
    run.payments[party.id] = made["transactionId"]
    return str(run.wait_for_transaction(made["transactionId"], *statuses)["status"])


def pay_at_once(run: DemoRun) -> str:
    status = pay_contribution(run, ANA, "SETTLED")
    run.wait_for_ledger_account("CASH", posted=ANA.commitment_minor)
    run.wait_for_ledger_account("SUBSCRIPTION", ANA.id, posted=ANA.commitment_minor, held=ANA.commitment_minor)
    return f"{status} at once, and held in escrow while the bank may still take it back"


def pay_in_two_days(run: DemoRun) -> str:
    status = pay_contribution(run, BEN, "PENDING_SETTLEMENT")
    run.wait_for_ledger_account("SUBSCRIPTION", BEN.id, posted=0, pending=BEN.commitment_minor)
    return f"{status}: pending in the book, not yet money"


def pay_what_will_be_returned(run: DemoRun) -> str:
    status = pay_contribution(run, CLEO, "PENDING_SETTLEMENT")
    run.wait_for_ledger_account("SUBSCRIPTION", CLEO.id, posted=0, pending=CLEO.commitment_minor)
    return f"{status}, too"


def try_above_limit(run: DemoRun) -> str:
    investor = run.client_of(DAN.id)
    try:
        made = investor.post("/transactions", build_contribution(run, DAN), deed="pays by ACH")
    except Refusal as refusal:
        run.refused_transaction_id = refusal.metadata["transactionId"]
        status, code, working = str(refusal.status), refusal.code, refusal.metadata
    else:
        # Compliance was away: the transaction waits INITIATED and is refused as soon as it is back.
        run.refused_transaction_id = made["transactionId"]
        failure = run.wait_for_transaction(made["transactionId"], "FAILED")["failure"]
        status, code, working = "FAILED", failure["code"], failure["metadata"]
    if code != "TRANSACTION_LIMIT_EXCEEDED":
        raise UnexpectedAnswer(f"{DAN.id}'s payment was refused by {status} {code}")
    return f"refused ({status} {code}): {explain_limit(working)}"


def explain_limit(figures: Mapping[str, str]) -> str:
    asked, limit, used = (int(figures[name]) for name in ("requestedMinor", "limitMinor", "usedMinor"))
    if asked != DAN.commitment_minor or used + asked <= limit:
        raise UnexpectedAnswer(f"The working does not add up: {dict(figures)}")
    return f"limit {figures['limitType']} {format_minor(limit)}, used {format_minor(used)}, asked {format_minor(asked)}"


def withdraw_commitment(run: DemoRun) -> str:
    investment = run.investments[DAN.id]
    run.client_of(DAN.id).post(f"/investments/{investment}/cancel", deed="withdraws the commitment")
    wait_for(
        "the investment to be cancelled",
        lambda: run.client_of(DAN.id).get(f"/investments/{investment}")["status"],
        lambda status: status == "CANCELLED",
    )
    return "CANCELLED; nothing was paid, so nothing goes back"


def receive_return(run: DemoRun) -> str:
    run.move_clock(december(4))
    returned = run.wait_for_transaction(run.payments[CLEO.id], "PENDING_RETRY")
    run.wait_for_ledger_account("SUBSCRIPTION", CLEO.id, posted=0, pending=0)
    failure = returned["failure"]
    code = failure["metadata"].get("networkCode")
    if code != "R01":
        raise UnexpectedAnswer(f"It came back as {failure!r}")
    return f"{code}: {failure['message']}; to be presented again on {returned['nextAttemptTime'][:10]}"


def settle_after_two_days(run: DemoRun) -> str:
    run.move_clock(december(5))
    status = run.wait_for_transaction(run.payments[BEN.id], "SETTLED")["status"]
    run.wait_for_ledger_account("SUBSCRIPTION", BEN.id, posted=BEN.commitment_minor, pending=0)
    return f"{status} after two banking days"


def present_again(run: DemoRun) -> str:
    run.move_clock(december(9))
    again = run.wait_for_transaction(run.payments[CLEO.id], "PENDING_SETTLEMENT", presentments=2)
    return f"presentment {again['presentments']}, {again['status']}"


def settle_again(run: DemoRun) -> str:
    run.move_clock(december(10))
    status = run.wait_for_transaction(run.payments[CLEO.id], "SETTLED")["status"]
    run.wait_for_ledger_account("CASH", posted=cast.TARGET_MINOR)
    return f"{status}; escrow holds {format_minor(cast.TARGET_MINOR)}"


def end_return_risk(run: DemoRun) -> str:
    run.move_clock(december(18))
    for party in FUNDERS:
        run.wait_for_transaction(run.payments[party.id], "COMPLETED")
        run.wait_for_ledger_account("SUBSCRIPTION", party.id, available=party.commitment_minor, held=0)
        run.wait_for_investment(party, "to be cleared", clearedAmount=party.commitment_minor)
    return "all three COMPLETED, holds released"
