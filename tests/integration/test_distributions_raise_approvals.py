"""Nobody alone: what closes, gives back or sends again is decided by another person, who gains nothing from it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1 import notary_pb2
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.transactions.v1 import transactions_pb2 as tpb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.wire import to_timestamp
from services.chassis.data.database import Database
from services.chassis.values import stops
from services.chassis.values.approval_policy import ApprovalPolicy, ApprovalRule
from services.chassis.values.ids import new_id
from services.escrow.clients import DistributionsClient
from tests.support.approvals import effects_of, gates_of
from tests.support.distributions import CLOSING, START, DistributionsHarness, refusal_of
from tests.support.money import usd
from tests.support.peers.transactions import fail_payout
from tests.support.peers.wire import Wire


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def full_offering(service: DistributionsHarness) -> opb.Offering:
    """Opened by `admin-1` for `sponsor-1`, funded, and its deadline is over."""
    offering = await service.offering(150_00)
    await service.invest(offering, "inv-001", 100_00)
    await service.invest(offering, "inv-002", 50_00)
    service.clock.set(CLOSING)
    return offering


async def closing_soon(service: DistributionsHarness) -> opb.Offering:
    """Under an exemption that lets it close before its deadline."""
    offering = await service.offering(150_00, exemption=opb.Offering.REG_D_506B)
    await service.invest(offering, "inv-001", 150_00)
    return offering


async def move_deadline(service: DistributionsHarness, offering: opb.Offering, days: int, person: str) -> None:
    request = opb.UpdateOfferingRequest(
        offering_id=offering.offering_id,
        deadline_time=to_timestamp(START + timedelta(days=days)),
        update_mask=FieldMask(paths=["deadline_time"]),
        etag=(await service.get(offering)).etag,
    )
    await service.call(service.offerings.UpdateOffering, request, person)


async def ask_to_close(service: DistributionsHarness, offering: opb.Offering, person: str = "admin-3") -> Approval:
    request = opb.CloseOfferingRequest(offering_id=offering.offering_id)
    return await service.ask(service.offerings.CloseOffering, request, person)


async def test_a_closing_is_asked_for_shown_whole_and_done_once_another_person_approves(
    service: DistributionsHarness,
) -> None:
    offering = await full_offering(service)
    approval = await ask_to_close(service, offering)
    assert (await service.get(offering)).status == opb.Offering.OPEN, "nothing has happened"
    read = await service.read_approval(approval.approval_id)
    assert (read.kind, read.amount.amount_minor, set(read.makers)) == ("CLOSE_OFFERING", 150_00, {"admin-1", "admin-3"})
    assert list(read.beneficiary_party_ids) == ["sponsor-1"]
    assert {"TARGET_REACHED", "INVESTORS_CLEARED", "ESCROW_BALANCED"} <= set(gates_of(read, "open"))
    assert effects_of(read) == {"SUBSCRIPTION": (150_00, 0), "ISSUER_PROCEEDS": (0, 150_00)}
    done = await service.grant(read)
    assert (done.status, done.result_id) == (Approval.EXECUTED, offering.offering_id)
    await service.work()
    assert (await service.get(offering)).status == opb.Offering.CLOSED
    assert service.wire.persons["ReleaseSubscriptions"] == "admin-3", "in the name of its maker"


async def test_where_the_rules_want_two_to_approve_a_closing_the_notary_hears_both_before_it_is_done(
    service: DistributionsHarness,
) -> None:
    offering = await full_offering(service)
    rule = ApprovalRule(kinds={"CLOSE_OFFERING"}, currency_code="USD", amount_minor_from=150_00, approvers_needed=2)
    service.database.policy = ApprovalPolicy(all_organizations=(rule,))
    approval = await ask_to_close(service, offering)
    first = await service.grant(approval, "admin-2")
    assert (first.status, (await service.get(offering)).status) == (Approval.PENDING, opb.Offering.OPEN)
    done = await service.grant(first, "admin-4")
    assert (done.status, [each.approved_by for each in done.approvers]) == (Approval.EXECUTED, ["admin-2", "admin-4"])
    heard = [type(each) for each in service.compliance.said]
    assert heard == [notary_pb2.RecordRequestRequest, *[notary_pb2.RecordApprovalRequest] * 2]
    assert (await service.get(offering)).status == opb.Offering.CLOSING


async def test_what_the_gates_refuse_is_not_asked_for(service: DistributionsHarness) -> None:
    offering = await service.offering(150_00)
    assert await refusal_of(ask_to_close(service, offering)) == "CLOSING_GATES_NOT_MET"


async def test_a_gate_that_shut_after_the_asking_keeps_the_offering_open(service: DistributionsHarness) -> None:
    offering = await full_offering(service)
    approval = await ask_to_close(service, offering)
    service.escrow.balanced = False
    done = await service.grant(approval)
    assert (done.status, done.failure.code) == (Approval.FAILED, "CLOSING_GATES_NOT_MET")
    assert (await service.get(offering)).status == opb.Offering.OPEN


@pytest.mark.parametrize(
    ("person", "verdict"),
    [
        ("admin-3", "MAKER_IS_CHECKER"),  # asks for it
        ("admin-1", "MAKER_IS_CHECKER"),  # opened the offering
        ("editor", "MAKER_IS_CHECKER"),  # moved its deadline
        ("sponsor-staff", "BENEFICIARY_IS_CHECKER"),
        ("admin-2", None),
    ],
)
async def test_who_may_approve_a_closing(service: DistributionsHarness, person: str, verdict: str | None) -> None:
    offering = await service.offering(150_00)
    await service.invest(offering, "inv-001", 150_00)
    await move_deadline(service, offering, 50, "editor")
    service.clock.set(CLOSING)
    service.persons.parties["sponsor-staff"] = frozenset({"sponsor-1"})
    approval = await ask_to_close(service, offering)
    if verdict is None:
        assert (await service.grant(approval, person)).status == Approval.EXECUTED
    else:
        assert await refusal_of(service.grant(approval, person)) == verdict


async def offering_whose_proceeds_failed(service: DistributionsHarness) -> tuple[opb.Offering, str]:
    """Closed by "namer", and the bank account that they were to go to."""
    offering, account = await full_offering(service), service.transactions.add_bank_account("sponsor-1")
    request = opb.CloseOfferingRequest(offering_id=offering.offering_id, proceeds_bank_account_id=account)
    await service.call(service.offerings.CloseOffering, request, "namer")
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("sponsor-1")))
    return offering, account


async def test_who_named_the_account_of_the_proceeds_does_not_approve_that_they_are_paid_there_again(
    service: DistributionsHarness,
) -> None:
    offering, _ = await offering_whose_proceeds_failed(service)
    resend = opb.ResendProceedsRequest(offering_id=offering.offering_id)
    again = await service.ask(service.offerings.ResendProceeds, resend, "admin-3")
    assert {each.rule: each.statement for each in again.explanations}.items() >= {
        "LAST_ATTEMPT": "The last attempt came to nothing: DECLINED_BY_PROVIDER, R03 it is",
        "BANK_ACCOUNT": "It goes to the account of “Ann Lee” that ends in 6789, which is ACTIVE"
        " and was added 0 days ago by sponsor-1.",
        "AVAILABLE_BALANCE": "issuer proceeds has 150.00 USD available, and 150.00 USD would be taken from it.",
    }.items()
    assert effects_of(again) == {"ISSUER_PROCEEDS": (150_00, 0), "CASH": (150_00, 0)}
    assert await refusal_of(service.grant(again, "namer")) == "MAKER_IS_CHECKER"
    assert (await service.grant(again)).status == Approval.EXECUTED
    await service.work()
    assert service.wire.persons["BatchCreatePayouts"] == "admin-3", "on behalf of who asked for it now"


async def test_proceeds_are_sent_again_to_the_account_that_was_read_and_to_no_other(
    service: DistributionsHarness,
) -> None:
    offering, read = await offering_whose_proceeds_failed(service)
    resend = opb.ResendProceedsRequest(offering_id=offering.offering_id)
    waits = await service.ask(service.offerings.ResendProceeds, resend, "admin-3")
    assert [each.value for each in waits.preconditions] == ["BLOCK", read]
    resend.payment_method = tpb.Transaction.CHECK
    by_check = await service.ask(service.offerings.ResendProceeds, resend, "admin-5")
    assert [one.field for one in by_check.changes] == ["attempt"], "the account stays"
    other = service.transactions.add_bank_account("sponsor-1")
    resend = opb.ResendProceedsRequest(offering_id=offering.offering_id, bank_account_id=other)
    await service.grant(await service.ask(service.offerings.ResendProceeds, resend, "admin-4"))
    await service.work()
    await service.deliver(fail_payout(service.transactions.newest("sponsor-1")))
    assert await refusal_of(service.grant(waits)) == "CONTENT_OUTDATED"


async def test_staff_sends_a_refund_again_together_and_an_investor_its_own_at_once(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_00), ("inv-002", 100_00))
    held = await service.positions(offering)
    for name in ("inv-001", "inv-002"):
        await service.fund(offering, held[name], 5_00)  # too late, so it goes back
        await service.work()
        payout = service.transactions.newest(name)
        # That it came back is told before it is booked: what is owed does not depend on the order.
        await service.deliver(service.gave_back(payout), fail_payout(payout))
    to = service.transactions.add_bank_account("inv-001")
    request = opb.ResendRefundRequest(investment_id=held["inv-001"].investment_id, bank_account_id=to)
    approval = await service.ask(service.investments.ResendRefund, request)
    statements = {each.rule: each.statement for each in approval.explanations}
    assert statements["BANK_ACCOUNT"].startswith("It goes to the account of “Ann Lee” that ends in 6789")
    assert (approval.amount.amount_minor, list(approval.beneficiary_party_ids)) == (5_00, ["inv-001"])
    assert (await service.get(held["inv-001"])).allowed_actions == ["resend_refund"], "nothing has happened"
    await service.grant(approval)
    assert not (await service.resend_refund(held["inv-002"], "inv-002", "investor")).HasField("refund_failure")
    await service.work()
    assert len(service.transactions.by_key) == 1 + 2 * 2  # the proceeds, and each refund twice


async def test_a_closing_that_names_no_account_does_not_speak_of_the_one_that_an_earlier_closing_named(
    service: DistributionsHarness,
) -> None:
    offering, named = await full_offering(service), service.transactions.add_bank_account("sponsor-1")
    request = opb.CloseOfferingRequest(offering_id=offering.offering_id, proceeds_bank_account_id=named)
    await service.call(service.offerings.CloseOffering, request, "namer")
    account = service.escrow.accounts[offering.escrow_account_id]
    account.status = EscrowAccount.FROZEN  # so escrow refuses the release
    await service.work()
    account.status = EscrowAccount.ACTIVE
    again = await ask_to_close(service, offering)
    [change] = [one for one in again.changes if one.field == "proceeds_bank_account_id"]
    assert (change.before, change.HasField("after")) == (named, False)
    await service.grant(again)
    await service.work()
    assert not service.transactions.newest("sponsor-1").bank_account_id


async def test_a_closing_that_escrow_refused_is_another_one_when_two_persons_close_again(
    service: DistributionsHarness,
) -> None:
    """Nothing else differs, and escrow answers one request as it did before: the second would be refused for ever."""
    offering = await full_offering(service)
    account = service.escrow.accounts[offering.escrow_account_id]
    for status in (EscrowAccount.FROZEN, EscrowAccount.ACTIVE):
        await service.grant(await ask_to_close(service, offering))
        account.status = status
        await service.work()
        account.status = EscrowAccount.ACTIVE
    assert (await service.get(offering)).status == opb.Offering.CLOSED
    first, second = (request.idempotency_key for request in service.wire.requests("ReleaseSubscriptions"))
    assert first != second
    said = [type(one).__name__ for one in service.compliance.said]
    once = ["RecordRequestRequest", "RecordApprovalRequest"]
    assert said == [*once, "RecordWithdrawalRequest", *once], "what came to nothing is not decided any more"


async def test_an_edit_takes_back_what_was_asked_on_what_was_before(service: DistributionsHarness) -> None:
    offering = await closing_soon(service)
    both = [await ask_to_close(service, offering, person) for person in ("admin-3", "admin-4")]
    await move_deadline(service, offering, 90, "editor")
    read = [await service.read_approval(approval.approval_id) for approval in both]
    assert [approval.status for approval in read] == [Approval.CANCELLED, Approval.CANCELLED]


async def test_one_person_cancels_closings_of_others_so_often_by_edits(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stops, "STOPS_MAX", 1)
    offering = await closing_soon(service)
    await ask_to_close(service, offering)
    await move_deadline(service, offering, 50, "editor")
    service.clock.advance(stops.STOPS_WITHIN)  # for the terms; what was cancelled is asked for again by then
    await move_deadline(service, offering, 51, "editor")  # nothing waits
    await ask_to_close(service, offering)
    assert await refusal_of(move_deadline(service, offering, 52, "editor")) == "TOO_MANY_STOPS"
    await move_deadline(service, offering, 53, "admin-3")  # what one asked for oneself
    await move_deadline(service, offering, 55, "admin-4")


async def test_nobody_takes_up_a_raise_again_that_its_deadline_has_ended(service: DistributionsHarness) -> None:
    offering = await full_offering(service)
    asked = await ask_to_close(service, offering)
    assert await refusal_of(move_deadline(service, offering, 100, "editor")) == "OFFERING_NOT_OPEN"
    assert (await service.read_approval(asked.approval_id)).status == Approval.PENDING


async def test_who_takes_back_a_closing_takes_back_nothing_of_who_asked_for_the_same(
    service: DistributionsHarness,
) -> None:
    offering = await full_offering(service)
    first, same = await ask_to_close(service, offering), await ask_to_close(service, offering, "admin-5")
    cancel = approvals_pb2.CancelApprovalRequest(approval_id=same.approval_id, etag=same.etag)
    await service.call(service.approvals.CancelApproval, cancel, "admin-5")
    assert (await service.grant(first)).status == Approval.EXECUTED


async def test_what_others_asked_for_as_well_is_over_once_two_approved_it(service: DistributionsHarness) -> None:
    offering = await full_offering(service)
    first, same = await ask_to_close(service, offering), await ask_to_close(service, offering, "admin-5")
    yes = (service.grant(first, "admin-2"), service.grant(same, "admin-3"))
    done = await asyncio.gather(*yes, return_exceptions=True)
    assert [each.status for each in done if isinstance(each, Approval)] == [Approval.EXECUTED]
    assert not [each for each in service.compliance.said if isinstance(each, notary_pb2.RecordWithdrawalRequest)]
    await service.work()
    assert (await service.get(offering)).status == opb.Offering.CLOSED


async def test_a_closing_that_failed_is_asked_for_anew_by_all_who_asked_for_the_same(
    service: DistributionsHarness,
) -> None:
    offering = await full_offering(service)
    first, same = await ask_to_close(service, offering), await ask_to_close(service, offering, "admin-5")
    service.escrow.balanced = False
    assert (await service.grant(first)).status == Approval.FAILED
    assert (await service.read_approval(same.approval_id)).status == Approval.CANCELLED
    service.escrow.balanced = True
    assert (await service.grant(await ask_to_close(service, offering, "admin-5"))).status == Approval.EXECUTED


async def test_who_asks_for_another_closing_ends_the_one_that_waits_openly_and_so_often(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notary takes what was asked for last for what is wanted."""
    monkeypatch.setattr(stops, "STOPS_MAX", 1)
    offering, account = await full_offering(service), service.transactions.add_bank_account("sponsor-1")

    async def ask_for_another(person: str) -> Approval:
        elsewhere = opb.CloseOfferingRequest(offering_id=offering.offering_id, proceeds_bank_account_id=account)
        return await service.ask(service.offerings.CloseOffering, elsewhere, person)

    first, same = await ask_to_close(service, offering), await ask_to_close(service, offering, "admin-5")
    other = await ask_for_another("admin-4")
    ended = [await service.read_approval(each.approval_id) for each in (first, same)]
    assert [(each.status, each.decided_by) for each in ended] == [(Approval.CANCELLED, "admin-4")] * 2
    again = await ask_to_close(service, offering)
    assert (await service.read_approval(other.approval_id)).status == Approval.CANCELLED
    heard = len(service.compliance.said)
    assert await refusal_of(ask_for_another("admin-4")) == "TOO_MANY_STOPS"
    assert len(service.compliance.said) == heard, "what waits goes on"
    assert (await service.grant(again)).status == Approval.EXECUTED


