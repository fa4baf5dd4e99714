"""Stories of money out, beyond the demo: who may let it go, an account that holds it, and a payout that comes back."""

from __future__ import annotations

from datetime import datetime, timedelta

from demo.harness.bank import AT_ONCE, COMES_BACK_AS_R02, LATE_R10
from demo.harness.money import minor_of, usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json
from tests.e2e.organization import Organization
from tests.e2e.takeover_scene import build_entry


def _closing(org: Organization, amount_minor: int) -> tuple[Json, str]:
    """An offering just closed by the first admin, and the path of its proceeds, which wait for a second person."""
    offering = org.open_offering(amount_minor)
    org.clear_return_risk(org.fund_investment(offering, org.add_cleared_party(), amount_minor))
    org.do_together(f"/offerings/{offering['offeringId']}/close")
    closed = org.wait_for_offering(offering["offeringId"], lambda read: read.get("proceedsTransactionId"))
    org.wait_for_transaction(closed["proceedsTransactionId"], "PENDING_APPROVAL")
    return closed, f"/transactions/{closed['proceedsTransactionId']}"


def test_proceeds_are_let_go_or_kept_by_a_second_person(org: Organization) -> None:
    closed, proceeds = _closing(org, 800_00)
    account = closed["escrowAccountId"]
    assert org.read_ledger(account) == {"cash": 800_00, "issuer_proceeds": 800_00}

    waiting = org.second_admin.get(proceeds)
    assert waiting["allowedActions"] == ["approve", "reject", "cancel"]
    assert org.admin.get(proceeds)["allowedActions"] == ["cancel"]
    etag = waiting["etag"]
    org.admin.expect_refusal(403, "MAKER_IS_CHECKER", "POST", f"{proceeds}/approve", etag=etag)
    org.sponsor.expect_refusal(403, "PERMISSION_DENIED", "POST", f"{proceeds}/approve", etag=etag)
    org.second_admin.expect_refusal(428, "ETAG_REQUIRED", "POST", f"{proceeds}/approve")
    rejected = org.second_admin.decide(proceeds, "reject", {"note": "The account is being checked."})

    assert rejected["status"] == "CANCELLED"
    # What was read before somebody else decided is no basis for a decision.
    org.second_admin.expect_refusal(412, "ETAG_MISMATCH", "POST", f"{proceeds}/approve", etag=etag)
    etag = rejected["etag"]
    org.second_admin.expect_refusal(422, "ILLEGAL_STATUS_CHANGE", "POST", f"{proceeds}/approve", etag=etag)
    assert org.read_movements(closed["proceedsTransactionId"]) == []
    assert org.read_ledger(account) == {"cash": 800_00, "issuer_proceeds": 800_00}
    # Asked for again, they are a new transaction that a second person approves.
    again = _pay_proceeds_again(org, closed)
    org.second_admin.decide(f"/transactions/{again}", "approve")
    org.wait_for_transaction(again, "COMPLETED")
    wait_for("the ledger to be empty", lambda: org.read_ledger(account), lambda read: read == {})
    assert [line["amount_minor"] for line in org.read_movements(again)] == [-800_00]


def _pay_proceeds_again(org: Organization, closed: Json) -> str:
    path = f"/offerings/{closed['offeringId']}"
    wait_for("the offering to know why", lambda: org.admin.get(path), lambda read: read.get("proceedsFailure"))
    org.do_together(f"{path}/proceeds/resend")
    read = org.wait_for_offering(
        closed["offeringId"],
        lambda read: read["proceedsTransactionId"] != closed["proceedsTransactionId"],
    )
    org.wait_for_transaction(read["proceedsTransactionId"], "PENDING_APPROVAL")
    return str(read["proceedsTransactionId"])


