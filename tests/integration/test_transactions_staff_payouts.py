"""Fees, draws and cash that the issuer takes back: staff orders them, and nobody alone has them paid."""

from __future__ import annotations

from typing import Any

import pytest
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.types import STAFFS_PAYOUT, TYPES
from tests.support.arrivals import build_arrival
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, ORG, TransactionsHarness, usd

T = pb.Transaction
THIRD = Principal("admin-3", "admin", ORG)
OF_STAFF = sorted(name for name, each in TYPES.items() if each.is_for_staff and not each.is_transfer)
PAYEE = "inv-001"


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    """The payee is the sponsor of the escrow account: cash of the issuer goes to nobody else."""
    made = TransactionsHarness(await service_database("transactions"))
    made.escrow.accounts[ESCROW_ACCOUNT].sponsor_party_id = PAYEE
    return made


async def refused(work: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await work
    return refusal.value


def keep(service: TransactionsHarness, type_name: str, minor: int) -> str:
    """Puts so much where a type is paid from; the name of that ledger account."""
    source = str(TYPES[type_name].source).lower()
    service.escrow.post(ESCROW_ACCOUNT, JournalEntry.ADJUSTMENT, "cash", source, minor)
    return source


async def build_order(service: TransactionsHarness, type_name: str = "PLATFORM_FEE", **more: Any) -> Any:
    """An order of 50.00 to an account that a second person confirmed a day ago."""
    account = await service.confirm(await service.bank_account(PAYEE))
    values: dict[str, Any] = {
        "idempotency_key": new_id("key"),
        "type": type_name,
        "payment_method": T.ACH,
        "amount": usd(50_00),
        "escrow_account_id": ESCROW_ACCOUNT,
        "party_id": PAYEE,
        "bank_account_id": account.bank_account_id,
        "description": "Invoice 17",
    }
    return pb.CreateTransactionRequest(**values | more)


async def order(service: TransactionsHarness, principal: Principal = ADMIN, **more: Any) -> Any:
    return await service.ask(principal, "CreateTransaction", await build_order(service, **more))


@pytest.mark.parametrize("type_name", OF_STAFF)
async def test_what_staff_orders_is_paid_once_another_person_approves_it(
    service: TransactionsHarness, type_name: str
) -> None:
    source = keep(service, type_name, 50_00)
    made = await order(service, type_name=type_name)
    assert (made.status, made.direction) == (T.PENDING_APPROVAL, Money.Direction.OUT)
    await service.work()
    assert service.bank.orders == []
    dossier = await service.waiting(made.transaction_id)
    assert dossier.summary == f"{TYPES[type_name].label}: 50.00 USD, paid to {made.party_id}, account …1102"
    assert dossier.explanations[0].statement == f"{STAFFS_PAYOUT}."
    effects = {each.ledger_account.kind: each.after.amount_minor for each in dossier.effects}
    assert effects == {source.upper(): 0, "CASH": 0}
    await service.grant(dossier)
    await service.work()
    [ordered] = service.bank.orders
    assert (ordered.reference, ordered.is_inbound, ordered.amount.amount_minor) == (made.transaction_id, False, 50_00)
    assert service.escrow.book[ESCROW_ACCOUNT, source] == 0
    await service.hook("evt_1", service.bank.report(made.transaction_id, PaymentStatus.SETTLED))
    await service.work()
    assert (await service.get(made.transaction_id)).status == T.COMPLETED


async def test_who_ordered_it_or_acts_for_who_is_paid_does_not_approve_it(service: TransactionsHarness) -> None:
    keep(service, "PLATFORM_FEE", 50_00)
    made = await order(service)
    dossier = await service.waiting(made.transaction_id)
    assert (await refused(service.grant(dossier, ADMIN))).reason == "MAKER_IS_CHECKER"
    assert list(dossier.beneficiary_party_ids) == [PAYEE]
    service.compliance.parties[CHECKER.person] = {PAYEE}
    assert (await refused(service.grant(dossier, CHECKER))).reason == "BENEFICIARY_IS_CHECKER"
    assert (await service.get(made.transaction_id)).status == T.PENDING_APPROVAL


@pytest.mark.parametrize("type_name", OF_STAFF)
async def test_more_than_there_is_is_not_paid(service: TransactionsHarness, type_name: str) -> None:
    keep(service, type_name, 49_99)
    made = await order(service, type_name=type_name)
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    ended = await service.get(made.transaction_id)
    assert (ended.status, ended.failure.code) == (T.FAILED, "INSUFFICIENT_AVAILABLE_BALANCE")
    assert service.bank.orders == []


async def test_what_the_bank_sends_back_is_not_sent_again_by_itself_nor_by_a_retry(
    service: TransactionsHarness,
) -> None:
    keep(service, "CONSTRUCTION_DRAW", 50_00)
    made = await order(service, type_name="CONSTRUCTION_DRAW")
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    await service.hook("evt_1", service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R02"))
    await service.work()
    ended = await service.get(made.transaction_id)
    assert (ended.status, ended.failure.code, len(service.bank.orders)) == (T.RETURNED, "RETURNED_BY_BANK", 1)
    assert "retry" not in ended.allowed_actions


async def test_a_check_names_no_bank_account_and_a_wire_and_ach_name_one(service: TransactionsHarness) -> None:
    keep(service, "REFERRAL_FEE", 50_00)
    for method in (T.ACH, T.WIRE):
        refusal = await refused(order(service, payment_method=method, bank_account_id=None))
        assert list(refusal.fields) == ["bank_account_id"]
    assert list((await refused(order(service, payment_method=T.CHECK))).fields) == ["bank_account_id"]
    made = await order(service, type_name="REFERRAL_FEE", payment_method=T.CHECK, bank_account_id=None)
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    waiting = await service.get(made.transaction_id)
    assert waiting.status == T.PENDING_SETTLEMENT
    assert (await refused(service.ask(CHECKER, "ConfirmTransaction", build_arrival(waiting)))).reason == (
        "MAKER_IS_CHECKER"
    )
    assert (await service.ask(THIRD, "ConfirmTransaction", build_arrival(waiting))).status == T.COMPLETED


async def test_money_goes_to_no_account_that_nobody_confirmed_and_to_nobody_elses(service: TransactionsHarness) -> None:
    pending = await service.bank_account(PAYEE, "07")
    refusal = await refused(order(service, bank_account_id=pending.bank_account_id))
    assert (refusal.reason, list(refusal.fields)) == ("BANK_ACCOUNT_NOT_USABLE", ["bank_account_id"])
    refusal = await refused(order(service, party_id="sponsor-1"))
    assert refusal.reason == "BANK_ACCOUNT_NOT_FOUND"


async def test_an_investor_orders_no_payout(service: TransactionsHarness) -> None:
    investor = Principal(PAYEE, "investor", ORG, parties=frozenset({PAYEE}))
    for type_name in OF_STAFF:
        refusal = await refused(order(service, investor, type_name=type_name))
        assert refusal.reason == "TYPE_NOT_SUPPORTED"


async def test_cash_of_the_issuer_goes_back_to_the_issuer_alone(service: TransactionsHarness) -> None:
    keep(service, "WITHDRAWAL", 50_00)
    service.escrow.accounts[ESCROW_ACCOUNT].sponsor_party_id = "sponsor-1"
    refusal = await refused(order(service, type_name="WITHDRAWAL"))
    assert list(refusal.fields) == ["party_id"]


async def test_a_payout_pays_for_no_investment(service: TransactionsHarness) -> None:
    investment = service.distributions.invest(PAYEE, 1_000_00)
    assert list((await refused(order(service, investment_id=investment))).fields) == ["investment_id"]


async def test_from_a_frozen_account_nothing_is_ordered(service: TransactionsHarness) -> None:
    request = await build_order(service)
    service.escrow.accounts[ESCROW_ACCOUNT].status = EscrowAccount.FROZEN
    assert (await refused(service.ask(ADMIN, "CreateTransaction", request))).reason == "ESCROW_ACCOUNT_FROZEN"


async def test_what_it_would_be_is_told_before_and_nothing_is_kept(service: TransactionsHarness) -> None:
    told = await order(service, validate_only=True)
    assert told.status == T.PENDING_APPROVAL
    assert list((await service.ask(ADMIN, "ListTransactions", pb.ListTransactionsRequest())).transactions) == []
