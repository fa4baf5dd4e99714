"""What a payee owes after a late return: it blocks what is paid to it, or is set off, as the offering says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.distributions.v1.payout_orders_pb2 import BatchGetPayoutOrdersRequest
from realco.escrow.v1.journal_pb2 import JournalEntry as Entry
from realco.type.v1.approval_pb2 import Approval

from services.chassis.data.database import Database
from tests.support.distributions import DistributionsHarness, refusal_of
from tests.support.money import usd
from tests.support.peers.transactions import complete_payout, fail_payout, return_payout

PARTS = (("inv-001", 60_000_00), ("inv-002", 40_000_00))


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def owe(service: DistributionsHarness, offering: opb.Offering, party_id: str, minor: int) -> None:
    """A bank takes back so much of what the closing took."""
    held = (await service.positions(offering))[party_id]
    named = {"investment_id": held.investment_id}
    owed = f"returns_receivable:{party_id}"
    await service.deliver(service.escrow.post(offering.escrow_account_id, Entry.RETURN, owed, "cash", minor, **named))


async def tell(service: DistributionsHarness) -> None:
    """Escrow's events about all that it has set off arrive."""
    await service.deliver(*(event for _, event in service.escrow.set_offs.values()))
    service.escrow.set_offs = {key: (minor, type(event)()) for key, (minor, event) in service.escrow.set_offs.items()}


async def approve_and_execute(service: DistributionsHarness, offering: opb.Offering, minor: int) -> dpb.Distribution:
    distribution = await service.execute(await service.approved(offering, minor))
    await service.work()
    return await service.get(distribution)


@pytest.mark.parametrize("story", ["part of it", "all of it"])
async def test_what_an_investor_owes_is_set_off_against_its_part_and_the_rest_is_paid(
    service: DistributionsHarness, story: str
) -> None:
    owed = 10_000_00 if story == "part of it" else 70_000_00
    offering = await service.closed_offering(*PARTS, receivables_policy=opb.Offering.SET_OFF)
    await service.deliver(complete_payout(service.transactions.newest("sponsor-1")))
    account = offering.escrow_account_id
    service.escrow.post(account, Entry.WITHDRAWAL, "issuer_proceeds", "cash", 100_000_00)
    service.deposit(offering, 100_000_00)
    await owe(service, offering, "inv-001", owed)
    held = (await service.positions(offering))["inv-001"]
    assert (held.receivable_amount, held.cleared_amount) == (usd(owed), usd(max(0, 60_000_00 - owed)))

    waiting = await service.submit(await service.calculate(await service.draft(offering, 100_000_00)))
    told = {each.rule: each.statement for each in (await service.find_approval(waiting.distribution_id)).explanations}
    taken = min(owed, 60_000_00)
    assert told["RECEIVABLES_SET_OFF"].startswith(f"inv-001 owes {owed / 100:,.2f} USD that the bank took back")
    assert f"of which {taken / 100:,.2f} USD is set off, and not paid." in told["DISTRIBUTABLE_CASH"]
    if owed > taken:  # what is left is missing in the cash of all
        service.escrow.post(account, Entry.ADJUSTMENT, "cash", "fees", owed - taken)
    distribution = await service.execute(await service.approve(waiting))
    await service.work()
    await tell(service)

    found = await service.allocations(distribution)
    assert {each: one.set_off_amount for each, one in found.items()} == {"inv-001": usd(taken), "inv-002": usd(0)}
    paid = {each.party_id: each.amount for each in service.transactions.by_key.values() if each.distribution_id}
    rest = {"inv-001": usd(60_000_00 - taken), "inv-002": usd(40_000_00)}
    assert paid == {each: amount for each, amount in rest.items() if amount.amount_minor}
    await service.pay(distribution)
    done = await service.get(distribution)
    assert (done.status, done.paid_amount) == (dpb.Distribution.COMPLETED, usd(100_000_00))
    after = (await service.positions(offering))["inv-001"]
    assert (after.receivable_amount, after.distributed_amount) == (usd(owed - taken), usd(60_000_00))
    assert after.cleared_amount == usd(60_000_00 - (owed - taken))
    [one] = [each for each in (await service.allocations(distribution)).values() if each.party_id == "inv-001"]
    assert (one.status, one.HasField("transaction_id")) == (dpb.Allocation.COMPLETED, taken < 60_000_00)
    assert service.escrow.book[account, "payable:inv-001"] == 60_000_00 - taken, "the payout of the rest takes that"


