"""Stories of money in, beyond the demo's: what people undo, what the bank undoes, and a bank that answers badly."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from demo.harness.bank import (
    AT_ONCE,
    AWAY_ONCE,
    DECLINES,
    ERROR_AFTER_EFFECT,
    JUNK_ANSWER,
    LATE_R10,
    R01_THEN_SETTLES,
    SILENCE,
    TOO_MANY_REQUESTS,
    TWICE_OUT_OF_ORDER,
    TWO_DAYS_LATER,
    WRONG_AMOUNT,
)
from demo.harness.money import minor_of, usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json, new_key
from tests.e2e.organization import Organization


def test_a_bank_that_answers_badly_is_still_paid_once(org: Organization) -> None:
    """A 500 after the effect, silence, 429, 503, junk, a wrong amount, events twice: always one movement."""
    offering, created = org.open_offering(10_000_00), {}
    for number, value in enumerate(
        (ERROR_AFTER_EFFECT, SILENCE, TOO_MANY_REQUESTS, AWAY_ONCE, JUNK_ANSWER, WRONG_AMOUNT, TWICE_OUT_OF_ORDER), 1
    ):
        transaction = org.contribute(offering, org.add_cleared_party(), number * 100_00, value)
        created[transaction["transactionId"]] = number * 100_00

    for transaction_id, amount in created.items():
        settled = org.wait_for_transaction(transaction_id, "SETTLED")
        assert (settled["attempts"], settled["presentments"]) == (1, 1)
        assert [line["amount_minor"] for line in org.read_movements(transaction_id)] == [amount]

    ledger = org.wait_for_ledger(offering["escrowAccountId"], "cash", sum(created.values()))
    assert ledger == {"cash": 2_800_00} | {name: ledger[name] for name in ledger if name.startswith("subscription:")}
    org.assert_books_balance(offering["escrowAccountId"])


def test_the_same_request_sent_eight_times_at_once_is_one_transaction(org: Organization) -> None:
    offering, investor = org.open_offering(1_000_00), org.add_cleared_party()
    investment = org.invest(offering, investor, 1_000_00)
    body = org.build_contribution(offering, investment, org.add_bank_account(investor))
    headers, payer = {"Idempotency-Key": new_key()}, org.sign_in_investor(investor)

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(payer.request, "POST", "/transactions", json=body, headers=headers) for _ in range(8)]
        answers = [call.result() for call in calls]

    assert {answer.status_code for answer in answers} <= {201, 409}, [answer.text for answer in answers]
    created = {answer.json()["transactionId"] for answer in answers if answer.status_code == 201}
    assert len(created) == 1
    assert len(org.admin.get("/transactions", partyId=investor)["transactions"]) == 1
    org.wait_for_transaction(created.pop(), "SETTLED")
    assert minor_of(org.wait_until_funded(investment, 1_000_00)["fundedAmount"]) == 1_000_00


def test_two_contributions_at_once_never_pass_a_limit_together(org: Organization) -> None:
    """50,000.00 a day: of two times 30,000.00 one is refused, with the working, and is kept as FAILED."""
    investor = org.add_cleared_party(accredited=False)
    offering = org.open_offering(100_000_00)
    bank_account = org.add_bank_account(investor)
    bodies = [
        org.build_contribution(offering, org.invest(offering, investor, 30_000_00), bank_account) for _ in range(2)
    ]

    with ThreadPoolExecutor(2) as pool:
        keys = [{"Idempotency-Key": new_key()} for _ in bodies]
        answers = list(pool.map(lambda body, key: _create(org, body, key), bodies, keys))

    assert sorted(answer[0] for answer in answers) == [201, 422]
    [refusal] = [problem for status, problem in answers if status == 422]
    assert refusal["code"] == "TRANSACTION_LIMIT_EXCEEDED"
    figures = {name: refusal["metadata"][name] for name in ("limitMinor", "usedMinor", "requestedMinor")}
    assert figures == {"limitMinor": "5000000", "usedMinor": "3000000", "requestedMinor": "3000000"}
    failed = org.admin.get(f"/transactions/{refusal['metadata']['transactionId']}")
    assert (failed["status"], failed["failure"]["retryable"]) == ("FAILED", False)
    # What was refused counts nothing: exactly the rest may still come.
    rest = org.build_contribution(offering, org.invest(offering, investor, 20_000_00), bank_account)
    assert org.sign_in_investor(investor).post("/transactions", rest)["status"] == "QUEUED"


def _create(org: Organization, body: Json, headers: Json) -> tuple[int, Json]:
    """A contribution, by who pays it."""
    payer = org.sign_in_investor(body["partyId"])
    answer = payer.request("POST", "/transactions", json=body, headers=headers)
    return answer.status_code, answer.json()


def test_what_compliance_refused_is_not_tried_again(org: Organization) -> None:
    nobody = org.add_party()
    offering = org.open_offering(500_00)
    body = org.build_contribution(offering, org.invest(offering, nobody, 500_00), org.add_bank_account(nobody))
    key = new_key()

    status, refusal = _create(org, body, {"Idempotency-Key": key})

    assert (status, refusal["code"]) == (422, "PARTY_NOT_CLEARED")
    transaction = f"/transactions/{refusal['metadata']['transactionId']}"
    assert org.admin.get(transaction)["failure"]["code"] == "PARTY_NOT_CLEARED"
    assert org.admin.expect_refusal(422, "NOT_RETRYABLE", "POST", f"{transaction}/retry").metadata
    # A replay says the same, about the same transaction.
    replayed = _create(org, body, {"Idempotency-Key": key})
    assert (replayed[0], replayed[1]["metadata"]) == (422, refusal["metadata"])
    assert len(org.admin.get("/transactions", partyId=nobody)["transactions"]) == 1


def test_a_bank_that_declines_is_asked_three_times_at_most(org: Organization) -> None:
    declined = org.contribute(org.open_offering(500_00), org.add_cleared_party(), 500_00, DECLINES)
    path = f"/transactions/{declined['transactionId']}"
    for attempt in (1, 2, 3):
        failed = wait_for(
            f"attempt {attempt} to be declined",
            lambda: org.admin.get(path),
            lambda read, attempt=attempt: (read["status"], read["attempts"]) == ("FAILED", attempt),
        )
        assert failed["failure"]["code"] == "DECLINED_BY_PROVIDER"
        if attempt < 3:
            org.admin.post(f"{path}/retry")

    exhausted = org.admin.expect_refusal(422, "ATTEMPTS_EXHAUSTED", "POST", f"{path}/retry")

    assert exhausted.metadata == {"attempts": "3"}
    assert org.read_movements(declined["transactionId"]) == []


def test_only_what_no_bank_has_taken_is_cancelled(org: Organization) -> None:
    offering, investor = org.open_offering(900_00), org.add_cleared_party()
    taken = org.contribute(offering, investor, 300_00, TWO_DAYS_LATER)
    path = f"/transactions/{taken['transactionId']}"
    org.wait_for_transaction(taken["transactionId"], "PENDING_SETTLEMENT")

    problem = org.admin.expect_refusal(422, "ILLEGAL_STATUS_CHANGE", "POST", f"{path}/cancel")

    assert problem.metadata == {"status": "PENDING_SETTLEMENT", "wantedStatus": "CANCELLED"}
    wire = org.announce_wire(offering, investor, 200_00)
    cancelled = org.sign_in_investor(investor).post(
        f"/transactions/{wire['transactionId']}/cancel", {"note": "My mistake."}
    )
    assert cancelled["status"] == "CANCELLED"
    # Cancelling it again changes nothing, and nothing of it is left in the book.
    again = org.admin.post(f"/transactions/{wire['transactionId']}/cancel")
    assert again["etag"] == cancelled["etag"]
    wait_for(
        "the cancelled wire to leave the balance",
        lambda: org.admin.get(f"/escrow-accounts/{offering['escrowAccountId']}/balance"),
        lambda read: minor_of(read["pendingIn"]) == 300_00,
    )
    history = org.admin.get(f"/transactions/{wire['transactionId']}/status-changes")["statusChanges"]
    assert [move["status"] for move in history][-1] == "CANCELLED"
    assert [int(move["aggregateVersion"]) for move in history] == list(range(1, len(history) + 1))


def test_lists_are_read_page_by_page_without_gap_or_repeat(org: Organization) -> None:
    offering, investor = org.open_offering(700_00), org.add_cleared_party()
    made = [org.announce_wire(offering, investor, 100_00)["transactionId"] for _ in range(7)]
    for transaction_id in made:
        org.wait_for_transaction(transaction_id, "PENDING_SETTLEMENT")

    pages = list(org.admin.iterate_pages("/transactions", "transactions", pageSize="3", partyId=investor))

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [one["transactionId"] for page in pages for one in page] == made[::-1]
    # A new one comes to the top; who is on a later page misses and repeats nothing.
    first = org.admin.get("/transactions", pageSize="3", partyId=investor)
    org.contribute(org.open_offering(100_00), investor, 100_00)
    rest = org.admin.get("/transactions", pageSize="1000", partyId=investor, pageToken=first["nextPageToken"])
    assert [one["transactionId"] for one in rest["transactions"]] == made[::-1][3:]

    ledger = f"/escrow-accounts/{offering['escrowAccountId']}/ledger"
    entries = wait_for(
        "every entry of the ledger",
        lambda: org.admin.get(ledger, pageSize="1000")["ledgerEntries"],
        lambda found: len(found) >= 14,
    )
    paged = [one for page in org.admin.iterate_pages(ledger, "ledgerEntries", pageSize="4") for one in page]
    assert paged == entries
    sequences = [int(one["sequence"]) for one in entries if one["ledgerAccount"] == {"kind": "IN_TRANSIT"}]
    assert sequences == list(range(len(sequences), 0, -1))


def test_an_investor_sees_its_own_and_nothing_else(org: Organization) -> None:
    offering, ana, ben = org.open_offering(400_00), org.add_cleared_party(), org.add_cleared_party()
    hers, his = (org.fund_investment(offering, investor, 200_00) for investor in (ana, ben))
    me = org.sign_in_investor(ana)

    for path, name, owner in (
        ("/transactions", "transactions", "partyId"),
        ("/investments", "investments", "partyId"),
        ("/bank-accounts", "bankAccounts", "partyId"),
    ):
        assert {one[owner] for one in me.get(path)[name]} == {ana}
        problem = me.expect_refusal(404, "PARTY_NOT_FOUND", "GET", f"{path}?{owner}={ben}").problem
        assert [(fault["in"], fault["pointer"]) for fault in problem["errors"]] == [("query", "/partyId")]
    me.expect_refusal(404, "PARTY_NOT_FOUND", "GET", f"/distributions?partyId={ben}")
    assert me.expect_refusal(404, "PARTY_NOT_FOUND", "GET", f"/parties/{ben}").problem["errors"] == []

    assert me.get(f"/transactions/{hers['transactionId']}")["partyId"] == ana
    assert me.get(f"/parties/{ana}")["cleared"] is True
    me.expect_refusal(404, "TRANSACTION_NOT_FOUND", "GET", f"/transactions/{his['transactionId']}")
    me.expect_refusal(404, "TRANSACTION_NOT_FOUND", "GET", f"/transactions/{his['transactionId']}/status-changes")
    me.expect_refusal(404, "INVESTMENT_NOT_FOUND", "GET", f"/investments/{his['investmentId']}")
    me.expect_refusal(404, "BANK_ACCOUNT_NOT_FOUND", "GET", f"/bank-accounts/{his['bankAccountId']}")
    me.expect_refusal(404, "INVESTMENT_NOT_FOUND", "POST", f"/investments/{his['investmentId']}/cancel", {})
    me.expect_refusal(403, "PERMISSION_DENIED", "GET", f"/escrow-accounts/{offering['escrowAccountId']}/balance")


def test_a_raise_that_failed_gives_every_contribution_back(org: Organization) -> None:
    offering, investors = org.open_offering(5_000_00), [org.add_cleared_party() for _ in range(3)]
    contributions = [org.fund_investment(offering, investor, 1_000_01) for investor in investors[:2]]
    promised = org.invest(offering, investors[2], 500_00)
    org.clear_return_risk(*contributions)
    path = f"/offerings/{offering['offeringId']}"
    shut = org.admin.expect_refusal(422, "CLOSING_GATES_NOT_MET", "POST", f"{path}/close", {})
    assert set(shut.metadata) == {"TARGET_REACHED"}

    org.do_together(f"{path}/refund", {"note": "The target was missed."})

    over = org.wait_for_offering(offering["offeringId"], lambda read: read["status"] == "REFUNDED")
    assert (minor_of(over["fundedAmount"]), minor_of(over["committedAmount"])) == (0, 0)
    for investment_id in (*(one["investmentId"] for one in contributions), promised["investmentId"]):
        assert org.admin.get(f"/investments/{investment_id}")["status"] == "CANCELLED"
    refunds = org.admin.get("/transactions", escrowAccountId=offering["escrowAccountId"], type="REFUND")
    assert {one["status"] for one in refunds["transactions"]} == {"COMPLETED"}
    paid = [
        line["amount_minor"] for one in refunds["transactions"] for line in org.read_movements(one["transactionId"])
    ]
    assert paid == [-1_000_01, -1_000_01]
    wait_for("the ledger to be empty", lambda: org.read_ledger(offering["escrowAccountId"]), lambda read: read == {})
    org.assert_books_balance(offering["escrowAccountId"])
    wait_for("the holds to be released", lambda: org.read_held(offering["escrowAccountId"]), lambda held: held == 0)
    # The bank may take back what was paid in, and a refund may come back: that is in no balance.
    close = f"/escrow-accounts/{offering['escrowAccountId']}/close"
    needed = org.admin.expect_refusal(422, "ESCROW_ACCOUNT_STILL_NEEDED", "POST", close, {})
    assert len(json.loads(needed.metadata["transactionIds"])) == 4
    org.wait_until_final(offering["escrowAccountId"])
    assert org.do_together(close)["status"] == "CLOSED"


def test_an_investor_withdraws_and_gets_back_what_was_paid(org: Organization) -> None:
    offering, ana, ben = org.open_offering(3_000_00), org.add_cleared_party(), org.add_cleared_party()
    promised = org.invest(offering, ana, 1_000_00)
    paid = org.fund_investment(offering, ben, 1_000_00)

    org.sign_in_investor(ana).post(f"/investments/{promised['investmentId']}/cancel")
    later = org.sign_in_investor(ben).post(f"/investments/{paid['investmentId']}/cancel")

    org.wait_for_investment(promised["investmentId"], lambda read: read["status"] == "CANCELLED")
    # The bank may still take the contribution back, so it does not go yet; and nothing more comes in.
    assert later["investment"]["status"] == "CANCELLING"
    told = org.wait_for_investment(paid["investmentId"], lambda read: "clearTime" in read)
    assert (told["clearTime"], minor_of(told["refundableAmount"])) == (paid["returnRiskEndTime"], 1_000_00)
    further = org.build_contribution(offering, later["investment"], paid["bankAccountId"])
    org.sign_in_investor(ben).expect_refusal(422, "INVESTMENT_NOT_PENDING", "POST", "/transactions", further)
    org.move_clock(datetime.fromisoformat(paid["returnRiskEndTime"]) + timedelta(seconds=1))
    # The customer may disown the debit for 60 days: Ben alone would have the money twice.
    asked = {"partyId": ben, "type": "REFUND", "status": "PENDING_APPROVAL"}
    [refund] = wait_for("it to wait", lambda: org.admin.get("/transactions", **asked)["transactions"], bool)
    org.approve_in_inbox(refund["transactionId"])
    gone = org.wait_for_investment(paid["investmentId"], lambda read: read["status"] == "CANCELLED")
    assert minor_of(gone["fundedAmount"]) == 0
    assert org.admin.get(f"/transactions/{refund['transactionId']}")["approvedBy"] == "admin-2"
    assert [line["amount_minor"] for line in org.read_movements(refund["transactionId"])] == [-1_000_00]
    assert minor_of(org.admin.get(f"/offerings/{offering['offeringId']}")["committedAmount"]) == 0
    wait_for("the ledger to be empty", lambda: org.read_ledger(offering["escrowAccountId"]), lambda read: read == {})


def test_a_debit_that_comes_back_after_a_withdrawal_is_not_presented_again(org: Organization) -> None:
    offering, investor = org.open_offering(3_000_00), org.add_cleared_party()
    drawn = org.contribute(offering, investor, 1_000_00, R01_THEN_SETTLES)
    org.wait_for_transaction(drawn["transactionId"], "PENDING_SETTLEMENT")

    org.sign_in_investor(investor).post(f"/investments/{drawn['investmentId']}/cancel")

    # The bank has it: that is followed to its end.
    told = org.wait_for_investment(drawn["investmentId"], lambda read: minor_of(read["incomingAmount"]) == 1_000_00)
    assert told["status"] == "CANCELLING"
    org.move_clock(org.now() + timedelta(days=4))
    ended = org.wait_for_transaction(drawn["transactionId"], "CANCELLED")
    assert (ended["failure"]["code"], ended["presentments"]) == ("INVESTMENT_NOT_PENDING", 1)
    gone = org.wait_for_investment(drawn["investmentId"], lambda read: read["status"] == "CANCELLED")
    assert minor_of(gone["incomingAmount"]) == 0
    assert org.read_ledger(offering["escrowAccountId"]) == {}


@pytest.mark.parametrize("closed", [False, True], ids=["while it is in escrow", "after it has left"])
def test_a_contribution_comes_back_after_thirty_days(org: Organization, closed: bool) -> None:
    """R10: the customer says it was never authorized. What is in escrow goes; what has left is owed by the investor."""
    investor = org.add_cleared_party()
    if closed:
        offering = org.make_closed_offering({investor: 1_000_00}, LATE_R10)
        org.add_distributable_cash(offering, 1_500_00)
        [contribution] = org.admin.get("/transactions", partyId=investor)["transactions"]
        after = {"cash": 500_00, "distributable": 1_500_00, f"returns_receivable:{investor}": 1_000_00}
    else:
        offering = org.open_offering(2_000_00)
        contribution = org.fund_investment(offering, investor, 1_000_00, LATE_R10)
        after = {}
    settled = datetime.fromisoformat(contribution["settleTime"])

    org.move_clock(settled + timedelta(days=31))

    returned = org.wait_for_transaction(contribution["transactionId"], "RETURNED")
    failure = returned["failure"]
    assert (failure["code"], failure["metadata"]) == ("RETURNED_BY_BANK", {"networkCode": "R10"})
    assert not failure["retryable"]
    wait_for(
        "the ledger to show the return",
        lambda: org.read_ledger(offering["escrowAccountId"]),
        lambda read: read == after,
    )
    org.assert_books_balance(offering["escrowAccountId"])
    assert org.read_held(offering["escrowAccountId"]) == 0
    assert [line["amount_minor"] for line in org.read_movements(contribution["transactionId"])] == [1_000_00, -1_000_00]
    # What has left counts as contributed still: it is owed, and an account of the book says by whom.
    funded = 1_000_00 if closed else 0
    org.wait_for_investment(
        contribution["investmentId"],
        lambda read: (minor_of(read["clearedAmount"]), minor_of(read["fundedAmount"])) == (0, funded),
    )
    account = org.admin.get(f"/bank-accounts/{contribution['bankAccountId']}")
    assert (account["status"], account["blockReason"]) == ("BLOCKED", "RETURNED_BY_BANK")
    assert account["blockNetworkCode"] == "R10"
    org.admin.expect_refusal(422, "NOT_RETRYABLE", "POST", f"/transactions/{contribution['transactionId']}/retry")


def test_money_that_arrives_in_a_frozen_account_waits_until_somebody_applies_it(org: Organization) -> None:
    offering, investor = org.open_offering(1_000_00), org.add_cleared_party()
    contribution = org.contribute(offering, investor, 400_00, TWO_DAYS_LATER)
    org.wait_for_transaction(contribution["transactionId"], "PENDING_SETTLEMENT")
    path = f"/escrow-accounts/{offering['escrowAccountId']}"
    frozen = org.admin.post(f"{path}/freeze", {"note": "A court order."})
    assert (frozen["status"], frozen["freezes"][0]["note"]) == ("FROZEN", "A court order.")

    org.move_clock(org.now() + timedelta(days=6))

    org.wait_for_transaction(contribution["transactionId"], "SETTLED", "COMPLETED")
    unapplied = f"unapplied:{investor}"
    assert org.wait_for_ledger(offering["escrowAccountId"], unapplied, 400_00) == {"cash": 400_00, unapplied: 400_00}
    assert minor_of(org.admin.get(f"/investments/{contribution['investmentId']}")["fundedAmount"]) == 0
    another = org.invest(offering, investor, 100_00)
    body = org.build_contribution(offering, another, org.add_bank_account(investor, AT_ONCE))
    org.admin.expect_refusal(422, "ESCROW_ACCOUNT_FROZEN", "POST", "/transactions", body)
    org.assert_books_balance(offering["escrowAccountId"])
    assert org.do_together(f"{path}/unfreeze")["status"] == "ACTIVE"
    explained = {
        "type": "ADJUSTMENT",
        "description": "The contribution that arrived while the account was frozen",
        "legs": [
            {
                "ledgerAccount": {"kind": "UNAPPLIED", "partyId": investor},
                "direction": "DEBIT",
                "amount": usd(400_00),
            },
            {
                "ledgerAccount": {"kind": "SUBSCRIPTION", "partyId": investor},
                "direction": "CREDIT",
                "amount": usd(400_00),
            },
        ],
        "investmentId": contribution["investmentId"],
    }
    # The bank may take it back still, so nobody applies it yet.
    assert org.read_held(offering["escrowAccountId"]) == 400_00
    settled = org.wait_for_transaction(contribution["transactionId"], "SETTLED")
    org.move_clock(datetime.fromisoformat(settled["returnRiskEndTime"]) + timedelta(seconds=1))
    wait_for("the return risk to be over", lambda: org.read_held(offering["escrowAccountId"]), lambda held: held == 0)
    org.do_together(f"{path}/journal-entries", {"journalEntry": explained})
    assert minor_of(org.wait_until_funded(contribution, 400_00)["clearedAmount"]) == 400_00
    org.assert_books_balance(offering["escrowAccountId"])
