"""The service over Plaid: what its events bring about, and what somebody with our keys there could not."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2, webhooks_pb2
from structlog.testing import capture_logs

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.values.ids import new_id
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.jobs.apply_webhooks import apply_webhooks
from services.transactions.jobs.read_provider_events import read_provider_events
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.protocols import NotAsOrdered
from services.transactions.store.feed_cursors import read_cursor, save_cursor
from tests.integration.plaid_desk import (
    BY_PLAID,
    CLIENT_ID,
    SECRET,
    VAULT,
    T,
    alter,
    ask,
    count_events,
    deliver,
    list_objects,
    list_transfers,
    read,
    simulate,
    wait_for_knocks,
    write_past,
)
from tests.support.exceptions import count_found
from tests.support.payment_orders import an_order
from tests.support.transactions import ADMIN, ORG, ROUTING_NUMBER, TransactionsHarness

pytest_plugins = ("tests.integration.plaid_desk",)
HOOK = webhooks_pb2.Webhook
STAYS_PENDING = "000000000009"


def count_alarms() -> float:
    return count_found(ExceptionKind.PAYMENT_NOT_OURS)


async def list_hooks(service):
    return list((await service.ask(ADMIN, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())).webhooks)


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


async def start(service):
    """A contribution that Plaid has, and that moves there by `simulate` alone."""
    made = await service.deposit(bank_account_id=await add_account(service, STAYS_PENDING))
    await service.work()
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.provider, seen.attempts) == (T.PENDING_SETTLEMENT, "plaid", 1)
    return seen


async def start_payout(service):
    """The same of a payout."""
    account = await add_account(service, STAYS_PENDING, "inv-002")
    request = bank_accounts_pb2.GetBankAccountRequest(bank_account_id=account)
    await service.confirm(await service.ask(ADMIN, "GetBankAccount", request))
    service.owe("inv-002")
    made = await service.payout_to(account, "inv-002")
    await service.work()
    return made


async def status_of(service, transaction) -> int:
    return (await service.get(transaction.transaction_id)).status


async def count_received(service) -> int:
    async with service.database.begin_for_all() as tx:
        found = sa.text("SELECT count(*) FROM received_webhooks WHERE provider_event_id LIKE 'transfer-event:%'")
        return int(await tx.scalar(found))


async def test_a_contribution_is_brought_to_where_plaid_has_it_by_events_alone(plaid_service, plaid_url) -> None:
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", "settled", "funds_available")
    await plaid_service.work()
    assert await status_of(plaid_service, started) == T.SETTLED
    hooks = await list_hooks(plaid_service)
    assert {(each.status, each.provider) for each in hooks} == {(HOOK.APPLIED, "plaid")}
    told = sorted(each.event_type for each in hooks)
    assert told == ["transfer.funds_available", "transfer.pending", "transfer.posted", "transfer.settled"]


async def test_a_payout_is_paid_by_plaid_and_comes_back_after_it_settled(plaid_service, plaid_url, plaid_books) -> None:
    made = await start_payout(plaid_service)
    [there] = list_transfers(plaid_books, made.transaction_id)
    assert (there["type"], there["amount"]) == ("credit", "50.00")
    simulate(plaid_url, there["id"], "posted", "settled")
    await plaid_service.work()
    assert await status_of(plaid_service, made) == T.COMPLETED
    simulate(plaid_url, there["id"], "returned", code="R03")
    await plaid_service.work()
    seen = await plaid_service.get(made.transaction_id)
    assert (seen.status, seen.failure.metadata["network_code"]) == (T.RETURNED, "R03")


@pytest.mark.parametrize(
    ("code", "status"), [("R01", T.PENDING_RETRY), ("R02", T.RETURNED), ("R10", T.RETURNED)], ids=["R01", "R02", "R10"]
)
@pytest.mark.parametrize("settled", [False, True], ids=["before it settled", "after it settled"])
async def test_a_contribution_that_comes_back_is_returned_and_for_want_of_funds_presented_again(
    plaid_service, plaid_url, plaid_books, code, status, settled
) -> None:
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", *["settled"] * settled, "returned", code=code)
    await plaid_service.work()
    seen = await plaid_service.get(started.transaction_id)
    assert (seen.status, seen.failure.metadata["network_code"]) == (status, code)
    if status != T.PENDING_RETRY:
        return
    plaid_service.clock.set(seen.next_attempt_time.ToDatetime().astimezone(plaid_service.clock.now().tzinfo))
    await plaid_service.work(hurried=True)
    there = list_transfers(plaid_books, started.transaction_id)
    assert [each["description"] for each in there] == ["ESCROW DEPOSIT", "Retry 1"]


@pytest.mark.parametrize("is_inbound", [True, False], ids=["a contribution", "a payout"])
async def test_what_somebody_cancels_at_plaid_before_a_bank_has_it_moves_nothing(
    plaid_service, plaid_url, is_inbound
) -> None:
    made = await start(plaid_service) if is_inbound else await start_payout(plaid_service)
    reference = (await plaid_service.get(made.transaction_id)).provider_reference
    ask(plaid_url, "/transfer/cancel", transfer_id=reference)
    await plaid_service.work()
    assert await status_of(plaid_service, made) == T.CANCELLED


@pytest.mark.parametrize("order", ["as they came", "the last first, each twice"])
async def test_a_webhook_has_the_events_read_at_once_however_often_it_comes(
    plaid_service, plaid_url, plaid_webhooks, order
) -> None:
    before = len(plaid_webhooks.received)
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", "settled")
    knocks = (await wait_for_knocks(plaid_webhooks, before + 3))[before:]
    await deliver(plaid_service, knocks if order == "as they came" else [*knocks[::-1], *knocks])
    for _ in range(3):
        await plaid_service.run(apply_webhooks)
    assert await status_of(plaid_service, started) == T.SETTLED
    ids = [each.provider_event_id for each in await list_hooks(plaid_service)]
    assert (len(ids), len(set(ids))) == (3, 3)


async def test_a_webhook_that_is_lost_costs_a_minute_and_nothing_else(plaid_service, plaid_url) -> None:
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", "settled")
    assert await plaid_service.run(read_provider_events) == 2
    await plaid_service.run(apply_webhooks)
    assert await status_of(plaid_service, started) == T.SETTLED


async def test_a_webhook_that_comes_while_plaid_is_away_is_kept_until_it_answers(
    plaid_service, plaid_url, plaid_webhooks, plaid_clock
) -> None:
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", "settled")
    [*_, knock] = await wait_for_knocks(plaid_webhooks, 1)
    database, settings = plaid_service.database, plaid_service.settings
    nowhere = PlaidTransfers("http://127.0.0.1:9", CLIENT_ID, SECRET, database, plaid_clock, VAULT)
    cut_off = TransactionsHarness(database, clock=plaid_clock, provider=nowhere, choice=BY_PLAID, settings=settings)
    await deliver(cut_off, [knock])
    with capture_logs() as logs:
        assert await cut_off.run(read_provider_events) == 0
        assert await cut_off.run(apply_webhooks) == 1
    assert {each["event"] for each in logs} >= {"events_not_read"}
    await plaid_service.hurry()
    assert await plaid_service.run(apply_webhooks) == 1, "it waits to be applied"
    await plaid_service.run(apply_webhooks)
    assert await status_of(plaid_service, started) == T.SETTLED
    assert await plaid_service.run(apply_webhooks) == 0
    await nowhere.close()


async def test_a_webhook_that_came_before_the_keys_were_taken_away_is_done_with(plaid_service, plaid_webhooks) -> None:
    await start(plaid_service)
    [*_, knock] = await wait_for_knocks(plaid_webhooks, 1)
    without = TransactionsHarness(plaid_service.database, settings=plaid_service.settings)
    await deliver(without, [knock])
    await without.run(apply_webhooks)
    await without.hurry()
    assert await without.run(apply_webhooks) == 0


async def test_events_that_are_read_again_change_nothing(plaid_service, plaid_adapter, plaid_url) -> None:
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", "settled")
    await plaid_service.work()
    before = await list_hooks(plaid_service), await plaid_service.path(started.transaction_id)
    last = await read_cursor(plaid_service.database, plaid_adapter.events.feed)
    async with plaid_service.database.begin_for_all() as tx:
        earlier = str(int(last.reached) - 3)
        assert await save_cursor(tx, plaid_adapter.events.feed, last, earlier, plaid_service.clock.now())
    assert await plaid_service.run(read_provider_events) == 0
    await plaid_service.work()
    assert (await list_hooks(plaid_service), await plaid_service.path(started.transaction_id)) == before
    assert (await read_cursor(plaid_service.database, plaid_adapter.events.feed)).reached == last.reached
    assert await count_received(plaid_service) == 3


@pytest.mark.parametrize("moved_to", ["999999999", "", "x"])
async def test_how_far_events_were_read_is_moved_by_no_login_and_a_late_return_is_heard_of(
    plaid_service, plaid_url, plaid_books, moved_to
) -> None:
    made = await start_payout(plaid_service)
    [there] = list_transfers(plaid_books, made.transaction_id)
    simulate(plaid_url, there["id"], "posted", "settled")
    await plaid_service.work()
    final_at = (await plaid_service.get(made.transaction_id)).final_time.ToDatetime()
    plaid_service.clock.set(final_at.astimezone(plaid_service.clock.now().tzinfo))
    await plaid_service.work(hurried=True)
    async with plaid_service.database.begin_for_all() as tx:
        move = sa.text("UPDATE feed_cursors SET reached = :to, version = version + 1 WHERE feed <> 'none'")
        await tx.execute(move, {"to": moved_to})
    simulate(plaid_url, there["id"], "returned", code="R03")
    with capture_logs() as logs:
        await plaid_service.work()
    assert await status_of(plaid_service, made) == T.RETURNED
    assert [each["provider"] for each in logs if each["event"] == "events_lost"] == ["plaid"]
    assert "events of plaid lost" in plaid_service.dependencies.alarms
    with capture_logs() as later:
        await plaid_service.work()
    assert "events_lost" not in str(later), "it is ours again"


async def test_processes_that_read_at_once_store_each_event_once_and_lose_none(
    plaid_service, plaid_adapter, plaid_url, plaid_books
) -> None:
    with acting_as(service_principal("transactions", ORG)):
        for _ in range(3):
            payment = await plaid_adapter.submit(an_order(STAYS_PENDING))
            simulate(plaid_url, payment.payment_id, "posted", "settled")
    counts = await asyncio.gather(*(plaid_service.run(read_provider_events) for _ in range(6)))
    assert sum(counts) == await count_received(plaid_service) == 9
    cursor = await read_cursor(plaid_service.database, plaid_adapter.events.feed)
    assert cursor.reached == str(count_events(plaid_books))


async def test_an_event_whose_place_somebody_took_is_told_and_applied_all_the_same(
    plaid_service, plaid_adapter, plaid_urls, plaid_url
) -> None:
    started = await start(plaid_service)
    simulate(plaid_url, started.provider_reference, "posted", "settled")
    cursor = await read_cursor(plaid_service.database, plaid_adapter.events.feed)
    page = await plaid_adapter.events.list_events(cursor.reached)
    for number, (event, _) in enumerate(page.events):
        await write_past(
            plaid_urls,
            "INSERT INTO received_webhooks (webhook_id, provider, provider_event_id, event_type, created_at)"
            f" VALUES ('whk_forged_{number}', 'plaid', '{event.event_id}', 'x', now())",
        )
    with capture_logs() as logs:
        await plaid_service.work()
    assert [each["event"] for each in logs].count("row_not_sealed") == len(page.events) == 2
    assert await status_of(plaid_service, started) == T.SETTLED


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
    started, before = await start(plaid_service), count_alarms()
    there = read(plaid_books, started.provider_reference)
    if "metadata" in changed:
        changed = {"metadata": there["metadata"] | changed["metadata"] if changed["metadata"] else {}}
    alter(plaid_books, started.provider_reference, **changed, status="settled")
    await plaid_service.work(hurried=True)
    assert (await plaid_service.get(started.transaction_id)).status == T.PENDING_SETTLEMENT
    assert count_alarms() > before


@pytest.mark.parametrize("back", ["0.01", "100.00"])
async def test_what_is_paid_back_at_plaid_is_not_still_there(plaid_service, plaid_url, plaid_books, back) -> None:
    started, before = await start(plaid_service), count_alarms()
    simulate(plaid_url, started.provider_reference, "posted", "settled")
    await plaid_service.work()
    seen = await plaid_service.get(started.transaction_id)
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
    order = an_order(STAYS_PENDING)
    ours = read(plaid_books, (await plaid.submit(order)).payment_id)
    forged = forge(plaid_url, plaid_books, ours, metadata=ours["metadata"])
    found = await plaid.get_payment(forged["id"])
    assert (found.reference, found.presentment) == ("", 0)
    assert [each.payment_id for each in await plaid.list_payments(order.reference)] == [ours["id"]]


@pytest.mark.parametrize("with_words", [True, False], ids=["with our words", "with words of their own"])
async def test_a_transfer_that_bears_words_of_ours_and_is_not_ours_is_told(
    plaid_service, plaid_url, plaid_books, with_words
) -> None:
    started, before = await start(plaid_service), count_alarms()
    ours = read(plaid_books, started.provider_reference)
    forged = forge(plaid_url, plaid_books, ours, metadata=ours["metadata"] if with_words else {"order": "7"})
    with capture_logs() as logs:
        await plaid_service.work()
    told = [each["payment_id"] for each in logs if each["event"] == "payment_not_ours"]
    assert told == [forged["id"]] * with_words
    assert count_alarms() - before == with_words
    assert await status_of(plaid_service, started) == T.PENDING_SETTLEMENT


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
    order = an_order(STAYS_PENDING)
    there = read(plaid_books, (await plaid.submit(order)).payment_id)
    second = an_order(STAYS_PENDING, bank_account_id=order.bank_account_id)
    original = plaid._make_or_end

    async def used_up_first(given, authorized, *rest, **more):
        forge(plaid_url, plaid_books, there, authorization_id=authorized.authorization_id)
        return await original(given, authorized, *rest, **more)

    plaid._make_or_end = used_up_first
    with pytest.raises(NotAsOrdered, match="differs in reference"):
        await plaid.submit(second)
    with pytest.raises(NotAsOrdered, match="differs in reference"):
        await plaid.list_payments(second.reference)
    assert list_transfers(plaid_books, second.reference) == []


async def test_nobody_uses_up_the_key_of_an_order_that_is_still_to_come(plaid, plaid_url, plaid_books) -> None:
    first = an_order()
    ours = read(plaid_books, (await plaid.submit(first)).payment_id)
    order = an_order(bank_account_id=first.bank_account_id)
    taken = [forge(plaid_url, plaid_books, ours, key=key) for key in (order.key, f"{order.key}:1"[:50])]
    payment = await plaid.submit(order)
    assert payment.payment_id not in {each["id"] for each in taken}
    assert payment.reference == order.reference
