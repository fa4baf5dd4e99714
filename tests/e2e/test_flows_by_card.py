"""Stories of cards, on a stand-in for Stripe: paid and given back, disputed before the closing and after it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import httpx

from demo.harness.money import minor_of, usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json
from sandbox.stripe.fees import DISPUTE_FEE, compute_card_fee
from tests.e2e.organization import Organization
from tests.e2e.takeover_scene import build_entry
from tests.integration.stripe_desk import answer_dispute, have_disputed, post


def pay_by_card(org: Organization, offering: Json, investment: Json, card: str, minor: int = 0) -> Json:
    """The investor orders it, and enters a card on Stripe's page. Returns: it SETTLED, and counted."""
    body = org.build_contribution(offering, investment, "") | {"paymentMethod": "CARD"}
    del body["bankAccountId"]
    body |= {"amount": usd(minor)} if minor else {}
    investor = org.sign_in_investor(investment["partyId"])
    ordered = investor.post("/transactions", body)
    path = f"/transactions/{ordered['transactionId']}"
    waiting = wait_for("the page", lambda: investor.get(path), lambda read: "payerActionUrl" in read)
    page = httpx.post(waiting["payerActionUrl"], data={"card": card}, trust_env=False)
    assert "Thank you" in page.text
    return org.wait_for_transaction(ordered["transactionId"], "SETTLED")


def list_refunds(org: Organization, offering: Json) -> list[Json]:
    account = offering["escrowAccountId"]
    return org.admin.get("/transactions", escrowAccountId=account, type="REFUND", order="OLDEST_FIRST")["transactions"]


def wait_for_dispute(org: Organization, transaction: Json, status: str) -> Json:
    path = f"/transactions/{transaction['transactionId']}"
    return wait_for(
        f"the dispute to be {status}", lambda: org.admin.get(path), lambda read: read["disputeStatus"] == status
    )


def pay_in_fees(org: Organization, offering: Json, minor: int) -> None:
    """What the provider has kept by now is paid in, so that all money is there again; two persons say that it was."""
    account = offering["escrowAccountId"]
    org.wait_for_ledger(account, "provider_fees", minor)
    entry = build_entry("CASH", "PROVIDER_FEES", minor)
    org.do_together(f"/escrow-accounts/{account}/journal-entries", {"journalEntry": entry})


def test_what_two_cards_paid_funds_an_investment_and_goes_back_to_each(org: Organization) -> None:
    offering, investor = org.open_offering(500_00), org.add_cleared_party()
    investment = org.invest(offering, investor, 100_00)
    cards = {"pm_card_visa": 60_00, "pm_card_mastercard": 40_00}
    paid = [pay_by_card(org, offering, investment, card, minor) for card, minor in cards.items()]
    assert [each["card"]["last4"] for each in paid] == ["4242", "4444"]
    org.wait_until_funded(investment, 100_00)
    assert org.read_held(offering["escrowAccountId"]) == 100_00
    org.clear_return_risk(*paid)
    fees = [compute_card_fee(minor) for minor in cards.values()]
    assert [minor_of(each["providerFee"]) for each in paid] == fees
    pay_in_fees(org, offering, sum(fees))

    org.do_together(f"/offerings/{offering['offeringId']}/refund", {"note": "The target was missed."})
    org.wait_for_offering(offering["offeringId"], lambda read: read["status"] == "REFUNDED")
    given_back = list_refunds(org, offering)
    assert {(each["status"], each["paymentMethod"]) for each in given_back} == {("COMPLETED", "CARD")}
    assert {each["card"]["last4"]: minor_of(each["amount"]) for each in given_back} == {"4242": 60_00, "4444": 40_00}
    wait_for("the ledger to be empty", lambda: org.read_ledger(offering["escrowAccountId"]), lambda read: read == {})
    org.assert_books_balance(offering["escrowAccountId"])


