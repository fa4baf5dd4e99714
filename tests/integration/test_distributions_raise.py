"""Raising money: offerings, commitments, gates; and what keeps them apart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest
import sqlalchemy as sa
from google.protobuf.json_format import MessageToDict, ParseDict
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.escrow.v1.journal_pb2 import JournalEntry

from services.chassis.calls.wire import to_timestamp
from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.etags import EtagMismatch
from services.chassis.values.ids import new_id
from services.distributions.domain.closing import GateName
from services.escrow.clients import DistributionsClient
from tests.support.distributions import CLOSING, ORG, DistributionsHarness
from tests.support.money import usd
from tests.support.peers.wire import Wire


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


DEFAULT_TERMS = {
    "return_of_capital": {},
    "preferred_return": {"rate": "0.08"},
    "catch_up": {"sponsor_share": "1"},
    "split": {"sponsor_share": "0.3"},
}


def tiers(*tiers: str | tuple[str, dict[str, str]]) -> opb.WaterfallTerms:
    """Terms of these tiers: a kind, or a kind with its parameters."""
    terms = opb.WaterfallTerms()
    for tier in tiers:
        kind, parameters = (tier, {}) if isinstance(tier, str) else tier
        ParseDict({kind: parameters}, terms.tiers.add())
    return terms


def described(terms: opb.WaterfallTerms) -> dict[str, dict[str, str]]:
    """Kind -> parameters, in order."""
    return {
        kind: parameters
        for tier in terms.tiers
        for kind, parameters in MessageToDict(tier, preserving_proto_field_name=True).items()
    }


FROZEN, CLOSED = EscrowAccount.FROZEN, EscrowAccount.CLOSED


async def test_an_offering_opens_with_the_default_terms_on_an_account_of_its_own(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    assert described(offering.terms) == DEFAULT_TERMS
    assert (offering.status, offering.maximum_amount) == (opb.Offering.OPEN, usd(100_00))
    with pytest.raises(DomainError) as refusal:
        await service.offering(100_00, escrow_account_id=offering.escrow_account_id)
    assert refusal.value.reason == "ESCROW_ACCOUNT_IN_USE"
    assert refusal.value.metadata == {"escrow_account_id": offering.escrow_account_id}


@pytest.mark.parametrize(
    ("spoil", "reason", "field"),
    [
        (lambda account: setattr(account, "status", FROZEN), "ESCROW_ACCOUNT_FROZEN", "escrow_account_id"),
        (lambda account: setattr(account, "status", CLOSED), "ESCROW_ACCOUNT_CLOSED", "escrow_account_id"),
        (lambda account: setattr(account, "status", 99), "UNAVAILABLE", ""),  # of a newer release
        (
            lambda account: setattr(account, "currency_code", "EUR"),
            "CURRENCY_MISMATCH",
            "target_amount.currency_code",
        ),
        (lambda account: setattr(account, "sponsor_party_id", "sponsor-2"), "SPONSOR_MISMATCH", "sponsor_party_id"),
        (None, "ESCROW_ACCOUNT_NOT_FOUND", "escrow_account_id"),
    ],
)
async def test_an_offering_needs_an_active_escrow_account_of_its_currency_and_its_sponsor(
    service: DistributionsHarness,
    spoil: Callable[[EscrowAccount], None] | None,
    reason: str,
    field: str,
) -> None:
    account_id = service.escrow.open()
    if spoil is None:
        del service.escrow.accounts[account_id]
    else:
        spoil(service.escrow.accounts[account_id])
    with pytest.raises(DomainError) as refusal:
        await service.offering(100_00, escrow_account_id=account_id)
    assert (refusal.value.reason, "".join(refusal.value.fields)) == (reason, field)
    kind = Kind.NOT_FOUND if spoil is None else Kind.FAILED_PRECONDITION
    assert refusal.value.kind is (kind if field else Kind.UNAVAILABLE)
    if reason == "SPONSOR_MISMATCH":
        expected = {"escrow_account_id": account_id, "sponsor_party_id": "sponsor-2"}
        assert refusal.value.metadata == expected


async def test_what_the_terms_do_not_say_is_the_documented_default_and_never_zero(
    service: DistributionsHarness,
) -> None:
    said = tiers("return_of_capital", "preferred_return", ("catch_up", {"sponsor_share": "0.5"}), "split")
    offering = await service.offering(100_00, terms=said)
    assert described(offering.terms) == DEFAULT_TERMS | {"catch_up": {"sponsor_share": "0.5"}}
    zero = tiers("return_of_capital", ("preferred_return", {"rate": "0"}), ("split", {"sponsor_share": "0"}))
    assert described((await service.offering(100_00, terms=zero)).terms) == {
        "return_of_capital": {},
        "preferred_return": {"rate": "0"},
        "split": {"sponsor_share": "0"},
    }


async def test_terms_that_contradict_themselves_are_refused_by_field(service: DistributionsHarness) -> None:
    terms = tiers("return_of_capital", "preferred_return", ("catch_up", {"sponsor_share": "0.2"}), "split")
    with pytest.raises(DomainError) as refusal:
        await service.offering(100_00, terms=terms)
    assert (refusal.value.reason, list(refusal.value.fields)) == (
        "TERMS_INVALID",
        ["terms.tiers[2].catch_up.sponsor_share"],
    )


async def test_the_name_and_the_terms_change_until_somebody_invests(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    request = opb.UpdateOfferingRequest(offering_id=offering.offering_id, display_name="Elm Street")
    request.update_mask.paths.extend(["display_name", "terms"])
    request.etag = offering.etag
    request.terms.CopyFrom(tiers("return_of_capital", ("preferred_return", {"rate": "0.07"}), "split"))
    changed = await service.call(service.offerings.UpdateOffering, request)
    assert changed.display_name == "Elm Street"
    assert described(changed.terms)["preferred_return"] == {"rate": "0.07"}
    await service.invest(changed, "inv-001", 50_00, fund=False)
    request.idempotency_key = ""
    with pytest.raises(DomainError) as refusal:
        await service.call(service.offerings.UpdateOffering, request)
    assert refusal.value.reason == "ETAG_MISMATCH", "the first change changed what was read"
    request.idempotency_key, request.etag = "", (await service.get(offering)).etag
    with pytest.raises(DomainError) as refusal:
        await service.call(service.offerings.UpdateOffering, request)
    assert refusal.value.reason == "TERMS_FIXED"
    renamed = opb.UpdateOfferingRequest(offering_id=offering.offering_id, etag=request.etag, display_name="Oak Street")
    renamed.update_mask.paths.append("display_name")
    with pytest.raises(DomainError) as refusal:
        await service.call(service.offerings.UpdateOffering, renamed)
    assert (refusal.value.reason, list(refusal.value.fields)) == ("NAME_FIXED", ["display_name"])
    noted = opb.UpdateOfferingRequest(offering_id=offering.offering_id, etag=request.etag, external_id="crm-7")
    noted.update_mask.paths.append("external_id")
    assert (await service.call(service.offerings.UpdateOffering, noted)).external_id == "crm-7"


async def test_commitments_never_pass_the_maximum_however_many_come_at_once(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    answers = await asyncio.gather(
        *(service.invest(offering, f"inv-{n}", 30_00, fund=False) for n in range(8)), return_exceptions=True
    )
    full = [answer for answer in answers if isinstance(answer, DomainError)]
    assert len(full) == 5
    assert {(refusal.reason, refusal.metadata["remaining_minor"]) for refusal in full} == {("OFFERING_FULL", "1000")}
    assert (await service.get(offering)).committed_amount == usd(90_00)


async def test_a_request_repeated_gets_its_first_answer_and_another_body_is_refused(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    request = opb.CreateInvestmentRequest(
        idempotency_key="k-1", offering_id=offering.offering_id, party_id="inv-001", amount=usd(60_00)
    )
    first = await service.call(service.investments.CreateInvestment, request)
    assert await service.call(service.investments.CreateInvestment, request) == first
    assert (await service.get(offering)).committed_amount == usd(60_00)
    request.amount.amount_minor = 61_00
    with pytest.raises(DomainError) as refusal:
        await service.call(service.investments.CreateInvestment, request)
    assert refusal.value.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_a_closing_repeated_gets_its_first_answer_though_the_gates_say_otherwise_by_then(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 100_00)
    service.clock.set(CLOSING)
    request = opb.CloseOfferingRequest(idempotency_key="close-1", offering_id=offering.offering_id)
    first = await service.call(service.offerings.CloseOffering, request)
    await service.work()
    service.compliance.uncleared["inv-001"] = "OFAC is FAILED"
    assert await service.call(service.offerings.CloseOffering, request) == first


async def shut(service: DistributionsHarness, name: str) -> opb.Offering:
    """An offering on the closing day with one gate shut, and all others open."""
    fields = {}
    if name == "OPEN_21_DAYS":
        fields = {
            "open_time": to_timestamp(CLOSING - timedelta(days=20)),
            "deadline_time": to_timestamp(CLOSING - timedelta(minutes=1)),
        }
        service.clock.set(CLOSING - timedelta(days=20))
    if name == "CANCELLATION_WINDOW_OVER":
        fields = {"deadline_time": to_timestamp(CLOSING + timedelta(minutes=1))}
    offering = await service.offering(100_00, **fields)
    investment = await service.invest(offering, "inv-001", 100_00, fund=False)
    minor = {"TARGET_REACHED": 99_99, "WITHIN_MAXIMUM": offering.maximum_amount.amount_minor + 1}.get(name, 100_00)
    await service.fund(offering, investment, minor, clear=name != "RETURN_RISK_OVER")
    if name == "INVESTORS_CLEARED":
        service.compliance.uncleared["inv-001"] = "OFAC is FAILED"
    if name == "ESCROW_ACTIVE":
        service.escrow.accounts[offering.escrow_account_id].status = FROZEN
    if name == "SUBSCRIPTIONS_AVAILABLE":
        service.escrow.hold(offering.escrow_account_id, "subscription:inv-001", 1)
    if name == "RETURNS_RECOVERED":
        service.escrow.post(offering.escrow_account_id, JournalEntry.RETURN, "returns_receivable:inv-001", "cash", 1)
    if name == "PROVIDER_FEES_COVERED":
        service.escrow.post(offering.escrow_account_id, JournalEntry.PROVIDER_FEE, "provider_fees", "cash", 1)
    service.escrow.balanced = name != "ESCROW_BALANCED"
    if name == "BOOK_COUNTED":
        book = offering.escrow_account_id, JournalEntry.DEPOSIT, "cash", "distributable"
        service.in_order.lose(service.escrow.post(*book, 1))
        await service.deliver(service.escrow.post(*book, 1))
    service.clock.set(CLOSING)
    return offering


@pytest.mark.parametrize("name", [gate.value for gate in GateName])
async def test_each_gate_alone_keeps_the_offering_open_and_is_named(service: DistributionsHarness, name: str) -> None:
    offering = await shut(service, name)
    request = opb.GetClosingGatesRequest(offering_id=offering.offering_id)
    gates = await service.call(service.offerings.GetClosingGates, request)
    assert [gate.name for gate in gates.gates if not gate.passed] == [name]
    with pytest.raises(DomainError) as refusal:
        await service.close(offering)
    shut_for_now = ("OFFERING_NOT_COUNTED", ["wait_time"])
    said = shut_for_now if name == "BOOK_COUNTED" else ("CLOSING_GATES_NOT_MET", [name])
    assert (refusal.value.reason, list(refusal.value.metadata)) == said
    assert (await service.get(offering)).status == opb.Offering.OPEN
    assert len(service.wire.requests("ReleaseSubscriptions")) == 0


async def test_a_closing_that_cannot_ask_the_others_writes_nothing(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 100_00)
    service.clock.set(CLOSING)
    service.wire.fail("BatchGetClearances", "lost")
    with pytest.raises(DomainError) as refusal:
        await service.close(offering)
    assert refusal.value.reason == "UNAVAILABLE"
    await service.close(offering)


async def test_an_investor_sees_its_own_investments_and_another_organization_sees_nothing(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    mine = await service.invest(offering, "inv-001", 10_00)
    await service.invest(offering, "inv-002", 10_00)
    everything = opb.ListInvestmentsRequest()
    seen = await service.call(service.investments.ListInvestments, everything, "inv-001", "investor")
    assert [held.investment_id for held in seen.investments] == [mine.investment_id]
    one = opb.GetInvestmentRequest(investment_id=mine.investment_id)
    for person, role, org in (("inv-002", "investor", ORG), ("admin-9", "admin", "org-2")):
        with pytest.raises(DomainError) as refusal:
            await service.call(service.investments.GetInvestment, one, person, role, org)
        assert refusal.value.reason == "INVESTMENT_NOT_FOUND"
    elsewhere = await service.call(
        service.offerings.ListOfferings, opb.ListOfferingsRequest(), "admin-9", "admin", "org-2"
    )
    assert not elsewhere.offerings


async def test_lists_go_page_by_page_without_gaps_or_repetition(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    made = [(await service.invest(offering, f"inv-{n}", 1_00, fund=False)).investment_id for n in range(5)]
    request, found = opb.ListInvestmentsRequest(page_size=2, offering_id=[offering.offering_id]), []
    while True:
        page = await service.call(service.investments.ListInvestments, request)
        found += [held.investment_id for held in page.investments]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == made[::-1]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE offerings SET status = 'REFUNDED' WHERE status = 'OPEN'", "offerings does not move from OPEN"),
        (
            "UPDATE offerings SET committed_minor = maximum_minor + 1, version = version + 1",
            "offerings_not_over_committed",
        ),
        ("UPDATE investments SET status = 'COMPLETED' WHERE status = 'PENDING'", "investments does not move"),
        ("UPDATE distributions SET status = 'APPROVED'", "distributions does not move from DRAFT to APPROVED"),
        (
            "UPDATE distributions SET approved_by = created_by, version = version + 1",
            "distributions_maker_is_not_checker",
        ),
        ("UPDATE allocations SET amount_minor = amount_minor + 1", "permission denied"),
        ("UPDATE allocations SET lines = lines || lines", "amounts are not edited"),
        ("UPDATE moves SET to_status = 'CLOSED'", "permission denied"),
        ("DELETE FROM moves", "permission denied"),
    ],
)
async def test_the_database_refuses_what_must_not_be(service: DistributionsHarness, statement: str, why: str) -> None:
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 10_00, fund=False)
    closed = await service.closed_offering(("inv-001", 100_00))
    await service.calculate(await service.draft(closed, 10_00))
    with pytest.raises(asyncpg.PostgresError, match=why):
        async with service.database.begin(ORG) as tx:
            await tx.execute(sa.text(statement))


async def test_of_two_distributions_on_the_same_past_the_database_lets_one_be_declared(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 100_00))
    await service.approved(offering, 10_00)
    await service.approved(offering, 20_00)
    queued = "UPDATE distributions SET status = 'QUEUED', expires_at = NULL, version = version + 1"
    with pytest.raises(asyncpg.PostgresError, match="distributions_one_a_basis"):
        async with service.database.begin(ORG) as tx:
            await tx.execute(sa.text(queued))


async def test_a_distribution_needs_a_closed_offering_its_currency_and_a_date_after_what_is_reckoned(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    request = dpb.CreateDistributionRequest(
        offering_id=offering.offering_id, type=dpb.Distribution.SPECIAL, amount=usd(1_00)
    )

    async def refusal_of(request: dpb.CreateDistributionRequest) -> str:
        with pytest.raises(DomainError) as refusal:
            await service.call(service.distributions.CreateDistribution, request)
        return refusal.value.reason

    assert await refusal_of(request) == "OFFERING_NOT_CLOSED"
    closed = await service.closed_offering(("inv-001", 100_00))
    euros = dpb.CreateDistributionRequest(offering_id=closed.offering_id, type=dpb.Distribution.SPECIAL)
    euros.amount.currency_code, euros.amount.amount_minor = "EUR", 1_00
    assert await refusal_of(euros) == "CURRENCY_MISMATCH"
    same_day = dpb.CreateDistributionRequest(
        offering_id=closed.offering_id, type=dpb.Distribution.SPECIAL, amount=usd(1_00)
    )
    assert await refusal_of(same_day) == "DATE_OUT_OF_ORDER"
    same_day.distribution_date.year, same_day.distribution_date.month, same_day.distribution_date.day = 9999, 12, 31
    same_day.idempotency_key = ""
    assert await refusal_of(same_day) == "INVALID_FIELD"


async def test_who_edits_a_raise_need_not_wait_until_nobody_invests(service: DistributionsHarness) -> None:
    read = await service.offering(100_00)
    await service.invest(read, "inv-001", 10_00)
    request = opb.UpdateOfferingRequest(offering_id=read.offering_id, etag=read.etag, external_id="oak-2")
    request.update_mask.paths.append("external_id")
    noted = await service.call(service.offerings.UpdateOffering, request)
    assert (noted.external_id, noted.etag == read.etag) == ("oak-2", False)
    request.idempotency_key = ""
    with pytest.raises(EtagMismatch):
        await service.call(service.offerings.UpdateOffering, request)


async def test_escrow_is_told_which_raises_go_on_and_which_still_pay(service: DistributionsHarness) -> None:
    client = DistributionsClient(Wire("escrow").open_channel(service.commitments))
    opened = await service.offering(150_00)
    closed = await service.closed_offering(("inv-001", 100_00))
    with service.as_("admin-1"):
        found = [await client.list_open_offerings(each.escrow_account_id) for each in (closed, opened)]
    assert [list(each.offering_ids) for each in found] == [[], [opened.offering_id]]
    assert [list(each.paying_offering_ids) for each in found] == [[closed.offering_id], []]


async def test_escrow_is_told_whose_the_investments_of_an_account_are(service: DistributionsHarness) -> None:
    client = DistributionsClient(Wire("escrow").open_channel(service.commitments))
    offering, other = await service.offering(100_00), await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 10_00, fund=False)
    elsewhere = await service.invest(other, "inv-001", 10_00, fund=False)
    asked = [held.investment_id, elsewhere.investment_id, "inv_" + "0" * 26]
    with service.as_("admin-1"):
        found = await client.get_commitments(offering.escrow_account_id, asked)
        assert (await client.get_commitments(offering.escrow_account_id, [])).offering_id == offering.offering_id
        assert not (await client.get_commitments(new_id("esc"), asked)).HasField("offering_id")
    assert [(each.investment_id, each.party_id) for each in found.commitments] == [(held.investment_id, "inv-001")]
