"""The service over Plaid: what its events bring about, and what somebody with our keys there could not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2, webhooks_pb2
from structlog.testing import capture_logs

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.values.ids import new_id
from services.transactions.commands.settlement import PAYMENTS_NOT_OURS
from services.transactions.domain.payments import PaymentStatus
from services.transactions.jobs.apply_webhooks import apply_webhooks
from services.transactions.jobs.sync_plaid_transfers import sync_plaid_transfers
from services.transactions.providers.plaid import transfers
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.store.plaid import read_cursor
from tests.integration.plaid_desk import (
    BY_PLAID,
    CLIENT_ID,
    SECRET,
    VAULT,
    T,
    alter,
    ask,
    becomes,
    count_events,
    deliver,
    list_objects,
    list_transfers,
    read,
    wait_for_knocks,
    write_past,
)
from tests.support.payment_orders import an_order
from tests.support.transactions import ADMIN, ORG, ROUTING_NUMBER, TransactionsHarness

pytest_plugins = ("tests.integration.plaid_desk",)
HOOK = webhooks_pb2.Webhook


def count_alarms() -> float:
    return PAYMENTS_NOT_OURS._value.get()


async def list_hooks(service):
    return list((await service.ask(ADMIN, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())).webhooks)


async def start(service, suffix="02"):
    """A contribution that Plaid has."""
    made = await service.deposit(suffix=suffix)
    await service.work()
    seen = await service.get(made.transaction_id)
    assert (seen.status in (T.PENDING_SETTLEMENT, T.SETTLED), seen.provider) == (True, "plaid")
    return seen


async def has(service, transaction_id, status, step: Callable[[], Awaitable[object]] | None = None):
    """The transaction, once it has this status."""
    deadline = time.monotonic() + 10
    while True:
        seen = await service.get(transaction_id)
        if seen.status == status:
            return seen
        assert time.monotonic() < deadline, T.Status.Name(seen.status)
        await (step or service.work)()
        await asyncio.sleep(0.05)


async def count_received(service) -> int:
    async with service.database.begin_for_all() as tx:
        found = sa.text("SELECT count(*) FROM received_webhooks WHERE provider_event_id LIKE 'transfer-event:%'")
        return int(await tx.scalar(found))


async def test_a_contribution_is_brought_to_where_plaid_has_it_by_events_alone(plaid_service) -> None:
    started = await start(plaid_service)
    seen = await has(plaid_service, started.transaction_id, T.SETTLED)
    assert (seen.provider, seen.attempts) == ("plaid", 1)
    hooks = await list_hooks(plaid_service)
    assert {(each.status, each.provider) for each in hooks} == {(HOOK.APPLIED, "plaid")}
    assert {each.event_type for each in hooks} >= {"transfer.pending", "transfer.posted", "transfer.settled"}


async def test_a_payout_is_paid_by_plaid(plaid_service, plaid_books) -> None:
    made = await plaid_service.payout("inv-002")
    seen = await has(plaid_service, made.transaction_id, T.COMPLETED)
    [there] = list_transfers(plaid_books, made.transaction_id)
    assert (there["type"], there["id"]) == ("credit", seen.provider_reference)


@pytest.mark.parametrize("order", ["as they came", "the last first, each twice"])
async def test_a_webhook_has_the_events_read_at_once_however_often_it_comes(
    plaid_service, plaid_adapter, plaid_webhooks, order
) -> None:
    made = await plaid_service.deposit()
    before = len(plaid_webhooks.received)
    await plaid_service.work()
    reference = (await plaid_service.get(made.transaction_id)).provider_reference
    await becomes(plaid_adapter, reference, PaymentStatus.SETTLED)
    knocks = (await wait_for_knocks(plaid_webhooks, before + 3))[before:]
    await deliver(plaid_service, knocks if order == "as they came" else [*knocks[::-1], *knocks])

    async def apply() -> None:
        await plaid_service.run(apply_webhooks)

    await has(plaid_service, made.transaction_id, T.SETTLED, apply)
    ids = [each.provider_event_id for each in await list_hooks(plaid_service)]
    assert len(ids) == len(set(ids))


async def test_a_webhook_that_is_lost_costs_a_minute_and_nothing_else(plaid_service, plaid_adapter) -> None:
    made = await plaid_service.deposit()
    await plaid_service.work()
    reference = (await plaid_service.get(made.transaction_id)).provider_reference
    await becomes(plaid_adapter, reference, PaymentStatus.SETTLED)
    assert await plaid_service.run(sync_plaid_transfers) > 0
    await plaid_service.run(apply_webhooks)
    assert (await plaid_service.get(made.transaction_id)).status == T.SETTLED


async def test_a_webhook_that_comes_while_plaid_is_away_is_kept_until_it_answers(
    plaid_service, plaid_adapter, plaid_webhooks, plaid_clock
) -> None:
    made = await plaid_service.deposit()
    await plaid_service.work()
    reference = (await plaid_service.get(made.transaction_id)).provider_reference
    await becomes(plaid_adapter, reference, PaymentStatus.SETTLED)
    [*_, knock] = await wait_for_knocks(plaid_webhooks, 1)
    nowhere = PlaidTransfers("http://127.0.0.1:9", CLIENT_ID, SECRET, plaid_service.database, plaid_clock, VAULT)
    cut_off = TransactionsHarness(
        plaid_service.database,
        clock=plaid_clock,
        provider=nowhere,
        choice=BY_PLAID,
        settings=plaid_service.settings,
        bank=plaid_service.bank,
    )
    await deliver(cut_off, [knock])
    with capture_logs() as logs:
        assert await cut_off.run(sync_plaid_transfers) == 0
        assert await cut_off.run(apply_webhooks) == 1
    assert {each["event"] for each in logs} >= {"events_not_read"}
    await plaid_service.hurry()
    assert await plaid_service.run(apply_webhooks) == 1, "it waits to be applied"
    await plaid_service.run(apply_webhooks)
    assert (await plaid_service.get(made.transaction_id)).status == T.SETTLED
    assert await plaid_service.run(apply_webhooks) == 0
    await nowhere.close()


async def test_a_webhook_that_came_before_the_keys_were_taken_away_is_done_with(
    plaid_service, plaid_adapter, plaid_webhooks
) -> None:
    await start(plaid_service)
    [*_, knock] = await wait_for_knocks(plaid_webhooks, 1)
    without = TransactionsHarness(plaid_service.database, settings=plaid_service.settings)
    await deliver(without, [knock])
    await without.run(apply_webhooks)
    await without.hurry()
    assert await without.run(apply_webhooks) == 0


async def test_events_that_are_read_again_change_nothing(plaid_service, plaid_adapter) -> None:
    started = await start(plaid_service)
    await has(plaid_service, started.transaction_id, T.SETTLED)
    await becomes(plaid_adapter, started.provider_reference, PaymentStatus.SETTLED)
    await plaid_service.work()
    before = await list_hooks(plaid_service), await plaid_service.path(started.transaction_id)
    count = await count_received(plaid_service)
    last = await read_cursor(plaid_service.database, plaid_adapter.feed)
    async with plaid_service.database.begin_for_all() as tx:
        await tx.execute(sa.text("UPDATE plaid_cursor SET after_id = :id"), {"id": last - count})
    assert await plaid_service.run(sync_plaid_transfers) == 0
    await plaid_service.work()
    assert (await list_hooks(plaid_service), await plaid_service.path(started.transaction_id)) == before
    assert await read_cursor(plaid_service.database, plaid_adapter.feed) >= last


async def test_processes_that_read_at_once_store_each_event_once_and_lose_none(
    plaid_service, plaid_adapter, plaid_books
) -> None:
    first = await read_cursor(plaid_service.database, plaid_adapter.feed)
    with acting_as(service_principal("transactions", ORG)):
        for _ in range(3):
            payment = await plaid_adapter.submit(an_order())
            await becomes(plaid_adapter, payment.payment_id, PaymentStatus.SETTLED)
    await asyncio.sleep(0.2)  # what settles here tells once more, of funds that are available
    counts = await asyncio.gather(*(plaid_service.run(sync_plaid_transfers) for _ in range(4)))
    last = await read_cursor(plaid_service.database, plaid_adapter.feed)
    assert sum(counts) == last - first == await count_received(plaid_service)
    assert last <= count_events(plaid_books)


async def test_many_events_are_read_a_page_at_a_time(plaid_service, plaid_adapter, plaid_books, monkeypatch) -> None:
    monkeypatch.setattr(transfers, "EVENTS_MAX", 2)
    started = await start(plaid_service)
    await becomes(plaid_adapter, started.provider_reference, PaymentStatus.SETTLED)
    await has(plaid_service, started.transaction_id, T.SETTLED)


async def test_an_event_whose_place_somebody_took_is_told_and_its_payment_is_looked_up(
    plaid_service, plaid_adapter, plaid_urls
) -> None:
    made = await plaid_service.deposit()
    await plaid_service.work()
    reference = (await plaid_service.get(made.transaction_id)).provider_reference
    await becomes(plaid_adapter, reference, PaymentStatus.SETTLED)
    page = await plaid_adapter.list_events(await read_cursor(plaid_service.database, plaid_adapter.feed))
    assert page.found, "it was told since"
    for number, (_, event, _) in enumerate(page.found):
        await write_past(
            plaid_urls,
            "INSERT INTO received_webhooks (webhook_id, provider, provider_event_id, event_type, created_at)"
            f" VALUES ('whk_forged_{number}', 'plaid', '{event.event_id}', 'x', now())",
        )
    with capture_logs() as logs:
        await plaid_service.work()
    assert "row_not_sealed" in {each["event"] for each in logs}
    await has(plaid_service, made.transaction_id, T.SETTLED, lambda: plaid_service.work(hurried=True))


async def add_account(service, number, party_id="inv-001") -> str:
    request = bank_accounts_pb2.CreateBankAccountRequest(
        idempotency_key=new_id("key"),
        party_id=party_id,
        account_holder_name="Ada Investor",
        routing_number=ROUTING_NUMBER,
        account_number=number,
    )
    owner = Principal(party_id, "investor", ADMIN.org_id, parties=frozenset({party_id}))
    return (await service.ask(owner, "CreateBankAccount", request)).bank_account_id


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        ("000222222227", "R01", T.PENDING_RETRY),
        ("000111111113", "R02", T.RETURNED),
        ("000555555559", "R10", T.RETURNED),
    ],
)
async def test_a_contribution_that_comes_back_is_returned_and_for_want_of_funds_presented_again(
    plaid_service, plaid_books, number, code, status
) -> None:
    made = await plaid_service.deposit(bank_account_id=await add_account(plaid_service, number))
    seen = await has(plaid_service, made.transaction_id, status)
    assert seen.failure.metadata["network_code"] == code
    if status != T.PENDING_RETRY:
        return
    plaid_service.clock.set(seen.next_attempt_time.ToDatetime().astimezone(plaid_service.clock.now().tzinfo))
    for _ in range(200):
        await plaid_service.work(hurried=True)
        if len(there := list_transfers(plaid_books, made.transaction_id)) == 2:
            break
        await asyncio.sleep(0.02)
    assert [each["description"] for each in there] == ["ESCROW DEPOSIT", "Retry 1"]


async def test_a_payout_that_comes_back_after_it_settled_is_returned(plaid_service) -> None:
    account = await add_account(plaid_service, "000555555559", "inv-002")
    request = bank_accounts_pb2.GetBankAccountRequest(bank_account_id=account)
    await plaid_service.confirm(await plaid_service.ask(ADMIN, "GetBankAccount", request))
    plaid_service.owe("inv-002")
    made = await plaid_service.payout_to(account, "inv-002")
    seen = await has(plaid_service, made.transaction_id, T.RETURNED)
    assert seen.failure.metadata["network_code"] == "R10"
    assert "COMPLETED" in await plaid_service.path(made.transaction_id)


# --- whoever has our keys at Plaid ---


@pytest.mark.parametrize(
    "changed",
    [
        {"metadata": {}},
        {"metadata": {"presentment": "x"}},
        {"metadata": {"reference": "txn_of_another"}},
        {"metadata": {"proof": ""}},
        {"amount": "100.01"},
        {"type": "credit"},
        {"account_id": "another"},
        {"authorization_id": "another"},
    ],
    ids=str,
)
async def test_a_transfer_whose_words_somebody_changed_is_told_and_not_followed(
    plaid_service, plaid_books, changed
) -> None:
    made = await plaid_service.deposit(bank_account_id=await add_account(plaid_service, "000000000009"))
    await plaid_service.work()
    started = await plaid_service.get(made.transaction_id)
    before = count_alarms()
    there = read(plaid_books, started.provider_reference)
    if "metadata" in changed:
        changed = {"metadata": there["metadata"] | changed["metadata"] if changed["metadata"] else {}}
    alter(plaid_books, started.provider_reference, **changed, status="settled")
    await plaid_service.work(hurried=True)
    assert (await plaid_service.get(started.transaction_id)).status == T.PENDING_SETTLEMENT
    assert count_alarms() > before


@pytest.mark.parametrize("back", ["0.01", "100.00"])
async def test_what_is_paid_back_at_plaid_is_not_still_there(plaid_service, plaid_books, back) -> None:
    started = await start(plaid_service)
    seen = await has(plaid_service, started.transaction_id, T.SETTLED)
    before = count_alarms()
    refund = {"id": "r", "transfer_id": seen.provider_reference, "amount": back, "status": "pending"}
    more = {"failure_reason": None, "ledger_id": None, "created": "2024-12-02T12:00:00Z", "network_trace_id": None}
    alter(plaid_books, seen.provider_reference, refunds=[refund | more])
    plaid_service.clock.set(seen.return_risk_end_time.ToDatetime().astimezone(plaid_service.clock.now().tzinfo))
    with capture_logs() as logs:
        await plaid_service.work(hurried=True)
    assert (await plaid_service.get(seen.transaction_id)).status == T.SETTLED, "it is not completed"
    assert count_alarms() > before
    [cause] = {each["cause"] for each in logs if each["event"] == "payment_not_ours"}
    assert cause == f"{back} USD of it was paid back at the provider, or is disputed there"


async def test_a_transfer_that_the_keys_alone_made_is_none_of_ours(plaid, plaid_url, plaid_books) -> None:
    """Its words are those of ours, its account and amount, too; the proof is of another authorization."""
    order = an_order("000000000009")
    ours = read(plaid_books, (await plaid.submit(order)).payment_id)
    forged = forge(plaid_url, plaid_books, ours, metadata=ours["metadata"])
    found = await plaid.get_payment(forged["id"])
    assert (found.reference, found.presentment) == ("", 0)
    assert [each.payment_id for each in await plaid.list_payments(order.reference)] == [ours["id"]]


def forge(url, books, ours, *, authorization_id="", key=None, **more):
    """A transfer like ours, made by somebody else."""
    [item] = list_objects(books, "item", lambda each: each["account_id"] == ours["account_id"])
    account = {"access_token": item["access_token"], "account_id": item["account_id"]}
    if not authorization_id:
        asked = {"type": ours["type"], "network": "ach", "ach_class": ours["ach_class"], "amount": ours["amount"]}
        asked |= {"idempotency_key": key} if key else {}
        authorized = ask(url, "/transfer/authorization/create", **account, **asked, user={"legal_name": "Mallory"})
        authorization_id = authorized["authorization"]["id"]
    asked = {"authorization_id": authorization_id, "description": "x", **more}
    return ask(url, "/transfer/create", **account, **asked)["transfer"]


async def test_an_authorization_that_others_used_up_is_told_and_not_taken_for_ours(
    plaid, plaid_url, plaid_books, plaid_database
) -> None:
    order = an_order("000000000009")
    there = read(plaid_books, (await plaid.submit(order)).payment_id)
    second = an_order("000000000009", bank_account_id=order.bank_account_id)
    original = plaid._make_or_end

    async def used_up_first(given, authorized, *rest, **more):
        forge(plaid_url, plaid_books, there, authorization_id=authorized.authorization_id)
        return await original(given, authorized, *rest, **more)

    plaid._make_or_end = used_up_first
    with capture_logs() as logs, pytest.raises(OutcomeUnknown, match="differs in reference"):
        await plaid.submit(second)
    with pytest.raises(OutcomeUnknown, match="differs in reference"):
        await plaid.list_payments(second.reference)
    assert "payment_not_ours" in {each["event"] for each in logs}
    assert list_transfers(plaid_books, second.reference) == []


async def test_nobody_uses_up_the_key_of_an_order_that_is_still_to_come(plaid, plaid_url, plaid_books) -> None:
    first = an_order()
    ours = read(plaid_books, (await plaid.submit(first)).payment_id)
    order = an_order(bank_account_id=first.bank_account_id)
    taken = [forge(plaid_url, plaid_books, ours, key=key) for key in (order.key, f"{order.key}:1"[:50])]
    payment = await plaid.submit(order)
    assert payment.payment_id not in {each["id"] for each in taken}
    assert payment.reference == order.reference
