"""Who has only escrow's login calls the functions of the book, and gets no money out by what they write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from functools import partial

import asyncpg
import pytest
import sqlalchemy as sa
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2
from structlog.testing import capture_logs

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.audit import audit_seals
from services.chassis.data.overdue import OverdueWatch
from services.chassis.data.seals import NotSealed
from services.chassis.process.telemetry import ROWS_NOT_SEALED
from services.escrow import tables
from services.escrow.commands.journal_entries import build_entry
from services.escrow.domain.journal import PostingKey
from services.escrow.jobs import WORK
from services.escrow.rights import RIGHTS
from tests.support.book_statements import FROZEN
from tests.support.chassis import as_superuser
from tests.support.escrow import Escrow, key, new_entry, refusal
from tests.support.forged_entries import HELD, check, forge, opened


@pytest.fixture
async def escrow(service_urls) -> AsyncIterator[Escrow]:
    escrow = Escrow(await service_urls("escrow"))
    yield escrow
    await escrow.close()


def importer(escrow: Escrow) -> Principal:
    return Principal("service:importer", "service", escrow.org_id, escrow.admin.person)


async def key_of(escrow: Escrow, account: str, caller: Principal, legs: tuple[tuple[str, int], ...]) -> PostingKey:
    """Under which key the book keeps the caller's request "first": anybody can compute it."""
    with acting_as(caller):
        return (await build_entry(escrow.database, account, "first", new_entry(*legs), escrow.clock.now())).key


async def test_an_entry_that_took_the_key_of_a_request_is_not_its_answer(escrow):
    account = await opened(escrow)
    caller, legs = importer(escrow), (("cash", 5), (HELD, -5))
    await forge(escrow, account, await key_of(escrow, account, caller, legs))
    with pytest.raises(NotSealed):
        await escrow.post(account, *legs, idempotency_key="first", principal=caller)


@pytest.mark.parametrize("same", [True, False], ids=["with its fingerprint", "with another"])
async def test_a_refusal_that_was_kept_under_the_key_of_a_request_is_not_its_answer(escrow, same):
    account, caller = await escrow.open(), importer(escrow)
    legs = ("cash", 5), (HELD, -5)
    asked = await key_of(escrow, account, caller, legs)
    planted = asked if same else asked._replace(fingerprint=b"x")
    await forge(escrow, account, planted, debits="f,t", verdict="insufficient")
    await escrow.post(account, *legs, idempotency_key="first", principal=caller)
    assert await escrow.posted(account) == {"cash": 5, HELD: 5}


async def test_a_refusal_stays_one_whatever_else_is_refused_under_its_key(escrow):
    account, caller = await escrow.open(), importer(escrow)
    legs = (HELD, 5), ("cash", -5)
    asked = await key_of(escrow, account, caller, legs)
    await refusal(escrow.post(account, *legs, idempotency_key="first", principal=caller))
    await forge(escrow, account, asked, debits="f,t", verdict="insufficient")
    await escrow.post(account, ("cash", 5), (HELD, -5))
    again = await refusal(escrow.post(account, *legs, idempotency_key="first", principal=caller))
    assert again[0] == "INSUFFICIENT_AVAILABLE_BALANCE"


ENDINGS = (
    "SELECT resolve_hold(now(), :org, :account, :hold, 'RELEASED', 0, true, 'x', NULL)",
    "SELECT resolve_hold(now(), :org, :account, :hold, 'EXPIRED', 0, true, 'x', end_digest) FROM holds",
    "SELECT let_hold_expire(:org, :account, :hold, now(), substr(end_digest, 5)) FROM holds",
    "UPDATE holds SET end_digest = NULL",
    "UPDATE escrow_accounts SET {active}",
    "UPDATE escrow_accounts SET {active}, change_proof = change_proof",
    "UPDATE escrow_accounts SET {active}, change_proof = substr(change_digest, 5)",
    "UPDATE escrow_accounts SET {active}, change_proof = 'x', change_digest = sha256('x')",
    "UPDATE escrow_accounts SET change_digest = NULL, version = version + 1",
    "UPDATE escrow_accounts SET status = 'LIQUIDATING', freezes = '[]', version = version + 1",
)


