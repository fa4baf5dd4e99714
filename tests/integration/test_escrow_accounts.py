"""Escrow accounts and what is read of them: balances now and then, the ledger, the trial balance."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import Principal
from services.chassis.calls.wire import from_timestamp, to_timestamp
from services.chassis.values.errors import InvalidField
from tests.support.escrow import NOW, Escrow, key, name_of, on, refusal, usd
from tests.support.events import as_in_events

FIXED = {
    "cash", "in_transit", "issuer_proceeds", "distributable", "fees", "reserves", "withholding", "suspense",
    "provider_fees",
}  # fmt: skip


# Minutes from NOW to the first and the last day a Timestamp can name.
BEGINNING = (datetime(1900, 1, 1, tzinfo=UTC) - NOW) / timedelta(minutes=1)
END = (datetime(9998, 12, 31, tzinfo=UTC) - NOW) / timedelta(minutes=1)


def minutes(number: float) -> datetime:
    return NOW + timedelta(minutes=number)


async def test_an_escrow_account_opens_with_its_ledger_accounts_at_zero(escrow):
    request = accounts_pb.CreateEscrowAccountRequest(
        idempotency_key=key(),
        display_name="Oak Street Apartments escrow",
        currency_code="USD",
        sponsor_party_id="sponsor-7",
        custodian_name="First Custody",
        custodian_account_last4="1234",
    )
    account = await escrow.call("CreateEscrowAccount", request)
    assert (account.status, account.sponsor_party_id) == (accounts_pb.EscrowAccount.ACTIVE, "sponsor-7")
    assert account.create_time == account.update_time == to_timestamp(NOW)
    assert account.created_by == "admin-1"
    assert await escrow.call("CreateEscrowAccount", request) == account
    found = await escrow.call(
        "GetEscrowAccount", accounts_pb.GetEscrowAccountRequest(escrow_account_id=account.escrow_account_id)
    )
    assert found == account
    balance = await escrow.balance(account.escrow_account_id)
    assert {name_of(line.ledger_account) for line in balance.ledger_accounts} == FIXED
    assert {line.posted.amount_minor for line in balance.ledger_accounts} == {0}
    assert list(account.allowed_actions) == [
        "update",
        "change_custodian",
        "freeze",
        "close",
        "post_journal_entry",
        "place_hold",
    ]
    [event] = await escrow.events(events.EscrowAccountCreated)
    assert (event.escrow_account, event.meta.actor) == (as_in_events(account), "admin-1")


async def test_another_organizations_account_looks_like_none(escrow):
    theirs = await escrow.open(principal=escrow.stranger)
    for rpc, request in {
        "GetEscrowAccount": accounts_pb.GetEscrowAccountRequest,
        "GetEscrowAccountBalance": accounts_pb.GetEscrowAccountBalanceRequest,
        "ListLedgerAccounts": journal_pb.ListLedgerAccountsRequest,
        "ListLedgerEntries": journal_pb.ListLedgerEntriesRequest,
        "GetTrialBalance": journal_pb.GetTrialBalanceRequest,
        "ListHolds": holds_pb.ListHoldsRequest,
        "FreezeEscrowAccount": accounts_pb.FreezeEscrowAccountRequest,
        "CloseEscrowAccount": accounts_pb.CloseEscrowAccountRequest,
    }.items():
        answers = [
            await refusal(escrow.call(rpc, request(escrow_account_id=account)))
            for account in (theirs, "esc_" + "0" * 26)
        ]
        assert answers[0] == answers[1] == ("ESCROW_ACCOUNT_NOT_FOUND", {})
    listed = await escrow.call("ListEscrowAccounts", accounts_pb.ListEscrowAccountsRequest())
    assert list(listed.escrow_accounts) == []


async def test_escrow_accounts_are_listed_newest_first(escrow):
    opened = []
    for _ in range(5):
        opened.append(await escrow.open())
        await escrow.pass_time(seconds=1)
    await escrow.freeze(opened[1])
    first = await escrow.call("ListEscrowAccounts", accounts_pb.ListEscrowAccountsRequest(page_size=3))
    rest = await escrow.call(
        "ListEscrowAccounts", accounts_pb.ListEscrowAccountsRequest(page_size=3, page_token=first.next_page_token)
    )
    seen = [account.escrow_account_id for page in (first, rest) for account in page.escrow_accounts]
    assert (seen, rest.next_page_token) == (opened[::-1], "")
    frozen = await escrow.call(
        "ListEscrowAccounts", accounts_pb.ListEscrowAccountsRequest(status=[accounts_pb.EscrowAccount.FROZEN])
    )
    assert [account.escrow_account_id for account in frozen.escrow_accounts] == [opened[1]]


async def test_an_account_says_who_froze_unfroze_and_closed_it_and_when(escrow):
    account = await escrow.open()
    freeze = accounts_pb.FreezeEscrowAccountRequest(escrow_account_id=account, note="a court order")
    unfreeze = accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=account)
    close = accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account)
    written = []
    froze, unfroze, closed = events.EscrowAccountFrozen, events.EscrowAccountUnfrozen, events.EscrowAccountClosed
    for number, (rpc, request, told_by) in enumerate(
        [
            ("Freeze", freeze, froze),
            ("Unfreeze", unfreeze, unfroze),
            ("Freeze", freeze, froze),
            ("Unfreeze", unfreeze, unfroze),
            ("Close", close, closed),
        ]
    ):
        escrow.clock.set(minutes(number))
        await escrow.call(f"{rpc}EscrowAccount", request, Principal(f"admin-{number}", "admin", escrow.org_id))
        written.append((await escrow.events(told_by))[-1].escrow_account)

    def told(field: str, who: str) -> list[tuple[str, datetime | None]]:
        return [
            (getattr(one, who), from_timestamp(getattr(one, field)) if one.HasField(field) else None) for one in written
        ]

    freezes = [[(each.frozen_by, from_timestamp(each.freeze_time)) for each in one.freezes] for one in written]
    assert freezes == [[("admin-0", minutes(0))], [], [("admin-2", minutes(2))], [], []]
    none = ("", None)
    first, second = ("admin-1", minutes(1)), ("admin-3", minutes(3))
    assert told("unfreeze_time", "unfrozen_by") == [none, first, first, second, second]
    assert told("close_time", "closed_by") == [none, none, none, none, ("admin-4", minutes(4))]


async def test_a_balance_at_an_instant_is_of_what_had_happened_by_then_whenever_it_was_booked(escrow):
    account = await escrow.open()
    # (booked at, happened at, amount), in minutes; a week is 10080.
    history = [(0, 0, 1), (1, 0.5, 2), (2, -30, 4), (2, 2, 8), (3, 1.999, 16), (10_080, 1, 32), (10_080, 10_079.99, 64)]
    for booked, happened, minor in history:
        escrow.clock.set(minutes(booked))
        await escrow.post(
            account, ("cash", minor), ("subscription:inv-001", -minor), effective_time=to_timestamp(minutes(happened))
        )
    escrow.clock.set(minutes(20_000))
    for moment in (-31, -30, -0.1, 0, 0.4, 0.5, 0.999, 1, 1.5, 1.999, 2, 2.5, 3, 60, 10_079, 10_079.99, 10_080, 20_000):
        true = sum(minor for _, happened, minor in history if happened <= moment)
        wanted = {"cash": true, "subscription:inv-001": true} if true else {}
        assert await escrow.posted(account, minutes(moment)) == wanted, moment
    assert (await escrow.posted(account))["cash"] == 127


async def test_a_balance_at_an_instant_knows_what_was_pending_and_held(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("subscription:inv-001", -100))
    escrow.clock.set(minutes(1))
    hold = await escrow.hold(account, "subscription:inv-001", 60)
    escrow.clock.set(minutes(2))
    await escrow.call(
        "ReleaseHold",
        holds_pb.ReleaseHoldRequest(idempotency_key=key(), escrow_account_id=account, hold_id=hold.hold_id),
    )
    escrow.clock.set(minutes(3))
    held = [(await escrow.balance(account, minutes(moment))).held.amount_minor for moment in (0, 1, 1.5, 2, 3)]
    assert held == [0, 60, 60, 0, 0]
    assert (await escrow.balance(account, minutes(1.5))).available == usd(40)


async def test_time_never_goes_back_in_the_book(escrow):
    account = await escrow.open()
    first = await escrow.post(account, ("cash", 1), ("fees", -1))
    escrow.clock.set(minutes(-60))
    second = await escrow.post(account, ("cash", 1), ("fees", -1))
    assert second.create_time == first.create_time


@pytest.fixture
async def ledger(escrow) -> str:
    """Ten entries of two legs, a minute apart; the even ones are of inv-002."""
    account = await escrow.open()
    for number in range(10):
        escrow.clock.set(minutes(number))
        await escrow.post(account, ("cash", number + 1), (f"subscription:inv-00{number % 2 + 1}", -number - 1))
    return account


async def pages(escrow: Escrow, account: str, **filters) -> list[tuple[str, int]]:
    seen, token = [], ""
    while True:
        page = await escrow.ledger(account, page_size=3, page_token=token, **filters)
        seen += [(name_of(leg.ledger_account), leg.amount.amount_minor) for leg in page.ledger_entries]
        token = page.next_page_token
        if not token:
            return seen


async def test_the_ledger_is_read_newest_first_a_page_at_a_time(escrow, ledger):
    seen = await pages(escrow, ledger)
    assert [minor for _, minor in seen] == [n // 2 + 1 for n in range(19, -1, -1)]
    assert {name for name, _ in seen[1::2]} == {"cash"}
    page = await escrow.ledger(ledger)
    last = page.ledger_entries[0]
    assert (name_of(last.ledger_account), last.sequence, last.balance_after) == ("subscription:inv-002", 5, usd(30))
    assert (last.journal_sequence, last.leg) == (10, 2)
    # What is true of an entry is said once, beside its legs.
    assert [entry.journal_sequence for entry in page.journal_entries] == list(range(10, 0, -1))
    assert {entry.description for entry in page.journal_entries} == {"a test"}
    assert {(entry.leg_count, len(entry.ledger_entries)) for entry in page.journal_entries} == {(2, 0)}
    oldest = await escrow.ledger(ledger, order=Sort.OLDEST_FIRST, page_size=1)
    assert oldest.ledger_entries[0].amount == usd(1)


@pytest.mark.parametrize(
    ("since", "until", "amounts"),
    [
        (None, None, range(10, 0, -1)),
        (0, 10, range(10, 0, -1)),
        (3, 7, (7, 6, 5, 4)),  # from inclusive, to exclusive
        (3, 3, ()),
        (9, None, (10,)),
        (9.5, None, ()),
        (None, 0, ()),
        (-5, 1, (1,)),
        (20, 30, ()),
        (BEGINNING, END, range(10, 0, -1)),  # all the time there is
        (END, None, ()),
        (None, BEGINNING, ()),
    ],
)
async def test_the_ledger_is_cut_by_time_and_ledger_account(escrow, ledger, since, until, amounts):
    filters = {}
    if since is not None:
        filters["from_time"] = to_timestamp(minutes(since))
    if until is not None:
        filters["to_time"] = to_timestamp(minutes(until))
    cash = [("cash", minor) for minor in amounts]
    assert await pages(escrow, ledger, **on("cash"), **filters) == cash
    both = [leg for leg in await pages(escrow, ledger, **filters) if leg[0] == "cash"]
    assert both == cash
    second = await pages(escrow, ledger, **on("subscription:inv-002"), **filters)
    assert second == [("subscription:inv-002", minor) for minor in amounts if minor % 2 == 0]
    assert await pages(escrow, ledger, **on("payable:inv-009"), **filters) == []


async def test_a_page_token_is_of_its_query(escrow, ledger):
    token = (await escrow.ledger(ledger, page_size=3)).next_page_token
    digest, backward, (sequence, _) = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    # The digest is no secret, and no leg has such a number.
    forged = urlsafe_b64encode(json.dumps([digest, backward, [sequence, ["v", 2**31]]]).encode()).decode()
    wrong = [{"page_token": forged, "page_size": 3}, {"page_token": token, "page_size": 3, **on("cash")}]
    for asked in (*wrong, {"page_token": token[:-2] + "xx"}, {"page_token": "nonsense"}):
        assert (await refusal(escrow.ledger(ledger, **asked)))[0] == "PAGE_TOKEN_INVALID"


async def test_the_balance_has_a_line_a_kind_and_the_list_a_line_a_ledger_account(escrow):
    account = await escrow.open()
    await escrow.pass_time(seconds=1)
    await escrow.post(account, ("cash", 60), ("subscription:inv-002", -20), ("subscription:inv-001", -40))
    before = escrow.clock.now()
    await escrow.pass_time(seconds=1)
    await escrow.post(account, ("subscription:inv-001", 5), ("payable:inv-001", -5))
    await escrow.hold(account, "subscription:inv-002", 15)

    async def listed(**values) -> list[tuple[str, int, int, int]]:
        lines, token = [], ""
        while True:
            request = journal_pb.ListLedgerAccountsRequest(
                escrow_account_id=account, page_size=2, page_token=token, **values
            )
            page = await escrow.call("ListLedgerAccounts", request)
            lines += [summary(line) for line in page.ledger_accounts]
            if not (token := page.next_page_token):
                return lines

    def summary(line: journal_pb.LedgerAccountBalance) -> tuple[str, int, int, int]:
        return name_of(line.ledger_account), *(part.amount_minor for part in (line.posted, line.held, line.available))

    kinds = {
        name_of(line.ledger_account): summary(line)[1:] for line in (await escrow.balance(account)).ledger_accounts
    }
    assert kinds == dict.fromkeys(FIXED, (0, 0, 0)) | {
        "cash": (60, 0, 60),
        "payable": (5, 0, 5),
        "subscription": (55, 15, 40),
    }
    then = {
        name_of(line.ledger_account): summary(line)[1]
        for line in (await escrow.balance(account, before)).ledger_accounts
    }
    assert (then["subscription"], then["payable"]) == (60, 0)
    everything = await listed()
    assert sorted(line[0] for line in everything) == sorted(
        [*FIXED, "payable:inv-001", "subscription:inv-001", "subscription:inv-002"]
    )
    subscriptions = [("subscription:inv-001", 35, 0, 35), ("subscription:inv-002", 20, 15, 5)]
    assert await listed(**on("subscription")) == subscriptions
    assert await listed(**on("subscription:inv-001")) == subscriptions[:1]
    then_of_subscriptions = [("subscription:inv-001", 40, 0, 40), ("subscription:inv-002", 20, 0, 20)]
    assert await listed(**on("subscription"), as_of=to_timestamp(before)) == then_of_subscriptions
    kinds = [journal_pb.LedgerAccount.SUBSCRIPTION, journal_pb.LedgerAccount.CASH]
    then_of_both = await listed(kind=kinds, as_of=to_timestamp(before))
    assert [line[:2] for line in then_of_both] == [("cash", 60), *(line[:2] for line in then_of_subscriptions)]
    assert await listed(**on("payable:inv-009")) == []
    to_come = escrow.clock.now() + timedelta(microseconds=1)
    for question in (escrow.balance(account, to_come), listed(as_of=to_timestamp(to_come))):
        with pytest.raises(InvalidField) as refused:
            await question
        assert refused.value.fields == {"as_of": "must not be in the future"}


async def test_the_trial_balance_adds_up_and_finds_what_was_tampered_with(service_urls):
    urls = await service_urls("escrow")
    escrow = Escrow(urls)
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("subscription:inv-001", -50), ("subscription:b", -10), ("fees", -40))
    trial = await escrow.trial_balance(account)
    assert trial.as_of == to_timestamp(escrow.clock.now())
    assert {
        journal_pb.LedgerAccount.Kind.Name(line.kind).lower(): (line.debit.amount_minor, line.credit.amount_minor)
        for line in trial.lines
    } == {
        "cash": (100, 0),
        "distributable": (0, 0),
        "fees": (0, 40),
        "in_transit": (0, 0),
        "issuer_proceeds": (0, 0),
        "provider_fees": (0, 0),
        "reserves": (0, 0),
        "subscription": (0, 60),
        "suspense": (0, 0),
        "withholding": (0, 0),
    }
    assert (trial.total_debit, trial.total_credit, trial.difference, trial.balanced) == (
        usd(100),
        usd(100),
        usd(0),
        True,
    )
    # Only a superuser who switches the triggers off can do this.
    admin = await asyncpg.connect(urls.admin_url.replace("postgresql+asyncpg", "postgresql"))
    await admin.execute("SET session_replication_role = 'replica'")
    of_fees = "account_no IN (SELECT account_no FROM ledger_accounts WHERE kind = 'FEES')"
    await admin.execute(f"UPDATE ledger_entries SET amount_minor = 41 WHERE {of_fees}")
    trial = await escrow.trial_balance(account)
    assert (trial.difference, trial.balanced) == (usd(-1), False)
    await admin.execute(f"UPDATE ledger_entries SET amount_minor = 40 WHERE {of_fees}")
    await admin.execute("UPDATE ledger_accounts SET credits_posted = 41 WHERE kind = 'FEES'")
    trial = await escrow.trial_balance(account)
    assert (trial.difference, trial.balanced) == (usd(0), False)
    await admin.close()
    await escrow.close()