def test_nothing_leaves_a_frozen_account(org: Organization) -> None:
    closed, proceeds = _closing(org, 600_00)
    account = closed["escrowAccountId"]
    org.admin.post(f"/escrow-accounts/{account}/freeze", {"note": "A court order."})

    org.second_admin.decide(proceeds, "approve")

    org.wait_for_transaction(closed["proceedsTransactionId"], "QUEUED")
    other = org.make_closed_offering(100_00)  # whose proceeds are paid meanwhile
    org.wait_for_transaction(other["proceedsTransactionId"], "COMPLETED")
    assert org.admin.get(f"/transactions/{closed['proceedsTransactionId']}")["status"] == "QUEUED"
    assert org.read_movements(closed["proceedsTransactionId"]) == []
    assert org.read_ledger(account) == {"cash": 600_00, "issuer_proceeds": 600_00}
    org.do_together(f"/escrow-accounts/{account}/unfreeze")
    org.wait_for_transaction(closed["proceedsTransactionId"], "COMPLETED")
    wait_for("the ledger to be empty", lambda: org.read_ledger(account), lambda read: read == {})
    org.assert_books_balance(account)


def test_a_distribution_is_approved_as_it_was_seen_and_paid_from_cash_that_is_there(org: Organization) -> None:
    offering = org.make_closed_offering(1_000_00)
    org.add_distributable_cash(offering, 99_99)
    draft = org.calculate_distribution(offering, 100_00)
    path = f"/distributions/{draft['distributionId']}"
    org.admin.expect_refusal(422, "ILLEGAL_STATUS_CHANGE", "POST", f"{path}/execute", {})
    etag = org.admin.post(f"{path}/submit")["etag"]

    seen = {"contentHash": draft["contentHash"]}
    org.second_admin.expect_refusal(428, "ETAG_REQUIRED", "POST", f"{path}/approve", seen)
    org.admin.expect_refusal(403, "MAKER_IS_CHECKER", "POST", f"{path}/approve", seen, etag=etag)
    stale = org.second_admin.expect_refusal(
        422, "CONTENT_CHANGED", "POST", f"{path}/approve", {"contentHash": "0" * 64}, etag=etag
    )
    assert stale.metadata["contentHash"] == draft["contentHash"]
    org.second_admin.expect_refusal(422, "ILLEGAL_STATUS_CHANGE", "POST", f"{path}/calculate", {})
    sent_back = org.second_admin.post(f"{path}/reject", {"note": "Look again."}, etag=etag)
    assert sent_back["status"] == "DRAFT"
    org.admin.post(f"{path}/submit")
    org.second_admin.expect_refusal(412, "ETAG_MISMATCH", "POST", f"{path}/approve", seen, etag=etag)
    org.second_admin.decide(path, "approve", seen)

    short = org.admin.expect_refusal(422, "INSUFFICIENT_DISTRIBUTABLE_CASH", "POST", f"{path}/execute", {})
    assert short.metadata == {"availableMinor": "9999", "requestedMinor": "10000", "currencyCode": "USD"}
    org.add_distributable_cash(offering, 1, total_minor=100_00)
    org.admin.post(f"{path}/execute")
    org.wait_for_distribution(draft["distributionId"], "COMPLETED")
    wait_for("the ledger to be empty", lambda: org.read_ledger(offering["escrowAccountId"]), lambda read: read == {})
    org.admin.expect_refusal(422, "ILLEGAL_STATUS_CHANGE", "POST", f"{path}/execute", {})


def test_a_payout_that_comes_back_is_owed_again_and_sent_to_another_account(org: Organization) -> None:
    investor = org.add_cleared_party()
    offering = org.make_closed_offering({investor: 1_000_00})
    org.add_distributable_cash(offering, 500_00)
    org.add_payable_account(investor, COMES_BACK_AS_R02)
    approved = org.approve_distribution(offering, 500_00)
    path = f"/distributions/{approved['distributionId']}"
    org.admin.post(f"{path}/execute")
    org.wait_for_distribution(approved["distributionId"], "COMPLETED")

    org.move_clock(org.now() + timedelta(days=6))

    failed = org.wait_for_distribution(approved["distributionId"], "PARTIALLY_FAILED", "FAILED")
    assert failed["failure"]
    allocations = org.admin.get(f"{path}/allocations")["allocations"]
    [returned] = [one for one in allocations if one["status"] == "RETURNED"]
    assert (returned["partyId"], returned["failure"]["metadata"]) == (investor, {"networkCode": "R02"})
    owed = minor_of(returned["amount"])
    account = offering["escrowAccountId"]
    assert org.wait_for_ledger(account, f"payable:{investor}", owed) == {"cash": owed, f"payable:{investor}": owed}
    other = org.add_payable_account(investor, AT_ONCE)
    org.do_together(f"{path}/allocations/{returned['allocationId']}/resend", {"bankAccountId": other})

    done = org.wait_for_distribution(approved["distributionId"], "COMPLETED")
    assert done["paidAmount"] == usd(500_00)
    wait_for("the ledger to be empty", lambda: org.read_ledger(account), lambda read: read == {})
    org.assert_books_balance(account)
    [again] = [one for one in org.admin.get(f"{path}/allocations")["allocations"] if one["partyId"] == investor]
    assert (again["status"], again["attempts"]) == ("COMPLETED", 2)
    payouts = [returned["transactionId"], again["transactionId"]]
    assert [[line["amount_minor"] for line in org.read_movements(one)] for one in payouts] == [[-owed, owed], [-owed]]


