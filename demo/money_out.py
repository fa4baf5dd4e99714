"""Money goes out: a year later cash arrives, the waterfall divides it, and everybody is paid, one at the second try."""

from __future__ import annotations

from demo import cast
from demo.cast import BEN, OAK
from demo.closing import describe
from demo.harness.bank import AT_ONCE
from demo.harness.money import format_minor, minor_of, usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json, UnexpectedAnswer
from demo.money_in import review_all_checks
from demo.run import DemoRun


def pass_a_year(run: DemoRun) -> str:
    run.move_clock(cast.DISTRIBUTING)
    expired = wait_for(
        "compliance to ask again about all parties",
        run.list_pending_checks,
        lambda checks: len(checks) == 2 * len(cast.PARTIES),
        len,
    )
    review_all_checks(run)
    return f"{len(expired)} checks are older than a year and EXPIRED; all PASSED again"


def receive_cash(run: DemoRun) -> str:
    wire = run.sponsor.post(
        "/transactions",
        {
            "type": "DEPOSIT",
            "paymentMethod": "WIRE",
            "amount": usd(cast.DISTRIBUTION_MINOR),
            "escrowAccountId": run.escrow_account_id,
            "partyId": run.party_ids[OAK.id],
            "description": "Sale of Oak Street Apartments",
        },
        deed="announces a wire",
    )
    wire_id = wire["transactionId"]
    run.wait_for_transaction(wire_id, "PENDING_SETTLEMENT")
    arrival = {"bankReference": "20260101FW000417", "amount": usd(cast.DISTRIBUTION_MINOR)}
    said = {"amount": usd(cast.DISTRIBUTION_MINOR), "note": "By the bank's statement of today."}
    run.officer.decide(f"/transactions/{wire_id}", "correct-amount", said, deed="says what the bank brings")
    run.admin.decide(f"/transactions/{wire_id}", "confirm", arrival, deed="confirms the wire")
    status = run.wait_for_transaction(wire_id, "COMPLETED")["status"]
    run.wait_for_ledger_account("DISTRIBUTABLE", available=cast.DISTRIBUTION_MINOR)
    by = f"announced by {wire['createdBy']}, said to have come by {cast.OFFICER}, confirmed by {cast.ADMIN}"
    return f"a wire {by}: {status}, distributable"


def calculate_distribution(run: DemoRun) -> str:
    drafted = run.sponsor.post(
        "/distributions",
        {
            "offeringId": run.offering_id,
            "type": "PROFIT_SPLIT",
            "amount": usd(cast.DISTRIBUTION_MINOR),
            "distributionDate": cast.DISTRIBUTING.date().isoformat(),
            "description": "Sale of Oak Street Apartments",
        },
        deed="drafts the distribution",
    )
    run.distribution_id = drafted["distributionId"]
    calculated = run.sponsor.post(f"/distributions/{run.distribution_id}/calculate", deed="calculates")
    if (found := read_tiers(calculated)) != dict(cast.TIERS):
        raise UnexpectedAnswer(f"The tiers are {found}, not {dict(cast.TIERS)}")
    if (divided := read_shares(run.list_allocations())) != dict(cast.ALLOCATIONS):
        raise UnexpectedAnswer(f"The allocations are {divided}, not {dict(cast.ALLOCATIONS)}")
    return "to the cent: " + ", ".join(f"{payee} {format_minor(sum(parts))}" for payee, parts in divided.items())


def read_tiers(distribution: Json) -> dict[str, tuple[int, int]]:
    """What each tier pays: (to investors, to the sponsor)."""
    return {
        total["kind"]: (minor_of(total["investorsAmount"]), minor_of(total["sponsorAmount"]))
        for total in distribution["tierTotals"]
    }


def read_shares(allocations: dict[str, Json]) -> dict[str, tuple[int, ...]]:
    """What each payee gets: (capital, preferred return, catch-up, split)."""
    lines = {
        payee: {line["kind"]: minor_of(line["amount"]) for line in allocation["lines"]}
        for payee, allocation in sorted(allocations.items())
    }
    return {payee: tuple(by_kind.get(kind, 0) for kind in cast.TIERS) for payee, by_kind in lines.items()}


def approve_distribution(run: DemoRun) -> str:
    path = f"/distributions/{run.distribution_id}"
    submitted = run.sponsor.post(f"{path}/submit", deed="submits")
    content, etag = {"contentHash": submitted["contentHash"]}, submitted["etag"]
    own = run.sponsor.expect_refusal(
        403, "MAKER_IS_CHECKER", "POST", f"{path}/approve", content, deed="approves their own distribution", etag=etag
    )
    waiting = run.read_in_inbox(kind="APPROVE_DISTRIBUTION")
    if waiting["contentHash"] != submitted["contentHash"]:
        raise UnexpectedAnswer("The inbox asks for another content than the distribution's")
    approved = run.admin.post(f"{path}/approve", content, deed="approves the distribution", etag=etag)
    return (
        f"in the inbox: {waiting['summary']}\n"
        f"      {submitted['status']}; {cast.SPONSOR_STAFF}'s own approval is refused ({own.status} {own.code}); "
        f"{approved['approvedBy']} approves exactly the content {content['contentHash'][:12]}…: {approved['status']}"
    )


def execute_distribution(run: DemoRun) -> str:
    run.admin.post(f"/distributions/{run.distribution_id}/execute", deed="executes the distribution")
    distribution = run.wait_for_distribution("PARTIALLY_FAILED")
    allocations = run.list_allocations()
    failed = {payee: allocation for payee, allocation in allocations.items() if allocation["status"] == "FAILED"}
    if list(failed) != [BEN.id]:
        raise UnexpectedAnswer(f"The allocations are { {payee: one['status'] for payee, one in allocations.items()} }")
    run.failed_allocation = failed[BEN.id]
    failure = run.failed_allocation["failure"]
    code = failure["metadata"].get("networkCode")
    if code != "R03":
        raise UnexpectedAnswer(f"The allocation does not say why it failed: {failure!r}")
    # The money is owed again, not lost.
    run.wait_for_ledger_account("PAYABLE", BEN.id, posted=minor_of(run.failed_allocation["amount"]))
    return f"{distribution['status']}: three are paid, {BEN.id} is not: {code}: {failure['message']}"


def pay_again(run: DemoRun) -> str:
    account = run.add_bank_account(BEN.id, BEN, AT_ONCE, for_payouts=True)
    run.approve(run.read_in_inbox(resourceId=account))
    run.move_clock(cast.PAYING_AGAIN)
    allocation_id = run.failed_allocation["allocationId"]
    path = f"/distributions/{run.distribution_id}/allocations/{allocation_id}/resend"
    run.admin.post(path, {"bankAccountId": account}, deed="pays inv-002 again")
    approval = run.approve(run.read_in_inbox(kind="RESEND_ALLOCATION"))
    distribution = run.wait_for_distribution("COMPLETED")
    run.wait_for_ledger_account("CASH", posted=0)
    run.wait_for_ledger_account("IN_TRANSIT", posted=0, pending=0)
    allocation = run.list_allocations()[BEN.id]
    return (
        f"in the inbox: {describe(approval)}\n"
        f"      attempt {allocation['attempts']} {allocation['status']}; the distribution is {distribution['status']}"
    )
