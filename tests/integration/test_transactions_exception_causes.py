"""Each kind of exception is found where its cause is: one row a kind, from the world's fact to the list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1.exceptions_pb2 import PaymentException
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.calls.auth import Principal
from services.chassis.values.money import Money
from services.transactions.domain.disputes import Dispute, DisputeStatus
from services.transactions.domain.exceptions import KINDS, ExceptionKind
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.jobs.watch_ach_files import watch_ach_files
from services.transactions.jobs.write_ach_files import write_ach_files
from services.transactions.providers.ach_file import NAME as ACH_FILE
from services.transactions.providers.choice import Carriers, ProviderChoice
from services.transactions.providers.protocols import NotAsOrdered
from services.transactions.tables.ach import ach_entries
from tests.integration.ach_desk import CUT_OFF, leave, order
from tests.support import servers
from tests.support.ach import build_returns, change_line, list_sent
from tests.support.exceptions import list_exceptions
from tests.support.memory_bank import unknown
from tests.support.money import usd
from tests.support.transactions import ADMIN, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)

OPERATOR = Principal("operator-1", "admin", "org-operator")
MAKING = import_module("services.transactions.jobs.write_ach_files")
NEXT_DAY = CUT_OFF.date() + timedelta(days=1)
Cause = Callable[[Any], Awaitable[dict[str, Any]]]


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


@pytest.fixture
async def bank(service_database) -> TransactionsHarness:
    """The service with a bank in memory, of which some ask for a name that forgets orders after a day."""
    choice = ProviderChoice(
        all_organizations={"CARD": Carriers(inbound="stripe")},
        organizations={"org-2": {"ACH": Carriers(inbound="stripe")}},
    )
    return TransactionsHarness(await service_database("transactions"), choice=choice, operator_org_id=OPERATOR.org_id)


async def submitted(service: TransactionsHarness) -> Any:
    made = await service.deposit()
    await service.work()
    return await service.get(made.transaction_id)


def about(transaction: Any, payment_id: str = "", **more: Any) -> dict[str, Any]:
    known = {"transaction_id": transaction.transaction_id, "bank_account_id": transaction.bank_account_id}
    known |= {"provider_payment_id": payment_id} if payment_id else {}
    return {"provider": "sandbox", "amount": usd(100_00), **known, **more}


async def of_another_amount(service: TransactionsHarness, *, hooked: bool = False) -> tuple[Any, str]:
    made = await submitted(service)
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    service.bank.payments[payment_id] = replace(service.bank.payments[payment_id], amount=Money(99_00, "USD"))
    if hooked:
        await service.hook("evt_1", payment_id)
        await service.work()
    else:
        await service.work(hurried=True)
    return made, payment_id


async def a_look_up_finds_another_amount(service: TransactionsHarness) -> dict[str, Any]:
    made, payment_id = await of_another_amount(service)
    cause = "the provider's payment differs in amount"
    return about(made, payment_id, kind="PAYMENT_NOT_OURS", cause=cause, amount=usd(99_00))


async def a_webhook_leads_to_another_amount(service: TransactionsHarness) -> dict[str, Any]:
    made, payment_id = await of_another_amount(service, hooked=True)
    cause = "the provider's payment differs in amount"
    return about(made, payment_id, kind="WEBHOOK_FAILED", cause=cause, amount=usd(99_00))


async def an_earlier_attempt_goes_on(service: TransactionsHarness) -> dict[str, Any]:
    cause = "an earlier attempt goes on at the provider"
    service.bank.before_effect.append(NotAsOrdered(cause, "pay_9"))
    made = await submitted(service)
    return about(made, "pay_9", kind="PAYMENT_NOT_OURS", cause=cause)


async def an_order_is_there_twice(service: TransactionsHarness) -> dict[str, Any]:
    made = await service.deposit()
    service.bank.after_effect.append(unknown())
    service.bank.payments["pay_0"] = Payment(
        "pay_0", made.transaction_id, PaymentStatus.PENDING, Money(100_00, "USD"), True, 1, None
    )
    await service.work()
    cause = "The provider has 2 payments under one attempt."
    return about(made, kind="PAID_TWICE", cause=cause)


async def a_return_needs_a_judgement(service: TransactionsHarness) -> dict[str, Any]:
    made = await submitted(service)
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R17")
    await service.work(hurried=True)
    return about(made, payment_id, kind="RETURN_TO_REVIEW")


async def a_card_is_disputed(service: TransactionsHarness) -> dict[str, Any]:
    made = await service.deposit(payment_method=Transaction.CARD, bank_account_id=None)
    await service.work()
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    dispute = Dispute("du_1", DisputeStatus.NEEDS_RESPONSE, "fraudulent")
    service.bank.payments[payment_id] = replace(service.bank.payments[payment_id], dispute=dispute)
    await service.work(hurried=True)
    return about(made, "du_1", kind="CARD_DISPUTED", provider="stripe")


@pytest.mark.parametrize(
    "cause",
    [
        a_card_is_disputed,
        a_look_up_finds_another_amount,
        a_webhook_leads_to_another_amount,
        an_earlier_attempt_goes_on,
        an_order_is_there_twice,
        a_return_needs_a_judgement,
    ],
)
async def test_what_is_found_of_a_payment_is_in_the_list(bank: TransactionsHarness, cause: Cause) -> None:
    await check_found(bank, await cause(bank))


async def check_found(service: TransactionsHarness, expected: dict[str, Any], reader: Principal = ADMIN) -> None:
    kind = ExceptionKind(expected.pop("kind"))
    [found] = await list_exceptions(service, reader, kind=[kind])
    assert found.severity == PaymentException.Severity.Value(KINDS[kind].severity)
    assert (found.status, found.occurrence_count >= 1, found.assignee) == (PaymentException.OPEN, True, "")
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.cause


async def test_an_order_whose_answer_is_awaited_too_long_is_in_the_list(service_database) -> None:
    choice = ProviderChoice(all_organizations={"ACH": Carriers(inbound="stripe")})
    service = TransactionsHarness(await service_database("transactions"), choice=choice)
    made = await service.deposit()
    service.bank.before_effect += [unknown()] * 2
    await service.work()
    service.clock.advance(timedelta(hours=23, minutes=5))
    await service.work(hurried=True)
    await check_found(service, about(made, kind="ORDER_GIVEN_UP", provider="stripe", occurrence_count=1))


async def test_a_bank_account_that_somebody_altered_is_in_the_list(
    bank: TransactionsHarness, postgres: servers.TestPostgres
) -> None:
    made = await bank.deposit()
    change = "UPDATE bank_accounts SET account_holder_name = 'Eve', default_for_payouts = false, version = version + 1"
    await servers.tamper(postgres.admin_dsn, bank.database, change)
    await bank.work()
    known = {"transaction_id": made.transaction_id, "bank_account_id": made.bank_account_id}
    await check_found(bank, {"kind": "BANK_ACCOUNT_ALTERED", **known})


async def test_what_was_ordered_after_a_backup_is_not_put_away_once_that_was_restored(
    bank: TransactionsHarness,
) -> None:
    """The payment bears our own proof, and no row of ours: an adapter says our id only where the proof is good."""
    lost = Payment("pay_6", "txn_lost", PaymentStatus.SETTLED, Money(6_00, "USD"), True, 1, None)
    bank.bank.payments["pay_6"] = lost
    await bank.hook("evt_6", "pay_6")
    await bank.work()
    cause = "it is our order txn_lost, of which this database knows no attempt: was it restored?"
    seen = {"provider": "sandbox", "provider_payment_id": "pay_6", "amount": usd(6_00), "cause": cause}
    await check_found(bank, {"kind": "PAYMENT_NOT_OURS", **seen}, OPERATOR)
    bank.bank.payments["pay_6"] = replace(lost, status=PaymentStatus.RETURNED, return_code="R10")
    await bank.hook("evt_66", "pay_6")
    await bank.work()
    [found] = await list_exceptions(bank, OPERATOR)
    assert found.occurrence_count == 2, "what comes of it later is told as well"


async def test_what_nobody_here_ordered_is_seen_by_the_operator_and_by_no_other(bank: TransactionsHarness) -> None:
    made = await submitted(bank)
    forged = Payment("pay_7", "", PaymentStatus.SETTLED, Money(7_00, "USD"), True, 1, None, is_misused=True)
    bank.bank.payments["pay_7"] = forged
    await bank.hook("evt_7", "pay_7")
    await bank.work()
    assert await list_exceptions(bank) == []
    seen = {"provider": "sandbox", "provider_payment_id": "pay_7", "amount": usd(7_00), "transaction_id": ""}
    await check_found(bank, {"kind": "PAYMENT_NOT_OURS", **seen}, OPERATOR)
    assert (await bank.get(made.transaction_id)).status


async def test_what_belongs_to_nobody_is_in_no_list_where_no_operator_is_named(service_database) -> None:
    service = TransactionsHarness(await service_database("transactions"))
    forged = Payment("pay_7", "", PaymentStatus.SETTLED, Money(7_00, "USD"), True, 1, None, is_misused=True)
    service.bank.payments["pay_7"] = forged
    await service.hook("evt_7", "pay_7")
    await service.work()
    async with service.database.begin_for_all() as tx:
        assert await tx.scalar(sa.text("SELECT count(*) FROM payment_exceptions")) == 0


@pytest.fixture
def desk(service: TransactionsHarness) -> TransactionsHarness:
    """The service that writes and reads files, and knows its operator."""
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    return service


async def send(desk: TransactionsHarness, folders: Any) -> tuple[Any, Any]:
    """A contribution that left in a file, and its entry there."""
    deposit, _ = await order(desk)
    await leave(desk)
    [sent] = [each for each in list_sent(folders.sent[-1]) if each.amount_minor == 100_00]
    return deposit, sent


async def test_what_a_bank_says_in_a_file_is_in_the_list_of_whoever_it_is_about(desk, folders) -> None:
    deposit, sent = await send(desk, folders)
    folders.put("1-change.ach", build_returns([(sent, "C01")], NEXT_DAY))
    folders.put("2-return.ach", build_returns([(sent, "R02")], NEXT_DAY))
    folders.put("3-otherwise.ach", build_returns([(sent, "R03")], NEXT_DAY))
    await desk.run(read_ach_files)
    known = about(deposit, sent.trace, provider=ACH_FILE)
    nothing = "What it asks for is nothing that we can read: nothing was added."
    cause = f"The bank says C01, to be done by 2024-12-10. {nothing}"
    await check_found(desk, known | {"kind": "ACH_CHANGE_ASKED_FOR", "cause": cause, "file_name": "1-change.ach"})
    cause = "The bank says R03 of what had come back as R02."
    await check_found(desk, known | {"kind": "ACH_RETURN_NOT_OURS", "cause": cause, "file_name": "3-otherwise.ach"})
    assert await list_exceptions(desk, OPERATOR) == []


async def test_a_file_that_names_nobody_is_seen_by_the_operator_and_says_no_account_number(desk, folders) -> None:
    _, sent = await send(desk, folders)
    good = build_returns([(sent, "R01")], NEXT_DAY)
    folders.put("others.ach", change_line(good, 4, 15, "9999999"))
    folders.put("cut.ach", change_line(good, 3, 30, f"{sent.account_number[-8:]:X<10}"))
    await desk.run(read_ach_files)
    assert await list_exceptions(desk) == []
    found = {each.kind: each for each in await list_exceptions(desk, OPERATOR)}
    rejected, foreign = found[PaymentException.ACH_FILE_UNREADABLE], found[PaymentException.ACH_RETURN_NOT_OURS]
    assert (rejected.file_name, "what stands there" in rejected.cause) == ("cut.ach", True)
    assert sent.account_number[-8:] not in rejected.cause
    assert (foreign.file_name, foreign.provider, foreign.HasField("amount")) == ("others.ach", ACH_FILE, False)
    assert foreign.provider_payment_id != sent.trace


async def test_a_file_that_is_not_as_it_was_released_is_in_the_list_of_whose_it_is(desk, folders) -> None:
    await send(desk, folders)
    [file] = folders.outbound.glob("*.ach")
    file.write_bytes(file.read_bytes().replace(b"0001111111", b"6666666666"))
    (folders.outbound / "PAYROLL.TXT").write_bytes(b"6226" * 100)
    await desk.run(watch_ach_files)
    ours = {"kind": "ACH_FILE_FOREIGN", "file_name": file.name, "cause": "It is not as we released it."}
    await check_found(desk, ours)
    others = {"kind": "ACH_FILE_FOREIGN", "file_name": "PAYROLL.TXT"}
    await check_found(desk, others | {"cause": "We have released no file of this name."}, OPERATOR)


async def test_a_file_of_altered_entries_is_one_exception_however_often_it_is_looked_at(
    desk, folders, monkeypatch
) -> None:
    await order(desk)
    with monkeypatch.context() as patch:
        patch.setattr(MAKING, "write_file", lambda *_: 1 / 0)
        await leave(desk)
    async with desk.database.begin(ADMIN.org_id) as tx:
        await tx.execute(sa.update(ach_entries).values(change_code="C01", version=ach_entries.c.version + 1))
    for minutes in (1, 2, 3):
        desk.clock.set(CUT_OFF + timedelta(minutes=minutes))
        await desk.run(write_ach_files)
    async with desk.database.begin_for_all() as tx:
        file_id = await tx.scalar(sa.text("SELECT ach_file_id FROM ach_files"))
    cause = "0 of its 2 entries are as they were put into it, or their sums differ."
    name = f"{ADMIN.org_id}-{CUT_OFF:%Y%m%d}-00-{file_id}.ach"
    expected = {"kind": "ACH_FILE_ALTERED", "file_name": name, "cause": cause, "occurrence_count": 3}
    await check_found(desk, expected)


async def test_a_file_that_nobody_takes_to_the_bank_is_in_the_list_of_whose_it_is(desk, folders) -> None:
    await send(desk, folders)
    [file] = folders.outbound.glob("*.ach")
    desk.clock.advance(timedelta(hours=5))
    for _ in range(2):
        await desk.run(watch_ach_files)
    expected = {"kind": "ACH_FILE_NOT_FETCHED", "file_name": file.name, "occurrence_count": 2}
    await check_found(desk, expected)
    assert await list_exceptions(desk, OPERATOR) == []


def test_every_kind_is_played_here_or_where_its_rule_is() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_transactions_*.py"))
    assert [kind for kind in ExceptionKind if f'"{kind}"' not in text and f".{kind}" not in text] == []
