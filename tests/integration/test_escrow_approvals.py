"""What a second person reads about what the book is asked for by hand, and that nothing else is done."""

from __future__ import annotations

import dataclasses

import pytest
from realco.approvals.v1 import approvals_pb2
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import journal_pb2 as journal_pb

from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.auth import acting_as
from services.chassis.values.refusals import ContentChanged
from tests.support.escrow import Escrow, key, new_entry


class ForNobody:
    """The checker acts for no party."""

    async def list_current(self, _: object) -> frozenset[str]:
        return frozenset()

    list_heard = list_interests = list_current


@pytest.mark.parametrize(
    ("legs", "gaining"),
    [
        ((("distributable", 200), ("cash", -200)), []),
        ((("cash", 200), ("distributable", -200)), []),
        ((("suspense", 200), ("subscription:inv-001", -200)), ["inv-001"]),
        ((("subscription:inv-001", 200), ("suspense", -200)), []),
    ],
    ids=["cash leaves", "cash comes", "a party is owed more", "a party is owed less"],
)
async def test_the_amount_of_an_entry_is_what_its_debits_are(escrow: Escrow, legs, gaining):
    account = await escrow.open()
    await escrow.post(
        account, ("cash", 1000), ("distributable", -300), ("subscription:inv-001", -200), ("suspense", -500)
    )
    request = journal_pb.PostJournalEntryRequest(
        escrow_account_id=account, idempotency_key=key(), journal_entry=new_entry(*legs)
    )
    approval = await escrow.ask("PostJournalEntry", request)
    assert (approval.amount.amount_minor, list(approval.beneficiary_party_ids)) == (200, gaining)


async def test_who_was_to_close_an_active_account_does_not_close_one_that_was_frozen_meanwhile(escrow: Escrow):
    account = await escrow.open()
    asked = await escrow.ask("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account))
    await escrow.freeze(account)
    approve = approvals_pb2.ApproveApprovalRequest(
        idempotency_key=key(), approval_id=asked.approval_id, content_hash=asked.content_hash, etag=asked.etag
    )
    with acting_as(dataclasses.replace(escrow.admin, subject="admin-2")), pytest.raises(ContentChanged):
        await ApprovalsServicer(escrow.dependencies, escrow.approvals, ForNobody()).ApproveApproval(approve, None)
    get = accounts_pb.GetEscrowAccountRequest(escrow_account_id=account)
    assert (await escrow.call("GetEscrowAccount", get)).status == accounts_pb.EscrowAccount.FROZEN
