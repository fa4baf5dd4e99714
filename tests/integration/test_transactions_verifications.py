"""An investor verifies a bank account with Stripe before the first contribution; later ones wait for no code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from structlog.testing import capture_logs

from services.chassis.calls.access import rule_of
from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError, PermissionDenied, Unavailable
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.verifications import ProviderVerification
from services.transactions.jobs.read_provider_events import read_provider_events
from services.transactions.providers.choice import NO_CHOICE
from services.transactions.providers.protocols import OutcomeUnknown, VerificationOrder
from services.transactions.providers.stripe.payments import StripePayments
from tests.integration.stripe_desk import (
    API_KEY,
    GOOD,
    ROUTING_NUMBER,
    VAULT,
    T,
    alter,
    becomes,
    confirm,
    deliver,
    post,
    read,
    tell,
    told_of,
)
from tests.support.exceptions import count_found
from tests.support.servers import put_right, tamper
from tests.support.stand_ins import find_free_port
from tests.support.transactions import ADMIN, INVESTOR, ORG, TransactionsHarness
from tests.support.vault import INDEX_KEY

pytest_plugins = ("tests.integration.stripe_desk",)
B = bank_pb.BankAccount
V = B.Verification
SPONSOR = Principal("gp-1", "sponsor", ORG)


@pytest.fixture
def service(stripe_service: TransactionsHarness) -> TransactionsHarness:
    return stripe_service


async def add(service: TransactionsHarness, number: str = GOOD, party_id: str = "inv-001") -> Any:
    """An account that a second person has confirmed."""
    added = await service.bank_account(party_id, routing_number=ROUTING_NUMBER, account_number=number)
    return await service.confirm(added)


async def verify(service: TransactionsHarness, account: Any, principal: Principal = INVESTOR, **more: Any) -> Any:
    request = bank_pb.VerifyBankAccountRequest(bank_account_id=account.bank_account_id, **more)
    return await service.ask(principal, "VerifyBankAccount", request)


async def get(service: TransactionsHarness, account: Any, principal: Principal = INVESTOR) -> Any:
    request = bank_pb.GetBankAccountRequest(bank_account_id=account.bank_account_id)
    return await service.ask(principal, "GetBankAccount", request)


async def refused(asked: Awaitable[Any]) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await asked
    return refusal.value


def setup_of(account: Any) -> str:
    """Stripe's id of what waits."""
    assert account.verification.status == V.WAITING
    return str(account.verification.action_url.rpartition("/")[2])


async def verify_with_code(service: TransactionsHarness, url: str, account: Any) -> str:
    setup_id = setup_of(await verify(service, account))
    confirm(url, setup_id)
    assert (await verify(service, account)).verification.status == V.VERIFIED
    return setup_id


async def contribute(service: TransactionsHarness, account: Any, suffix: str = "02") -> Any:
    """As its payer sees it, once it is at Stripe."""
    made = await service.deposit(suffix=suffix, bank_account_id=account.bank_account_id)
    await service.work()
    return await service.get(made.transaction_id, INVESTOR)


async def test_an_account_that_was_verified_once_is_drawn_from_without_a_code(service, stripe, url, books) -> None:
    account = await add(service)
    assert (await get(service, account)).verification.status == V.NOT_ASKED_FOR
    waiting = await verify(service, account)
    setup_id = setup_of(waiting)
    assert waiting.verification.action_url == f"{url}/microdeposits/{setup_id}"
    assert waiting.verification.HasField("expire_time")
    assert "verify" in waiting.allowed_actions
    assert await get(service, account) == waiting
    assert setup_of(await verify(service, account)) == setup_id, "asked again it is the same one"
    confirm(url, setup_id)
    verified = await verify(service, account)
    assert (verified.verification.status, verified.verification.action_url) == (V.VERIFIED, "")
    assert "verify" not in verified.allowed_actions, "nothing is left to verify"
    assert await get(service, account) == verified
    for suffix in ("02", "03"):
        paid = await contribute(service, account, suffix)
        assert paid.status in (T.PENDING_SETTLEMENT, T.SETTLED)
        assert paid.payer_action_url == ""
        assert read(books, paid.provider_reference)["payment_method"] == read(books, setup_id)["payment_method"]
        await becomes(stripe, paid.provider_reference, PaymentStatus.SETTLED)
        await service.work(hurried=True)
        assert (await service.get(paid.transaction_id)).status == T.SETTLED