async def test_escrow_is_told_who_has_committed_whether_they_have_paid_or_not(service: DistributionsHarness) -> None:
    client = DistributionsClient(Wire("escrow").open_channel(service.commitments))
    offering, other = await service.offering(150_00, maximum_amount=usd(200_00)), await service.offering(150_00)
    await service.invest(offering, "inv-001", 100_00)
    withdrawn = await service.invest(offering, "inv-002", 50_00, fund=False)
    await service.invest(offering, "inv-003", 50_00, fund=False)
    found = []
    for takes_back in (False, True):
        if takes_back:
            request = opb.CancelInvestmentRequest(investment_id=withdrawn.investment_id)
            await service.call(service.investments.CancelInvestment, request)
        with service.as_("admin-1"):
            accounts = (offering.escrow_account_id, other.escrow_account_id, new_id("esc"))
            found += [set(await client.list_committed_parties(account)) for account in accounts]
    assert found == [{"inv-001", "inv-002", "inv-003"}, set(), set(), {"inv-001", "inv-003"}, set(), set()]


async def test_a_refund_of_all_waits_and_no_investor_approves_it(service: DistributionsHarness) -> None:
    offering = await service.offering(150_00, maximum_amount=usd(200_00))
    for name, minor in (("inv-001", 100_00), ("inv-002", 50_00), ("inv-003", 50_00)):
        await service.invest(offering, name, minor, fund=name != "inv-003")
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="The sale fell through.")
    approval = await service.ask(service.offerings.RefundOffering, request)
    # What the third one pays may be on its way.
    assert set(approval.beneficiary_party_ids) == {"inv-001", "inv-002", "inv-003"}
    assert effects_of(approval) == {"SUBSCRIPTION": (150_00, 0), "CASH": (150_00, 0)}
    [owed] = [each for each in approval.explanations if each.rule == "AMOUNTS_OWED"]
    assert owed.statement == "2 parties are owed their parts."
    assert [each.name for each in owed.operands] == ["inv-001", "inv-002"]
    for name in ("inv-002", "inv-003"):
        service.persons.parties["admin-2"] = frozenset({name})
        assert await refusal_of(service.grant(approval)) == "BENEFICIARY_IS_CHECKER"
    await service.grant(approval, "admin-3")
    await service.work()
    assert (await service.get(offering)).status == opb.Offering.REFUNDING
    assert service.wire.persons["BatchCreatePayouts"] == "admin-1"


