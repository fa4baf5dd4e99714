"""Whoever pays again reads that a payout was taken back by a debit, which may come back for sixty days."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import payouts_pb2

from services.chassis.calls.auth import acting_as, service_principal
from services.transactions.domain.types import REFUND_CAME_BACK, REFUND_TAKEN_BACK
from tests.integration.ach_desk import CUT_OFF, Folders, T
from tests.integration.test_transactions_reversals import (
    COUNTS,
    DRAWN,
    ORDERED,
    SETTLED,
    ask,
    be,
    come_back,
    draw,
    fetch,
    reverse,
    state,
)
from tests.support.exceptions import list_exceptions
from tests.support.transactions import DISTRIBUTIONS, ESCROW_ACCOUNT, ORG, TransactionsHarness, usd

pytest_plugins = ("tests.integration.ach_desk",)

WITHDRAWN = {"type": T.ESCROW_WITHDRAWAL}
FINAL_ON = "2025-02-05"  # sixty days and a banking day after the debit of Thursday


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def read_received(service: TransactionsHarness) -> dict[str, str]:
    asked = payouts_pb2.GetReceivedMoneyRequest(escrow_account_id=ESCROW_ACCOUNT)
    with acting_as(service_principal("distributions", ORG)):
        found = (await service.payouts.GetReceivedMoney(asked, None)).explanations
    return {each.rule: each.statement for each in found}


async def draw_proceeds(service: TransactionsHarness, folders: Folders) -> tuple[Any, Any, Any]:
    """Proceeds that were paid, and are to be taken back: with the entry of each, by which the bank has it."""
    payout = await service.payout("sponsor-1", "08", **WITHDRAWN)
    await service.work()
    await service.grant(await service.waiting(payout.transaction_id))
    await service.work()
    [paid] = await fetch(service, folders, CUT_OFF)
    await be(service, SETTLED)
    await reverse(service, payout)
    [drawn] = await fetch(service, folders, ORDERED.replace(hour=20))
    return payout, paid, drawn


async def take_back_proceeds(service: TransactionsHarness, folders: Folders) -> tuple[Any, Any]:
    """Proceeds that were paid, and taken back by a debit that counts: with that debit's entry."""
    payout, _, drawn = await draw_proceeds(service, folders)
    await be(service, COUNTS)
    assert await state(service, payout) == ("RETURNED", "COMPLETED")
    return payout, drawn


async def read_dossier(service: TransactionsHarness, payout: Any) -> dict[str, str]:
    return {each.rule: each.statement for each in (await service.waiting(payout.transaction_id)).explanations}


async def test_money_that_a_debit_took_back_is_not_final_as_long_as_that_may_come_back(service, folders) -> None:
    payout, drawn = await take_back_proceeds(service, folders)
    said = (await read_received(service))["MONEY_NOT_FINAL"]
    assert said.startswith(
        f"The bank may take 50.00 USD that came into the escrow account back, the last until {FINAL_ON}"
    )
    assert said.endswith("Of it, 50.00 USD had been paid out, and was taken back by debits.")
    await be(service, COUNTS.replace(year=2025, month=2, day=4))
    assert "MONEY_NOT_FINAL" in await read_received(service)
    await be(service, COUNTS.replace(year=2025, month=2, day=5))
    assert "MONEY_NOT_FINAL" not in await read_received(service)
    await come_back(service, folders, drawn, "R10", COUNTS.replace(year=2025, month=2, day=6))
    assert await state(service, payout) == ("RETURNED", "RETURNED")