async def test_without_one_it_goes_as_before_and_needs_none_once_money_has_arrived(service, stripe, url) -> None:
    account = await add(service)
    setup_id = setup_of(await verify(service, account))
    paid = await contribute(service, account)
    assert paid.payer_action_url.endswith(paid.provider_reference), "what waits proves nothing"
    confirm(url, paid.provider_reference)
    await becomes(stripe, paid.provider_reference, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    await post(url, f"setup_intents/{setup_id}/cancel")
    ended = await verify(service, account)
    assert ended.verification == V(status=V.NOT_NEEDED)
    assert "verify" not in ended.allowed_actions


async def test_webhooks_of_it_have_stripe_asked_in_any_order_and_any_number(service, url, webhooks) -> None:
    account = await add(service)
    setup_id = setup_of(await verify(service, account))
    confirm(url, setup_id)
    told = await told_of(webhooks, setup_id, "setup_intent.succeeded")
    await deliver(service, [*reversed(told), *told])
    await service.work()
    assert (await get(service, account)).verification.status == V.VERIFIED


async def test_what_no_webhook_told_is_read_from_the_list_of_events(service, url, books) -> None:
    await service.run(read_provider_events)
    account = await add(service)
    setup_id = setup_of(await verify(service, account))
    await service.run(read_provider_events)
    confirm(url, setup_id)
    await service.run(read_provider_events)
    await service.work()
    assert (await get(service, account)).verification.status == V.VERIFIED
    await post(url, f"mandates/{read(books, setup_id)['mandate']}/end")
    await service.run(read_provider_events)
    await service.work()
    seen = (await get(service, account)).verification
    assert (seen.status, seen.failure.code, seen.HasField("verify_time")) == (V.FAILED, "MANDATE_ENDED", True)
    assert (await contribute(service, account)).payer_action_url != "", "it is asked for a code again"
    assert setup_of(await verify(service, account)) != setup_id, "another one may be asked for"


async def test_a_mandate_that_has_ended_draws_nothing_though_nobody_told_and_a_payment_by_it_confirms_nothing(
    service, stripe, url, books
) -> None:
    account = await add(service)
    setup_id = await verify_with_code(service, url, account)
    paid = await contribute(service, account)
    await becomes(stripe, paid.provider_reference, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    await post(url, f"mandates/{read(books, setup_id)['mandate']}/end")
    assert (await contribute(service, account, "03")).payer_action_url != "", "Stripe was asked when it was ordered"
    service.clock.advance(timedelta(minutes=1))
    assert setup_of(await verify(service, account)) != setup_id, "it has failed, so there is another one"
    assert (await contribute(service, account, "04")).payer_action_url != "", "what arrived by it confirms nothing"


async def test_a_return_that_blocks_the_account_ends_what_was_verified_also_once_it_is_unblocked(
    service, stripe, url, books, postgres
) -> None:
    account = await add(service, "000333333335")
    setup_id = await verify_with_code(service, url, account)
    paid = await contribute(service, account)
    await becomes(stripe, paid.provider_reference, PaymentStatus.RETURNED)
    await service.work(hurried=True)
    blocked = await get(service, account)
    assert (blocked.status, blocked.HasField("verification")) == (B.BLOCKED, False)
    assert (await refused(verify(service, account))).reason == "BANK_ACCOUNT_NOT_USABLE"
    unblock = bank_pb.UnblockBankAccountRequest(
        idempotency_key="k", bank_account_id=account.bank_account_id, note="agreed anew"
    )
    asked = await service.ask(ADMIN, "UnblockBankAccount", unblock)
    await service.grant(asked.approval)
    await service.confirm(await get(service, account))
    seen = (await get(service, account)).verification
    assert (seen.status, seen.failure.code) == (V.FAILED, "BANK_ACCOUNT_BLOCKED")
    assert (await contribute(service, account, "03")).payer_action_url != "", "though the mandate stands at Stripe"
    assert read(books, read(books, setup_id)["mandate"])["status"] == "active"
    assert setup_of(await verify(service, account)) != setup_id


async def test_after_wrong_codes_it_may_be_asked_for_again_and_three_times_in_thirty_days(service, url) -> None:
    account = await add(service)
    for _ in range(3):
        setup_id = setup_of(await verify(service, account))
        await post(url, f"setup_intents/{setup_id}/cancel")
        service.clock.advance(timedelta(minutes=1))
    refusal = await refused(verify(service, account))
    assert (refusal.reason, refusal.metadata) == ("TOO_MANY_VERIFICATIONS", {"verifications_max": "3"})
    seen = (await get(service, account)).verification
    assert (seen.status, seen.failure.metadata["provider_code"]) == (V.FAILED, "canceled")
    service.clock.advance(timedelta(days=30))
    assert setup_of(await verify(service, account))


async def test_what_stripe_refuses_has_failed_and_says_why(service) -> None:
    account = await add(service, "12AB")
    failed = (await verify(service, account)).verification
    assert (failed.status, failed.failure.code) == (V.FAILED, "INVALID_PAYMENT_DATA")
    unsent = (await verify(service, await add(service, "000666666661"))).verification
    assert unsent.failure.metadata["provider_code"] == "payment_method_microdeposit_failed"


async def count_rows(service: TransactionsHarness) -> int:
    async with service.database.begin_for_all() as tx:
        return int(await tx.scalar(sa.text("SELECT count(*) FROM bank_account_verifications")))


async def test_an_answer_that_never_came_is_asked_for_again_and_given_up_once_stripe_forgets(
    service, url, webhooks
) -> None:
    account = await add(service)
    setups = service.provider.setups
    away = StripePayments(API_KEY, f"http://127.0.0.1:{find_free_port()}", VAULT)
    service.dependencies.providers.verifications["stripe"] = away.setups
    assert isinstance(await refused(verify(service, account)), Unavailable)
    assert (await get(service, account)).verification == V(status=V.REQUESTED)
    service.clock.advance(timedelta(hours=24))
    assert isinstance(await refused(verify(service, account)), Unavailable)
    assert await count_rows(service) == 2, "the first is given up, for its key may be forgotten"
    service.dependencies.providers.verifications["stripe"] = setups
    assert setup_of(await verify(service, account))
    assert await count_rows(service) == 2
    await away.close()


async def test_what_stripe_took_before_a_crash_here_is_put_right_by_its_webhook(service, url, webhooks) -> None:
    account, setups = await add(service), service.provider.setups

    class Dying:
        async def begin(self, order: VerificationOrder) -> ProviderVerification:
            self.made = await setups.begin(order)
            raise OutcomeUnknown("the process has died")

    dying: Any = Dying()
    service.dependencies.providers.verifications["stripe"] = dying
    assert isinstance(await refused(verify(service, account)), Unavailable)
    service.dependencies.providers.verifications["stripe"] = setups
    await deliver(service, await told_of(webhooks, dying.made.provider_reference, "setup_intent.requires_action"))
    await service.work()
    assert setup_of(await get(service, account)) == dying.made.provider_reference
    assert setup_of(await verify(service, account)) == dying.made.provider_reference


async def test_several_at_once_are_one_verification(service) -> None:
    account = await add(service)
    answers = await asyncio.gather(*(verify(service, account) for _ in range(4)), return_exceptions=True)
    pages = {each.verification.action_url for each in answers if not isinstance(each, BaseException)}
    assert len(pages) == 1
    assert await count_rows(service) == 1
    assert all(isinstance(each, Unavailable) for each in answers if isinstance(each, BaseException))


async def test_only_who_acts_for_the_party_verifies_its_account_and_sees_the_page(service) -> None:
    account, other = await add(service), await add(service, party_id="inv-002")
    assert (await refused(verify(service, other))).reason == "BANK_ACCOUNT_NOT_FOUND"
    assert isinstance(await refused(verify(service, account, SPONSOR)), PermissionDenied)
    service.compliance.parties["gp-1"] = {"inv-001"}
    assert setup_of(await verify(service, account, SPONSOR))
    assert (await get(service, account)).verification.status == V.WAITING
    for principal in (ADMIN, SPONSOR):
        seen = await get(service, account, principal)
        assert not seen.HasField("verification"), "as the page of a payment, by the parties of the token"
        assert "verify" not in seen.allowed_actions
    listed = await service.ask(INVESTOR, "ListBankAccounts", bank_pb.ListBankAccountsRequest())
    assert not any(each.HasField("verification") for each in listed.bank_accounts)
    rule = rule_of("realco.transactions.v1.BankAccountsService/VerifyBankAccount")
    assert (rule.persons_only, rule.roles) == (True, {"investor", "sponsor"})


async def test_what_is_not_confirmed_here_retired_or_read_in_another_version_is_not_verified(service) -> None:
    added = await service.bank_account("inv-001", routing_number=ROUTING_NUMBER, account_number=GOOD)
    assert (await refused(verify(service, added))).reason == "BANK_ACCOUNT_NOT_USABLE"
    assert not (await get(service, added)).HasField("verification")
    account = await service.confirm(added)
    assert (await refused(verify(service, account, etag=added.etag))).reason == "ETAG_MISMATCH"
    assert setup_of(await verify(service, account, etag=account.etag))
    retire = bank_pb.DeleteBankAccountRequest(bank_account_id=account.bank_account_id)
    await service.ask(INVESTOR, "DeleteBankAccount", retire)
    assert not (await get(service, account)).HasField("verification")
    assert (await refused(verify(service, account))).reason == "BANK_ACCOUNT_NOT_USABLE"


async def test_where_another_provider_draws_no_verification_is_offered_or_needed(service_database) -> None:
    service = TransactionsHarness(await service_database("transactions"), choice=NO_CHOICE)
    account = await add(service)
    assert (await refused(verify(service, account))).reason == "VERIFICATION_NOT_OFFERED"
    assert not (await get(service, account)).HasField("verification")


Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.mark.parametrize("change", [
    lambda setup: {"metadata": setup["metadata"] | {"proof": "x"}},
    lambda setup: {"metadata": setup["metadata"] | {"reference": "bav_of_another"}},
])  # fmt: skip
async def test_what_somebody_made_of_it_at_stripe_is_told_and_not_followed(
    service, url, books, webhooks, change
) -> None:
    account = await add(service)
    setup_id = setup_of(await verify(service, account))
    alter(books, setup_id, **change(read(books, setup_id)))
    confirm(url, setup_id)
    before = count_found(ExceptionKind.PAYMENT_NOT_OURS)
    await deliver(service, await told_of(webhooks, setup_id, "setup_intent.succeeded"))
    await service.work()
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) > before
    assert (await get(service, account)).verification.status == V.WAITING
    assert (await verify(service, account)).verification.status == V.WAITING
    assert (await contribute(service, account)).payer_action_url != ""


async def test_a_setup_of_others_is_left_alone_and_one_of_ours_that_a_restore_lost_is_told(
    service, url, webhooks, postgres
) -> None:
    account = await add(service)
    setup_id = setup_of(await verify(service, account))
    told = await told_of(webhooks, setup_id, "setup_intent.requires_action")
    before = count_found(ExceptionKind.PAYMENT_NOT_OURS)
    await tell(service, "evt_of_others", "setup_intent.succeeded", id="seti_of_others")
    await service.work()
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) == before
    await tamper(postgres.admin_dsn, service.database, "DELETE FROM bank_account_verifications")
    await deliver(service, told)
    await service.work()
    assert count_found(ExceptionKind.PAYMENT_NOT_OURS) > before


