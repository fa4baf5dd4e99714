"""When an escrow account ends: nothing is in its book, and nothing is to come into it."""

from __future__ import annotations

import json

import pytest
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.type.v1.approval_pb2 import Approval

from tests.support.escrow import refusal


@pytest.mark.parametrize(
    ("legs", "named"),
    [
        ((("cash", 5), ("fees", -5)), ("fees", "5")),
        ((("returns_receivable:inv-001", 5), ("fees", -5)), ("fees", "5")),
    ],
)
async def test_an_account_closes_when_everything_is_zero(escrow, legs, named):
    account = await escrow.open()
    close = accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account)
    await escrow.post(account, *legs)
    reason, metadata = await refusal(escrow.call("CloseEscrowAccount", close))
    assert (reason, metadata) == (
        "BALANCES_NOT_ZERO",
        {"ledger_account_kind": named[0].upper(), "posted_minor": named[1], "currency_code": "USD"},
    )
    await escrow.post(account, *((code, -minor) for code, minor in legs))
    closed = await escrow.call("CloseEscrowAccount", close)
    assert closed.status == accounts_pb.EscrowAccount.CLOSED
    assert await escrow.call("CloseEscrowAccount", close) == closed
    assert (await refusal(escrow.unfreeze(account)))[0] == "ILLEGAL_STATUS_CHANGE"
    assert (await refusal(escrow.hold(account, "fees", 1)))[0] == "ESCROW_ACCOUNT_CLOSED"


async def test_an_account_closes_when_nothing_is_to_come_of_it_which_is_asked_again_when_it_is_done(escrow):
    """A raise that goes on, a debit that is presented again, a payout that may come back: in no balance yet."""
    account = await escrow.open()
    close = accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account)
    asked = await escrow.ask("CloseEscrowAccount", close)
    for known, ids, name in (
        (escrow.distributions.open, ["off_1"], "offering_ids"),
        (escrow.payer.unfinished, ["txn_1", "txn_2"], "transaction_ids"),
    ):
        known[account] = ids
        reason, metadata = await refusal(escrow.call("CloseEscrowAccount", close))
        assert (reason, metadata) == ("ESCROW_ACCOUNT_STILL_NEEDED", {name: json.dumps(ids)})
        del known[account]
    escrow.distributions.open[account] = ["off_1"]
    done = await escrow.approve(asked)
    assert (done.status, done.failure.code) == (Approval.FAILED, "ESCROW_ACCOUNT_STILL_NEEDED")
    del escrow.distributions.open[account]
    assert (await escrow.call("CloseEscrowAccount", close)).status == accounts_pb.EscrowAccount.CLOSED
    escrow.distributions.open[account] = ["off_1"]  # it is closed all the same
    assert (await escrow.call("CloseEscrowAccount", close)).status == accounts_pb.EscrowAccount.CLOSED
