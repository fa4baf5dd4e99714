"""Stories of money in, beyond the demo's: what people undo, what the bank undoes, and a bank that answers badly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from tests.e2e.support import (
    AT_ONCE,
    AWAY_ONCE,
    DECLINES,
    ERROR_AFTER_EFFECT,
    JUNK_ANSWER,
    LATE_R10,
    SILENCE,
    TOO_MANY_REQUESTS,
    TWICE_OUT_OF_ORDER,
    TWO_DAYS_LATER,
    WRONG_AMOUNT,
    Json,
    World,
    minor,
    new_key,
    until,
)


def test_a_bank_that_answers_badly_is_still_paid_once(world: World) -> None:
    """A 500 after the effect, silence, 429, 503, junk, a wrong amount, events twice: always one movement."""
    offering, created = world.offering(10_000_00), {}
    for number, value in enumerate(
        (ERROR_AFTER_EFFECT, SILENCE, TOO_MANY_REQUESTS, AWAY_ONCE, JUNK_ANSWER, WRONG_AMOUNT, TWICE_OUT_OF_ORDER), 1
    ):
        transaction = world.contribute(offering, world.cleared(), number * 100_00, value)
        created[transaction["transactionId"]] = number * 100_00

    for transaction_id, amount in created.items():
        settled = world.transaction_when(transaction_id, "SETTLED")
        assert (settled["attempts"], settled["presentments"]) == (1, 1)
        assert [line["amount_minor"] for line in world.movements(transaction_id)] == [amount]

    ledger = world.ledger_when(offering["escrowAccountId"], "cash", sum(created.values()))
    assert ledger == {"cash": 2_800_00} | {name: ledger[name] for name in ledger if name.startswith("subscription:")}
    world.assert_books_balance(offering["escrowAccountId"])


def test_the_same_request_sent_eight_times_at_once_is_one_transaction(world: World) -> None:
    offering, investor = world.offering(1_000_00), world.cleared()
    investment = world.investment(offering, investor, 1_000_00)
    body = world.contribution_body(offering, investment, world.bank_account(investor))
    headers = {"Idempotency-Key": new_key()}

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(world.admin.call, "POST", "/transactions", json=body, headers=headers) for _ in range(8)]
        answers = [call.result() for call in calls]

    assert {answer.status_code for answer in answers} <= {201, 409}, [answer.text for answer in answers]
    created = {answer.json()["transactionId"] for answer in answers if answer.status_code == 201}
    assert len(created) == 1
    assert len(world.admin.get("/transactions", partyId=investor)["transactions"]) == 1
    world.transaction_when(created.pop(), "SETTLED")
    assert minor(world.investment_funded(investment, 1_000_00)["fundedAmount"]) == 1_000_00


def test_two_contributions_at_once_never_pass_a_limit_together(world: World) -> None:
    """50,000.00 a day: of two times 30,000.00 one is refused, with the working, and is kept as FAILED."""
    investor = world.cleared(accredited=False)
    offering = world.offering(100_000_00)
    bank_account = world.bank_account(investor)
    bodies = [
        world.contribution_body(offering, world.investment(offering, investor, 30_000_00), bank_account)
        for _ in range(2)
    ]

    with ThreadPoolExecutor(2) as pool:
        keys = [{"Idempotency-Key": new_key()} for _ in bodies]
        answers = list(pool.map(lambda body, key: _create(world, body, key), bodies, keys))

    assert sorted(answer[0] for answer in answers) == [201, 422]
    [refusal] = [problem for status, problem in answers if status == 422]
    assert refusal["code"] == "TRANSACTION_LIMIT_EXCEEDED"
    figures = {name: refusal["metadata"][name] for name in ("limitMinor", "usedMinor", "requestedMinor")}
    assert figures == {"limitMinor": "5000000", "usedMinor": "3000000", "requestedMinor": "3000000"}
    failed = world.admin.get(f"/transactions/{refusal['metadata']['transactionId']}")
    assert (failed["status"], failed["failure"]["retryable"]) == ("FAILED", False)
    # What was refused counts nothing: exactly the rest may still come.
    rest = world.contribution_body(offering, world.investment(offering, investor, 20_000_00), bank_account)
    assert world.admin.post("/transactions", rest)["status"] == "QUEUED"


def _create(world: World, body: Json, headers: Json) -> tuple[int, Json]:
    answer = world.admin.call("POST", "/transactions", json=body, headers=headers)
    return answer.status_code, answer.json()


def test_what_compliance_refused_is_not_tried_again(world: World) -> None:
    nobody = world.profile()
    offering = world.offering(500_00)
    body = world.contribution_body(offering, world.investment(offering, nobody, 500_00), world.bank_account(nobody))
    key = new_key()

    status, refusal = _create(world, body, {"Idempotency-Key": key})

    assert (status, refusal["code"]) == (422, "PARTY_NOT_CLEARED")
    transaction = f"/transactions/{refusal['metadata']['transactionId']}"
    assert world.admin.get(transaction)["failure"]["code"] == "PARTY_NOT_CLEARED"
    assert world.admin.refused(422, "NOT_RETRYABLE", "POST", f"{transaction}/retry")["metadata"]
    # A replay says the same, about the same transaction.
    replayed = _create(world, body, {"Idempotency-Key": key})
    assert (replayed[0], replayed[1]["metadata"]) == (422, refusal["metadata"])
    assert len(world.admin.get("/transactions", partyId=nobody)["transactions"]) == 1


def test_a_bank_that_declines_is_asked_three_times_at_most(world: World) -> None:
    declined = world.contribute(world.offering(500_00), world.cleared(), 500_00, DECLINES)
    path = f"/transactions/{declined['transactionId']}"
    for attempt in (1, 2, 3):
        failed = until(
            lambda: world.admin.get(path),
            lambda read, attempt=attempt: (read["status"], read["attempts"]) == ("FAILED", attempt),
        )
        assert failed["failure"]["code"] == "DECLINED_BY_PROVIDER"
        if attempt < 3:
            world.admin.post(f"{path}/retry")

    exhausted = world.admin.refused(422, "ATTEMPTS_EXHAUSTED", "POST", f"{path}/retry")

    assert exhausted["metadata"] == {"attempts": "3"}
    assert world.movements(declined["transactionId"]) == []


def test_only_what_no_bank_has_taken_is_cancelled(world: World) -> None:
    offering, investor = world.offering(900_00), world.cleared()
    taken = world.contribute(offering, investor, 300_00, TWO_DAYS_LATER)
    path = f"/transactions/{taken['transactionId']}"
    world.transaction_when(taken["transactionId"], "PENDING_SETTLEMENT")

    problem = world.admin.refused(422, "ILLEGAL_STATUS_CHANGE", "POST", f"{path}/cancel")

    assert problem["metadata"] == {"from": "PENDING_SETTLEMENT", "to": "CANCELLED"}
    wire = world.wire(offering, investor, 200_00)
    cancelled = world.investor(investor).post(
        f"/transactions/{wire['transactionId']}/cancel", {"reason": "My mistake."}
    )
    assert cancelled["status"] == "CANCELLED"
    # Cancelling it again changes nothing, and nothing of it is left in the book.
    again = world.admin.post(f"/transactions/{wire['transactionId']}/cancel")
    assert again["version"] == cancelled["version"]
    until(
        lambda: world.admin.get(f"/escrow-accounts/{offering['escrowAccountId']}/balance"),
        lambda read: minor(read["pendingIn"]) == 300_00,
    )
    history = world.admin.get(f"/transactions/{wire['transactionId']}/history")["moves"]
    assert [move["toStatus"] for move in history][-1] == "CANCELLED"
    assert [int(move["version"]) for move in history] == list(range(1, len(history) + 1))


def test_a_wire_is_confirmed_by_somebody_else_than_its_maker(world: World) -> None:
    offering, investor = world.offering(700_00), world.cleared()
    wire = world.wire(offering, investor, 700_00)
    path, reference = f"/transactions/{wire['transactionId']}/confirm", {"bankReference": "FT2501020001"}

    world.admin.refused(403, "MAKER_IS_CHECKER", "POST", path, reference)
    confirmed = world.second.post(path, reference)

    assert confirmed["status"] in ("SETTLED", "COMPLETED")
    done = world.transaction_when(wire["transactionId"], "COMPLETED")
    assert done["finality"] == "FINAL"
    assert world.ledger_when(offering["escrowAccountId"], "cash", 700_00) == {
        "cash": 700_00,
        f"subscription:{investor}": 700_00,
    }


def test_lists_are_read_page_by_page_without_gap_or_repeat(world: World) -> None:
    offering, investor = world.offering(700_00), world.cleared()
    made = [world.wire(offering, investor, 100_00)["transactionId"] for _ in range(7)]
    for transaction_id in made:
        world.transaction_when(transaction_id, "PENDING_SETTLEMENT")

    pages = list(world.pages("/transactions", "transactions", pageSize="3", partyId=investor))

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [one["transactionId"] for page in pages for one in page] == made[::-1]
    # A new one comes to the top; who is on a later page misses and repeats nothing.
    first = world.admin.get("/transactions", pageSize="3", partyId=investor)
    world.contribute(world.offering(100_00), investor, 100_00)
    rest = world.admin.get("/transactions", pageSize="1000", partyId=investor, pageToken=first["nextPageToken"])
    assert [one["transactionId"] for one in rest["transactions"]] == made[::-1][3:]

    ledger = f"/escrow-accounts/{offering['escrowAccountId']}/ledger"
    entries = until(lambda: world.admin.get(ledger, pageSize="1000")["ledgerEntries"], lambda found: len(found) >= 14)
    paged = [one for page in world.pages(ledger, "ledgerEntries", pageSize="4") for one in page]
    assert paged == entries
    sequences = [int(one["sequence"]) for one in entries if one["ledgerAccount"] == "in_transit"]
    assert sequences == list(range(len(sequences), 0, -1))


def test_an_investor_sees_its_own_and_nothing_else(world: World) -> None:
    offering, ana, ben = world.offering(400_00), world.cleared(), world.cleared()
    hers, his = (world.funded(offering, investor, 200_00) for investor in (ana, ben))
    me = world.investor(ana)

    for path, name, owner in (
        ("/transactions", "transactions", "partyId"),
        ("/investments", "investments", "partyId"),
        ("/bank-accounts", "bankAccounts", "partyId"),
    ):
        assert {one[owner] for one in me.get(path)[name]} == {ana}
        me.refused(404, "NOT_FOUND", "GET", f"{path}?{owner}={ben}")

    assert me.get(f"/transactions/{hers['transactionId']}")["partyId"] == ana
    assert me.get(f"/investors/{ana}")["cleared"] is True
    me.refused(404, "TRANSACTION_NOT_FOUND", "GET", f"/transactions/{his['transactionId']}")
    me.refused(404, "TRANSACTION_NOT_FOUND", "GET", f"/transactions/{his['transactionId']}/history")
    me.refused(404, "INVESTMENT_NOT_FOUND", "GET", f"/investments/{his['investmentId']}")
    me.refused(404, "BANK_ACCOUNT_NOT_FOUND", "GET", f"/bank-accounts/{his['bankAccountId']}")
    me.refused(404, "INVESTMENT_NOT_FOUND", "POST", f"/investments/{his['investmentId']}/cancel", {})
    me.refused(403, "PERMISSION_DENIED", "GET", f"/escrow-accounts/{offering['escrowAccountId']}/balance")


def test_a_raise_that_failed_gives_every_contribution_back(world: World) -> None:
    offering, investors = world.offering(5_000_00), [world.cleared() for _ in range(3)]
    contributions = [world.funded(offering, investor, 1_000_01) for investor in investors[:2]]
    promised = world.investment(offering, investors[2], 500_00)
    world.clear_return_risk(*contributions)
    path = f"/offerings/{offering['offeringId']}"
    shut = world.admin.refused(422, "CLOSING_GATES_NOT_MET", "POST", f"{path}/close", {})
    assert set(shut["metadata"]) == {"TARGET_REACHED"}

    world.admin.post(f"{path}/refund", {"reason": "The target was missed."})

    over = world.offering_when(offering["offeringId"], lambda read: read["status"] == "REFUNDED")
    assert (minor(over["fundedAmount"]), minor(over["committedAmount"])) == (0, 0)
    for investment_id in (*(one["investmentId"] for one in contributions), promised["investmentId"]):
        assert world.admin.get(f"/investments/{investment_id}")["status"] == "CANCELLED"
    refunds = world.admin.get("/transactions", escrowAccountId=offering["escrowAccountId"], type="REFUND")
    assert {one["status"] for one in refunds["transactions"]} == {"COMPLETED"}
    paid = [line["amount_minor"] for one in refunds["transactions"] for line in world.movements(one["transactionId"])]
    assert paid == [-1_000_01, -1_000_01]
    until(lambda: world.ledger(offering["escrowAccountId"]), lambda read: read == {})
    world.assert_books_balance(offering["escrowAccountId"])
    until(lambda: world.held(offering["escrowAccountId"]), lambda held: held == 0)
    assert world.admin.post(f"/escrow-accounts/{offering['escrowAccountId']}/close")["status"] == "CLOSED"


def test_an_investor_withdraws_and_gets_back_what_was_paid(world: World) -> None:
    offering, ana, ben = world.offering(3_000_00), world.cleared(), world.cleared()
    promised = world.investment(offering, ana, 1_000_00)
    paid = world.funded(offering, ben, 1_000_00)

    at_once = world.investor(ana).post(f"/investments/{promised['investmentId']}/cancel")
    later = world.investor(ben).post(f"/investments/{paid['investmentId']}/cancel")

    assert at_once["status"] == "CANCELLED"
    assert later["status"] == "PENDING"  # the bank may still take the contribution back, so it does not go yet
    world.move_clock(datetime.fromisoformat(paid["returnRiskEndTime"]) + timedelta(seconds=1))
    gone = world.investment_when(paid["investmentId"], lambda read: read["status"] == "CANCELLED")
    assert minor(gone["fundedAmount"]) == 0
    [refund] = world.admin.get("/transactions", partyId=ben, type="REFUND")["transactions"]
    assert [line["amount_minor"] for line in world.movements(refund["transactionId"])] == [-1_000_00]
    assert minor(world.admin.get(f"/offerings/{offering['offeringId']}")["committedAmount"]) == 0
    until(lambda: world.ledger(offering["escrowAccountId"]), lambda read: read == {})


@pytest.mark.parametrize("closed", [False, True], ids=["while it is in escrow", "after it has left"])
def test_a_contribution_comes_back_after_thirty_days(world: World, closed: bool) -> None:
    """R10: the customer says it was never authorized. What is in escrow goes; what has left is owed by the investor."""
    investor = world.cleared()
    if closed:
        offering = world.closed_offering({investor: 1_000_00}, LATE_R10)
        world.distributable(offering, 1_500_00)
        [contribution] = world.admin.get("/transactions", partyId=investor)["transactions"]
        after = {"cash": 500_00, "distributable": 1_500_00, f"returns_receivable:{investor}": 1_000_00}
    else:
        offering = world.offering(2_000_00)
        contribution = world.funded(offering, investor, 1_000_00, LATE_R10)
        after = {}
    settled = datetime.fromisoformat(contribution["settleTime"])

    world.move_clock(settled + timedelta(days=31))

    returned = world.transaction_when(contribution["transactionId"], "RETURNED")
    assert (returned["failure"]["code"], returned["failure"]["retryable"]) == ("R10", False)
    until(lambda: world.ledger(offering["escrowAccountId"]), lambda read: read == after)
    world.assert_books_balance(offering["escrowAccountId"])
    assert world.held(offering["escrowAccountId"]) == 0
    assert [line["amount_minor"] for line in world.movements(contribution["transactionId"])] == [1_000_00, -1_000_00]
    # What has left counts as contributed still: it is owed, and an account of the book says by whom.
    funded = 1_000_00 if closed else 0
    investment = world.investment_when(contribution["investmentId"], lambda read: minor(read["clearedAmount"]) == 0)
    assert minor(investment["fundedAmount"]) == funded
    account = world.admin.get(f"/bank-accounts/{contribution['bankAccountId']}")
    assert (account["status"], account["blockReason"]) == ("BLOCKED", "R10")
    world.admin.refused(422, "NOT_RETRYABLE", "POST", f"/transactions/{contribution['transactionId']}/retry")


def test_money_that_arrives_in_a_frozen_account_waits_in_suspense(world: World) -> None:
    offering, investor = world.offering(1_000_00), world.cleared()
    contribution = world.contribute(offering, investor, 400_00, TWO_DAYS_LATER)
    world.transaction_when(contribution["transactionId"], "PENDING_SETTLEMENT")
    path = f"/escrow-accounts/{offering['escrowAccountId']}"
    frozen = world.admin.post(f"{path}/freeze", {"reason": "A court order."})
    assert (frozen["status"], frozen["freezeReason"]) == ("FROZEN", "A court order.")

    world.move_clock(world.now() + timedelta(days=6))

    world.transaction_when(contribution["transactionId"], "SETTLED", "COMPLETED")
    assert world.ledger_when(offering["escrowAccountId"], "suspense", 400_00) == {"cash": 400_00, "suspense": 400_00}
    assert minor(world.admin.get(f"/investments/{contribution['investmentId']}")["fundedAmount"]) == 0
    another = world.investment(offering, investor, 100_00)
    body = world.contribution_body(offering, another, world.bank_account(investor, AT_ONCE))
    refusal = world.admin.refused(422, "ESCROW_ACCOUNT_NOT_USABLE", "POST", "/transactions", body)
    assert refusal["metadata"]["cause"] == "frozen"
    world.assert_books_balance(offering["escrowAccountId"])
    assert world.admin.post(f"{path}/unfreeze")["status"] == "ACTIVE"
    explained = {
        "type": "ADJUSTMENT",
        "description": "The contribution that arrived while the account was frozen",
        "legs": [
            {"ledgerAccount": "suspense", "direction": "DEBIT", "amountMinor": "40000"},
            {"ledgerAccount": f"subscription:{investor}", "direction": "CREDIT", "amountMinor": "40000"},
        ],
        "investmentId": contribution["investmentId"],
    }
    world.admin.post(f"{path}/journal-entries", {"journalEntry": explained})
    assert minor(world.investment_funded(contribution, 400_00)["clearedAmount"]) == 400_00
    world.assert_books_balance(offering["escrowAccountId"])
