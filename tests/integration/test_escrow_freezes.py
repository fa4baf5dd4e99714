"""Frozen accounts: why, by whom, and that nobody ends a freeze that was not read."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import events_pb2 as events
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import Principal
from services.chassis.values import stops
from services.chassis.values.approval import Status
from services.chassis.values.approval_bounds import OPEN_MAX, TooManyApprovals
from services.chassis.values.errors import DomainError
from services.chassis.values.etags import EtagMismatch
from services.chassis.values.refusals import ContentOutdated, IllegalStatusChange
from services.escrow.domain.account import FREEZES_OF_ONE_MAX
from tests.support.chassis import as_superuser
from tests.support.escrow import Escrow, key, refusal


async def test_an_account_is_frozen_and_unfrozen_and_says_so(escrow):
    account = await escrow.open()
    frozen = await escrow.freeze(account)
    assert (frozen.status, frozen.freezes[0].note) == (accounts_pb.EscrowAccount.FROZEN, "a court order")
    assert await escrow.freeze(account) == frozen
    assert await refusal(
        escrow.call("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account))
    ) == (
        "ILLEGAL_STATUS_CHANGE",
        {"status": "FROZEN", "wanted_status": "CLOSED"},
    )
    active = await escrow.unfreeze(account)
    assert (active.status, list(active.freezes)) == (accounts_pb.EscrowAccount.ACTIVE, [])
    [froze], [unfroze] = (
        await escrow.events(events.EscrowAccountFrozen),
        await escrow.events(events.EscrowAccountUnfrozen),
    )
    statuses = froze.escrow_account.status, unfroze.escrow_account.status
    assert statuses == (accounts_pb.EscrowAccount.FROZEN, accounts_pb.EscrowAccount.ACTIVE)


@pytest.mark.parametrize(
    "is_hidden", [False, True], ids=["as it is", "hidden by SQL while it is frozen, and put right"]
)
async def test_an_older_yes_does_not_undo_a_later_freeze(escrow: Escrow, is_hidden: bool):
    account = await escrow.open()
    await escrow.freeze(account)
    unfreeze = accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=account)
    asked = []
    get = accounts_pb.GetEscrowAccountRequest(escrow_account_id=account)
    for name in ("a", "b"):
        unfreeze.idempotency_key = name
        asked.append(await escrow.ask("UnfreezeEscrowAccount", unfreeze))
        unfreeze.etag = (await escrow.call("GetEscrowAccount", get)).etag  # so the yes to one does not end the other
    unfreeze.ClearField("etag")
    await escrow.freeze(account)  # Again, in the same words: what was asked for waits all the same.
    await escrow.grant(asked[0])
    alter = "UPDATE approvals SET note = {}, version = version {} WHERE approval_id = '" + asked[1].approval_id + "'"
    if is_hidden:
        async with escrow.database.begin(escrow.admin.org_id) as tx:
            await tx.driver.execute(alter.format("'x'", "+ 1"))
    order = accounts_pb.FreezeEscrowAccountRequest(escrow_account_id=account, note="another court order")
    frozen = await escrow.call("FreezeEscrowAccount", order)
    if is_hidden:
        async with as_superuser(escrow.urls) as admin:
            await admin.execute("SET session_replication_role = replica")
            await admin.execute(alter.format("NULL", "- 1"))
    asked[1].ClearField("etag")
    with pytest.raises(ContentOutdated if is_hidden else IllegalStatusChange):
        await escrow.grant(asked[1])
    assert (await escrow.call("GetEscrowAccount", get)).status == accounts_pb.EscrowAccount.FROZEN
    unfreeze.idempotency_key = "c"
    changes = json.loads((await escrow.read_approval(await escrow.ask("UnfreezeEscrowAccount", unfreeze))).content)[
        "changes"
    ]
    assert {one["field"]: one.get("before") for one in changes} == {
        "status": "FROZEN",
        "freezes[0].freezeTime": frozen.freezes[0].freeze_time.ToJsonString(),
        "freezes[0].frozenBy": escrow.admin.person,
        "freezes[0].note": "another court order",
    }


async def test_whoever_asks_for_the_end_of_a_freeze_over_and_over_keeps_nobody_from_freezing(escrow: Escrow):
    account = await escrow.open()
    await escrow.freeze(account)

    some = asyncio.Semaphore(8)  # fewer than there are connections: on a busy machine nobody waits too long for one

    async def ask(principal: Principal, etag: str | None = None) -> Approval:
        request = accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=account, idempotency_key=key(), etag=etag)
        async with some:
            return await escrow.ask("UnfreezeEscrowAccount", request, principal)

    answers = await asyncio.gather(*(ask(escrow.admin) for _ in range(OPEN_MAX + 3)), return_exceptions=True)
    asked = [answer for answer in answers if isinstance(answer, Approval)]
    refused = [(each.reason, each.metadata) for each in answers if isinstance(each, DomainError)]
    assert (len(asked), refused) == (OPEN_MAX, [("TOO_MANY_APPROVALS", {"approvals_max": str(OPEN_MAX)})] * 3)
    get = accounts_pb.GetEscrowAccountRequest(escrow_account_id=account)
    etag = (await escrow.call("GetEscrowAccount", get)).etag  # so a yes ends none of the others
    await escrow.grant(await ask(dataclasses.replace(escrow.admin, subject="admin-2"), etag))
    await escrow.freeze(account)
    assert {each.status for each in await escrow.list_approvals(resource_id=[account])} == {
        Approval.EXECUTED,
        Approval.CANCELLED,
    }
    with pytest.raises(TooManyApprovals):
        [await ask(escrow.admin) for _ in range(2)]


async def test_one_person_freezes_an_account_so_often_and_another_still_does(escrow: Escrow, monkeypatch):
    monkeypatch.setattr(stops, "STOPS_MAX", 1)
    account, request = await escrow.open(), accounts_pb.FreezeEscrowAccountRequest(note="other words")
    request.escrow_account_id = account
    for _ in (1, 2):  # the second changes nothing
        await escrow.freeze(account)
    assert (await refusal(escrow.call("FreezeEscrowAccount", request)))[0] == "TOO_MANY_STOPS"
    unfreeze = accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=account, idempotency_key=key())
    await escrow.ask("UnfreezeEscrowAccount", unfreeze, dataclasses.replace(escrow.admin, subject="admin-3"))
    await escrow.unfreeze(account)
    assert (await refusal(escrow.freeze(account)))[0] == "TOO_MANY_STOPS"
    other = dataclasses.replace(escrow.admin, subject="admin-2")
    assert (await escrow.call("FreezeEscrowAccount", request, other)).freezes[0].frozen_by == "admin-2"


@pytest.mark.parametrize("comes", ["before it is asked for", "while it waits", "between the yes and the deed"])
async def test_whoever_freezes_a_frozen_account_for_another_reason_is_heard(escrow: Escrow, monkeypatch, comes: str):
    account = await escrow.open()
    await escrow.freeze(account, "routine audit")
    order = accounts_pb.FreezeEscrowAccountRequest(escrow_account_id=account, note="court order 77/2026")
    other = dataclasses.replace(escrow.admin, subject="admin-3")

    async def freeze_again() -> None:
        frozen = await escrow.call("FreezeEscrowAccount", order, other)
        reasons = [("routine audit", escrow.admin.person), ("court order 77/2026", "admin-3")]
        assert [(each.note, each.frozen_by) for each in frozen.freezes] == reasons
        [told] = await escrow.events(events.EscrowAccountUpdated)
        assert [each.frozen_by for each in told.escrow_account.freezes] == [person for _, person in reasons]

    if comes == "before it is asked for":
        await freeze_again()
    unfreeze = accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=account, idempotency_key=key())
    asked = await escrow.ask("UnfreezeEscrowAccount", unfreeze)
    if comes == "before it is asked for":
        notes = [change.before for change in asked.changes if change.field.endswith(".note")]
        assert notes == ["routine audit", "court order 77/2026"], "whoever approves it reads both"
        await escrow.grant(asked)
        get = accounts_pb.GetEscrowAccountRequest(escrow_account_id=account)
        assert (await escrow.call("GetEscrowAccount", get)).status == accounts_pb.EscrowAccount.ACTIVE
        return
    if comes == "while it waits":
        await freeze_again()
        with pytest.raises(EtagMismatch):
            await escrow.grant(asked)
    else:
        compare = escrow.approvals.requests.compare

        async def freeze_after(approved: Approval, now: datetime) -> Any:
            same = await compare(approved, now)
            if approved.status is Status.APPROVED:
                await freeze_again()
            return same

        monkeypatch.setattr(escrow.approvals.requests, "compare", freeze_after)
        with pytest.raises(AssertionError):  # it is not executed
            await escrow.grant(asked)
        [failed] = await escrow.list_approvals(resource_id=[account])
        assert (failed.status, failed.failure.code) == (Approval.FAILED, "CONTENT_OUTDATED")
    get = accounts_pb.GetEscrowAccountRequest(escrow_account_id=account)
    assert (await escrow.call("GetEscrowAccount", get)).status == accounts_pb.EscrowAccount.FROZEN


async def test_one_person_freezes_an_account_for_so_many_reasons_and_another_is_heard(escrow: Escrow):
    account = await escrow.open()
    request = accounts_pb.FreezeEscrowAccountRequest(escrow_account_id=account)
    for number in range(FREEZES_OF_ONE_MAX):
        request.note = f"reason {number}"
        await escrow.call("FreezeEscrowAccount", request)
        await escrow.pass_time(hours=1)
    request.note = "one more"
    told = "TOO_MANY_FREEZES", {"freezes_max": str(FREEZES_OF_ONE_MAX)}
    assert await refusal(escrow.call("FreezeEscrowAccount", request)) == told
    other = dataclasses.replace(escrow.admin, subject="admin-3")
    frozen = await escrow.call("FreezeEscrowAccount", request, other)
    assert [each.frozen_by for each in frozen.freezes] == [escrow.admin.person] * FREEZES_OF_ONE_MAX + ["admin-3"]
    [listed] = (await escrow.call("ListEscrowAccounts", accounts_pb.ListEscrowAccountsRequest())).escrow_accounts
    assert (listed.status, list(listed.freezes)) == (frozen.status, []), "nobody reads them all in a list"


async def test_who_freezes_accounts_at_once_is_counted_in_whatever_order_the_requests_go_through(escrow: Escrow):
    """Each has read the clock before it waited for the one before it."""
    account = await escrow.open()
    request = accounts_pb.FreezeEscrowAccountRequest(escrow_account_id=account)
    begun = escrow.clock.now()
    for number in range(stops.STOPS_MAX):
        escrow.clock.set(begun + timedelta(seconds=stops.STOPS_MAX - number))
        request.note = f"reason {number}"
        await escrow.call("FreezeEscrowAccount", request)
    escrow.clock.set(begun)
    request.note = "one more"
    assert (await refusal(escrow.call("FreezeEscrowAccount", request)))[0] == "TOO_MANY_STOPS"