def test_a_fee_is_booked_and_a_draw_is_kept_back_by_two_persons_and_paid_by_two_persons(org: Organization) -> None:
    offering, builder = org.make_closed_offering(100_00), org.add_cleared_party(kind="LLC")
    account, of_builder = offering["escrowAccountId"], org.add_payable_account(builder)
    org.add_distributable_cash(offering, 1_000_00)
    for type_, kind, minor in (("FEE", "FEES", 50_00), ("ADJUSTMENT", "RESERVES", 400_00)):
        entry = {**build_entry("DISTRIBUTABLE", kind, minor), "type": type_}
        org.do_together(f"/escrow-accounts/{account}/journal-entries", {"journalEntry": entry})
    order = {"paymentMethod": "ACH", "escrowAccountId": account, "partyId": builder, "bankAccountId": of_builder}
    fee = {"type": "PLATFORM_FEE", "amount": usd(50_00), "description": "Fee of the first quarter"}
    draw = {"type": "CONSTRUCTION_DRAW", "amount": usd(250_00), "description": "Draw 1: foundations"}
    made = [org.admin.post("/transactions", order | wanted) for wanted in (fee, draw)]
    assert {(one["direction"], one["status"]) for one in made} == {("OUT", "PENDING_APPROVAL")}
    for one in made:
        path = f"/transactions/{one['transactionId']}"
        org.admin.expect_refusal(403, "MAKER_IS_CHECKER", "POST", f"{path}/approve", etag=one["etag"])
        org.second_admin.decide(path, "approve")
        org.wait_for_transaction(one["transactionId"], "COMPLETED")
    left = {"cash": 700_00, "distributable": 550_00, "reserves": 150_00}
    wait_for("the ledger to say so", lambda: org.read_ledger(account), lambda read: read == left)
    org.assert_books_balance(account)


