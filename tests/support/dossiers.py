"""What has a dossier, asked for: one of each kind of a service."""

from __future__ import annotations

from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.type.v1.approval_pb2 import Approval

from tests.support.distributions import DistributionsHarness
from tests.support.peers.transactions import fail_payout


async def ask_for_each_move(distributions: DistributionsHarness) -> tuple[opb.Offering, list[Approval]]:
    """An offering that is open, and an approval of each kind by which money of one moves; the last is its refund."""
    offering = await distributions.offering(150_00)
    for name, minor in (("inv-001", 100_00), ("inv-002", 50_00)):
        await distributions.invest(offering, name, minor)
    paid_out = await distributions.closed_offering(("inv-001", 100_00))
    await distributions.deliver(fail_payout(distributions.transactions.newest("sponsor-1")))
    for party_id in ("sponsor-1", "inv-001"):
        distributions.transactions.add_bank_account(party_id)
    resend = opb.ResendProceedsRequest(offering_id=paid_out.offering_id)
    found = [await distributions.ask(distributions.offerings.ResendProceeds, resend)]
    distribution = await distributions.executed(paid_out, 10_00)
    [owed, *_] = (await distributions.allocations(distribution)).values()
    await distributions.deliver(fail_payout(distributions.transactions.newest(owed.party_id)))
    to = distributions.transactions.add_bank_account(owed.party_id)
    again = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id, allocation_id=owed.allocation_id, bank_account_id=to
    )
    found.append(await distributions.ask(distributions.distributions.ResendAllocation, again))
    late = (await distributions.positions(paid_out))["inv-001"]
    await distributions.fund(paid_out, late, 5_00)
    await distributions.work()
    payout = distributions.transactions.newest("inv-001")
    await distributions.deliver(distributions.gave_back(payout), fail_payout(payout))
    distributions.escrow.post(
        paid_out.escrow_account_id, JournalEntry.REVERSAL, "in_transit", "subscription:inv-001", 5_00
    )
    back = opb.ResendRefundRequest(investment_id=late.investment_id)
    found.append(await distributions.ask(distributions.investments.ResendRefund, back))
    distributions.deposit(paid_out, 10_00)
    next_one = await distributions.submit(await distributions.calculate(await distributions.draft(paid_out, 10_00)))
    found.append(await distributions.find_approval(next_one.distribution_id))
    close = opb.CloseOfferingRequest(offering_id=offering.offering_id)
    found.append(await distributions.ask(distributions.offerings.CloseOffering, close))
    leaving = (await distributions.positions(offering))["inv-002"]
    cancel = opb.CancelInvestmentRequest(investment_id=leaving.investment_id)
    found.append(await distributions.ask(distributions.investments.CancelInvestment, cancel))
    refund = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="The sale fell through.")
    found.append(await distributions.ask(distributions.offerings.RefundOffering, refund))
    return offering, found
