"""Transactions as the distributions service asks it: one test body, over the fake of its tests and over the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from realco.distributions.v1.offerings_pb2 import Investment
from realco.transactions.v1 import payouts_pb2
from realco.transactions.v1 import transactions_pb2 as pb
from realco.transactions.v1.bank_accounts_pb2 import BankAccount
from realco.type.v1.explanation_pb2 import Explanation

from services.chassis.calls.auth import acting_as
from services.chassis.data.database import Database
from services.chassis.values.ids import new_id
from services.distributions import clients as distributions_clients
from services.transactions.domain.payments import PaymentStatus
from tests.support.peers.transactions import MemoryTransactions
from tests.support.peers.wire import Wire
from tests.support.transactions import ADMIN, ESCROW_ACCOUNT, TransactionsHarness, usd

Item = payouts_pb2.BatchCreatePayoutsRequest.Item
T = pb.Transaction


class MemoryPayments:
    """The fake, and what people do to it."""

    def __init__(self) -> None:
        self.servicer = MemoryTransactions()
        self.servicers: tuple[object, ...] = (self.servicer,)

    def order(self, items: Iterable[Item]) -> None:
        """The fake asks nobody."""

    async def add_party(self, party_id: str, *, has_bank_account: bool) -> None:
        self.servicer.without_bank_account.discard(party_id)
        if not has_bank_account:
            self.servicer.without_bank_account.add(party_id)

    async def add_bank_account(self, party_id: str) -> str:
        return self.servicer.add_bank_account(party_id, BankAccount.PENDING)

    async def contribute(self, *, is_at_the_bank: bool) -> T:
        """A contribution to an investment that is withdrawn then."""
        made = T(transaction_id=new_id("txn"), investment_id=new_id("inv"), amount=usd(100_00), aggregate_version=5)
        made.status = T.PENDING_SETTLEMENT if is_at_the_bank else T.QUEUED
        self.servicer.contributions.append(made)
        return made

    async def pay_in(self, party_id: str) -> tuple[str, str]:
        investment_id, account_id = new_id("inv"), self.servicer.add_bank_account(party_id)
        statement = "The bank may take 100.00 USD of what was paid in back until 2025-02-04."
        told = Explanation(statement=statement, rule="REFUNDED_MONEY_NOT_FINAL")
        self.servicer.take_backs[investment_id] = told
        may_go = "The bank may take 100.00 USD that came into the escrow account back, the last until 2025-02-04."
        self.servicer.provisional.append(Explanation(statement=may_go, rule="MONEY_NOT_FINAL"))
        return investment_id, account_id


class RealPayments:
    """The service, and what people do to it."""

    def __init__(self, database: Database) -> None:
        self._harness = TransactionsHarness(database)
        harness = self._harness
        self.servicers: tuple[object, ...] = (harness.payouts, harness.accounts, harness.contributions)
        self.order = self._harness.distributions.order

    async def add_party(self, party_id: str, *, has_bank_account: bool) -> None:
        if has_bank_account:
            await self._harness.confirm(await self._harness.bank_account(party_id))

    async def add_bank_account(self, party_id: str) -> str:
        account_id: str = (await self._harness.bank_account(party_id)).bank_account_id
        return account_id

    async def contribute(self, *, is_at_the_bank: bool) -> T:
        made = await self._harness.deposit(f"party-{is_at_the_bank}")
        if is_at_the_bank:
            await self._harness.work()
        self._harness.distributions.investments[made.investment_id].status = Investment.CANCELLING
        seen: T = await self._harness.get(made.transaction_id)
        return seen

    async def pay_in(self, party_id: str) -> tuple[str, str]:
        """A debit of 100.00 that settles: its investment, and the account that it came from."""
        made = await self._harness.deposit(party_id)
        await self._harness.work()
        self._harness.bank.report(made.transaction_id, PaymentStatus.SETTLED)
        await self._harness.work(hurried=True)
        await self._harness.confirm(BankAccount(bank_account_id=made.bank_account_id))
        return made.investment_id, made.bank_account_id


Payments = MemoryPayments | RealPayments


@pytest.fixture(params=["memory", "real"])
async def payments(request: pytest.FixtureRequest, service_database: Callable[[str], Awaitable[Database]]) -> Payments:
    return MemoryPayments() if request.param == "memory" else RealPayments(await service_database("transactions"))


def open_client(payments: Payments) -> distributions_clients.TransactionsClient:
    return distributions_clients.TransactionsClient(Wire("distributions").open_channel(*payments.servicers))


async def pay(payments: Payments, *items: Item) -> list[Any]:
    payments.order(items)
    with acting_as(ADMIN):
        answer = await open_client(payments).batch_create_payouts(payouts_pb2.BatchCreatePayoutsRequest(items=items))
    assert [result.idempotency_key for result in answer.results] == [item.idempotency_key for item in items]
    return list(answer.results)


def payout(party_id: str, minor: int = 50, **values: Any) -> Item:
    given = {
        "idempotency_key": new_id("key"),
        "type": T.DISTRIBUTION,
        "escrow_account_id": new_id("esc"),
        "distribution_id": new_id("dist"),
        "allocation_id": new_id("alloc"),
        **values,
    }
    return Item(party_id=party_id, amount=usd(minor), **given)


async def test_each_payout_is_created_or_refused_by_itself(payments: Payments) -> None:
    await payments.add_party("inv-001", has_bank_account=True)
    await payments.add_party("inv-002", has_bank_account=False)
    wanted = payout("inv-001")
    created, refused = await pay(payments, wanted, payout("inv-002"))
    transaction = created.transaction
    assert (transaction.status, transaction.type, transaction.amount) == (T.INITIATED, T.DISTRIBUTION, usd(50))
    for name in ("escrow_account_id", "party_id", "distribution_id", "allocation_id"):
        assert getattr(transaction, name) == getattr(wanted, name)
    assert (refused.HasField("transaction"), refused.failure.code) == (False, "NO_PAYOUT_BANK_ACCOUNT")
    assert dict(refused.failure.metadata) == {"party_id": "inv-002"}


async def test_a_refund_names_its_investment(payments: Payments) -> None:
    await payments.add_party("inv-001", has_bank_account=True)
    investment_id = new_id("inv")
    wanted = Item(
        idempotency_key=new_id("key"),
        type=T.REFUND,
        amount=usd(1),
        escrow_account_id=new_id("esc"),
        party_id="inv-001",
        investment_id=investment_id,
    )
    [created] = await pay(payments, wanted)
    assert (created.transaction.type, created.transaction.investment_id) == (T.REFUND, investment_id)


async def test_the_first_decision_about_a_key_stays(payments: Payments) -> None:
    await payments.add_party("inv-001", has_bank_account=True)
    await payments.add_party("inv-002", has_bank_account=False)
    items = [payout("inv-001"), payout("inv-002")]
    first = await pay(payments, *items)
    assert [result.replayed for result in first] == [False, False]
    await payments.add_party("inv-002", has_bank_account=True)
    again = await pay(payments, *items)
    assert [(result.transaction, result.failure) for result in again] == [
        (result.transaction, result.failure) for result in first
    ]
    assert [result.replayed for result in again] == [True, True]
    for item in items:
        item.amount.amount_minor = 51
    assert [
        (result.failure.code, result.failure.metadata, result.replayed) for result in await pay(payments, *items)
    ] == [("IDEMPOTENCY_KEY_REUSED", {"idempotency_key": item.idempotency_key}, False) for item in items]
    [later] = await pay(payments, payout("inv-002"))
    assert later.HasField("transaction")


async def test_a_bank_account_that_is_not_there_is_none_and_each_other_says_whose_it_is(payments: Payments) -> None:
    account_id, client = await payments.add_bank_account("inv-001"), open_client(payments)
    with acting_as(ADMIN):
        assert await client.get_bank_account(new_id("ba")) is None
        found = await client.get_bank_account(account_id)
    assert found is not None
    assert (found.bank_account_id, found.party_id, found.status) == (account_id, "inv-001", "PENDING")


async def test_what_is_given_back_says_where_it_goes_and_until_when_the_bank_may_take_back_how_much(
    payments: Payments,
) -> None:
    investment_id, account_id = await payments.pay_in("inv-001")
    with acting_as(ADMIN):
        found = await open_client(payments).get_refund_preview({investment_id: "inv-001", new_id("inv"): "inv-002"})
    assert [(each.bank_account_id, each.party_id, each.status) for each in found.accounts] == [
        (account_id, "inv-001", "ACTIVE")
    ]
    assert [(each.statement, each.rule) for each in found.explanations] == [
        ("The bank may take 100.00 USD of what was paid in back until 2025-02-04.", "REFUNDED_MONEY_NOT_FINAL")
    ]


async def test_what_the_money_of_an_account_rests_on_is_told_whatever_its_deadline(payments: Payments) -> None:
    client = open_client(payments)
    with acting_as(ADMIN):
        assert await client.get_received_money(ESCROW_ACCOUNT) == []
        await payments.pay_in("inv-001")
        for deadline in (None, datetime(2025, 6, 1, tzinfo=UTC)):
            [told] = await client.get_received_money(ESCROW_ACCOUNT, deadline)
            assert told.rule == "MONEY_NOT_FINAL"
            assert told.statement.startswith("The bank may take 100.00 USD that came into the escrow account back")


async def test_where_parties_are_paid_is_one_account_each_and_none_of_who_has_none(payments: Payments) -> None:
    """An account that waits to be confirmed is none yet."""
    _, account_id = await payments.pay_in("inv-001")
    await payments.add_bank_account("inv-002")
    with acting_as(ADMIN):
        found, altered = await open_client(payments).batch_get_payout_accounts(["inv-001", "inv-002", "inv-003"])
    assert altered == frozenset()
    assert [(each.account.bank_account_id, each.first_paid_at) for each in found] == [(account_id, None)]


async def test_of_contributions_to_withdrawn_investments_those_at_a_bank_are_told_and_the_others_are_cancelled(
    payments: Payments,
) -> None:
    at_the_bank, waits = [await payments.contribute(is_at_the_bank=each) for each in (True, False)]
    investment_ids = [at_the_bank.investment_id, waits.investment_id]
    for _ in range(2):  # the same may be asked again
        with acting_as(ADMIN):
            answer = await open_client(payments).cancel_contributions(investment_ids)
        assert list(answer.unknown_investment_ids) == []
        [told] = answer.on_their_way
        for name in ("transaction_id", "investment_id", "amount", "status", "aggregate_version"):
            assert getattr(told, name) == getattr(at_the_bank, name)
