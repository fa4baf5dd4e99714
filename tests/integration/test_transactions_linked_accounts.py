"""Bank accounts by Link: where a bank's word is enough for money to go there, and where a second person decides."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2 as pb
from realco.transactions.v1 import transactions_pb2

from services.chassis.values.approval_policy import ApprovalPolicy, ApprovalRule
from services.transactions.domain.bank_accounts import COOL_DOWN
from tests.integration.link_desk import OTHER, B, LinkDesk
from tests.integration.plaid_desk import list_open_items, sign_in
from tests.support.transactions import INVESTOR, MONDAY, ORG, TransactionsHarness

pytest_plugins = ("tests.integration.plaid_desk", "tests.integration.link_desk")
T = transactions_pb2.Transaction


@pytest.fixture
def service(link_desk: LinkDesk) -> TransactionsHarness:
    return link_desk.service


def change(account: B, *, default: bool) -> pb.UpdateBankAccountRequest:
    request = pb.UpdateBankAccountRequest(
        bank_account_id=account.bank_account_id, etag=account.etag, default_for_payouts=default
    )
    request.update_mask.paths.append("default_for_payouts")
    return request


async def test_an_account_that_its_bank_knows_in_the_party_s_name_is_confirmed_by_the_bank(
    link_desk: LinkDesk, service: TransactionsHarness, plaid_books
) -> None:
    account = await link_desk.link(external_id="mine", metadata={"a": "b"})
    assert (account.status, account.confirmation, account.name_match) == (B.ACTIVE, B.BANK, B.MATCHES)
    assert (account.account_holder_name, account.account_number_last4) == ("Ada Park", "0000")
    assert (account.party_id, account.routing_number, account.holder_type) == ("inv-001", "110000000", B.PERSON)
    assert (account.default_for_payouts, account.external_id, account.created_by) == (True, "mine", "inv-001")
    assert account.confirm_time.ToDatetime(MONDAY.tzinfo) == service.clock.now()
    assert account.payout_start_time.ToDatetime(MONDAY.tzinfo) == service.clock.now() + COOL_DOWN
    assert await service.events(account.bank_account_id) == ["BankAccountCreated", "BankAccountConfirmed"]
    assert await service.list_waiting(account.bank_account_id) == []
    assert list_open_items(plaid_books) == []
    assert await link_desk.get(account) == account


async def test_money_goes_there_a_day_after_the_bank_confirmed_it_and_not_before(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    account = await link_desk.link()
    service.owe("inv-001")
    paid = await service.payout_to(None, "inv-001")
    assert paid.bank_account_id == account.bank_account_id
    service.clock.advance(COOL_DOWN - timedelta(seconds=1))
    await service.work(hurried=True)
    assert (await service.get(paid.transaction_id)).status == T.QUEUED
    service.clock.advance(timedelta(seconds=1))
    await service.work(hurried=True)
    assert (await service.get(paid.transaction_id)).status == T.PENDING_SETTLEMENT
    [order] = service.bank.orders
    assert (order.account_number, order.account_holder_name) == ("1111222233330000", "Ada Park")


@pytest.mark.parametrize(
    ("user", "match", "words"),
    [
        ("user_other_name", B.DIFFERS, "NOBODY who holds it has the name of the party"),
        ("user_similar_name", B.SIMILAR, "a name like the party's, and NOT the same"),
        ("user_no_name", B.NOT_TOLD, "nobody knows who holds it"),
        ("user_no_identity", B.NOT_TOLD, "nobody knows who holds it"),
        ("user_typed", B.NOT_TOLD, "nobody knows who holds it"),
        ("user_tokenized", B.MATCHES, "Its number is a token of the bank's"),
        ("user_business", B.MATCHES, "has the name of the party"),
    ],
)
async def test_an_account_of_which_the_bank_does_not_say_enough_waits_and_who_decides_reads_what_it_said(
    link_desk: LinkDesk, service: TransactionsHarness, user, match, words
) -> None:
    account = await link_desk.link(user)
    assert (account.status, account.name_match) == (B.PENDING, match)
    assert not account.HasField("confirmation")
    assert words in await link_desk.read_dossier(account)
    confirmed = await service.confirm(account)
    assert (confirmed.status, confirmed.confirmation) == (B.ACTIVE, B.PERSONS)


async def test_an_account_that_was_typed_is_as_ever_and_nothing_is_said_of_a_bank(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    account = await service.bank_account("inv-001")
    assert not account.HasField("name_match")
    waiting = await service.waiting(account.bank_account_id)
    assert "BANK_ACCOUNT_LINKED" not in {each.rule for each in waiting.explanations}
    assert (await service.confirm(account)).confirmation == B.PERSONS


@pytest.mark.parametrize(("user", "holder"), [("user_business", B.COMPANY), ("user_good", B.PERSON)])
async def test_an_account_of_an_entity_waits_for_persons_whatever_its_bank_says(
    link_desk: LinkDesk, service: TransactionsHarness, user, holder
) -> None:
    """So what is drawn from a company's is final after two banking days by the word of persons alone."""
    service.compliance.kinds["inv-001"] = "LLC"
    account = await link_desk.link(user)
    assert (account.status, account.holder_type, account.name_match) == (B.PENDING, holder, B.MATCHES)