@pytest.mark.parametrize("comes_first", ["the bank", "the count"])
async def test_what_a_debit_drew_too_much_is_not_final_either_and_whoever_gives_it_back_reads_until_when(
    service, folders, comes_first
) -> None:
    payout, paid, drawn = await draw_proceeds(service, folders)
    if comes_first == "the bank":
        await come_back(service, folders, paid, "R31", DRAWN + timedelta(days=1))
    await be(service, COUNTS)
    if comes_first == "the count":
        await come_back(service, folders, paid, "R31", COUNTS + timedelta(days=1))
    assert await state(service, payout) == ("RETURNED", "DRAWN_IN_EXCESS")
    said = (await read_received(service))["MONEY_NOT_FINAL"]
    assert said.startswith(
        f"The bank may take 50.00 USD that came into the escrow account back, the last until {FINAL_ON}"
    )
    [found] = await list_exceptions(service, kind=["PAYOUT_NOT_REVERSED"])
    assert found.cause.endswith(
        f"Their bank may send the debit back until {FINAL_ON}: whoever has it before that may have both."
    )
    again = await service.payout_to(payout.bank_account_id, "sponsor-1", amount=usd(70_00), **WITHDRAWN)
    await service.work()
    told = (await read_dossier(service, again))["PAYOUT_TAKEN_BACK"]
    assert "it came back by its bank, and was taken back by a debit of 2024-12-05, for it was paid before" in told
    assert told.endswith(f"The debit may itself come back until {FINAL_ON}: who is given it back would have both.")
    await come_back(service, folders, drawn, "R10", COUNTS + timedelta(days=5))
    assert await state(service, payout) == ("RETURNED", "FAILED")
    assert "MONEY_NOT_FINAL" not in await read_received(service)


async def test_while_a_debit_is_under_way_whoever_pays_its_payee_any_amount_reads_of_it(service, folders) -> None:
    payout, paid, _ = await draw_proceeds(service, folders)
    again = await service.payout_to(payout.bank_account_id, "sponsor-1", amount=usd(70_00), **WITHDRAWN)
    await service.work()
    told = (await read_dossier(service, again))["PAYOUT_TAKEN_BACK"]
    assert f"{payout.transaction_id} paid 50.00 USD to sponsor-1 on 2024-12-03, and a debit is to take it back" in told
    assert told.endswith("it may fail or come back, and who is paid again would have both.")
    await be(service, DRAWN)
    assert "a debit of 2024-12-05 takes it back" in (await read_dossier(service, again))["PAYOUT_TAKEN_BACK"]
    await come_back(service, folders, paid, "R31", DRAWN + timedelta(days=1))
    assert (await read_dossier(service, again))["PAYOUT_TAKEN_BACK"].endswith("It came back by its bank as well.")


async def test_what_a_debit_took_back_is_added_to_what_came_in(service, folders) -> None:
    await take_back_proceeds(service, folders)
    await service.deposit()
    await service.work()
    await fetch(service, folders, COUNTS.replace(hour=20))
    await be(service, COUNTS + timedelta(days=4))
    said = (await read_received(service))["MONEY_NOT_FINAL"]
    assert said.startswith("The bank may take 150.00 USD that came into the escrow account back")
    assert "Of it, 50.00 USD had been paid out" in said


async def test_whoever_pays_again_reads_that_a_payout_was_taken_back_and_until_when_the_debit_may_come_back(
    service, folders
) -> None:
    payout, drawn = await take_back_proceeds(service, folders)
    again = await service.payout_to(payout.bank_account_id, "sponsor-1", **WITHDRAWN)
    await service.work()
    told = await read_dossier(service, again)
    assert told["BANK_ACCOUNT_FIRST_USE"].startswith("Paid to on 2024-12-03, which was taken back")
    assert told["PAYOUT_TAKEN_BACK"] == (
        f"{payout.transaction_id} paid 50.00 USD to sponsor-1 on 2024-12-03, and it was taken back by a debit of"
        f" 2024-12-05, for it was paid before. The debit may itself come back until {FINAL_ON}: who is paid again would"
        " have both."
    )
    await come_back(service, folders, drawn, "R10", COUNTS + timedelta(days=1))
    told = await read_dossier(service, again)
    assert told["PAYOUT_TAKEN_BACK"].endswith(
        "The debit came back on 2024-12-13: who was paid has it, and is to be paid it no more."
    )


async def test_a_payout_that_was_taken_back_is_named_wherever_and_whenever_its_payee_is_paid_again(
    service, folders
) -> None:
    """To another account, months later, of another amount: the debit may be on its way back all the same."""
    payout, _ = await take_back_proceeds(service, folders)
    await be(service, COUNTS + timedelta(days=50))
    other = await service.confirm(await service.bank_account("sponsor-1", "05"))
    again = await service.payout_to(other.bank_account_id, "sponsor-1", amount=usd(70_00), **WITHDRAWN)
    await service.work()
    told = await read_dossier(service, again)
    assert told["BANK_ACCOUNT_FIRST_USE"] == "No payout has arrived there."
    assert payout.transaction_id in told["PAYOUT_TAKEN_BACK"]
    assert f"until {FINAL_ON}" in told["PAYOUT_TAKEN_BACK"]
    await be(service, COUNTS + timedelta(days=56))
    assert (await read_dossier(service, again))["PAYOUT_TAKEN_BACK"].endswith("The debit can come back no more.")


