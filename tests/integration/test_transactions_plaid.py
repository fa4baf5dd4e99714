"""ACH by Plaid Transfer, ordered with its own SDK of the stand-in: a process of its own over HTTP."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.values.money import Money
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.same_day import SameDayWays
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.protocols import Declined, OutcomeUnknown
from services.transactions.store import plaid as store
from tests.integration.plaid_desk import (
    CLIENT_ID,
    SECRET,
    VAULT,
    alter,
    becomes,
    list_objects,
    list_transfers,
    read,
    set_back,
    write_past,
)
from tests.support.payment_orders import an_order
from tests.support.transactions import ORG
from tests.support.vault import build_vault

pytest_plugins = ("tests.integration.plaid_desk",)


async def list_kept(plaid_database, reference):
    async with plaid_database.begin() as tx:
        return await store.list_by_reference(tx, reference)


@pytest.mark.parametrize(("holder_type", "is_inbound", "kind", "ach_class"), [
    ("PERSON", True, "debit", "web"),
    ("PERSON", False, "credit", "ppd"),
    ("COMPANY", True, "debit", "ccd"),
    ("COMPANY", False, "credit", "ccd"),
])  # fmt: skip
async def test_money_is_drawn_and_paid_and_settles(
    plaid, plaid_books, holder_type, is_inbound, kind, ach_class
) -> None:
    order = an_order(holder_type=holder_type, is_inbound=is_inbound, amount=Money(1_234_567_05, "USD"))
    payment = await plaid.submit(order)
    assert (payment.status, payment.amount, payment.is_inbound) == (PaymentStatus.PENDING, order.amount, is_inbound)
    there = read(plaid_books, payment.payment_id)
    assert (there["type"], there["ach_class"], there["amount"]) == (kind, ach_class, "1234567.05")
    assert (there["description"], there["user"]["legal_name"]) == ("ESCROW DEPOSIT", order.account_holder_name)
    settled = await becomes(plaid, payment.payment_id, PaymentStatus.SETTLED)
    assert replace(settled, status=PaymentStatus.PENDING) == payment


@pytest.mark.parametrize(("is_inbound", "amount_minor", "network"), [
    (True, 100, "ach"),
    (False, 1_000_000_00, "same-day-ach"),
    (False, 1_000_000_01, "ach"),
])  # fmt: skip
async def test_what_is_to_settle_on_the_same_day_says_so_where_the_network_takes_as_much(
    plaid_url, plaid_database, plaid_clock, plaid_books, is_inbound, amount_minor, network
) -> None:
    ways = SameDayWays(debits=False)
    adapter = PlaidTransfers(plaid_url, CLIENT_ID, SECRET, plaid_database, plaid_clock, VAULT, same_day=ways)
    with acting_as(service_principal("transactions", ORG)):
        payment = await adapter.submit(an_order(is_inbound=is_inbound, amount=Money(amount_minor, "USD")))
    await adapter.close()
    assert read(plaid_books, payment.payment_id)["network"] == network


@pytest.mark.parametrize("is_inbound", [True, False])
@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("000222222227", "R01"),
        ("000111111113", "R02"),
        ("000111111116", "R03"),
        ("000333333335", "R10"),
        ("000555555559", "R10"),
    ],
)
async def test_what_the_bank_sends_back_bears_its_code_before_it_settles_and_after(
    plaid, number, code, is_inbound
) -> None:
    payment = await plaid.submit(an_order(number, is_inbound=is_inbound))
    assert (await becomes(plaid, payment.payment_id, PaymentStatus.RETURNED)).return_code == code


async def test_what_fails_before_a_bank_has_it_has_failed(plaid) -> None:
    payment = await plaid.submit(an_order("000666666661"))
    assert (await becomes(plaid, payment.payment_id, PaymentStatus.FAILED)).return_code == ""


@pytest.mark.parametrize(
    ("order", "code", "message", "retryable"),
    [
        (an_order("000777777771"), "DECLINED_BY_PROVIDER", "(NSF)", True),
        (an_order("000777777773"), "DECLINED_BY_PROVIDER", "(RISK)", False),
        (an_order("000777777775"), "DECLINED_BY_PROVIDER", "add it again", False),
        (an_order("000888888881"), "DECLINED_BY_PROVIDER", "(TRANSFER_NETWORK_LIMIT_EXCEEDED)", False),
        (an_order("12-34"), "INVALID_PAYMENT_DATA", "data", False),
        (an_order(routing_number="110000001"), "INVALID_PAYMENT_DATA", "data", False),
        (an_order(amount=Money(10**12, "USD")), "INVALID_PAYMENT_DATA", "data", False),
        (an_order(amount=Money(100, "EUR")), "PAYMENT_METHOD_NOT_SUPPORTED", "dollars", False),
    ],
    ids=["no funds", "a risk", "its holder", "a limit", "no number", "no routing number", "too much", "euros"],
)
async def test_a_decline_is_definite_and_leaves_nothing(plaid, plaid_books, order, code, message, retryable) -> None:
    for _ in range(2):
        with pytest.raises(Declined, match=message.replace("(", r"\(").replace(")", r"\)")) as refusal:
            await plaid.submit(order)
        assert (refusal.value.code, refusal.value.retryable) == (code, retryable)
    assert await plaid.list_payments(order.reference) == []
    assert list_transfers(plaid_books, order.reference) == []


async def test_what_plaid_refuses_once_it_is_authorized_cannot_be_made_later(
    plaid, plaid_books, plaid_database
) -> None:
    order = an_order("000888888881")
    with pytest.raises(Declined):
        await plaid.submit(order)
    [kept] = await list_kept(plaid_database, order.reference)
    assert kept.ended_at is not None
    assert read(plaid_books, kept.authorization_id)["_cancelled"] is True


# --- exactly once ---


@pytest.mark.parametrize(
    ("number", "tries"),
    [("000999999990", 1), ("000999999991", 1), ("000999999992", 2)],
    ids=["the transfer is answered 500", "the authorization is answered 500", "it is answered with another amount"],
)
async def test_an_answer_that_proves_nothing_leaves_the_outcome_unknown_and_is_paid_once(
    plaid, plaid_books, number, tries
) -> None:
    order = an_order(number)
    for _ in range(tries):
        with pytest.raises(OutcomeUnknown):
            await plaid.submit(order)
    with suppress(OutcomeUnknown):
        await plaid.submit(order)
    [payment] = await plaid.list_payments(order.reference)
    assert (payment.amount, payment.reference) == (order.amount, order.reference)
    assert len(list_transfers(plaid_books, order.reference)) == 1


class Killed(Exception):
    """The process is gone."""


def dying_at(step: str, plaid_url, plaid_database, plaid_clock) -> PlaidTransfers:
    """An adapter whose process does not live to do this step."""

    async def die(*_: object, **__: object) -> None:
        raise Killed

    kind = type("DyingTransfers", (PlaidTransfers,), {step: die})
    adapter: PlaidTransfers = kind(plaid_url, CLIENT_ID, SECRET, plaid_database, plaid_clock, VAULT)
    return adapter


@pytest.mark.parametrize(
    "step",
    ["_introduce", "_authorize", "_keep", "_make_or_end", "_record"],
)
@pytest.mark.parametrize("is_inbound", [True, False])
async def test_whatever_step_a_process_dies_at_the_next_one_pays_once(
    plaid, plaid_url, plaid_books, plaid_database, plaid_clock, step, is_inbound
) -> None:
    order = an_order(is_inbound=is_inbound)
    dying = dying_at(step, plaid_url, plaid_database, plaid_clock)
    for _ in range(2):
        with pytest.raises(Killed):
            await dying.submit(order)
    made = len(list_transfers(plaid_books, order.reference))
    assert made == (step == "_record")
    assert len(await plaid.list_payments(order.reference)) == made
    payment = await plaid.submit(order)
    assert [each.payment_id for each in await plaid.list_payments(order.reference)] == [payment.payment_id]
    assert [each["id"] for each in list_transfers(plaid_books, order.reference)] == [payment.payment_id]
    await dying.close()


async def test_workers_that_order_at_once_make_one_transfer_of_one_account(plaid, plaid_books, plaid_database) -> None:
    order = an_order()
    payments = await asyncio.gather(*(plaid.submit(order) for _ in range(6)))
    assert len({each.payment_id for each in payments}) == 1
    assert len(list_transfers(plaid_books, order.reference)) == 1
    assert len(await list_kept(plaid_database, order.reference)) == 1


async def test_an_authorization_that_expired_is_followed_by_another_once_it_can_make_nothing(
    plaid, plaid_url, plaid_books, plaid_database, plaid_clock
) -> None:
    order = an_order()
    dying = dying_at("_make_or_end", plaid_url, plaid_database, plaid_clock)
    with pytest.raises(Killed):
        await dying.submit(order)
    await dying.close()
    [first] = await list_kept(plaid_database, order.reference)
    alter(plaid_books, first.authorization_id, _made_ms=0)
    with pytest.raises(OutcomeUnknown, match="still"):
        await plaid.submit(order)
    plaid_clock.advance(timedelta(hours=2))
    payment = await plaid.submit(order)
    second, ended = await list_kept(plaid_database, order.reference)
    assert (ended.authorization_id, ended.transfer_id, second.number) == (first.authorization_id, None, 2)
    assert second.transfer_id == payment.payment_id
    assert len(list_transfers(plaid_books, order.reference)) == 1
    assert (await plaid.submit(order)).payment_id == payment.payment_id


async def test_an_authorization_that_is_set_back_in_the_database_is_paid_no_second_time(
    plaid, plaid_url, plaid_urls, plaid_books, plaid_database, plaid_clock
) -> None:
    order = an_order()
    dying = dying_at("_make_or_end", plaid_url, plaid_database, plaid_clock)
    with pytest.raises(Killed):
        await dying.submit(order)
    await dying.close()
    [first] = await read_rows(plaid_database)
    alter(plaid_books, first["authorization_id"], _made_ms=0)
    plaid_clock.advance(timedelta(hours=2))
    payment = await plaid.submit(order)
    await set_back(plaid_urls, first["authorization_id"], first)
    plaid_clock.advance(timedelta(hours=2))
    assert (await plaid.submit(order)).payment_id == payment.payment_id
    assert [each["id"] for each in list_transfers(plaid_books, order.reference)] == [payment.payment_id]


async def read_rows(plaid_database):
    async with plaid_database.begin() as tx:
        return [row._asdict() for row in await tx.execute(sa.text("SELECT * FROM plaid_transfers"))]


async def test_another_order_under_the_same_key_is_unknown_and_not_made(plaid, plaid_books) -> None:
    order = an_order()
    await plaid.submit(order)
    for other in (replace(order, amount=Money(1, "USD")), replace(order, is_inbound=False)):
        with pytest.raises(OutcomeUnknown):
            await plaid.submit(other)
    assert len(list_transfers(plaid_books, order.reference)) == 1


@pytest.mark.parametrize("keys", [[b"b" * 32, bytes(32)], [bytes(32)]], ids=["a newer key has come", "as before"])
async def test_an_order_is_made_once_whatever_becomes_of_our_keys(
    plaid, plaid_url, plaid_database, plaid_clock, plaid_books, keys
) -> None:
    order = an_order()
    first = await plaid.submit(order)
    vault = build_vault(*keys)
    rotated = PlaidTransfers(plaid_url, CLIENT_ID, SECRET, plaid_database, plaid_clock, vault)
    assert (await rotated.submit(order)).payment_id == first.payment_id
    assert [each.payment_id for each in await rotated.list_payments(order.reference)] == [first.payment_id]
    assert len(list_transfers(plaid_books, order.reference)) == 1
    await rotated.close()


async def test_what_is_presented_again_says_so_and_draws_from_the_account_that_is_known(plaid, plaid_books) -> None:
    first = an_order("000222222227")
    payment = await plaid.submit(first)
    again = replace(first, key=f"{first.key}2", presentment=2, description="RETRY PYMT")
    second = await plaid.submit(again)
    there = [read(plaid_books, each.payment_id) for each in (payment, second)]
    assert [each["description"] for each in there] == ["ESCROW DEPOSIT", "Retry 1"]
    assert there[0]["account_id"] == there[1]["account_id"]


# --- bank accounts ---


async def test_another_number_under_the_same_id_is_another_account_at_plaid(plaid, plaid_books) -> None:
    one = an_order()
    other = an_order("000123456789", bank_account_id=one.bank_account_id)
    accounts = {read(plaid_books, (await plaid.submit(each)).payment_id)["account_id"] for each in (one, other)}
    assert len(accounts) == 2
    elsewhere = an_order(bank_account_id=one.bank_account_id, routing_number="110000000")
    assert read(plaid_books, (await plaid.submit(elsewhere)).payment_id)["account_id"] not in accounts


async def test_a_token_is_nowhere_in_clear_and_no_account_number_at_plaids_stand_in(
    plaid, plaid_urls, plaid_books
) -> None:
    order = an_order("000987654321")
    account_id = read(plaid_books, (await plaid.submit(order)).payment_id)["account_id"]
    [item] = list_objects(plaid_books, "item", lambda each: each["account_id"] == account_id)
    text = "SELECT FROM plaid_items WHERE plaid_items::text LIKE '%{}%' OR access_token_encrypted LIKE '%{}%'"
    assert await write_past(plaid_urls, text.format(item["access_token"], "access-sandbox")) == "SELECT 0"
    assert b"987654321" not in plaid_books.read_bytes()


@pytest.mark.parametrize(
    "statement",
    [
        (
            "UPDATE plaid_items SET access_token_encrypted = t.access_token_encrypted, account_id = 'acc_other' FROM"
            " (SELECT access_token_encrypted FROM plaid_items WHERE bank_account_id = '{other}') t"
            " WHERE bank_account_id = '{ours}'"
        ),
        "UPDATE plaid_items SET account_id = 'acc_other' WHERE bank_account_id = '{ours}'",
        (
            "UPDATE plaid_items SET bank_account_id = 'gone' WHERE bank_account_id = '{ours}';"
            " UPDATE plaid_items SET bank_account_id = '{ours}', account_number_digest ="
            " (SELECT account_number_digest FROM plaid_items WHERE bank_account_id = 'gone')"
            " WHERE bank_account_id = '{other}'"
        ),
        "UPDATE plaid_items SET seal = NULL WHERE bank_account_id = '{ours}'",
    ],
    ids=["another's token", "another account", "another's row in its place", "no seal"],
)
async def test_an_item_that_somebody_altered_is_noticed_and_nothing_is_paid(
    plaid, plaid_urls, plaid_books, statement
) -> None:
    ours, other = an_order(), an_order("000123456780")
    for each in (ours, other):
        await plaid.submit(each)
    await write_past(plaid_urls, statement.format(ours=ours.bank_account_id, other=other.bank_account_id))
    later = an_order(bank_account_id=ours.bank_account_id)
    with pytest.raises(OutcomeUnknown, match="not written by this service"):
        await plaid.submit(later)
    assert list_transfers(plaid_books, later.reference) == []


async def test_an_authorization_that_somebody_altered_is_noticed_and_nothing_is_paid(
    plaid, plaid_urls, plaid_url, plaid_books, plaid_database, plaid_clock
) -> None:
    order = an_order()
    dying = dying_at("_make_or_end", plaid_url, plaid_database, plaid_clock)
    with pytest.raises(Killed):
        await dying.submit(order)
    await dying.close()
    await write_past(plaid_urls, "UPDATE plaid_transfers SET ended_at = now()")
    for asked in (plaid.submit(order), plaid.list_payments(order.reference)):
        with pytest.raises(OutcomeUnknown, match="not written by this service"):
            await asked
    assert list_transfers(plaid_books, order.reference) == []
