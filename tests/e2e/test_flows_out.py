"""Stories of money out, beyond the demo: who may let it go, an account that holds it, and a payout that comes back."""

from __future__ import annotations

from datetime import timedelta

from tests.e2e.support import AT_ONCE, COMES_BACK_AS_R02, Json, World, minor, new_key, until, usd


def _closing(world: World, amount_minor: int) -> tuple[Json, str]:
    """An offering just closed by the first admin, and the path of its proceeds, which wait for a second person."""
    offering = world.offering(amount_minor)
    world.clear_return_risk(world.funded(offering, world.cleared(), amount_minor))
    world.admin.post(f"/offerings/{offering['offeringId']}/close")
    closed = world.offering_when(offering["offeringId"], lambda read: read.get("proceedsTransactionId"))
    world.transaction_when(closed["proceedsTransactionId"], "PENDING_APPROVAL")
    return closed, f"/transactions/{closed['proceedsTransactionId']}"


def test_proceeds_are_let_go_or_kept_by_a_second_person(world: World) -> None:
    closed, proceeds = _closing(world, 800_00)
    account = closed["escrowAccountId"]
    assert world.ledger(account) == {"cash": 800_00, "issuer_proceeds": 800_00}

    world.admin.refused(403, "MAKER_IS_CHECKER", "POST", f"{proceeds}/approve", {})
    world.sponsor.refused(403, "PERMISSION_DENIED", "POST", f"{proceeds}/approve", {})
    rejected = world.second.post(f"{proceeds}/reject", {"reason": "The account is being checked."})

    assert rejected["status"] == "CANCELLED"
    world.second.refused(422, "ILLEGAL_STATUS_CHANGE", "POST", f"{proceeds}/approve", {})
    assert world.movements(closed["proceedsTransactionId"]) == []
    assert world.ledger(account) == {"cash": 800_00, "issuer_proceeds": 800_00}
    # Asked for again, they are a new transaction that a second person approves.
    again = _pay_proceeds_again(world, closed)
    world.second.post(f"/transactions/{again}/approve")
    world.transaction_when(again, "COMPLETED")
    until(lambda: world.ledger(account), lambda read: read == {})
    assert [line["amount_minor"] for line in world.movements(again)] == [-800_00]


def _pay_proceeds_again(world: World, closed: Json) -> str:
    def asked() -> bool:
        path = f"/offerings/{closed['offeringId']}/close"
        return world.admin.call("POST", path, json={}, headers={"Idempotency-Key": new_key()}).is_success

    until(asked, lambda accepted: accepted, what="the offering knows that its proceeds were not paid")
    read = world.offering_when(
        closed["offeringId"],
        lambda read: read["proceedsTransactionId"] != closed["proceedsTransactionId"],
    )
    world.transaction_when(read["proceedsTransactionId"], "PENDING_APPROVAL")
    return str(read["proceedsTransactionId"])


def test_nothing_leaves_a_frozen_account(world: World) -> None:
    closed, proceeds = _closing(world, 600_00)
    account = closed["escrowAccountId"]
    world.admin.post(f"/escrow-accounts/{account}/freeze", {"reason": "A court order."})

    world.second.post(f"{proceeds}/approve")

    failed = world.transaction_when(closed["proceedsTransactionId"], "FAILED")
    assert failed["failure"]["code"] == "ESCROW_ACCOUNT_FROZEN"
    assert world.movements(closed["proceedsTransactionId"]) == []
    assert world.ledger(account) == {"cash": 600_00, "issuer_proceeds": 600_00}
    world.admin.post(f"/escrow-accounts/{account}/unfreeze")
    again = _pay_proceeds_again(world, closed)
    world.second.post(f"/transactions/{again}/approve")
    world.transaction_when(again, "COMPLETED")
    until(lambda: world.ledger(account), lambda read: read == {})
    world.assert_books_balance(account)


def test_a_distribution_is_approved_as_it_was_seen_and_paid_from_cash_that_is_there(world: World) -> None:
    offering = world.closed_offering(1_000_00)
    world.distributable(offering, 99_99)
    draft = world.calculated(offering, 100_00)
    path = f"/distributions/{draft['distributionId']}"
    world.admin.refused(422, "NOT_APPROVED", "POST", f"{path}/execute", {})
    world.admin.post(f"{path}/submit")

    world.admin.refused(403, "MAKER_IS_CHECKER", "POST", f"{path}/approve", {"contentHash": draft["contentHash"]})
    stale = world.second.refused(422, "CONTENT_CHANGED", "POST", f"{path}/approve", {"contentHash": "0" * 64})
    assert stale["metadata"]["contentHash"] == draft["contentHash"]
    world.second.refused(422, "ILLEGAL_STATUS_CHANGE", "POST", f"{path}/calculate", {})
    sent_back = world.second.post(f"{path}/reject", {"reason": "Look again."})
    assert sent_back["status"] == "DRAFT"
    world.admin.post(f"{path}/submit")
    world.second.post(f"{path}/approve", {"contentHash": draft["contentHash"]})

    short = world.admin.refused(422, "INSUFFICIENT_DISTRIBUTABLE_CASH", "POST", f"{path}/execute", {})
    assert short["metadata"] == {"availableMinor": "9999", "requestedMinor": "10000"}
    world.distributable(offering, 1, total_minor=100_00)
    world.admin.post(f"{path}/execute")
    world.distribution_when(draft["distributionId"], "COMPLETED")
    until(lambda: world.ledger(offering["escrowAccountId"]), lambda read: read == {})
    world.admin.refused(422, "NOT_APPROVED", "POST", f"{path}/execute", {})


def test_a_payout_that_comes_back_is_owed_again_and_sent_to_another_account(world: World) -> None:
    investor = world.cleared()
    offering = world.closed_offering({investor: 1_000_00})
    world.distributable(offering, 500_00)
    world.bank_account(investor, COMES_BACK_AS_R02)
    approved = world.approved(offering, 500_00)
    path = f"/distributions/{approved['distributionId']}"
    world.admin.post(f"{path}/execute")
    world.distribution_when(approved["distributionId"], "COMPLETED")

    world.move_clock(world.now() + timedelta(days=6))

    failed = world.distribution_when(approved["distributionId"], "PARTIALLY_FAILED", "FAILED")
    assert failed["failure"]
    allocations = world.admin.get(f"{path}/allocations")["allocations"]
    [returned] = [one for one in allocations if one["status"] == "RETURNED"]
    assert (returned["partyId"], returned["failure"].split(":")[0]) == (investor, "R02")
    owed = minor(returned["total"])
    account = offering["escrowAccountId"]
    assert world.ledger_when(account, f"payable:{investor}", owed) == {"cash": owed, f"payable:{investor}": owed}
    other = world.bank_account(investor, AT_ONCE)
    world.admin.post(f"{path}/allocations/{returned['allocationId']}/resend", {"bankAccountId": other})

    done = world.distribution_when(approved["distributionId"], "COMPLETED")
    assert done["paidAmount"] == usd(500_00)
    until(lambda: world.ledger(account), lambda read: read == {})
    world.assert_books_balance(account)
    [again] = [one for one in world.admin.get(f"{path}/allocations")["allocations"] if one["partyId"] == investor]
    assert (again["status"], again["attempts"]) == ("COMPLETED", 2)
    payouts = [returned["transactionId"], again["transactionId"]]
    assert [[line["amount_minor"] for line in world.movements(one)] for one in payouts] == [[-owed, owed], [-owed]]