async def test_without_set_off_nothing_is_asked_of_escrow_and_the_payout_is_of_all(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(*PARTS)
    assert offering.receivables_policy == opb.Offering.BLOCK
    service.deposit(offering, 10_000_00)
    await owe(service, offering, "inv-001", 1_00)
    waiting = await service.submit(await service.calculate(await service.draft(offering, 10_000_00)))
    told = {each.rule: each.statement for each in (await service.find_approval(waiting.distribution_id)).explanations}
    assert told["PARTY_OWES"].startswith("inv-001 owes 1.00 USD")
    await service.execute(await service.approve(waiting))
    await service.work()
    assert service.wire.requests("SetOffReceivables") == []
    assert service.transactions.newest("inv-001").amount == usd(6_000_00)


async def test_what_was_set_off_stays_so_when_the_payout_of_the_rest_fails_and_is_sent_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(*PARTS, receivables_policy=opb.Offering.SET_OFF)
    service.deposit(offering, 10_000_00)
    await owe(service, offering, "inv-001", 1_000_00)
    service.wire.fail("SetOffReceivables", "unanswered")
    distribution = await approve_and_execute(service, offering, 10_000_00)
    assert await service.allocations(distribution), "nobody knows yet what is set off"
    assert service.transactions.by_key.keys() == {f"close:{offering.offering_id}:proceeds"}
    await service.make_due()
    await service.work()
    first = service.transactions.newest("inv-001")
    assert first.amount == usd(5_000_00)
    await service.deliver(fail_payout(first))
    await owe(service, offering, "inv-001", 200_00)
    failed = (await service.allocations(distribution))["inv-001"]
    assert (failed.status, failed.set_off_amount) == (dpb.Allocation.FAILED, usd(1_000_00))
    request = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id, allocation_id=failed.allocation_id
    )
    approval = await service.ask(service.distributions.ResendAllocation, request)
    assert approval.amount == usd(5_000_00)
    await service.grant(approval)
    await service.work()
    again = service.transactions.newest("inv-001")
    assert again.amount == usd(4_800_00)
    await service.deliver(complete_payout(again), return_payout(again))
    back = (await service.allocations(distribution))["inv-001"]
    assert (back.status, back.set_off_amount) == (dpb.Allocation.RETURNED, usd(1_200_00))


async def test_of_a_share_of_which_entries_by_hand_took_some_the_rest_is_sent_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(*PARTS)
    service.deposit(offering, 10_000_00)
    await owe(service, offering, "inv-001", 1_000_00)
    distribution = await approve_and_execute(service, offering, 10_000_00)
    await service.deliver(fail_payout(service.transactions.newest("inv-001"), "PARTY_OWES"))
    legs = "payable:inv-001", "returns_receivable:inv-001"
    service.escrow.post(offering.escrow_account_id, Entry.ADJUSTMENT, *legs, 1_000_00)
    failed = (await service.allocations(distribution))["inv-001"]
    request = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id, allocation_id=failed.allocation_id
    )
    asked = await service.ask(service.distributions.ResendAllocation, request)
    told = {each.rule: each.statement for each in asked.explanations}
    assert told["AMOUNTS_OWED"].startswith("6,000.00 USD is not paid, and 5,000.00 USD is left on PAYABLE")
    assert asked.amount == usd(5_000_00)
    await service.grant(asked)
    await service.work()
    again = service.transactions.newest("inv-001")
    assert again.amount == usd(5_000_00)
    await service.deliver(complete_payout(again))
    done = (await service.allocations(distribution))["inv-001"]
    assert (done.status, done.set_off_amount) == (dpb.Allocation.COMPLETED, usd(1_000_00))