async def test_a_payout_that_is_being_taken_back_is_told_as_such_to_whoever_pays_the_same_again(
    service, folders
) -> None:
    payout, _, _ = await draw(service, folders)
    service.clock.set(ORDERED + timedelta(days=2))
    again = await service.payout_to(payout.bank_account_id, "inv-002")
    await service.work()
    await fetch(service, folders, (ORDERED + timedelta(days=2)).replace(hour=20))
    await be(service, ORDERED + timedelta(days=5, hours=2))
    await ask(service, again)
    told = await read_dossier(service, again)
    assert f"{payout.transaction_id} is COMPLETED, and a debit is to take it back" in told["SAME_PAYMENT"]


async def test_where_payees_are_paid_says_that_a_payout_to_one_was_taken_back(service, folders) -> None:
    await draw(service, folders)
    await be(service, COUNTS)
    request = payouts_pb2.BatchGetPayoutAccountsRequest(party_ids=["inv-002"])
    [found] = (await service.ask(DISTRIBUTIONS, "BatchGetPayoutAccounts", request)).payout_accounts
    assert not found.HasField("first_paid_time")
    assert found.taken_back_time.ToDatetime().date() == ORDERED.date() + timedelta(days=1)


async def test_a_row_of_a_payout_that_came_back_hides_nothing_once_it_was_altered(service, folders) -> None:
    payout, _ = await take_back_proceeds(service, folders)
    again = await service.payout_to(payout.bank_account_id, "sponsor-1", **WITHDRAWN)
    await service.work()
    hiding = "reversal_status = 'FAILED', version = version + 1 WHERE transaction_id = :id"
    async with service.database.begin(ORG) as tx:
        await tx.execute(sa.text(f"UPDATE transactions SET {hiding}"), {"id": payout.transaction_id})
    told = await read_dossier(service, again)
    assert told["MONEY_ALTERED"]
    assert "MONEY_ALTERED" in await read_received(service)


@pytest.mark.parametrize("approved", [False, True])
async def test_a_refund_that_was_taken_back_is_not_said_to_have_come_back_by_its_bank(
    service, folders, approved: bool
) -> None:
    paid = await service.deposit()
    await service.work()
    await fetch(service, folders, CUT_OFF)
    await be(service, SETTLED)
    await service.confirm(bank_pb.BankAccount(bank_account_id=paid.bank_account_id))
    for days in (30, 64, 70, 77):
        await be(service, SETTLED + timedelta(days=days))
    at = SETTLED + timedelta(days=78)
    await be(service, at)
    first = await refund(service, paid)
    await fetch(service, folders, at.replace(hour=20, minute=30))
    await be(service, at + timedelta(days=1))
    await reverse(service, first, at + timedelta(days=2))
    await fetch(service, folders, (at + timedelta(days=2)).replace(hour=20, minute=30))
    for days in (4, 8, 14):
        await be(service, at + timedelta(days=days))
    assert await state(service, first) == ("RETURNED", "COMPLETED")
    failure = (await service.get(first.transaction_id)).failure
    assert failure.message.startswith("It was taken back, for it was paid before. The debit that took it back may")
    again = await refund(service, paid, approved=approved)
    told = await read_dossier(service, again)
    assert (REFUND_TAKEN_BACK in told["APPROVAL_REASON"], REFUND_CAME_BACK in told["APPROVAL_REASON"]) == (True, False)
    part = payouts_pb2.GetRefundPreviewRequest.Part(investment_id=paid.investment_id, party_id="inv-001")
    preview = payouts_pb2.GetRefundPreviewRequest(parts=[part])
    found = (await service.ask(DISTRIBUTIONS, "GetRefundPreview", preview)).explanations
    assert [first.transaction_id in each.statement for each in found if each.rule == "PAYOUT_TAKEN_BACK"] == [True]


async def refund(service: TransactionsHarness, paid: Any, *, approved: bool = False) -> Any:
    service.owe("inv-001")
    values = {"type": T.REFUND, "investment_id": paid.investment_id, "amount": usd(100_00)}
    made = await service.payout_to(None, "inv-001", approved=approved, **values)
    await service.work()
    return await service.get(made.transaction_id)
