"""Money goes out: a year later cash arrives, the waterfall divides it, and everybody is paid, one at second try."""

from __future__ import annotations

from demo import cast
from demo.cast import AT_ONCE, BEN, OAK
from demo.client import Json, Unexpected, expect
from demo.money import minor, spelled, usd
from demo.money_in import review_all
from demo.stage import Stage
from demo.waiting import wait_for


def a_year_later(stage: Stage) -> str:
    stage.move_clock(cast.DISTRIBUTING)
    expired = wait_for(
        "compliance to ask again about all parties",
        stage.pending_checks,
        lambda checks: len(checks) == 2 * len(cast.PARTIES),
        len,
    )
    review_all(stage, "Seen again after a year.")
    return f"{len(expired)} checks are older than a year and EXPIRED; all PASSED again"


def cash_arrives(stage: Stage) -> str:
    wire = stage.sponsor.post(
        "/transactions",
        "announces a wire",
        {
            "type": "DEPOSIT",
            "paymentMethod": "WIRE",
            "amount": usd(cast.DISTRIBUTION_MINOR),
            "escrowAccountId": stage.escrow_account_id,
            "partyId": OAK.id,
            "description": "Sale of Oak Street Apartments",
        },
    )
    wire_id = wire["transactionId"]
    stage.transaction_in(wire_id, "PENDING_SETTLEMENT")
    stage.admin.post(f"/transactions/{wire_id}/confirm", "confirms the wire", {"bankReference": "20260101FW000417"})
    status = stage.transaction_in(wire_id, "COMPLETED")["status"]
    stage.wait_for_ledger_account("distributable", available=cast.DISTRIBUTION_MINOR)
    return f"a wire announced by {wire['createdBy']}, confirmed by {cast.ADMIN}: {status}, distributable"


def calculation(stage: Stage) -> str:
    drafted = stage.sponsor.post(
        "/distributions",
        "drafts the distribution",
        {
            "offeringId": stage.offering_id,
            "type": "PROFIT_SPLIT",
            "amount": usd(cast.DISTRIBUTION_MINOR),
            "distributionDate": cast.DISTRIBUTING.date().isoformat(),
            "description": "Sale of Oak Street Apartments",
        },
    )
    stage.distribution_id = drafted["distributionId"]
    calculated = stage.sponsor.post(f"/distributions/{stage.distribution_id}/calculate", "calculates")
    if (found := tiers(calculated)) != dict(cast.TIERS):
        raise Unexpected(f"The tiers are {found}, not {dict(cast.TIERS)}")
    if (divided := divisions(stage.allocations())) != dict(cast.ALLOCATIONS):
        raise Unexpected(f"The allocations are {divided}, not {dict(cast.ALLOCATIONS)}")
    return "to the cent: " + ", ".join(f"{payee} {spelled(sum(parts))}" for payee, parts in divided.items())


def tiers(distribution: Json) -> dict[str, tuple[int, int]]:
    """What each tier pays: (to investors, to the sponsor)."""
    return {
        total["tier"]: (minor(total.get("investorsAmount")), minor(total.get("sponsorAmount")))
        for total in distribution["tierTotals"]
    }


def divisions(allocations: dict[str, Json]) -> dict[str, tuple[int, ...]]:
    """What each payee gets: (capital, preferred return, catch-up, split)."""
    words = ("returnOfCapital", "preferredReturn", "catchUp", "split")
    return {
        payee: tuple(minor(allocation.get(word)) for word in words) for payee, allocation in sorted(allocations.items())
    }


def approval(stage: Stage) -> str:
    path = f"/distributions/{stage.distribution_id}"
    submitted = stage.sponsor.post(f"{path}/submit", "submits")
    content = {"contentHash": submitted["contentHash"]}
    own = stage.sponsor.refused(f"{path}/approve", "approves their own distribution", content)
    expect(own, 403, "MAKER_IS_CHECKER")
    approved = stage.admin.post(f"{path}/approve", "approves the distribution", content)
    return (
        f"{submitted['status']}; {cast.SPONSOR_STAFF}'s own approval is refused ({own.status} {own.code}); "
        f"{approved['approvedBy']} approves exactly the content {content['contentHash'][:12]}…: {approved['status']}"
    )


def execution(stage: Stage) -> str:
    stage.admin.post(f"/distributions/{stage.distribution_id}/execute", "executes the distribution")
    distribution = stage.distribution_in("PARTIALLY_FAILED")
    allocations = stage.allocations()
    failed = {payee: allocation for payee, allocation in allocations.items() if allocation["status"] == "FAILED"}
    if list(failed) != [BEN.id]:
        raise Unexpected(f"The allocations are { {payee: one['status'] for payee, one in allocations.items()} }")
    stage.failed_allocation = failed[BEN.id]
    failure = stage.failed_allocation["failure"]
    if "R03" not in failure:
        raise Unexpected(f"The allocation does not say why it failed: {failure!r}")
    # The money is owed again, not lost.
    stage.wait_for_ledger_account(f"payable:{BEN.id}", posted=minor(stage.failed_allocation["total"]))
    return f"{distribution['status']}: three are paid, {BEN.id} is not: {failure}"


def second_try(stage: Stage) -> str:
    account = stage.add_bank_account(BEN.id, BEN, AT_ONCE, for_payouts=True)
    allocation_id = stage.failed_allocation["allocationId"]
    path = f"/distributions/{stage.distribution_id}/allocations/{allocation_id}/resend"
    stage.admin.post(path, "pays inv-002 again", {"bankAccountId": account})
    distribution = stage.distribution_in("COMPLETED")
    stage.wait_for_ledger_account("cash", posted=0)
    stage.wait_for_ledger_account("in_transit", posted=0, pending=0)
    allocation = stage.allocations()[BEN.id]
    return f"attempt {allocation['attempts']} {allocation['status']}; the distribution is {distribution['status']}"
