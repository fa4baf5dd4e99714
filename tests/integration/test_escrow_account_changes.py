"""What people write about an escrow account: changed with the etag they read, published, and found again."""

from __future__ import annotations

from typing import Any

import pytest
from realco.escrow.v1 import escrow_accounts_pb2 as pb
from realco.escrow.v1 import events_pb2 as events
from realco.type.v1.approval_pb2 import Approval
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import Principal
from services.chassis.values import stops
from services.chassis.values.errors import DomainError
from services.escrow.domain.refusals import InsufficientAvailableBalance
from tests.support.escrow import SPONSOR, Escrow, key, refusal
from tests.support.events import as_in_events


async def get(escrow: Escrow, account: str, principal: Principal | None = None) -> pb.EscrowAccount:
    return await escrow.call("GetEscrowAccount", pb.GetEscrowAccountRequest(escrow_account_id=account), principal)


async def update(
    escrow: Escrow, account: pb.EscrowAccount, *named: str, principal: Principal | None = None, **values: Any
) -> pb.EscrowAccount:
    """Takes over the given values; what is only named is taken away."""
    request = pb.UpdateEscrowAccountRequest(
        escrow_account_id=account.escrow_account_id,
        etag=values.pop("etag", account.etag),
        update_mask={"paths": [*named, *(name for name in values if name != "validate_only")]},
        **values,
    )
    return await escrow.call("UpdateEscrowAccount", request, principal)


async def test_a_change_takes_over_the_named_fields_and_is_published(escrow):
    before = await get(escrow, await escrow.open())
    await escrow.pass_time(minutes=1)
    after = await update(escrow, before, display_name="Elm Street", external_id="ours-1", metadata={"desk": "4"})
    assert (after.display_name, after.custodian_name) == ("Elm Street", before.custodian_name)
    assert (after.external_id, dict(after.metadata)) == ("ours-1", {"desk": "4"})
    assert after.etag != before.etag
    assert after.update_time.seconds == before.update_time.seconds + 60
    assert await get(escrow, before.escrow_account_id) == after
    [event] = await escrow.events(events.EscrowAccountUpdated)
    assert event.escrow_account == as_in_events(after)
    cleared = await update(escrow, after, "external_id", "metadata")
    assert not cleared.HasField("external_id")
    assert dict(cleared.metadata) == {}


async def test_nobody_alone_says_that_another_custodian_holds_the_money(escrow):
    before = await get(escrow, await escrow.open())
    wanted = {"custodian_name": "Second Trust", "custodian_account_last4": "0042"}
    request = pb.ChangeEscrowAccountCustodianRequest(
        escrow_account_id=before.escrow_account_id, etag=before.etag, **wanted
    )
    approval = await escrow.ask("ChangeEscrowAccountCustodian", request)
    assert [(each.field, each.before, each.after) for each in approval.changes] == [
        (name, getattr(before, name), value) for name, value in wanted.items()
    ]
    assert approval.scope_id == before.escrow_account_id
    assert await get(escrow, before.escrow_account_id) == before, "it waits"
    after = await escrow.call("ChangeEscrowAccountCustodian", request)
    assert {name: getattr(after, name) for name in wanted} == wanted


async def test_what_was_asked_about_an_older_version_is_not_approved_and_still_waits(escrow):
    before = await get(escrow, await escrow.open())
    request = pb.ChangeEscrowAccountCustodianRequest(
        escrow_account_id=before.escrow_account_id,
        etag=before.etag,
        custodian_name="Second Trust",
        custodian_account_last4="0042",
    )
    approval = await escrow.ask("ChangeEscrowAccountCustodian", request)
    await update(escrow, before, display_name="Elm Street")
    assert await refusal(escrow.approve(approval)) == ("CONTENT_OUTDATED", {})
    assert (await escrow.read_approval(approval)).status == Approval.PENDING
    request.etag = (await get(escrow, before.escrow_account_id)).etag
    await escrow.grant(await escrow.ask("ChangeEscrowAccountCustodian", request))


async def test_one_person_outdates_by_edits_so_often_what_others_asked_for(escrow):
    account = await get(escrow, await escrow.open())

    async def ask() -> Approval:
        request = pb.ChangeEscrowAccountCustodianRequest(
            escrow_account_id=account.escrow_account_id,
            etag=(await get(escrow, account.escrow_account_id)).etag,
            custodian_name="Second Trust",
            custodian_account_last4="0042",
        )
        return await escrow.ask("ChangeEscrowAccountCustodian", request)

    sponsor = Principal("sponsor-9", "sponsor", escrow.admin.org_id)
    for number in range(stops.STOPS_MAX):
        waiting = await ask()
        account = await update(escrow, account, principal=sponsor, external_id=f"ours-{number}")
        assert (await refusal(escrow.approve(waiting)))[0] == "CONTENT_OUTDATED"
    waiting = await ask()
    edit = update(escrow, account, principal=sponsor, external_id="ours-4")
    assert (await refusal(edit))[0] == "TOO_MANY_STOPS"
    await escrow.grant(waiting)
    account = await get(escrow, account.escrow_account_id)
    await update(escrow, account, principal=sponsor, external_id="ours-5")  # nothing waits