async def test_neither_login_ends_a_hold_or_a_freeze(escrow):
    account = await opened(escrow)
    hold = await escrow.hold(account, HELD, 10)
    await escrow.freeze(account)
    await escrow.unfreeze(account)  # what was proved once proves nothing more
    await escrow.pass_time(seconds=1)
    await escrow.freeze(account)
    names = {"org": escrow.org_id, "account": account, "hold": hold.hold_id}
    for way in ENDINGS:
        statement = sa.text(way.format(active="status = 'ACTIVE', freezes = '[]', version = version + 1"))
        for login in (partial(escrow.database.begin, escrow.org_id), escrow.database.begin_for_all):
            with suppress(asyncpg.PostgresError):
                async with login() as tx:
                    await tx.execute(statement, {name: names[name] for name in statement._bindparams})
        found = await escrow.call("GetEscrowAccount", accounts_pb.GetEscrowAccountRequest(escrow_account_id=account))
        assert (found.status, await escrow.held(account)) == (accounts_pb.EscrowAccount.FROZEN, {HELD: 10}), way
    assert (await escrow.unfreeze(account)).status == accounts_pb.EscrowAccount.ACTIVE
    await escrow.pass_time(days=1)
    assert await escrow.expire_holds() == 0
    release = holds_pb2.ReleaseHoldRequest(idempotency_key=key(), escrow_account_id=account, hold_id=hold.hold_id)
    assert (await escrow.call("ReleaseHold", release)).status == holds_pb2.Hold.RELEASED


async def test_neither_login_alters_an_escrow_account_so_that_it_can_always_be_frozen(escrow):
    account = await opened(escrow)
    await escrow.freeze(account)
    await escrow.unfreeze(account)  # it has the proof of a change that was
    columns = RIGHTS["escrow_accounts"].app.update
    assert len(columns) > 10
    for change in ("display_name = 'x', version = version + 1", *(f"{name} = {name}" for name in columns)):
        for login in (partial(escrow.database.begin, escrow.org_id), escrow.database.begin_for_all):
            with pytest.raises(asyncpg.PostgresError, match="escrow_accounts keeps its rows as they are"):
                async with login() as tx:
                    await tx.execute(sa.text(f"UPDATE escrow_accounts SET {change}"))
    assert (await escrow.freeze(account)).status == accounts_pb.EscrowAccount.FROZEN
    [fault] = [await refusal(escrow.post(account, (HELD, 50), ("cash", -50)))]
    assert fault[0] == "ESCROW_ACCOUNT_FROZEN"


_PUT_BACK = (
    *("sponsor_party_id", "custodian_name", "custodian_account_last4", "status", "version"),
    *("freezes", "closed_at", "closed_by"),
)
ALTERED = {
    "another sponsor": "sponsor_party_id = 'pty_mine'",
    "another custodian": "custodian_name = 'Mine Bank', custodian_account_last4 = '6666', version = version + 1",
    "closed for good": "status = 'CLOSED', closed_at = now(), closed_by = 'admin-2'",
    "frozen by somebody": FROZEN.replace('"frozen_by": "x"', '"frozen_by": "admin-2"'),
    "no version that can follow": "version = 9223372036854775807",
}