def test_what_a_late_return_left_owing_blocks_what_its_investor_is_paid_until_it_is_set_off(org: Organization) -> None:
    """R10 after the release: book, bank and transactions agree at the end, and nobody owes anything."""
    investor = org.add_cleared_party()
    offering = org.make_closed_offering({investor: 1_000_00}, LATE_R10)
    account, path = offering["escrowAccountId"], f"/offerings/{offering['offeringId']}"
    org.add_distributable_cash(offering, 1_500_00)
    [contribution] = org.admin.get("/transactions", partyId=investor)["transactions"]
    org.move_clock(datetime.fromisoformat(contribution["settleTime"]) + timedelta(days=31))
    owed = f"returns_receivable:{investor}"
    assert org.wait_for_ledger(account, owed, 1_000_00) == {"cash": 500_00, "distributable": 1_500_00, owed: 1_000_00}
    org.add_payable_account(investor)  # the bank took it back from the one before, which is blocked

    first = f"/distributions/{org.approve_distribution(offering, 500_00)['distributionId']}"
    org.admin.post(f"{first}/execute")
    org.wait_for_distribution(first.rpartition("/")[2], "FAILED")
    [blocked] = org.admin.get(f"{first}/allocations")["allocations"]
    assert (blocked["failure"]["code"], blocked["failure"]["metadata"]["owedMinor"]) == ("PARTY_OWES", "100000")
    assert blocked["setOffAmount"] == usd(0)

    changed = org.do_together(
        f"{path}/change-receivables-policy", {"receivablesPolicy": "SET_OFF"}, etag=org.admin.get(path)["etag"]
    )
    assert changed["receivablesPolicy"] == "SET_OFF"
    org.do_together(f"{first}/allocations/{blocked['allocationId']}/resend")
    org.wait_for_distribution(first.rpartition("/")[2], "COMPLETED")
    [whole] = org.admin.get(f"{first}/allocations")["allocations"]
    assert (whole["setOffAmount"], "transactionId" in whole) == (usd(500_00), False)
    assert org.read_ledger(account) == {"cash": 500_00, "distributable": 1_000_00, owed: 500_00}

    second = f"/distributions/{org.approve_distribution(offering, 1_000_00)['distributionId']}"
    org.admin.post(f"{second}/execute")
    org.wait_for_distribution(second.rpartition("/")[2], "COMPLETED")
    parts = {one["partyId"]: one for one in org.admin.get(f"{second}/allocations")["allocations"]}
    assert minor_of(parts[investor]["setOffAmount"]) == 500_00
    paid = org.admin.get(f"/transactions/{parts[investor]['transactionId']}")["amount"]
    assert minor_of(paid) == minor_of(parts[investor]["amount"]) - 500_00
    wait_for("the ledger to be empty", lambda: org.read_ledger(account), lambda read: read == {})
    org.assert_books_balance(account)
    org.wait_for_investment(
        contribution["investmentId"],
        lambda read: (minor_of(read["receivableAmount"]), minor_of(read["clearedAmount"])) == (0, 1_000_00),
    )
    entries = org.admin.get(f"/escrow-accounts/{account}/journal-entries", pageSize="1000")["journalEntries"]
    set_off = [one for one in entries if one["type"] == "SET_OFF"]
    named = [(one["investmentId"], f"/distributions/{one['distributionId']}") for one in set_off]
    assert sorted(named) == sorted((contribution["investmentId"], each) for each in (first, second))
    listed = org.admin.get("/transactions", escrowAccountId=account)["transactions"]
    signs = {"IN": 1, "OUT": -1}
    done = [signs[one["direction"]] * minor_of(one["amount"]) for one in listed if one["status"] == "COMPLETED"]
    by_wire = [one["transactionId"] for one in listed if one["paymentMethod"] == "WIRE"]
    at_the_bank = [line["amount_minor"] for one in listed for line in org.read_movements(one["transactionId"])]
    assert (len(by_wire), sum(done), sum(at_the_bank) + 1_500_00) == (1, 0, 0)


def test_cash_of_the_issuer_moves_to_its_other_escrow_account_by_three_persons(org: Organization) -> None:
    offering = org.make_closed_offering(100_00)
    source, to = offering["escrowAccountId"], org.open_escrow_account()
    org.add_distributable_cash(offering, 1_000_00)
    third = org.sign_in("admin", "admin-3")
    order = {
        "type": "TRANSFER",
        "paymentMethod": "INTERNAL_TRANSFER",
        "amount": usd(400_00),
        "escrowAccountId": source,
        "toEscrowAccountId": to,
        "partyId": org.sponsor_party_id,
    }
    for end in ("made", "not made"):
        made = org.admin.post("/transactions", order)
        path = f"/transactions/{made['transactionId']}"
        org.admin.expect_refusal(403, "MAKER_IS_CHECKER", "POST", f"{path}/approve", etag=made["etag"])
        org.second_admin.decide(path, "approve")
        org.wait_for_transaction(made["transactionId"], "PENDING_SETTLEMENT")
        if end == "made":
            third.decide(path, "confirm", {"bankReference": "BOOK-1", "amount": usd(400_00)})
            org.wait_for_transaction(made["transactionId"], "COMPLETED")
        else:
            org.do_together(f"{path}/record-return", {"kind": "NOT_SENT", "note": "The custodian has not made it."})
            org.wait_for_transaction(made["transactionId"], "FAILED")
        left = {"cash": 600_00, "distributable": 600_00}
        wait_for("the one book to say so", lambda: org.read_ledger(source), lambda read, left=left: read == left)
        assert org.read_ledger(to) == {"cash": 400_00, "distributable": 400_00}
    for account in (source, to):
        org.assert_books_balance(account)