@pytest.mark.parametrize("altered", [
    "verified_at = now() - interval '1 day'",
    "provider_reference = 'seti_of_another'",
    "account_number_digest = 'of_another'",
])  # fmt: skip
async def test_a_verification_altered_in_the_database_confirms_nothing(service, url, postgres, altered) -> None:
    account = await add(service)
    await verify_with_code(service, url, account)
    await put_right(postgres.admin_dsn, service.database, f"UPDATE bank_account_verifications SET {altered}")
    with capture_logs() as logs:
        assert (await contribute(service, account)).payer_action_url != ""
    assert any(each["event"] == "row_not_sealed" for each in logs)


async def test_a_verification_counts_for_the_number_of_its_account_and_not_for_one_of_the_same_last_digits(
    service, url
) -> None:
    await verify_with_code(service, url, await add(service))
    other = await add(service, "000987656789")
    assert (await contribute(service, other)).payer_action_url != ""


async def test_an_account_whose_number_does_not_open_is_shown_to_no_provider(service, postgres) -> None:
    account = await add(service)
    service.dependencies.vault.hold([b"k" * 32], INDEX_KEY)
    assert isinstance(await refused(verify(service, account)), Unavailable), "an operator brings the key back"
    service.dependencies.vault.hold([bytes(32)], INDEX_KEY)
    altered = (
        "UPDATE bank_accounts SET account_number_encrypted = overlay(account_number_encrypted placing 'x' from 40)"
    )
    await put_right(postgres.admin_dsn, service.database, altered)
    assert (await refused(verify(service, account))).reason == "BANK_ACCOUNT_NOT_USABLE"
    assert (await get(service, account)).verification.status == V.REQUESTED
