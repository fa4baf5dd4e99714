"""The offering ends: too early it may not close; then it closes through its gates, and the sponsor is paid."""

from __future__ import annotations

from demo import cast
from demo.client import Json, Unexpected, expect
from demo.money import minor, spelled
from demo.stage import Stage
from demo.waiting import wait_for


def too_early(stage: Stage) -> str:
    shut = [gate["name"] for gate in closing_gates(stage)["gates"] if not gate["passed"]]
    refusal = stage.admin.refused(f"/offerings/{stage.offering_id}/close", "tries to close in December")
    expect(refusal, 422, "CLOSING_GATES_NOT_MET")
    if set(refusal.metadata) != set(shut) or not shut:
        raise Unexpected(f"The refusal names {sorted(refusal.metadata)}, but shut are {sorted(shut)}")
    workings = "".join(f"\n      shut: {name}: {working}" for name, working in refusal.metadata.items())
    return f"refused ({refusal.status} {refusal.code}){workings}"


def closing_gates(stage: Stage) -> Json:
    return stage.auditor.get(f"/offerings/{stage.offering_id}/closing-gates")


def closing(stage: Stage) -> str:
    stage.move_clock(cast.CLOSING)
    gates = wait_for(
        "all closing gates to be open", lambda: closing_gates(stage), lambda gates: bool(gates["allPassed"])
    )
    stage.admin.post(f"/offerings/{stage.offering_id}/close", "closes the offering")
    closed = wait_for("the offering to be CLOSED and the payout asked for", lambda: offering(stage), is_closed)
    return (
        f"all {len(gates['gates'])} gates open; CLOSED on {closed['closingDate']} with {spelled(cast.TARGET_MINOR)}; "
        "preferred return accrues from now"
    )


def offering(stage: Stage) -> Json:
    return stage.auditor.get(f"/offerings/{stage.offering_id}")


def is_closed(offering: Json) -> bool:
    return offering["status"] == "CLOSED" and bool(offering.get("proceedsTransactionId"))


def proceeds(stage: Stage) -> str:
    transaction_id = offering(stage)["proceedsTransactionId"]
    payout = stage.transaction_in(transaction_id, "PENDING_APPROVAL")
    own = stage.admin.refused(f"/transactions/{transaction_id}/approve", "approves their own payout")
    expect(own, 403, "MAKER_IS_CHECKER")
    stage.officer.post(f"/transactions/{transaction_id}/approve", "approves the sponsor's payout")
    paid = stage.transaction_in(transaction_id, "COMPLETED")
    stage.wait_for_ledger_account("cash", posted=0)
    return (
        f"{spelled(minor(payout['amount']))} waits for approval; the closer's own is refused ({own.status} {own.code}),"
        f" {paid['approvedBy']}'s accepted; {paid['status']}"
    )
