"""The offering closes: not too early, then through its closing gates; and the sponsor is paid the proceeds."""

from __future__ import annotations

from demo import cast
from demo.harness.money import format_minor, minor_of
from demo.harness.polling import wait_for
from demo.harness.rest import Json, UnexpectedAnswer
from demo.run import DemoRun


def try_to_close_early(run: DemoRun) -> str:
    shut = [gate["name"] for gate in read_closing_gates(run)["gates"] if not gate["passed"]]
    refusal = run.admin.expect_refusal(
        422, "CLOSING_GATES_NOT_MET", "POST", f"/offerings/{run.offering_id}/close", deed="tries to close in December"
    )
    if set(refusal.metadata) != set(shut) or not shut:
        raise UnexpectedAnswer(f"The refusal names {sorted(refusal.metadata)}, but shut are {sorted(shut)}")
    workings = "".join(f"\n      shut: {name}: {working}" for name, working in refusal.metadata.items())
    return f"refused ({refusal.status} {refusal.code}){workings}"


def read_closing_gates(run: DemoRun) -> Json:
    return run.auditor.get(f"/offerings/{run.offering_id}/closing-gates")


def close_offering(run: DemoRun) -> str:
    run.move_clock(cast.CLOSING)
    gates = wait_for(
        "all closing gates to be open", lambda: read_closing_gates(run), lambda gates: bool(gates["allPassed"])
    )
    run.admin.post(f"/offerings/{run.offering_id}/close", deed="closes the offering")
    approval = run.approve(run.read_in_inbox(kind="CLOSE_OFFERING"))
    closed = wait_for("the offering to be CLOSED and the payout asked for", lambda: read_offering(run), is_closed)
    return (
        f"in the inbox: {describe(approval)}\n"
        f"      all {len(gates['gates'])} gates open; CLOSED on {closed['closingDate']}; "
        "preferred return accrues from now"
    )


def describe(approval: Json) -> str:
    """One line of the inbox, and who made it what it is."""
    amount = format_minor(minor_of(approval["amount"]))
    return f"{approval['summary']}, {amount}, asked by {approval['createdBy']}, approved by {approval['decidedBy']}"


def read_offering(run: DemoRun) -> Json:
    return run.auditor.get(f"/offerings/{run.offering_id}")


def is_closed(offering: Json) -> bool:
    return offering["status"] == "CLOSED" and bool(offering.get("proceedsTransactionId"))


def pay_proceeds(run: DemoRun) -> str:
    transaction_id = read_offering(run)["proceedsTransactionId"]
    payout = run.wait_for_transaction(transaction_id, "PENDING_APPROVAL")
    path, deed = f"/transactions/{transaction_id}", "approves their own payout"
    own = run.admin.expect_refusal(403, "MAKER_IS_CHECKER", "POST", f"{path}/approve", deed=deed, etag=payout["etag"])
    read = run.read_in_inbox(resourceId=transaction_id)
    run.approve(read)
    paid = run.wait_for_transaction(transaction_id, "COMPLETED")
    run.wait_for_ledger_account("CASH", posted=0)
    explanations = "".join(f"\n      {each['statement']}" for each in read["explanations"])
    return (
        f"{format_minor(minor_of(payout['amount']))} waits for approval; the closer's own is refused "
        f"({own.status} {own.code}), {paid['approvedBy']}'s accepted in the inbox; {paid['status']}"
        f"\n      inbox: {read['summary']}{explanations}"
    )