def test_a_refund_that_fails_at_the_card_goes_to_a_bank_account_that_two_persons_agree_to(org: Organization) -> None:
    offering, investor = org.open_offering(500_00), org.add_cleared_party()
    investment = org.invest(offering, investor, 100_00)
    org.clear_return_risk(pay_by_card(org, offering, investment, "pm_card_refundFail"))
    pay_in_fees(org, offering, compute_card_fee(100_00))
    org.do_together(f"/offerings/{offering['offeringId']}/refund", {"note": "The target was missed."})
    [failed] = wait_for("the refund", lambda: list_refunds(org, offering), bool)
    org.wait_for_investment(investment["investmentId"], lambda read: "refundFailure" in read)
    why = org.wait_for_transaction(failed["transactionId"], "RETURNED")["failure"]
    assert (why["code"], why["metadata"]) == ("RETURNED_BY_BANK", {"networkCode": "expired_or_canceled_card"})

    account = org.add_payable_account(investor)
    org.do_together(f"/investments/{investment['investmentId']}/refund/resend", {"bankAccountId": account})
    again = wait_for("another refund", lambda: list_refunds(org, offering), lambda found: len(found) > 1)[-1]
    org.wait_for_transaction(again["transactionId"], "PENDING_APPROVAL")
    org.approve_in_inbox(again["transactionId"])
    org.wait_for_offering(offering["offeringId"], lambda read: read["status"] == "REFUNDED")
    org.assert_books_balance(offering["escrowAccountId"])


def test_a_dispute_that_is_won_leaves_the_contribution_as_it_was(org: Organization, stripe_url: str) -> None:
    offering, investor = org.open_offering(100_00), org.add_cleared_party()
    paid = pay_by_card(org, offering, org.invest(offering, investor, 100_00), "pm_card_createDispute")
    disputed = wait_for_dispute(org, paid, "NEEDS_RESPONSE")
    assert disputed["disputeReason"] == "fraudulent"
    due = datetime.fromisoformat(disputed["disputeResponseDueTime"])
    found = org.admin.get("/exceptions", kind="CARD_DISPUTED", transactionId=paid["transactionId"])["paymentExceptions"]
    assert f"{due:%Y-%m-%d}" in found[0]["cause"]

    asyncio.run(answer_dispute(stripe_url, disputed["disputeReference"], "winning_evidence"))
    won = wait_for_dispute(org, paid, "WON")
    assert (won["status"], "disputeResponseDueTime" in won) == ("SETTLED", False)
    assert org.read_held(offering["escrowAccountId"]) == 100_00, "as long as any card payment is at risk"
    # The fee of the dispute came back with it.
    org.wait_for_ledger(offering["escrowAccountId"], "provider_fees", compute_card_fee(100_00))


def test_a_dispute_that_is_lost_after_the_closing_has_come_back_and_is_owed(
    org: Organization, stripe_url: str, stripe_books: Path
) -> None:
    offering, investor = org.open_offering(100_00), org.add_cleared_party()
    paid = pay_by_card(org, offering, org.invest(offering, investor, 100_00), "pm_card_visa")
    org.clear_return_risk(paid)
    gates = org.admin.get(f"/offerings/{offering['offeringId']}/closing-gates")["gates"]
    assert [gate["name"] for gate in gates if not gate["passed"]] == ["PROVIDER_FEES_COVERED"]
    pay_in_fees(org, offering, compute_card_fee(100_00))
    org.do_together(f"/offerings/{offering['offeringId']}/close")
    org.wait_for_offering(offering["offeringId"], lambda read: read["status"] == "CLOSED")
    asyncio.run(have_disputed(stripe_url, stripe_books, paid["providerReference"]))
    disputed = wait_for_dispute(org, paid, "NEEDS_RESPONSE")
    assert disputed["status"] == "COMPLETED"

    asyncio.run(post(stripe_url, f"disputes/{disputed['disputeReference']}/close"))
    lost = wait_for_dispute(org, paid, "LOST")
    assert (lost["status"], lost["failure"]["code"]) == ("RETURNED", "DISPUTE_LOST")
    org.wait_for_ledger(offering["escrowAccountId"], f"returns_receivable:{investor}", 100_00)
    org.wait_for_ledger(offering["escrowAccountId"], "provider_fees", DISPUTE_FEE)
    owing = org.wait_for_investment(paid["investmentId"], lambda read: minor_of(read["receivableAmount"]) == 100_00)
    assert owing["status"] == "ACTIVE"
    org.assert_books_balance(offering["escrowAccountId"])