async def test_nobody_swaps_the_names_of_two_accounts_that_have_money(escrow):
    empty, used = await get(escrow, await escrow.open()), await get(escrow, await escrow.open())
    await escrow.post(used.escrow_account_id, ("cash", 5), ("fees", -5))
    renamed = await update(escrow, empty, display_name="Empty, of 2019")
    account = empty.escrow_account_id
    asked = await escrow.ask("CloseEscrowAccount", pb.CloseEscrowAccountRequest(escrow_account_id=account))
    assert "SUMMARY_NOW" not in {each.rule for each in (await escrow.read_approval(asked)).explanations}
    renamed = await update(escrow, renamed, display_name="Elm Street")
    told = {each.rule: each.statement for each in (await escrow.read_approval(asked)).explanations}
    assert told["SUMMARY_NOW"] == "By now it would be called: Close for good: “Elm Street”"
    assert await refusal(update(escrow, used, display_name="Elm Street")) == ("NAME_FIXED", {})
    noted = await update(escrow, used, display_name=used.display_name, external_id="ours-1")
    assert (noted.display_name, noted.external_id) == (used.display_name, "ours-1")
    await escrow.post(empty.escrow_account_id, ("cash", 5), ("fees", -5))
    assert await refusal(update(escrow, renamed, display_name=empty.display_name)) == ("NAME_FIXED", {})


async def test_a_change_that_changes_nothing_is_no_new_version(escrow):
    before = await get(escrow, await escrow.open())
    assert await update(escrow, before, display_name=before.display_name) == before
    assert await escrow.events(events.EscrowAccountUpdated) == []


async def test_who_decides_on_an_older_version_changes_nothing(escrow):
    first = await get(escrow, await escrow.open())
    second = await update(escrow, first, display_name="Elm Street")
    account = first.escrow_account_id
    stale = [
        update(escrow, first, display_name="Oak"),
        *(
            escrow.call(rpc, request(escrow_account_id=account, etag=first.etag, **values))
            for rpc, request, values in (
                ("FreezeEscrowAccount", pb.FreezeEscrowAccountRequest, {"note": "x"}),
                (
                    "ChangeEscrowAccountCustodian",
                    pb.ChangeEscrowAccountCustodianRequest,
                    {"custodian_name": "x", "custodian_account_last4": "0042"},
                ),
                ("UnfreezeEscrowAccount", pb.UnfreezeEscrowAccountRequest, {}),
                ("CloseEscrowAccount", pb.CloseEscrowAccountRequest, {}),
            )
        ),
    ]
    for write in stale:
        assert await refusal(write) == ("ETAG_MISMATCH", {"etag": second.etag})
    assert await get(escrow, account) == second
    frozen = pb.FreezeEscrowAccountRequest(escrow_account_id=account, etag=second.etag, note="x")
    assert (await escrow.call("FreezeEscrowAccount", frozen)).status == pb.EscrowAccount.FROZEN


async def test_a_posting_or_a_hold_is_no_new_version_of_the_account(escrow):
    before = await get(escrow, await escrow.open())
    await escrow.post(before.escrow_account_id, ("cash", 5), ("fees", -5))
    await escrow.hold(before.escrow_account_id, "fees", 5)
    assert (await get(escrow, before.escrow_account_id)).etag == before.etag


@pytest.mark.parametrize("refused", ["PARTY_NOT_FOUND", "UNAVAILABLE"])
async def test_no_account_is_opened_for_a_sponsor_that_is_not_there_or_while_nobody_can_tell(escrow, refused):
    request = pb.CreateEscrowAccountRequest(
        idempotency_key=key(), display_name="x", currency_code="USD", sponsor_party_id="nobody", custodian_name="x"
    )
    escrow.compliance.unknown.add("nobody")
    escrow.compliance.away = refused == "UNAVAILABLE"
    with pytest.raises(DomainError) as refusal:
        await escrow.call("CreateEscrowAccount", request)
    named = [] if escrow.compliance.away else ["sponsor_party_id"]
    assert (refusal.value.reason, list(refusal.value.fields)) == (refused, named)
    escrow.compliance.unknown, escrow.compliance.away = set(), False
    assert (await escrow.call("CreateEscrowAccount", request)).sponsor_party_id == "nobody"
    assert len(await escrow.events(events.EscrowAccountCreated)) == 1


