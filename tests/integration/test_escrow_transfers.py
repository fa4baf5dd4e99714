"""A transfer between two escrow accounts is in both books, at each moment as much as there was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace

import asyncpg
import pytest
import sqlalchemy as sa
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.data.seals import NotSealed
from services.chassis.values.refusals import EscrowAccountClosed
from tests.support.chassis import as_superuser
from tests.support.escrow import SPONSOR, Escrow, key, refusal, usd
from tests.support.escrow_payments import Payment, transfer
from tests.support.forged_entries import forge
from tests.support.ledger_accounts import ledger_account

OWED = f"returns_receivable:{SPONSOR}"
UNAPPLIED = f"unapplied:{SPONSOR}"


@pytest.fixture
async def escrow(escrow_urls: SimpleNamespace) -> AsyncIterator[Escrow]:
    async with Escrow(escrow_urls) as escrow:
        yield escrow


async def two_accounts(escrow: Escrow) -> tuple[str, str]:
    """The first has 150 to distribute, the second nothing."""
    source, to = [await escrow.open() for _ in range(2)]
    await escrow.post(source, ("cash", 150), ("distributable", -150))
    return source, to


@pytest.mark.parametrize(
    ("facts", "left", "arrived"),
    [
        ([], {"cash": 150, "in_transit": -100, "distributable": 50}, {}),
        (["SUBMITTED"], {"cash": 150, "in_transit": -100, "distributable": 50}, {}),
        (["SUBMITTED", "SETTLED"], {"cash": 50, "distributable": 50}, {"cash": 100, "distributable": 100}),
        (["SETTLED", "SUBMITTED"], {"cash": 50, "distributable": 50}, {"cash": 100, "distributable": 100}),
        (
            ["SUBMITTED", "SETTLED", "SETTLED", "COMPLETED"],
            {"cash": 50, "distributable": 50},
            {"cash": 100, "distributable": 100},
        ),
        (["SUBMITTED", "FAILED"], {"cash": 150, "distributable": 150}, {}),
        (["CANCELLED"], {"cash": 150, "distributable": 150}, {}),
        (["SUBMITTED", "SETTLED", "RETURNED"], {"cash": 150, "distributable": 150}, {}),
        (["SUBMITTED", "SETTLED", "COMPLETED", "RETURNED", "RETURNED"], {"cash": 150, "distributable": 150}, {}),
    ],
)
async def test_what_leaves_one_book_comes_into_the_other_or_back(
    escrow: Escrow, facts: list[str], left: dict[str, int], arrived: dict[str, int]
) -> None:
    source, to = await two_accounts(escrow)
    payment = transfer(source, to)
    assert (await payment.submit(escrow)).HasField("journal_entry")
    for fact in [None, *facts]:
        if fact is not None:
            await payment.happens(escrow, fact)
        posted = [await escrow.posted(account) for account in (source, to)]
        assert sum(each.get("cash", 0) for each in posted) == 150, "the bank has as much as before"
        there = sum(each.get("distributable", 0) - each.get("in_transit", 0) for each in posted)
        assert there == 150, "it is somebody's, or on its way"
    assert [await escrow.posted(account) for account in (source, to)] == [left, arrived]
    assert all([(await escrow.trial_balance(account)).balanced for account in (source, to)])


async def test_what_is_not_there_leaves_no_book(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    refused = await transfer(source, to, 151).submit(escrow)
    assert refused.failure.code == "INSUFFICIENT_AVAILABLE_BALANCE"
    assert await escrow.posted(source) == {"cash": 150, "distributable": 150}


async def test_into_a_frozen_account_it_comes_unapplied_and_into_a_closed_one_nothing_is_booked(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    payment = transfer(source, to, 60)
    await payment.submit(escrow)
    await escrow.freeze(to)
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    assert await escrow.posted(to) == {"cash": 60, UNAPPLIED: 60}
    closed = await escrow.open()
    other = transfer(source, closed, 60)
    await other.submit(escrow)
    await escrow.call("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=closed))
    with pytest.raises(EscrowAccountClosed):
        await other.happens(escrow, "SETTLED")
    assert await escrow.posted(source) == {"cash": 90, "in_transit": -60, "distributable": 30}


async def test_what_was_spent_there_before_it_went_back_the_sponsor_owes_there(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    payment = transfer(source, to)
    await payment.submit(escrow)
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    await escrow.post(to, ("distributable", 70), ("cash", -70))
    request = postings_pb.GetTransactionPreviewRequest(
        escrow_account_id=to,
        type="TRANSFER",
        outcome=postings_pb.GetTransactionPreviewRequest.RETURNED,
        parts=[postings_pb.PartyAmount(party_id=SPONSOR, amount=usd(100))],
        transaction_id=payment.transaction.transaction_id,
        arrives=True,
    )
    preview = await escrow.call("GetTransactionPreview", request, escrow.transactions)
    await payment.happens(escrow, "RETURNED")
    after = {each.ledger_account.kind.lower(): each.after.amount_minor for each in preview.effects}
    assert after == {"cash": -70, "distributable": 0, "returns_receivable": 70}, "told before"
    assert await escrow.posted(source) == {"cash": 150, "distributable": 150}
    assert await escrow.posted(to) == {"cash": -70, OWED: 70}
    request.type = Transaction.WITHDRAWAL
    assert (await refusal(escrow.call("GetTransactionPreview", request, escrow.transactions)))[0] == "INVALID_FIELD"


async def test_two_that_cross_do_not_wait_for_one_another(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    await escrow.post(to, ("cash", 150), ("distributable", -150))
    both = [transfer(source, to, 1) for _ in range(8)] + [transfer(to, source, 1) for _ in range(8)]
    for each in both:
        await each.submit(escrow)
    await asyncio.gather(*(each.happens(escrow, "SUBMITTED", "SETTLED") for each in both))
    assert [await escrow.posted(each) for each in (source, to)] == [{"cash": 150, "distributable": 150}] * 2


@pytest.fixture
async def chain(escrow: Escrow) -> list[str]:
    """Three escrow accounts: 100 of the first are in the second, and 60 of those in the third."""
    first, second = await two_accounts(escrow)
    third = await escrow.open()
    for source, to, minor in ((first, second, 100), (second, third, 60)):
        payment = transfer(source, to, minor)
        assert (await payment.submit(escrow)).HasField("journal_entry")
        await payment.happens(escrow, "SUBMITTED", "SETTLED", "COMPLETED")
    return [first, second, third]


async def pay(escrow: Escrow, account: str, type_: str, party: str = SPONSOR) -> str:
    """What a payout of 10 is refused with, and where something is owed; nothing if it is booked."""
    failure = (await Payment(account, type_, 10, party=party).submit(escrow)).failure
    return f"{failure.code} {failure.metadata['escrow_account_id']}" if failure.code else ""


async def test_nobody_is_paid_what_was_transferred_from_where_it_owes(escrow: Escrow, chain: list[str]) -> None:
    first, second, third = chain
    await escrow.post(third, ("distributable", 30), ("payable:inv-001", -15), ("fees", -15))
    await escrow.post(third, ("cash", 10), ("subscription:inv-001", -10))
    assert await pay(escrow, third, "WITHDRAWAL") == ""
    for owed in (OWED, "returns_receivable:inv-001"):
        await escrow.post(first, (owed, 20), ("cash", -20))
    blocked = f"PARTY_OWES {first}"
    assert await pay(escrow, third, "WITHDRAWAL") == blocked
    assert await pay(escrow, second, "WITHDRAWAL") == blocked
    assert await pay(escrow, third, "DISTRIBUTION", "inv-001") == blocked
    assert await pay(escrow, third, "REFERRAL_FEE", "somebody else") == ""
    assert await pay(escrow, third, "REFUND", "inv-001") == "", "what it paid itself came from no other account"
    for owed in (OWED, "returns_receivable:inv-001"):
        await escrow.post(first, ("cash", 20), (owed, -20))
    assert await pay(escrow, third, "WITHDRAWAL") == ""
    assert await pay(escrow, third, "DISTRIBUTION", "inv-001") == ""


async def test_what_is_owed_where_nothing_came_from_keeps_nobody_from_being_paid(
    escrow: Escrow, chain: list[str]
) -> None:
    """Where it went to, what never came, and what came and went back."""
    first, second, third = chain
    others = [await escrow.open() for _ in range(2)]
    for other, facts in zip(others, (["SUBMITTED"], ["SUBMITTED", "SETTLED", "RETURNED"]), strict=True):
        await escrow.post(other, ("cash", 50), ("distributable", -50))
        payment = transfer(other, first, 50)
        await payment.submit(escrow)
        await payment.happens(escrow, *facts)
    for each in (third, *others):
        await escrow.post(each, (OWED, 20), ("cash", -20))
    assert [await pay(escrow, each, "WITHDRAWAL") for each in (first, second)] == ["", ""]
    assert await pay(escrow, third, "WITHDRAWAL") == f"PARTY_OWES {third}"


async def test_a_refusal_for_what_is_owed_elsewhere_is_given_again_and_a_payout_that_was_booked_stays_so(
    escrow: Escrow, chain: list[str]
) -> None:
    first, _, third = chain
    booked, refused = (Payment(third, "WITHDRAWAL", 10, party=SPONSOR) for _ in range(2))
    assert (await booked.submit(escrow)).HasField("journal_entry")
    await escrow.post(first, (OWED, 20), ("cash", -20))
    answer = await refused.submit(escrow)
    told = {"party_id": SPONSOR, "escrow_account_id": first, "owed_minor": "20", "currency_code": "USD"}
    assert (answer.failure.code, answer.failure.metadata, answer.replayed) == ("PARTY_OWES", told, False)
    assert first in answer.failure.message
    await escrow.post(first, ("cash", 20), (OWED, -20))
    again = await refused.submit(escrow)
    assert (again.failure, again.replayed) == (answer.failure, True)
    await escrow.post(first, (OWED, 20), ("cash", -20))
    assert (await booked.submit(escrow)).HasField("journal_entry")


@pytest.mark.parametrize("kinds", ["CASH,RETURNS_RECEIVABLE", "RETURNS_RECEIVABLE,CASH"])
async def test_what_somebody_else_writes_where_it_came_from_pays_no_debt_and_makes_none(
    escrow: Escrow, chain: list[str], kinds: str
) -> None:
    first, _, third = chain
    await escrow.post(first, (OWED, 5), ("cash", -5))
    await forge(escrow, first, kinds=kinds, party=SPONSOR)
    before = await escrow.posted(third)
    with pytest.raises(NotSealed):
        await pay(escrow, third, "WITHDRAWAL")
    assert await escrow.posted(third) == before


@pytest.mark.parametrize("is_over", [False, True], ids=["on its way", "over"])
async def test_nobody_says_by_hand_what_is_on_its_way(escrow: Escrow, *, is_over: bool) -> None:
    """It would pass for cash, and be paid once more; whatever else is on its way meanwhile."""
    source, to = await two_accounts(escrow)
    payment = transfer(source, to)
    await payment.submit(escrow)
    [taken] = [each for each in await escrow.journal() if each.escrow_account_id == source and each.transaction_id]
    if is_over:
        await payment.happens(escrow, "SUBMITTED", "SETTLED", "COMPLETED")
        await transfer(source, to, 10).submit(escrow)
    before = await escrow.posted(source)
    hold = await escrow.hold(source, "distributable", 1)
    capture = holds_pb.CaptureHoldRequest(
        idempotency_key=key(),
        escrow_account_id=source,
        hold_id=hold.hold_id,
        etag=hold.etag,
        to_ledger_account=ledger_account("in_transit"),
    )
    for work in (
        escrow.post(source, reverses_journal_entry_id=taken.journal_entry_id),
        escrow.post(source, ("in_transit", 1), ("distributable", -1)),
        escrow.post(source, ("distributable", 1), ("in_transit", -1)),
        escrow.post(source, ("in_transit", 1), ("cash", 1), ("distributable", -2)),
        escrow.call("CaptureHold", capture),
    ):
        assert (await refusal(work))[0] == "IN_TRANSIT_NOT_BY_HAND"
    assert await escrow.posted(source) == before


async def test_between_cash_and_what_is_on_its_way_persons_settle_what_a_bank_has_done(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    await transfer(source, to).submit(escrow)
    before = await escrow.posted(source)
    await escrow.post(source, ("in_transit", 20), ("cash", -20))
    after = {"cash": before["cash"] - 20, "in_transit": before["in_transit"] + 20}
    assert await escrow.posted(source) == before | after
    more = escrow.post(source, ("in_transit", -before["in_transit"]), ("cash", before["in_transit"]))
    assert (await refusal(more))[0] == "INSUFFICIENT_AVAILABLE_BALANCE", "rails owe us nothing"


async def test_what_somebody_else_calls_the_return_of_a_transfer_has_nobody_paid(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    payment = transfer(source, to)
    await payment.submit(escrow)
    await payment.happens(escrow, "SUBMITTED", "SETTLED", "COMPLETED")
    await escrow.post(to, ("cash", 10), ("distributable", -10))
    await escrow.post(source, (OWED, 20), ("cash", -20))
    assert await pay(escrow, to, "WITHDRAWAL") == f"PARTY_OWES {source}"
    of = payment.transaction.transaction_id
    await forge(escrow, to, kinds="DISTRIBUTABLE,CASH", amount_minor=100, transaction_id=of, entry_type="RETURN")
    with pytest.raises(NotSealed):
        await pay(escrow, to, "WITHDRAWAL")


async def test_an_escrow_account_that_sql_made_up_keeps_nobody_from_being_paid_once_an_operator_removed_it(
    escrow: Escrow, chain: list[str]
) -> None:
    """However well its entries go with a transfer: none of them is accepted."""
    third = chain[2]
    [of] = {each.transaction_id for each in await escrow.journal() if each.escrow_account_id == third}
    async with escrow.database.begin(escrow.org_id) as tx:
        columns = (
            "org_id, display_name, currency, sponsor_party_id, status, custodian_name, created_at, updated_at, version"
        )
        made_up = f"INSERT INTO escrow_accounts (escrow_account_id, created_by, freezes, metadata, {columns})"
        made_up += f" SELECT 'esc_x', 'x', '[]', '{{}}', {columns} FROM escrow_accounts LIMIT 1"
        await tx.execute(sa.text(made_up))
    kinds = "RETURNS_RECEIVABLE,SUSPENSE"
    await forge(escrow, "esc_x", kinds=kinds, party=SPONSOR, transaction_id=of, entry_type="TRANSFER")
    with pytest.raises(NotSealed):
        await pay(escrow, third, "WITHDRAWAL")
    async with as_superuser(escrow.urls) as admin:
        await admin.execute("SET session_replication_role = replica")
        await admin.execute("SELECT remove_escrow_account($1, 'esc_x', 1)", escrow.org_id)
        with pytest.raises(asyncpg.NoDataFoundError, match="no such escrow account"):
            await admin.execute("SELECT remove_escrow_account($1, $2, 0)", escrow.org_id, third)
    assert await pay(escrow, third, "WITHDRAWAL") == ""
    names = {"org": escrow.org_id, "account": third}
    remove = (
        "SELECT remove_escrow_account(:org, :account, entry_sequence) FROM escrow_accounts"
        " WHERE org_id = :org AND escrow_account_id = :account"
    )
    for login in (partial(escrow.database.begin, escrow.org_id), escrow.database.begin_for_all):
        with pytest.raises(asyncpg.PostgresError, match="permission denied"):
            async with login() as tx:
                await tx.execute(sa.text(remove), names)


async def test_whoever_has_it_leave_reads_what_is_behind_it_where_it_came_from(
    escrow: Escrow, chain: list[str]
) -> None:
    first, _, third = chain
    await escrow.post(first, (OWED, 20), ("cash", -20))
    await escrow.post(first, ("provider_fees", 5), ("cash", -5))
    request = postings_pb.GetTransactionPreviewRequest(
        escrow_account_id=third,
        type="WITHDRAWAL",
        outcome=postings_pb.GetTransactionPreviewRequest.SETTLED,
        parts=[postings_pb.PartyAmount(party_id=SPONSOR, amount=usd(10))],
    )
    preview = await escrow.call("GetTransactionPreview", request, escrow.transactions)
    told = [(each.rule, each.statement) for each in preview.explanations]
    by_hand, missing, owes = [each for each in told if "transferred" in each[1]]
    said = f"Some of it was transferred from {first}, where: Within 365 days persons posted "
    assert (by_hand[0], by_hand[1].startswith(said)) == ("MONEY_POSTED_BY_HAND", True)
    assert missing[0] == "MONEY_MISSING"
    assert missing[1].startswith("Some of it was transferred from escrow accounts in which 0.25 USD is missing:")
    assert (owes[0], owes[1].startswith(f"{SPONSOR} owes 0.20 USD in {first}, ")) == ("PARTY_OWES", True)
