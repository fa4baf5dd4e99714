"""Where money is ordered to: what cannot take it is refused, and whoever decides that money goes back reads where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from google.protobuf.message import Message
from realco.approvals.v1 import approvals_pb2
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.transactions.v1.bank_accounts_pb2 import BankAccount
from realco.transactions.v1.transactions_pb2 import Transaction as Txn
from realco.type.v1.approval_pb2 import Approval
from realco.type.v1.explanation_pb2 import Explanation

from services.chassis.data import tables as chassis_tables
from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.ids import new_id
from tests.support.distributions import CLOSING, DistributionsHarness, refusal_of
from tests.support.money import usd
from tests.support.peers.transactions import fail_payout


class Order(NamedTuple):
    """What a person asks for, who is paid by it, and the field that says where."""

    rpc: Any
    request: Message
    party_id: str
    field: str = "bank_account_id"

    def to(self, bank_account_id: str, *, validate_only: bool = False) -> Any:
        request: Any = type(self.request)()
        request.CopyFrom(self.request)
        setattr(request, self.field, bank_account_id)
        request.validate_only = validate_only
        return request


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def list_orders(service: DistributionsHarness) -> list[Order]:
    """Each order that names a bank account, as it may be asked for: to close, and to pay again what failed."""
    full = await service.offering(100_00)
    await service.invest(full, "inv-003", 100_00)
    closed = await service.closed_offering(("inv-001", 100_00), ("inv-002", 100_00), sponsor_party_id="sponsor-2")
    distribution = await service.executed(closed, 20_00)
    late = (await service.positions(closed))["inv-002"]
    await service.deliver(*map(fail_payout, map(service.transactions.newest, ("sponsor-2", "inv-001"))))
    await service.fund(closed, late, 5_00)  # so it goes back
    await service.work()
    refund = service.transactions.newest("inv-002")
    await service.deliver(service.gave_back(refund), service.bounced(refund), fail_payout(refund))
    owed = (await service.allocations(distribution))["inv-001"]
    allocation = {"distribution_id": distribution.distribution_id, "allocation_id": owed.allocation_id}
    offerings, investments, distributions = service.offerings, service.investments, service.distributions
    closing = opb.CloseOfferingRequest(offering_id=full.offering_id)
    proceeds = opb.ResendProceedsRequest(offering_id=closed.offering_id)
    refund_again = opb.ResendRefundRequest(investment_id=late.investment_id)
    return [
        Order(offerings.CloseOffering, closing, "sponsor-1", "proceeds_bank_account_id"),
        Order(offerings.ResendProceeds, proceeds, "sponsor-2"),
        Order(investments.ResendRefund, refund_again, "inv-002"),
        Order(distributions.ResendAllocation, dpb.ResendAllocationRequest(**allocation), "inv-001"),
    ]


async def count_written(service: DistributionsHarness) -> list[Any]:
    async with service.database.begin_for_all() as tx:
        tables = (chassis_tables.approvals, chassis_tables.outbox)
        return [await tx.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables]


async def refused(asking: Awaitable[Any]) -> tuple[Kind, str, dict[str, str], dict[str, str]]:
    with pytest.raises(DomainError) as refusal:
        await asking
    why = refusal.value
    return why.kind, why.reason, why.fields, why.metadata


async def test_an_order_to_an_account_that_takes_no_payouts_is_refused_as_a_transaction_would_be_and_writes_nothing(
    service: DistributionsHarness,
) -> None:
    orders, transactions = await list_orders(service), service.transactions
    before = await count_written(service)
    for order in orders:
        foreign = transactions.add_bank_account("inv-009")
        unknown = {order.field: "names no bank account of the party"}
        for account_id in (new_id("ba"), foreign):  # nobody learns that it is another's
            for validate_only in (True, False):
                asking = service.ask(order.rpc, order.to(account_id, validate_only=validate_only))
                assert await refused(asking) == (Kind.NOT_FOUND, "BANK_ACCOUNT_NOT_FOUND", unknown, {})
        for status in ("PENDING", "BLOCKED", "DELETED"):  # a debit may come from the first
            account_id = transactions.add_bank_account(order.party_id, BankAccount.Status.Value(status))
            why = {order.field: f"is {status}"}, {"bank_account_id": account_id, "status": status}
            for validate_only in (True, False):
                asking = service.ask(order.rpc, order.to(account_id, validate_only=validate_only))
                assert await refused(asking) == (Kind.FAILED_PRECONDITION, "BANK_ACCOUNT_NOT_USABLE", *why)
            # Who needs no second person is refused as well.
            asking = service.call(order.rpc, order.to(account_id))
            assert await refused(asking) == (Kind.FAILED_PRECONDITION, "BANK_ACCOUNT_NOT_USABLE", *why)
    assert await count_written(service) == before


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Txn.CHECK, "It goes by check, to no bank account."),
        (Txn.WIRE, "It goes by wire to the account of"),
    ],
)
async def test_what_failed_is_paid_again_by_the_rail_that_was_asked_for_and_read(
    service: DistributionsHarness, method: int, said: str
) -> None:
    for order in (await list_orders(service))[1:]:  # a closing names none
        account_id = service.transactions.add_bank_account(order.party_id)
        request = order.to(account_id)
        request.payment_method = method
        if method == Txn.CHECK:
            fields = {"bank_account_id": "must not be set for CHECK"}
            assert await refused(service.ask(order.rpc, request)) == (
                Kind.INVALID_ARGUMENT,
                "INVALID_FIELD",
                fields,
                {},
            )
            request.ClearField("bank_account_id")
        asked = await service.ask(order.rpc, request)
        [where] = [each.statement for each in asked.explanations if each.rule == "BANK_ACCOUNT"]
        assert where.startswith(said)
        assert (await service.grant(asked)).status == Approval.EXECUTED
        await service.work()
        paid = service.transactions.newest(order.party_id)
        to = "" if method == Txn.CHECK else account_id
        assert (paid.payment_method, paid.bank_account_id) == (method, to)


async def test_an_account_that_takes_payouts_no_more_is_refused_at_the_yes(service: DistributionsHarness) -> None:
    for order in await list_orders(service):
        account_id = service.transactions.add_bank_account(order.party_id)
        asked = await service.ask(order.rpc, order.to(account_id))
        service.transactions.bank_accounts[account_id].status = BankAccount.BLOCKED
        read = await service.read_approval(asked.approval_id)
        [account] = [each for each in read.explanations if each.rule == "BANK_ACCOUNT"]
        operands = {each.name: each.value for each in account.operands}
        assert (operands["gate"], operands["status"]) == ("shut", "BLOCKED")
        rehearsal = approvals_pb2.ApproveApprovalRequest(
            approval_id=read.approval_id, content_hash=read.content_hash, etag=read.etag, validate_only=True
        )
        with service.as_("admin-2"):
            assert await refusal_of(service.approvals.ApproveApproval(rehearsal, None)) == "BANK_ACCOUNT_NOT_USABLE"
        done = await service.grant(read)
        assert (done.status, done.failure.code) == (Approval.FAILED, "BANK_ACCOUNT_NOT_USABLE")
        assert done.failure.metadata["status"] == "BLOCKED"
    paid = len(service.transactions.by_key)
    await service.work()
    assert len(service.transactions.by_key) == paid, "no new attempt was made"


async def test_proceeds_are_not_sent_again_to_the_account_of_the_closing_once_it_takes_no_payouts(
    service: DistributionsHarness,
) -> None:
    account_id = service.transactions.add_bank_account("sponsor-1")
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 100_00)
    service.clock.set(CLOSING)
    closing = opb.CloseOfferingRequest(offering_id=offering.offering_id, proceeds_bank_account_id=account_id)
    await service.call(service.offerings.CloseOffering, closing)
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("sponsor-1"), "R02"))
    service.transactions.bank_accounts[account_id].status = BankAccount.BLOCKED
    again = opb.ResendProceedsRequest(offering_id=offering.offering_id)
    metadata = {"bank_account_id": account_id, "status": "BLOCKED"}
    # No field of the request named it.
    why = Kind.FAILED_PRECONDITION, "BANK_ACCOUNT_NOT_USABLE", {}, metadata
    assert await refused(service.ask(service.offerings.ResendProceeds, again)) == why
    again.bank_account_id = service.transactions.add_bank_account("sponsor-1")
    again.idempotency_key = new_id("key")
    approval = await service.ask(service.offerings.ResendProceeds, again)
    assert (await service.grant(approval)).status == Approval.EXECUTED


async def test_who_waives_the_wait_for_money_that_is_not_final_reads_that_it_is_not_and_where_it_goes(
    service: DistributionsHarness,
) -> None:
    """Two persons decide that it goes back, and then no refund waits for a second one (docs/approvals.md, Refunds)."""
    offering = await service.offering(150_00, maximum_amount=usd(200_00))
    first = await service.invest(offering, "inv-001", 100_00)
    second = await service.invest(offering, "inv-002", 50_00)
    late = await service.closed_offering(("inv-003", 100_00))
    third = (await service.positions(late))["inv-003"]
    await service.fund(late, third, 5_00)
    await service.work()
    payout = service.transactions.newest("inv-003")
    await service.deliver(service.gave_back(payout), fail_payout(payout))
    service.transactions.add_bank_account("inv-001")
    service.transactions.add_bank_account("inv-003")
    for each in (first, second, third):
        told = Explanation(statement=f"Until then, of {each.party_id}.", rule="REFUNDED_MONEY_NOT_FINAL")
        service.transactions.take_backs[each.investment_id] = told
    service.transactions.provisional = [Explanation(statement="80.00 USD may go back.", rule="MONEY_NOT_FINAL")]
    raises, investments = service.offerings, service.investments
    asked = {
        "all": (raises.RefundOffering, opb.RefundOfferingRequest(offering_id=offering.offering_id, note="No sale.")),
        "one": (investments.CancelInvestment, opb.CancelInvestmentRequest(investment_id=first.investment_id)),
        "again": (investments.ResendRefund, opb.ResendRefundRequest(investment_id=third.investment_id)),
    }
    found = {}
    for name, (rpc, request) in asked.items():
        explanations = (await service.ask(rpc, request)).explanations
        wanted = ("REFUNDED_MONEY_NOT_FINAL", "BANK_ACCOUNT")
        assert [each.statement for each in explanations if each.rule == "MONEY_NOT_FINAL"] == ["80.00 USD may go back."]
        found[name] = [each.statement for each in explanations if each.rule in wanted]
    one_account = "It goes to the account of “Ann Lee” that ends in 6789, which is ACTIVE and was added"
    assert found["all"] == [
        "Until then, of inv-001.",
        "Until then, of inv-002.",
        "Bank accounts it goes to: 1. Without an account, and so not paid: inv-002.",
    ]
    assert (found["one"][0], found["again"][0]) == ("Until then, of inv-001.", "Until then, of inv-003.")
    assert [found[name][1].startswith(one_account) for name in ("one", "again")] == [True, True]


async def test_whoever_made_the_default_approves_no_attempt_that_is_left_to_it_and_a_yes_is_to_that_account(
    service: DistributionsHarness,
) -> None:
    """Each order that may name no account: its dossier tells of the default, and its maker has a part in it."""
    for order in await list_orders(service):
        default = service.transactions.add_bank_account(order.party_id)
        service.transactions.bank_accounts[default].created_by = "admin-5"
        service.transactions.bank_account_makers[default] = ["admin-6"]
        order.request.ClearField(order.field)
        approval = await service.ask(order.rpc, order.request)
        [told] = [each for each in approval.explanations if each.rule == "BANK_ACCOUNT"]
        assert "“Ann Lee” that ends in 6789" in told.statement, order
        if order.rpc == service.offerings.CloseOffering:
            continue  # its proceeds wait for an approval of their own
        assert {"admin-5", "admin-6"} <= set(approval.makers), order
        if order.rpc == service.investments.ResendRefund:
            continue  # it goes to where the money came from, if that was an account
        other = service.transactions.add_bank_account(order.party_id)
        assert await refusal_of(service.grant(approval)) == "CONTENT_OUTDATED"
        del service.transactions.bank_accounts[other]
        assert (await service.grant(approval)).status == Approval.EXECUTED