async def test_what_all_gives_back_is_bound_to_what_is_in_each_and_not_to_the_sum(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(150_00, maximum_amount=usd(200_00))
    await service.invest(offering, "inv-001", 100_00)
    leaving = await service.invest(offering, "inv-002", 50_00)
    refund = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="The sale fell through.")
    to_refund = await service.ask(service.offerings.RefundOffering, refund)
    with service.as_("inv-002"):
        request = opb.CancelInvestmentRequest(investment_id=leaving.investment_id)
        await service.call(service.investments.CancelInvestment, request)
    await service.invest(offering, "inv-003", 50_00)
    assert await refusal_of(service.grant(to_refund)) == "CONTENT_OUTDATED"
    assert (await service.get(offering)).status == opb.Offering.OPEN


async def test_staff_cancels_an_investment_together_and_an_investor_its_own_at_once(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(150_00)
    theirs, own = [await service.invest(offering, name, 50_00) for name in ("inv-001", "inv-002")]
    request = opb.CancelInvestmentRequest(investment_id=theirs.investment_id)
    approval = await service.ask(service.investments.CancelInvestment, request)
    assert (await service.get(theirs)).allowed_actions == ["cancel"], "nothing has happened"
    assert (approval.amount.amount_minor, list(approval.beneficiary_party_ids)) == (50_00, ["inv-001"])
    await service.grant(approval)
    request = opb.CancelInvestmentRequest(investment_id=own.investment_id)
    await service.call(service.investments.CancelInvestment, request, "inv-002", "investor")
    await service.work()
    assert {payout.party_id for payout in service.transactions.by_key.values()} == {"inv-001", "inv-002"}