@pytest.mark.parametrize("change", ALTERED)
async def test_an_escrow_account_that_was_altered_past_the_triggers_is_shown_to_nobody(escrow, change):
    account, other = await escrow.open(), await escrow.open()
    async with as_superuser(escrow.urls) as admin:
        await admin.execute("SET session_replication_role = replica")
        before = await admin.fetchrow("SELECT * FROM escrow_accounts WHERE escrow_account_id = $1", account)
        await admin.execute(f"UPDATE escrow_accounts SET {ALTERED[change]} WHERE escrow_account_id = $1", account)
    asked = {"idempotency_key": key(), "escrow_account_id": account}
    for call in (
        escrow.call("GetEscrowAccount", accounts_pb.GetEscrowAccountRequest(escrow_account_id=account)),
        escrow.call("GetEscrowAccountBalance", accounts_pb.GetEscrowAccountBalanceRequest(escrow_account_id=account)),
        escrow.freeze(account),
        escrow.ask("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(**asked)),
    ):
        with pytest.raises(NotSealed):
            await call
    listed = await escrow.call("ListEscrowAccounts", accounts_pb.ListEscrowAccountsRequest())
    assert [each.escrow_account_id for each in listed.escrow_accounts] == [other]
    told = ROWS_NOT_SEALED.labels("escrow_accounts")._value.get()
    alarms: dict[str, str] = {}
    audit = audit_seals(escrow.database, tables.metadata, alarms)
    await audit.run()
    assert alarms == {"rows of escrow_accounts": "1 not sealed"}
    assert ROWS_NOT_SEALED.labels("escrow_accounts")._value.get() == told + 1
    async with as_superuser(escrow.urls) as admin:  # an operator puts back what it said, and all is as it was
        await admin.execute("SET session_replication_role = replica")
        values = [before[name] for name in _PUT_BACK]
        named = ", ".join(f"{name} = ${number}" for number, name in enumerate(_PUT_BACK, start=2))
        await admin.execute(f"UPDATE escrow_accounts SET {named} WHERE escrow_account_id = $1", account, *values)
    await audit.run()
    assert alarms == {}
    assert (await escrow.freeze(account)).status == accounts_pb.EscrowAccount.FROZEN


# What PostgreSQL keeps, in which year soever, and no program can read.
UNREADABLE = (
    "UPDATE escrow_accounts SET created_at = '200000-01-01' WHERE escrow_account_id = $1",
    "UPDATE holds SET expires_at = '4000-01-01 BC' WHERE escrow_account_id = $1",
    (
        "UPDATE ledger_entries l SET effective_at = '4000-01-01 BC' FROM escrow_accounts e"
        " WHERE l.escrow_no = e.escrow_no AND e.escrow_account_id = $1"
    ),
)


async def test_what_cannot_be_read_is_told_and_hides_nothing_that_is_beside_it(escrow):
    bad, other = sorted([await opened(escrow), await opened(escrow)])
    for account in (bad, other):
        await escrow.hold(account, HELD, 1, expire_time=to_timestamp(escrow.clock.now() + timedelta(days=1)))
        await forge(escrow, account)
    async with as_superuser(escrow.urls) as admin:
        await admin.execute("SET session_replication_role = replica")
        for statement in UNREADABLE:
            await admin.execute(statement, bad)
        await admin.execute("UPDATE escrow_accounts SET sponsor_party_id = 'pty_x' WHERE escrow_account_id = $1", other)
        await admin.execute("UPDATE holds SET created_by = 'admin-2' WHERE escrow_account_id = $1", other)
    alarms: dict[str, str] = {}
    await audit_seals(escrow.database, tables.metadata, alarms).run()
    assert alarms == {"rows of escrow_accounts": "2 not sealed", "rows of holds": "2 not sealed"}
    assert sorted(title.split()[-1] for title in await check(escrow)) == [bad, other]
    await escrow.pass_time(days=3)
    alarms.clear()
    watch = OverdueWatch(escrow.database, escrow.clock, alarms, WORK)
    with capture_logs() as logged:
        await watch.look()
    assert alarms == {"overdue holds": "2 wait for longer than they should"}
    assert [line["event"] for line in logged] == ["work_overdue"]


async def test_an_escrow_account_that_sql_opened_is_none(escrow):
    async with escrow.database.begin(escrow.org_id) as tx:
        opening = (
            "INSERT INTO escrow_accounts (org_id, escrow_account_id, display_name, currency, sponsor_party_id,"
            " custodian_name, created_at, created_by, updated_at)"
            " VALUES (:org, 'esc_x', 'x', 'USD', 'pty_mine', 'Mine', now(), 'admin-2', now())"
        )
        await tx.execute(sa.text(opening), {"org": escrow.org_id})
    with pytest.raises(NotSealed):
        await escrow.call("GetEscrowAccount", accounts_pb.GetEscrowAccountRequest(escrow_account_id="esc_x"))
