"""A page on which a card is to be entered is closed at the provider before its contribution is cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from pydantic import SecretStr
from realco.distributions.v1.offerings_pb2 import Investment
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.values.errors import DomainError, Unavailable
from services.chassis.values.ids import new_id
from services.transactions.commands.cancellation import cancel_transaction
from services.transactions.domain.payments import Payment
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.providers.settings import ProviderSettings
from services.transactions.providers.stripe.payments import StripePayments
from tests.integration.stripe_desk import (
    API_KEY,
    BY_STRIPE,
    RETURN_URL,
    VAULT,
    WEBHOOK_SECRET,
    T,
    alter,
    pay,
    post,
    read,
    start_by_card,
)
from tests.support.bulk import cancel as cancel_each
from tests.support.bulk import create, name_outcomes, vary
from tests.support.transactions import ADMIN, CHECKER, INVESTOR, ORG, TransactionsHarness, usd

pytest_plugins = ("tests.integration.stripe_desk",)

Cancel = pb.CancelTransactionRequest
STRANGER = Principal("inv-999", "investor", ORG, parties=frozenset({"inv-999"}))


class Desk(StripePayments):
    """Stripe, of which something may come between: before a page is closed, after it, or in place of the answer."""

    before: Callable[[], object] | None = None
    after: Callable[[], Awaitable[object]] | None = None
    is_silent = False

    async def cancel_payment(self, payment_id: str) -> None:
        if self.before is not None:
            self.before()
        await super().cancel_payment(payment_id)
        if self.after is not None:
            after, self.after = self.after, None
            await after()

    async def get_payment(self, payment_id: str) -> Payment | None:
        if self.is_silent:
            raise OutcomeUnknown("the line went dead")
        return await super().get_payment(payment_id)


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Desk]:
    desk = Desk(API_KEY, url, VAULT, return_url=RETURN_URL)
    yield desk
    await desk.close()


@pytest.fixture
async def service(service_database, desk: Desk) -> TransactionsHarness:
    settings = ProviderSettings(stripe_api_key=SecretStr(API_KEY), stripe_webhook_secret=SecretStr(WEBHOOK_SECRET))
    return TransactionsHarness(
        await service_database("transactions"), provider=desk, choice=BY_STRIPE, settings=settings
    )


async def cancel(service: TransactionsHarness, seen: T, who: Principal = ADMIN, **more: object) -> T:
    return await service.ask(who, "CancelTransaction", Cancel(transaction_id=seen.transaction_id, **more))


async def refuse(service: TransactionsHarness, seen: T, who: Principal = ADMIN, **more: object) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await cancel(service, seen, who, **more)
    return refusal.value


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "as a batch"])
async def test_pages_for_a_card_that_staff_ordered_take_room_of_one_another_and_of_no_other_payment(
    service: TransactionsHarness, at_once: bool
) -> None:
    """Nobody approves one: its payer pays on it, or does not."""
    card = await service.deposit_request(payment_method=T.CARD, bank_account_id=None, amount=usd(1_000_00))
    orders = [vary(card, amount=usd(400_00)) for _ in range(3)]
    if at_once:
        made = name_outcomes(await create(service, ADMIN, orders))
    else:
        made = [name_outcomes(await create(service, ADMIN, [each]))[0] for each in orders]
    assert made[2] == "COMMITMENT_EXCEEDED", "so its payer pays no more than is committed on them"
    assert "COMMITMENT_EXCEEDED" not in made[:2]
    wire = vary(card, payment_method=T.WIRE)
    await service.ask(ADMIN, "CreateTransaction", wire)
    await service.ask(INVESTOR, "CreateTransaction", vary(card))
    with pytest.raises(DomainError) as refusal:
        await service.ask(INVESTOR, "CreateTransaction", vary(card))
    assert refusal.value.reason == "COMMITMENT_EXCEEDED", "the payer's own page takes what there is"


@pytest.mark.parametrize("who", [INVESTOR, ADMIN], ids=["its payer", "staff"])
@pytest.mark.parametrize("card", ["", "pm_card_chargeDeclined"], ids=["nobody tried", "a card was declined"])
async def test_an_open_page_is_closed_and_its_contribution_cancelled(service, url, books, who, card) -> None:
    started = await start_by_card(service)
    if card:
        pay(url, started.provider_reference, card, says="declined")
    assert "cancel" in (await service.get(started.transaction_id, who)).allowed_actions
    ended = await cancel(service, started, who, etag=started.etag, note="By wire instead.")
    assert (ended.status, ended.finality, ended.HasField("failure")) == (T.CANCELLED, T.FINAL, False)
    assert read(books, started.provider_reference)["status"] == "expired"
    pay(url, started.provider_reference, says="Nobody pays there any more")
    await service.work(hurried=True)
    assert (await service.path(started.transaction_id))[-2:] == ["PENDING_SETTLEMENT", "CANCELLED"]
    assert (await service.events(started.transaction_id))[-1] == "TransactionCancelled"
    assert service.distributions.investments[started.investment_id].status == Investment.PENDING
    again = await start_by_card(service, investment_id=started.investment_id)
    assert again.provider_reference != started.provider_reference, "the commitment is free for another payment"


async def test_what_is_paid_meanwhile_is_not_cancelled_and_goes_on(service, desk, url) -> None:
    started = await start_by_card(service)
    desk.before = partial(pay, url, started.provider_reference)
    refusal = await refuse(service, started)
    assert (refusal.reason, "paid" in refusal.message) == ("ILLEGAL_STATUS_CHANGE", True)
    await service.work(hurried=True)
    assert (await service.get(started.transaction_id)).status == T.SETTLED


async def test_nothing_is_cancelled_that_the_provider_does_not_say_is_over(service, desk, url) -> None:
    """Its page may be closed or not: the next look says so, and the same request, sent again, is answered then."""
    started, key = await start_by_card(service), new_id("key")
    desk.is_silent = True
    assert (await refuse(service, started, idempotency_key=key)).reason == "UNAVAILABLE"
    assert (await service.get(started.transaction_id)).status == T.PENDING_SETTLEMENT
    desk.is_silent = False
    assert (await cancel(service, started, idempotency_key=key)).status == T.CANCELLED


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a batch"])
async def test_what_a_provider_does_not_answer_at_once_counts_once_however_often_it_is_asked(
    service, desk, books, together
) -> None:
    pages = [await start_by_card(service) for _ in range(4)]

    async def ask(each: T) -> str:
        if together:
            return name_outcomes(await cancel_each(service, CHECKER, [Cancel(transaction_id=each.transaction_id)]))[0]
        try:
            return T.Status.Name((await cancel(service, each, CHECKER)).status)
        except DomainError as refusal:
            return refusal.reason

    desk.is_silent = True
    assert [await ask(pages[0]) for _ in range(5)] == ["UNAVAILABLE"] * 5
    desk.is_silent = False
    assert [await ask(each) for each in pages] == ["CANCELLED"] * 3 + ["TOO_MANY_STOPS"]
    assert read(books, pages[3].provider_reference)["status"] == "open"


async def test_a_page_that_stays_open_keeps_its_contribution(service, desk, books) -> None:
    started = await start_by_card(service)
    page = read(books, started.provider_reference)["url"]

    async def open_again() -> None:
        alter(books, started.provider_reference, status="open", url=page)

    desk.after = open_again
    assert (await refuse(service, started)).reason == "UNAVAILABLE"
    assert (await service.get(started.transaction_id)).status == T.PENDING_SETTLEMENT


@pytest.mark.parametrize(("card", "status"), [("", T.CANCELLED), ("pm_card_chargeDeclined", T.FAILED)])
async def test_whoever_hears_first_that_the_page_is_closed_the_request_is_answered(
    service, desk, url, card, status
) -> None:
    """A look-up or webhook that is faster than we are says the same, and of a card that was declined, why."""
    started = await start_by_card(service)
    if card:
        pay(url, started.provider_reference, card, says="declined")
    desk.after = partial(service.work, hurried=True)
    assert (await cancel(service, started, etag=started.etag)).status == status
    assert (await service.path(started.transaction_id))[-2:] == ["PENDING_SETTLEMENT", T.Status.Name(status)]


async def test_who_may_not_cancel_it_closes_no_page(service, books) -> None:
    pages = [await start_by_card(service) for _ in range(4)]
    assert (await refuse(service, pages[0], STRANGER)).reason == "TRANSACTION_NOT_FOUND"
    assert (await refuse(service, pages[0], etag="0" * 8)).reason == "ETAG_MISMATCH"
    assert (await cancel(service, pages[0], validate_only=True)).status == T.CANCELLED
    assert {read(books, each.provider_reference)["status"] for each in pages} == {"open"}
    for each in pages[1:]:
        await cancel(service, each, CHECKER)
    assert (await refuse(service, pages[0], CHECKER)).reason == "TOO_MANY_STOPS"
    assert read(books, pages[0].provider_reference)["status"] == "open"


@pytest.mark.parametrize("ended", [None, "cs_test_another"])
async def test_what_a_provider_took_since_it_was_looked_at_is_not_cancelled(service, ended) -> None:
    started = await start_by_card(service)
    request = Cancel(transaction_id=started.transaction_id)
    async with service.database.begin(ORG) as tx:
        with acting_as(ADMIN), pytest.raises(Unavailable):
            await cancel_transaction(tx, request, ended, service.clock.now())
    assert (await service.get(started.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_a_rehearsal_says_that_it_was_paid_meanwhile(service, url) -> None:
    started = await start_by_card(service)
    pay(url, started.provider_reference)
    assert (await refuse(service, started, validate_only=True)).reason == "ILLEGAL_STATUS_CHANGE"


async def test_many_at_once_are_closed_each_as_it_would_be_alone(service, url, books) -> None:
    pages = [await start_by_card(service) for _ in range(5)]
    waiting = await service.deposit()
    paid, stale, *closed = pages
    pay(url, paid.provider_reference)
    await post(url, f"checkout/sessions/{closed[0].provider_reference}/expire")
    asked = [
        Cancel(transaction_id=paid.transaction_id, idempotency_key=new_id("key")),
        Cancel(transaction_id=stale.transaction_id, etag="0" * 8),
        *(Cancel(transaction_id=each.transaction_id, etag=each.etag) for each in closed),
        Cancel(transaction_id=waiting.transaction_id),
    ]
    expected = ["ILLEGAL_STATUS_CHANGE", "ETAG_MISMATCH"] + ["CANCELLED"] * 4
    assert name_outcomes(await cancel_each(service, INVESTOR, asked, validate_only=True)) == expected
    assert [read(books, each.provider_reference)["status"] for each in closed] == ["expired", "open", "open"]
    results = await cancel_each(service, INVESTOR, asked)
    assert name_outcomes(results) == expected
    assert {read(books, each.provider_reference)["status"] for each in closed} == {"expired"}
    again = await cancel_each(service, INVESTOR, asked[:1])
    assert (again[0].replayed, again[0].failure) == (True, results[0].failure)
    assert [(await service.get(each.transaction_id)).status for each in closed] == [T.CANCELLED] * 3


async def test_staff_stops_three_of_others_an_hour_in_a_batch_too_and_the_fourth_page_stays_open(
    service, books
) -> None:
    pages = [await start_by_card(service) for _ in range(4)]
    results = await cancel_each(service, CHECKER, [Cancel(transaction_id=each.transaction_id) for each in pages])
    assert name_outcomes(results) == ["CANCELLED"] * 3 + ["TOO_MANY_STOPS"]
    assert read(books, pages[3].provider_reference)["status"] == "open"