async def test_what_is_only_validated_changes_nothing(escrow):
    before = await get(escrow, await escrow.open())
    account = before.escrow_account_id
    assert (await update(escrow, before, display_name="Elm", validate_only=True)).display_name == "Elm"
    close = pb.CloseEscrowAccountRequest(escrow_account_id=account, validate_only=True)
    assert (await escrow.call("CloseEscrowAccount", close)).status == pb.EscrowAccount.CLOSED
    create = pb.CreateEscrowAccountRequest(
        idempotency_key=key(),
        display_name="x",
        currency_code="USD",
        sponsor_party_id=SPONSOR,
        custodian_name="x",
        validate_only=True,
    )
    made = await escrow.call("CreateEscrowAccount", create)
    assert (await refusal(get(escrow, made.escrow_account_id)))[0] == "ESCROW_ACCOUNT_NOT_FOUND"
    assert await get(escrow, account) == before
    assert len(await escrow.events(events.EscrowAccountCreated)) == 1


async def try_action(escrow: Escrow, action: str, account: pb.EscrowAccount, principal: Principal) -> None:
    """Raises DomainError if the write that the action is about is refused."""
    same: dict[str, Any] = {"escrow_account_id": account.escrow_account_id, "validate_only": True}
    match action:
        case "update":
            mask = {"paths": ["external_id"]}
            request: Any = pb.UpdateEscrowAccountRequest(
                **same, etag=account.etag, update_mask=mask, external_id="ours-1"
            )
            await escrow.call("UpdateEscrowAccount", request, principal)
        case "change_custodian":
            move = {"custodian_name": "x", "custodian_account_last4": "0042", "etag": account.etag}
            await escrow.call(
                "ChangeEscrowAccountCustodian", pb.ChangeEscrowAccountCustodianRequest(**same, **move), principal
            )
        case "freeze":
            await escrow.call("FreezeEscrowAccount", pb.FreezeEscrowAccountRequest(**same, note="x"), principal)
        case "unfreeze":
            await escrow.call("UnfreezeEscrowAccount", pb.UnfreezeEscrowAccountRequest(**same), principal)
        case "close":
            await escrow.call("CloseEscrowAccount", pb.CloseEscrowAccountRequest(**same), principal)
        case "post_journal_entry":
            await escrow.post(account.escrow_account_id, ("cash", 1), ("fees", -1), principal=principal)
        case "place_hold":
            try:
                await escrow.hold(account.escrow_account_id, "fees", 1, validate_only=True)
            except InsufficientAvailableBalance:
                return  # the account takes holds, and has nothing to hold


@pytest.mark.parametrize("status", ["ACTIVE", "FROZEN", "CLOSED", "with money"])
async def test_an_action_is_allowed_where_its_write_goes_through(escrow, status):
    """But for a move to the status the account has already: that is no refusal, and nothing to offer either."""
    account = await escrow.open()
    if status == "with money":
        await escrow.post(account, ("cash", 5), ("fees", -5))
    elif status == "FROZEN":
        await escrow.freeze(account)
    elif status == "CLOSED":
        await escrow.call("CloseEscrowAccount", pb.CloseEscrowAccountRequest(escrow_account_id=account))
    found = await get(escrow, account)
    unmoved = {"FROZEN": set(), "CLOSED": {"close"}}.get(status, {"unfreeze"})
    for action in ("update", "change_custodian", "freeze", "unfreeze", "close", "place_hold", "post_journal_entry"):
        try:
            await try_action(escrow, action, found, escrow.admin)
            went_through = action not in unmoved
        except DomainError:
            went_through = False
        assert went_through == (action in found.allowed_actions), action


async def test_an_action_is_allowed_to_whom_the_contract_allows_it(escrow):
    account = await escrow.open()
    sponsor, auditor = (Principal(f"{role}-1", role, escrow.org_id) for role in ("sponsor", "auditor"))
    assert list((await get(escrow, account, sponsor)).allowed_actions) == ["update"]
    assert list((await get(escrow, account, auditor)).allowed_actions) == []


async def test_accounts_are_found_by_ids_external_id_sponsor_and_time(escrow):
    made = []
    for number in range(4):
        request = pb.CreateEscrowAccountRequest(
            idempotency_key=key(),
            display_name=f"Account {number}",
            currency_code="USD",
            sponsor_party_id=f"sponsor-{number % 3}",
            custodian_name="First",
            external_id=f"ours-{number % 2}",
        )
        made.append(await escrow.call("CreateEscrowAccount", request))
        await escrow.pass_time(minutes=1)

    async def names(**filters: Any) -> list[str]:
        answer = await escrow.call("ListEscrowAccounts", pb.ListEscrowAccountsRequest(**filters))
        assert all(not found.allowed_actions for found in answer.escrow_accounts)
        return [found.display_name[-1] for found in answer.escrow_accounts]

    assert await names() == ["3", "2", "1", "0"]
    assert await names(order=Sort.OLDEST_FIRST, page_size=3) == ["0", "1", "2"]
    assert await names(ids=[made[2].escrow_account_id, made[0].escrow_account_id]) == ["2", "0"]
    assert await names(external_id=["ours-1"]) == ["3", "1"]
    assert await names(sponsor_party_id=["sponsor-0", "sponsor-2"]) == ["3", "2", "0"]
    assert await names(from_time=made[1].create_time, to_time=made[3].create_time) == ["2", "1"]
