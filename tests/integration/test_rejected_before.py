"""Who said no is told when the same is asked for anew as another resource, or with other numbers: of the book, of
distributions and offerings, of parties and of API keys. Payments: test_transactions_rejections.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1 import api_keys_pb2, parties_pb2
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.database import Database
from services.chassis.values.ids import new_id
from tests.support.compliance import CHECKER, MAKER, ORG, ComplianceHarness
from tests.support.distributions import CLOSING, DistributionsHarness
from tests.support.escrow import Escrow, key, ledger_account, new_entry, usd
from tests.support.persons import Persons

Open = Callable[[str], Awaitable[Database]]
FEE = (("distributable", 500), ("suspense", -500))


def noes_of(waiting: Approval) -> list[str]:
    """What is told, from the words that say of what it was."""
    told = [each.statement for each in waiting.explanations if each.rule == "REJECTED_BEFORE"]
    return [each.partition(" asked for ")[2] for each in told]


def build_no(waiting: Approval) -> approvals_pb2.RejectApprovalRequest:
    read = {"approval_id": waiting.approval_id, "etag": waiting.etag}
    return approvals_pb2.RejectApprovalRequest(idempotency_key=new_id("key"), note="Wrong.", **read)


# --- the book ---------------------------------------------------------------------------------------------------------


async def ask(escrow: Escrow, request: Message) -> Approval:
    return await escrow.ask(request.DESCRIPTOR.name.removesuffix("Request"), request)


async def reject(escrow: Escrow, waiting: Approval) -> None:
    inbox = ApprovalsServicer(escrow.dependencies, escrow.approvals, Persons())
    with acting_as(replace(escrow.admin, subject="checker")):
        await inbox.RejectApproval(build_no(waiting), None)


def post(account: str, *legs: tuple[str, int], **values: Any) -> journal_pb.PostJournalEntryRequest:
    entry = new_entry(*legs, **values)
    return journal_pb.PostJournalEntryRequest(escrow_account_id=account, idempotency_key=key(), journal_entry=entry)


def post_in_a_batch(account: str, *legs: tuple[str, int]) -> journal_pb.BatchPostJournalEntriesRequest:
    items = [{"idempotency_key": key(), "journal_entry": new_entry(*legs)}]
    return journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)


async def test_an_entry_that_was_rejected_is_told_with_a_cent_more_with_other_legs_and_in_a_batch(
    escrow: Escrow,
) -> None:
    account, elsewhere = await escrow.open(), await escrow.open()
    for each in (account, elsewhere):
        await escrow.post(each, ("cash", 2000), ("distributable", -2000))
    first = await ask(escrow, post(account, *FEE))
    await reject(escrow, first)
    more = await ask(escrow, post(account, ("distributable", 501), ("suspense", -501)))
    like_it = f"what is like it, of 5.00 USD, “{first.summary.replace('“', chr(39)).replace('”', chr(39))}”: “Wrong.”."
    assert noes_of(more) == [like_it]
    beside = await ask(escrow, post(account, *FEE, ("distributable", 1), ("reserves", -1)))
    assert noes_of(beside) == [like_it]
    assert noes_of(await ask(escrow, post_in_a_batch(account, *FEE))) == [
        "what does the same, with another content: “Wrong.”."
    ]
    assert noes_of(await ask(escrow, post(elsewhere, *FEE))) == []


async def test_the_capture_that_was_rejected_is_told_of_another_hold_on_the_same_money(escrow: Escrow) -> None:
    account = await escrow.open()
    await escrow.post(account, ("cash", 2000), ("distributable", -1000), ("reserves", -1000))

    async def capture(name: str) -> Approval:
        hold = await escrow.hold(account, name, 500)
        request = holds_pb.CaptureHoldRequest(
            idempotency_key=key(),
            escrow_account_id=account,
            hold_id=hold.hold_id,
            to_ledger_account=ledger_account("fees"),
        )
        return await ask(escrow, request)

    await reject(escrow, await capture("distributable"))
    [told] = noes_of(await capture("distributable"))
    assert told.startswith("what is like it, “Capture 5.00 USD of a hold of 5.00 USD on distributable")
    assert noes_of(await capture("reserves")) == []


# --- distributions and offerings --------------------------------------------------------------------------------------


async def test_a_distribution_that_was_rejected_is_told_when_it_is_drafted_anew(service_database: Open) -> None:
    service = DistributionsHarness(await service_database("distributions"))
    other = await service.offering(100_00)
    await service.invest(other, "inv-001", 100_00)
    offering = await service.closed_offering(("inv-001", 100_00), ("inv-002", 50_00))
    await service.close(other)
    await service.work()

    async def submit(minor: int, on: date = date(2026, 1, 1)) -> Approval:
        drafted = await service.draft(offering, minor, on)
        submitted = await service.submit(await service.calculate(drafted))
        return await service.find_approval(submitted.distribution_id)

    first = await submit(30_00)
    await service.decline(first)
    assert noes_of(await submit(30_00)) == [f"the same, as {first.resource_id}: “no”."]
    [told] = noes_of(await submit(30_01))
    assert told.startswith("what is like it, of 30.00 USD, “Distribute 30.00 USD of ")
    submitted = await service.submit(await service.calculate(await service.draft(other, 30_00)))
    assert noes_of(await service.find_approval(submitted.distribution_id)) == []
    assert noes_of(await submit(30_00, date(2026, 2, 1))) == []


async def test_a_closing_that_was_rejected_is_told_after_more_was_paid_in(service_database: Open) -> None:
    service = DistributionsHarness(await service_database("distributions"))
    offering = await service.offering(100_00, maximum_amount=usd(200_00))
    await service.invest(offering, "inv-001", 100_00)
    late = await service.invest(offering, "inv-002", 1_00, fund=False)
    service.clock.set(CLOSING)

    async def close() -> Approval:
        request = opb.CloseOfferingRequest(offering_id=offering.offering_id)
        asked = await service.ask(service.offerings.CloseOffering, request)
        return await service.read_approval(asked.approval_id)

    await service.decline(await close())
    await service.fund(offering, late, 1_00)
    [told] = noes_of(await close())
    assert told.startswith("what is like it, of 100.00 USD, “Close ")


# --- parties and API keys ---------------------------------------------------------------------------------------------


class Desk(ComplianceHarness):
    async def read(self, resource_id: str) -> Approval:
        with acting_as(CHECKER):
            listed = await self.inbox.ListApprovals(
                approvals_pb2.ListApprovalsRequest(resource_id=[resource_id], status=["PENDING"]), None
            )
            asked = approvals_pb2.GetApprovalRequest(approval_id=listed.approvals[0].approval_id)
            return await self.inbox.GetApproval(asked, None)

    async def reject(self, waiting: Approval) -> None:
        with acting_as(CHECKER):
            await self.inbox.RejectApproval(build_no(waiting), None)

    async def ask_for_person(self, person: str) -> Approval:
        request = parties_pb2.AddPartyPersonRequest(party_id=self.party_id, person_id=person)
        with acting_as(MAKER):
            return (await self.parties.AddPartyPerson(request, None)).approval

    async def ask_for_key(self, who: Principal, display_name: str, *scopes: Any) -> Approval:
        expire_time = Timestamp()
        expire_time.FromDatetime(self.clock.now() + timedelta(days=30))
        request = api_keys_pb2.CreateApiKeyRequest(
            idempotency_key=new_id("key"), display_name=display_name, scopes=scopes, expire_time=expire_time
        )
        with acting_as(who):
            issued = await self.api_keys.CreateApiKey(request, None)
        return await self.read(issued.api_key.api_key_id)


@pytest.fixture
async def desk(service_database: Open) -> Desk:
    return Desk(await service_database("compliance"))


async def test_a_check_that_was_rejected_is_told_when_it_is_asked_anew(desk: Desk) -> None:
    await desk.create()
    waiting = {each.type: each for each in await desk.waiting(desk.party_id)}
    for check in waiting.values():
        await desk.reject(await desk.read(check.compliance_check_id))
    await desk.update(legal_name="Ada Parks")
    again = await desk.waiting(desk.party_id)
    assert {each.type for each in again} == {*waiting}
    for check in again:
        [told] = noes_of(await desk.read(check.compliance_check_id))
        assert told.startswith("what is like it, “Pass ")
        assert told.endswith(f" of {desk.party_id}”: “Wrong.”.")


async def test_a_person_whom_somebody_kept_from_a_party_is_told_and_no_other_person(desk: Desk) -> None:
    await desk.create()
    await desk.reject(await desk.ask_for_person("zoe"))
    assert noes_of(await desk.ask_for_person("zoe")) == ["just this: “Wrong.”."]
    assert noes_of(await desk.ask_for_person("yan")) == []


async def test_an_api_key_that_was_rejected_is_told_when_its_holder_makes_another(desk: Desk) -> None:
    reads, writes = api_keys_pb2.ApiKey.COMPLIANCE_READ, api_keys_pb2.ApiKey.COMPLIANCE_WRITE
    holder = Principal(MAKER.subject, "admin", ORG)
    await desk.reject(await desk.ask_for_key(holder, "ERP", reads, writes))
    [told] = noes_of(await desk.ask_for_key(holder, "Books", reads))
    assert "with the key 'ERP'”: “Wrong.”." in told
    assert noes_of(await desk.ask_for_key(Principal("admin-3", "admin", ORG), "ERP", reads)) == []
