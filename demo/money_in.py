"""Money comes in: people are cleared, an offering opens, four investors pay, each in a way of their own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from demo import cast
from demo.cast import ANA, BEN, CLEO, DAN, FUNDERS, INVESTORS, OAK, PARTIES
from demo.client import Json, Refusal, Unexpected, expect
from demo.money import spelled, usd
from demo.stage import Stage
from demo.waiting import wait_for


def december(day: int) -> datetime:
    return datetime(2024, 12, day, 15, tzinfo=UTC)


# --- people, account, offering --------------------------------------------------------------------------------------


def profiles(stage: Stage) -> str:
    for party in PARTIES:
        profile = {
            "partyType": "SPONSOR" if party.sponsor else "INVESTOR",
            "legalName": party.legal_name,
            "accreditation": "ACCREDITED" if party.accredited else "NON_ACCREDITED",
        }
        stage.admin.put(f"/investors/{party.id}", f"writes the profile of {party.id}", profile)
    return f"{len(stage.pending_checks())} checks wait for a person; {DAN.id} is not accredited"


def clearance(stage: Stage) -> str:
    check = stage.pending_checks()[0]
    own = stage.admin.refused(
        f"/compliance-checks/{check['complianceCheckId']}/review",
        "tries to clear a profile of their own making",
        {"decision": "PASSED", "note": "I wrote it, so it must be right."},
    )
    expect(own, 403, "MAKER_IS_CHECKER")
    reviewed = review_all(stage, "Identity document and sanctions lists seen.")
    return f"{reviewed} checks PASSED, all five cleared; whoever wrote a profile may not clear it ({own.code})"


def review_all(stage: Stage, note: str) -> int:
    """Passes every check that waits, until all parties are cleared."""
    reviewed: set[str] = set()

    def uncleared() -> list[str]:
        for check in stage.pending_checks():
            path = f"/compliance-checks/{check['complianceCheckId']}/review"
            answer = stage.officer.post(
                path, f"reviews {check['complianceCheckId']}", {"decision": "PASSED", "note": note}
            )
            reviewed.add(answer["complianceCheckId"])
        return [party.id for party in PARTIES if not stage.auditor.get(f"/investors/{party.id}")["cleared"]]

    wait_for("all parties to be cleared by compliance", uncleared, lambda waiting: not waiting)
    return len(reviewed)


def offering(stage: Stage) -> str:
    account = stage.admin.post(
        "/escrow-accounts",
        "opens the escrow account",
        {
            "displayName": "Oak Street Apartments escrow",
            "currencyCode": "USD",
            "custodianName": "First Custody Bank",
            "custodianAccountLast4": "4417",
        },
    )
    stage.escrow_account_id = account["escrowAccountId"]
    opened = stage.admin.post(
        "/offerings",
        "opens the offering",
        {
            "displayName": "Oak Street Apartments",
            "sponsorPartyId": OAK.id,
            "escrowAccountId": stage.escrow_account_id,
            "exemption": "REG_CF",
            "targetAmount": usd(cast.TARGET_MINOR),
            "maximumAmount": usd(cast.MAXIMUM_MINOR),
            "deadlineTime": stage.deadline,
        },
    )
    stage.offering_id = opened["offeringId"]
    terms = opened["terms"]
    return (
        f"Regulation CF, target {spelled(cast.TARGET_MINOR)}; waterfall: capital, "
        f"{terms['preferredRateBps'] / 100:g} % preferred return, catch-up, "
        f"{100 - terms['sponsorCarryBps'] / 100:g}/{terms['sponsorCarryBps'] / 100:g}"
    )


def bank_accounts(stage: Stage) -> str:
    for party in INVESTORS:
        stage.bank_accounts[party.id] = stage.add_bank_account(party.id, party, party.test_value)
    stage.bank_accounts[OAK.id] = stage.add_bank_account(cast.SPONSOR_STAFF, OAK, OAK.test_value)
    stage.add_bank_account(BEN.id, BEN, cast.PAYOUT_FAILS, for_payouts=True)
    return f"{BEN.id} wants payouts at a second one, which will turn out to be wrong"


def commitments(stage: Stage) -> str:
    for party in INVESTORS:
        investment = stage.signed_in(party.id).post(
            "/investments",
            "commits",
            {"offeringId": stage.offering_id, "amount": usd(party.commitment_minor)},
        )
        stage.investments[party.id] = investment["investmentId"]
    return ", ".join(f"{party.id} {spelled(party.commitment_minor)}" for party in INVESTORS)


# --- money in -------------------------------------------------------------------------------------------------------


def contribution(stage: Stage, party: cast.Party) -> Json:
    return {
        "type": "ESCROW_DEPOSIT",
        "paymentMethod": "ACH",
        "amount": usd(party.commitment_minor),
        "escrowAccountId": stage.escrow_account_id,
        "bankAccountId": stage.bank_accounts[party.id],
        "investmentId": stage.investments[party.id],
    }


def pay(stage: Stage, party: cast.Party, *statuses: str) -> str:
    made = stage.signed_in(party.id).post("/transactions", "pays by ACH", contribution(stage, party))
    stage.payments[party.id] = made["transactionId"]
    return str(stage.transaction_in(made["transactionId"], *statuses)["status"])


def payment_at_once(stage: Stage) -> str:
    status = pay(stage, ANA, "SETTLED")
    stage.wait_for_ledger_account("cash", posted=ANA.commitment_minor)
    stage.wait_for_ledger_account(f"subscription:{ANA.id}", posted=ANA.commitment_minor, held=ANA.commitment_minor)
    return f"{status} at once, and held in escrow while the bank may still take it back"


def payment_later(stage: Stage) -> str:
    status = pay(stage, BEN, "PENDING_SETTLEMENT")
    stage.wait_for_ledger_account(f"subscription:{BEN.id}", posted=0, pending=BEN.commitment_minor)
    return f"{status}: pending in the book, not yet money"


def payment_that_will_bounce(stage: Stage) -> str:
    status = pay(stage, CLEO, "PENDING_SETTLEMENT")
    stage.wait_for_ledger_account(f"subscription:{CLEO.id}", posted=0, pending=CLEO.commitment_minor)
    return f"{status}, too"


def payment_above_a_limit(stage: Stage) -> str:
    investor = stage.signed_in(DAN.id)
    try:
        made = investor.post("/transactions", "pays by ACH", contribution(stage, DAN))
    except Refusal as refusal:
        expect(refusal, 422, "TRANSACTION_LIMIT_EXCEEDED")
        stage.refused_transaction_id = refusal.metadata["transactionId"]
        status, code, working = str(refusal.status), refusal.code, refusal.metadata
    else:
        # Compliance was away: the transaction waits INITIATED and is refused as soon as it is back.
        stage.refused_transaction_id = made["transactionId"]
        failure = stage.transaction_in(made["transactionId"], "FAILED")["failure"]
        status, code, working = "FAILED", failure["code"], failure["metadata"]
        if code != "TRANSACTION_LIMIT_EXCEEDED":
            raise Unexpected(f"inv-004's payment failed by {code}")
    return f"refused ({status} {code}): {limit_working(working)}"


def limit_working(figures: Mapping[str, str]) -> str:
    asked, limit, used = (int(figures[name]) for name in ("requestedMinor", "limitMinor", "usedMinor"))
    if asked != DAN.commitment_minor or used + asked <= limit:
        raise Unexpected(f"The working does not add up: {dict(figures)}")
    return f"limit {figures['limitType']} {spelled(limit)}, used {spelled(used)}, asked {spelled(asked)}"


def withdrawal(stage: Stage) -> str:
    investment = stage.investments[DAN.id]
    cancelled = stage.signed_in(DAN.id).post(f"/investments/{investment}/cancel", "withdraws the commitment")
    if cancelled["status"] != "CANCELLED":
        raise Unexpected(f"The investment is {cancelled['status']}")
    return "CANCELLED; nothing was paid, so nothing goes back"


def bounced(stage: Stage) -> str:
    stage.move_clock(december(4))
    returned = stage.transaction_in(stage.payments[CLEO.id], "PENDING_RETRY")
    stage.wait_for_ledger_account(f"subscription:{CLEO.id}", posted=0, pending=0)
    failure = returned["failure"]
    if failure["code"] != "R01":
        raise Unexpected(f"It came back as {failure['code']}")
    return f"{failure['code']}: {failure['message']}; to be presented again on {returned['nextAttemptTime'][:10]}"


def settled_later(stage: Stage) -> str:
    stage.move_clock(december(5))
    status = stage.transaction_in(stage.payments[BEN.id], "SETTLED")["status"]
    stage.wait_for_ledger_account(f"subscription:{BEN.id}", posted=BEN.commitment_minor, pending=0)
    return f"{status} after two banking days"


def presented_again(stage: Stage) -> str:
    stage.move_clock(december(9))
    again = stage.transaction_in(stage.payments[CLEO.id], "PENDING_SETTLEMENT", presentments=2)
    return f"presentment {again['presentments']}, {again['status']}"


def settled_at_last(stage: Stage) -> str:
    stage.move_clock(december(10))
    status = stage.transaction_in(stage.payments[CLEO.id], "SETTLED")["status"]
    stage.wait_for_ledger_account("cash", posted=cast.TARGET_MINOR)
    return f"{status}; escrow holds {spelled(cast.TARGET_MINOR)}"


def risk_over(stage: Stage) -> str:
    stage.move_clock(december(18))
    for party in FUNDERS:
        stage.transaction_in(stage.payments[party.id], "COMPLETED")
        stage.wait_for_ledger_account(f"subscription:{party.id}", available=party.commitment_minor, held=0)
        stage.wait_for_investment(party, "to be cleared", clearedAmount=party.commitment_minor)
    return "all three COMPLETED, holds released"