async def test_a_refund_is_set_off_against_what_another_investment_owes_and_goes_once(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(*PARTS, receivables_policy=opb.Offering.SET_OFF)
    await owe(service, offering, "inv-001", 300_00)
    late = (await service.positions(offering))["inv-001"]
    # Money that came after the closing goes back.
    await service.fund(offering, late, 500_00)
    await service.work()
    payout = service.transactions.newest("inv-001")
    assert payout.amount == usd(200_00)
    await service.deliver(complete_payout(payout))
    await service.work()
    assert service.transactions.newest("inv-001") == payout, "escrow's events are late, and nothing is sent twice"
    await tell(service)
    await service.deliver(service.gave_back(payout))
    await service.work()
    assert service.transactions.newest("inv-001").transaction_id == payout.transaction_id
    after = await service.get(late)
    assert (after.funded_amount, after.receivable_amount, after.refundable_amount) == (usd(60_000_00), usd(0), usd(0))
    assert after.cleared_amount == usd(60_000_00)


async def test_escrow_is_told_what_is_to_be_set_off_and_transactions_is_not_told_to_pay_before(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(*PARTS, receivables_policy=opb.Offering.SET_OFF)
    service.deposit(offering, 10_000_00)
    service.wire.fail("SetOffReceivables", "lost")
    distribution = await approve_and_execute(service, offering, 10_000_00)
    keys = [f"alloc:{each.allocation_id}:1" for each in (await service.allocations(distribution)).values()]

    async def read_orders() -> list[bool]:
        request = BatchGetPayoutOrdersRequest(idempotency_keys=keys)
        found = (await service.call(service.payout_orders.BatchGetPayoutOrders, request)).payout_orders
        return [each.sets_off_receivables for each in found]

    assert await read_orders() == [True, True]
    await service.make_due()
    await service.work()
    assert await read_orders() == [False, False]


async def test_the_policy_changes_by_two_persons_and_what_was_approved_before_is_approved_anew(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(*PARTS)
    service.deposit(offering, 10_000_00)
    await owe(service, offering, "inv-001", 1_00)
    approved = await service.approved(offering, 10_000_00)
    waiting = await service.submit(await service.calculate(await service.draft(offering, 1_000_00)))
    before = await service.get(offering)

    def ask(policy: opb.Offering.ReceivablesPolicy, etag: str = before.etag) -> opb.ChangeReceivablesPolicyRequest:
        return opb.ChangeReceivablesPolicyRequest(
            offering_id=offering.offering_id, etag=etag, receivables_policy=policy
        )

    change = service.offerings.ChangeReceivablesPolicy
    approval = await service.ask(change, ask(opb.Offering.SET_OFF))
    assert set(approval.beneficiary_party_ids) == {"inv-001", "inv-002", "sponsor-1"}
    assert [(each.field, each.before, each.after) for each in approval.changes] == [
        ("receivables_policy", "BLOCK", "SET_OFF")
    ]
    read = await service.read_approval(approval.approval_id)
    assert [each.statement for each in read.explanations] == [
        "1.00 USD that banks took back of contributions is owed by their parties."
    ]
    assert await refusal_of(service.grant(approval, "admin-1")) == "MAKER_IS_CHECKER"
    assert (await service.grant(read)).status == Approval.EXECUTED
    after = await service.get(offering)
    assert after.receivables_policy == opb.Offering.SET_OFF
    assert (after.etag, after.terms_etag) != (before.etag, before.terms_etag)
    assert await refusal_of(service.execute(approved)) == "CONTENT_OUTDATED"
    assert await refusal_of(service.approve(waiting)) == "CONTENT_OUTDATED"
    same = await service.ask(change, ask(opb.Offering.SET_OFF, after.etag))
    assert not same.approval_id, "it is so already"


@pytest.mark.parametrize(("fault", "paid", "owed"), [("lost", 6_000_00, 1_00), ("unanswered", 5_999_00, 0)])
async def test_once_the_policy_blocks_again_what_was_not_set_off_yet_is_paid_whole_and_what_was_is_paid_less(
    service: DistributionsHarness, fault: str, paid: int, owed: int
) -> None:
    offering = await service.closed_offering(*PARTS, receivables_policy=opb.Offering.SET_OFF)
    service.deposit(offering, 10_000_00)
    await owe(service, offering, "inv-001", 1_00)
    service.wire.fail("SetOffReceivables", fault)
    await approve_and_execute(service, offering, 10_000_00)
    request = opb.ChangeReceivablesPolicyRequest(
        offering_id=offering.offering_id,
        etag=(await service.get(offering)).etag,
        receivables_policy=opb.Offering.BLOCK,
    )
    await service.call(service.offerings.ChangeReceivablesPolicy, request)
    await service.make_due()
    await service.work()
    assert service.transactions.newest("inv-001").amount == usd(paid)
    assert service.escrow.book[offering.escrow_account_id, "returns_receivable:inv-001"] == -owed


@pytest.mark.parametrize(("owed", "paid"), [(30_000_00, 70_000_00), (100_000_00, None)])
async def test_what_the_sponsor_owes_is_set_off_against_the_proceeds(
    service: DistributionsHarness, owed: int, paid: int | None
) -> None:
    service.wire.fail("SetOffReceivables", "lost")
    offering = await service.closed_offering(*PARTS, receivables_policy=opb.Offering.SET_OFF)
    assert service.transactions.by_key == {}
    owes = "returns_receivable:sponsor-1"
    service.escrow.post(offering.escrow_account_id, Entry.RETURN, owes, "cash", owed)
    await service.make_due()
    await service.work()
    ordered = [each.amount for each in service.transactions.by_key.values()]
    assert ordered == ([] if paid is None else [usd(paid)])
    after = await service.get(offering)
    assert (after.proceeds_transaction_id != "", after.HasField("proceeds_failure")) == (paid is not None, False)
    assert service.escrow.book[offering.escrow_account_id, owes] == 0


@pytest.mark.parametrize("cards", [[], [40_00, 600_00]], ids=["to an account", "to two cards"])
async def test_what_is_left_of_a_refund_is_paid_in_however_many_parts(
    service: DistributionsHarness, cards: list[int]
) -> None:
    """The set-off counts once, with the attempt of which it was."""
    offering = await service.closed_offering(*PARTS, receivables_policy=opb.Offering.SET_OFF)
    held = (await service.positions(offering))["inv-001"]
    await owe(service, offering, "inv-001", 300_00)
    service.transactions.cards["inv-001"] = list(cards)
    await service.fund(offering, held, 500_00)  # too late, so it goes back
    for _ in range(4):
        await service.work()
        waiting = [each for each in service.transactions.by_key.values() if each.status == each.INITIATED]
        for payout in waiting:
            if payout.party_id == "inv-001":
                await service.deliver(complete_payout(payout), service.gave_back(payout))
                payout.status = payout.COMPLETED
    refunds = [each for each in service.transactions.by_key.values() if each.party_id == "inv-001"]
    assert sum(each.amount.amount_minor for each in refunds) == 200_00