async def test_a_party_that_compliance_does_not_clear_has_no_name_that_a_bank_could_confirm(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    """One person may have written the name just now."""
    service.compliance.uncleared["inv-001"] = "KYC is MANUAL_REVIEW"
    assert (await link_desk.link()).status == B.PENDING


async def test_an_organization_that_wants_two_persons_to_confirm_accounts_has_no_bank_do_it(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    rule = ApprovalRule(kinds=frozenset({"CONFIRM_BANK_ACCOUNT"}), approvers_needed=2)
    service.database.policy = ApprovalPolicy(organizations={ORG: (rule,)})
    assert (await link_desk.link()).status == B.PENDING


async def test_what_takes_the_place_of_a_default_waits_and_what_does_not_is_active(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    default = await service.confirm(await service.bank_account("inv-001"))
    beside = await link_desk.link(number="5550001")
    instead = await link_desk.link(number="5550002", default_for_payouts=True)
    assert [(each.status, each.default_for_payouts) for each in (beside, instead)] == [
        (B.ACTIVE, False),
        (B.PENDING, True),
    ]
    assert (await link_desk.get(default)).default_for_payouts
    waiting = await service.waiting(instead.bank_account_id)
    [change] = [each for each in waiting.changes if each.field == "default_bank_account_id"]
    assert (change.before, change.after) == (default.bank_account_id, instead.bank_account_id)


@pytest.mark.parametrize("deed", ["unset", "unset and set", "delete"])
async def test_who_takes_the_default_away_first_has_no_bank_confirm_another_one(
    link_desk: LinkDesk, service: TransactionsHarness, deed
) -> None:
    account = await service.confirm(await service.bank_account("inv-001"))
    if deed == "delete":
        request = pb.DeleteBankAccountRequest(bank_account_id=account.bank_account_id)
        await service.ask(INVESTOR, "DeleteBankAccount", request)
    else:
        account = await service.ask(INVESTOR, "UpdateBankAccount", change(account, default=False))
    if deed == "unset and set":
        account = await service.ask(INVESTOR, "UpdateBankAccount", change(account, default=True))
        request = pb.DeleteBankAccountRequest(bank_account_id=account.bank_account_id)
        await service.ask(INVESTOR, "DeleteBankAccount", request)
    linked = await link_desk.link(default_for_payouts=True)
    assert (linked.status, linked.default_for_payouts) == (B.PENDING, True)


async def test_an_account_that_waits_as_it_was_typed_is_no_default_whose_place_another_takes(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    typed = await service.bank_account("inv-001")
    linked = await link_desk.link(default_for_payouts=True)
    assert (linked.status, linked.default_for_payouts) == (B.ACTIVE, True)
    await service.confirm(typed)
    assert [(await link_desk.get(each)).default_for_payouts for each in (typed, linked)] == [True, False]


async def test_what_a_bank_confirmed_waits_for_persons_once_it_is_to_be_the_default(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    await service.confirm(await service.bank_account("inv-001"))
    account = await link_desk.link()
    changed = await service.ask(INVESTOR, "UpdateBankAccount", change(account, default=True))
    assert (changed.status, changed.HasField("confirmation")) == (B.PENDING, False)
    assert "has the name of the party" in await link_desk.read_dossier(changed)
    assert (await service.confirm(changed)).confirmation == B.PERSONS


@pytest.mark.parametrize("owner", ["inv-001", "inv-002"])
async def test_a_number_that_was_added_before_is_for_persons_to_decide_on_whoever_added_it(
    link_desk: LinkDesk, service: TransactionsHarness, owner
) -> None:
    """Of another party: perhaps two parties of one person. Of the same: perhaps a second person said no."""
    principal = INVESTOR if owner == "inv-001" else OTHER
    first = await link_desk.link(number="7770001", principal=principal)
    again = await link_desk.link(number="7770001")
    assert [first.status, again.status] == [B.ACTIVE, B.PENDING]
    told = {each.rule: each.statement for each in (await service.waiting(again.bank_account_id)).explanations}
    assert (told["BANK_ACCOUNT_OWNERS"] == "2 parties have this account.") is (owner == "inv-002")


async def test_of_two_parties_that_link_one_number_at_once_a_bank_confirms_one(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    both = await asyncio.gather(*(link_desk.link(number="7770002", principal=each) for each in (INVESTOR, OTHER)))
    assert sorted(each.status for each in both) == [B.PENDING, B.ACTIVE]


async def test_of_two_accounts_that_are_linked_at_once_one_is_the_default(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    numbers = ("7770003", "7770004")
    both = await asyncio.gather(*(link_desk.link(number=each, default_for_payouts=True) for each in numbers))
    assert sorted(each.status for each in both) == [B.PENDING, B.ACTIVE]


async def test_neither_the_number_nor_the_public_token_stands_anywhere_in_the_database(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    token, number = sign_in(link_desk.url, number="86420135790001"), "86420135790001"
    await service.ask(INVESTOR, "LinkBankAccount", link_desk.build_request(token))
    async with service.database.begin_for_all() as tx:
        tables = await tx.scalars(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        for table in tables:
            if table == "alembic_version":
                continue
            for row in await tx.execute(sa.text(f"SELECT t::text FROM {table} t")):
                for secret in (number, token):
                    assert secret not in row[0]
                    assert secret.encode().hex() not in row[0]
