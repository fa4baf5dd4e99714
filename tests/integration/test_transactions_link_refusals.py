"""What Link refuses, and leaves as it was: tokens that were used, accounts that are forbidden, people who may not; and
what somebody tries who has stolen a session."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from realco.transactions.v1 import bank_accounts_pb2 as pb

from services.chassis.calls.access import rule_of
from services.chassis.calls.answer import REPLAYED, answer_metadata, begin_answer
from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError, InvalidField, PermissionDenied, Unavailable
from services.chassis.values.refusals import PartyNotFound
from services.transactions.domain import bank_accounts
from services.transactions.domain.bank_accounts import NameMatch
from services.transactions.domain.linked_accounts import LinkedAccount
from services.transactions.domain.payments import PaymentStatus
from services.transactions.providers.plaid.links import PlaidLinks
from services.transactions.providers.protocols import LinkToken, OutcomeUnknown
from tests.integration.link_desk import OTHER, B, LinkDesk
from tests.integration.plaid_desk import CLIENT_ID, SECRET, read, sign_in
from tests.support.stand_ins import find_free_port
from tests.support.transactions import INVESTOR, ORG, TransactionsHarness

pytest_plugins = ("tests.integration.plaid_desk", "tests.integration.link_desk")
SPONSOR = Principal("gp-1", "sponsor", ORG)


@pytest.fixture
def service(link_desk: LinkDesk) -> TransactionsHarness:
    return link_desk.service


async def refused(service: TransactionsHarness, request: Any, principal: Principal = INVESTOR) -> DomainError:
    rpc = "CreateLinkToken" if isinstance(request, pb.CreateLinkTokenRequest) else "LinkBankAccount"
    with pytest.raises(DomainError) as refusal:
        await service.ask(principal, rpc, request)
    return refusal.value


class MemoryLinks:
    """A bank that says what a test wants, and keeps what it was asked."""

    def __init__(self, answer: LinkedAccount | Exception) -> None:
        self.answer, self.asked = answer, list[tuple[str, str, str]]()

    async def create_link_token(self, party_id: str) -> LinkToken:
        raise OutcomeUnknown("it is away")

    async def read_account(self, public_token: str, provider_account_id: str, legal_name: str) -> LinkedAccount:
        self.asked.append((public_token, provider_account_id, legal_name))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


A_LINK = LinkedAccount("110000000", "12345678", "CHECKING", NameMatch.MATCHES)


async def test_a_link_token_is_good_for_the_party_of_who_asks(link_desk: LinkDesk, service, plaid_books) -> None:
    token = await service.ask(INVESTOR, "CreateLinkToken", pb.CreateLinkTokenRequest())
    assert read(plaid_books, token.link_token)["_asked"]["user"] == {"client_user_id": "inv-001"}
    assert token.expire_time.ToDatetime() > datetime.now(UTC).replace(tzinfo=None)
    again = await service.ask(INVESTOR, "CreateLinkToken", pb.CreateLinkTokenRequest())
    assert again.link_token != token.link_token


@pytest.mark.parametrize("request_", [
    pb.CreateLinkTokenRequest(party_id="inv-002"),
    pb.LinkBankAccountRequest(idempotency_key="k", public_token="public-x-1", party_id="inv-002"),
])  # fmt: skip
async def test_nobody_signs_in_for_a_party_that_they_do_not_act_for(service: TransactionsHarness, request_) -> None:
    assert isinstance(await refused(service, request_), PartyNotFound)
    service.compliance.former["gp-1"] = {"inv-002"}
    assert isinstance(await refused(service, request_, SPONSOR), PermissionDenied)
    service.compliance.parties["gp-1"] = {"inv-002"}
    if isinstance(request_, pb.CreateLinkTokenRequest):
        assert (await service.ask(SPONSOR, "CreateLinkToken", request_)).link_token


async def test_staff_that_acts_for_a_party_links_its_account(link_desk: LinkDesk, service) -> None:
    service.compliance.parties["gp-1"] = {"inv-002"}
    account = await link_desk.link(principal=SPONSOR, party_id="inv-002")
    assert (account.party_id, account.created_by, account.status) == ("inv-002", "gp-1", B.ACTIVE)
    request = link_desk.build_request(sign_in(link_desk.url))
    assert isinstance(await refused(service, request, SPONSOR), InvalidField), "staff names the party"


@pytest.mark.parametrize("rpc", ["CreateLinkToken", "LinkBankAccount"])
def test_a_person_signs_in_at_a_bank_and_no_program_and_no_admin(rpc) -> None:
    rule = rule_of(f"realco.transactions.v1.BankAccountsService/{rpc}")
    assert (rule.persons_only, rule.roles) == (True, {"investor", "sponsor"})


async def test_where_link_is_not_set_up_the_setting_is_named(service_database) -> None:
    service = TransactionsHarness(await service_database("transactions"))
    link = pb.LinkBankAccountRequest(idempotency_key="k", public_token="public-x-1")
    for request in (pb.CreateLinkTokenRequest(), link):
        refusal = await refused(service, request)
        assert (refusal.reason, refusal.metadata) == ("BANK_LINKS_NOT_SET_UP", {"setting": "A_SETTING"})


async def test_a_public_token_that_was_used_is_refused_under_another_key_and_answered_under_its_own(
    link_desk: LinkDesk, service
) -> None:
    request = link_desk.build_request(sign_in(link_desk.url))
    made = await service.ask(INVESTOR, "LinkBankAccount", request)
    begin_answer()
    assert await service.ask(INVESTOR, "LinkBankAccount", request) == made
    assert REPLAYED in dict(answer_metadata())
    refusal = await refused(service, link_desk.build_request(request.public_token))
    assert (refusal.reason, set(refusal.fields)) == ("PUBLIC_TOKEN_NOT_USABLE", {"public_token"})
    other = link_desk.build_request(sign_in(link_desk.url), idempotency_key=request.idempotency_key)
    assert (await refused(service, other)).reason == "IDEMPOTENCY_KEY_REUSED"
    assert await link_desk.count() == 1


@pytest.mark.parametrize(
    ("user", "reason", "again", "field"),
    [
        ("user_credit_card", "LINKED_ACCOUNT_NOT_USABLE", "", "public_token"),
        ("user_loan_with_number", "LINKED_ACCOUNT_NOT_USABLE", "", "public_token"),
        ("user_bad_routing", "LINKED_ACCOUNT_NOT_USABLE", "", "public_token"),
        # A fault of the request leaves its key free; the public token is used up.
        ("user_several", "INVALID_FIELD", "PUBLIC_TOKEN_NOT_USABLE", "provider_account_id"),
    ],
)
async def test_an_account_that_cannot_be_used_is_refused_for_good_and_nothing_is_added(
    link_desk: LinkDesk, service, user, reason, again, field
) -> None:
    request = link_desk.build_request(sign_in(link_desk.url, user))
    refusal = await refused(service, request)
    assert (refusal.reason, set(refusal.fields)) == (reason, {field})
    assert (await refused(service, request)).reason == (again or reason)
    assert await link_desk.count() == 0


async def test_an_account_that_a_return_forbids_is_linked_by_nobody(link_desk: LinkDesk, service) -> None:
    account = await link_desk.link(number="9990001")
    request = await service.deposit_request("inv-001", "77", bank_account_id=account.bank_account_id)
    deposit = await service.ask(INVESTOR, "CreateTransaction", request)
    await service.work()
    service.bank.report(deposit.transaction_id, PaymentStatus.RETURNED, "R16", at=service.clock.now())
    await service.work(hurried=True)
    assert (await link_desk.get(account)).status == B.BLOCKED
    for principal in (INVESTOR, OTHER):
        again = link_desk.build_request(sign_in(link_desk.url, number="9990001"))
        refusal = await refused(service, again, principal)
        assert (refusal.reason, set(refusal.fields), refusal.metadata) == (
            "BANK_ACCOUNT_BLOCKED",
            {"public_token"},
            {},
        )


async def test_so_many_linked_accounts_of_a_party_wait_and_no_more(
    link_desk: LinkDesk, service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank_accounts, "PENDING_MAX", 1)
    await link_desk.link("user_other_name", "9990002")
    request = link_desk.build_request(sign_in(link_desk.url))
    assert (await refused(service, request)).reason == "TOO_MANY_BANK_ACCOUNTS"


async def test_a_rehearsal_says_what_would_be_and_adds_nothing(link_desk: LinkDesk, service) -> None:
    request = link_desk.build_request(sign_in(link_desk.url), validate_only=True)
    told = await service.ask(INVESTOR, "LinkBankAccount", request)
    assert (told.status, told.confirmation) == (B.ACTIVE, B.BANK)
    assert await link_desk.count() == 0


async def test_the_bank_is_asked_about_the_name_that_compliance_knows(service_database) -> None:
    links = MemoryLinks(A_LINK)
    service = TransactionsHarness(await service_database("transactions"), links=links)
    service.compliance.names["inv-001"] = "Ada Augusta Investor"
    service.compliance.parties["inv-001"] = {"inv-001"}
    request = pb.LinkBankAccountRequest(idempotency_key="k", public_token="public-x-1", provider_account_id="a")
    account = await service.ask(INVESTOR, "LinkBankAccount", request)
    assert links.asked == [("public-x-1", "a", "Ada Augusta Investor")]
    assert account.account_holder_name == "Ada Augusta Investor"
    await service.ask(INVESTOR, "LinkBankAccount", request)
    assert len(links.asked) == 1, "a repeated request asks nobody"


async def test_what_nobody_knows_is_no_refusal_and_adds_nothing(service_database) -> None:
    links = MemoryLinks(OutcomeUnknown("it is away"))
    service = TransactionsHarness(await service_database("transactions"), links=links)
    service.compliance.parties["inv-001"] = {"inv-001"}
    request = pb.LinkBankAccountRequest(idempotency_key="k", public_token="public-x-1")
    assert isinstance(await refused(service, request), Unavailable)
    assert isinstance(await refused(service, pb.CreateLinkTokenRequest()), Unavailable)
    service.wire.fail("GetPartyName", "lost")
    assert isinstance(await refused(service, request), Unavailable)
    assert len(links.asked) == 1, "the bank is asked once it is known for whom"
    links.answer = A_LINK
    assert (await service.ask(INVESTOR, "LinkBankAccount", request)).status == B.ACTIVE, "the key stayed free"


async def test_a_plaid_that_is_not_there_is_no_refusal(service_database) -> None:
    links = PlaidLinks(f"http://127.0.0.1:{find_free_port()}", CLIENT_ID, SECRET, client_name="x")
    service = TransactionsHarness(await service_database("transactions"), links=links)
    for request in (
        pb.CreateLinkTokenRequest(),
        pb.LinkBankAccountRequest(idempotency_key="k", public_token="public-x-1"),
    ):
        assert isinstance(await refused(service, request), Unavailable)
    await links.close()


async def test_an_account_is_linked_for_no_party_that_there_is_not(service: TransactionsHarness) -> None:
    service.compliance.unknown.add("inv-001")
    request = pb.LinkBankAccountRequest(idempotency_key="k", public_token="public-x-1")
    assert isinstance(await refused(service, request), PartyNotFound)


# --- somebody has taken over an investor's session ---


@pytest.mark.parametrize("takes_default_away", [False, True])
@pytest.mark.parametrize("user", ["user_other_name", "user_good"])
async def test_the_thief_of_a_session_links_an_account_and_no_cent_goes_there(
    link_desk: LinkDesk, service: TransactionsHarness, user, takes_default_away
) -> None:
    """Neither an own account of the thief's, nor one that was opened in the name of the victim."""
    own = await service.confirm(await service.bank_account("inv-001"))
    if takes_default_away:
        change = pb.UpdateBankAccountRequest(bank_account_id=own.bank_account_id, etag=own.etag)
        change.update_mask.paths.append("default_for_payouts")
        own = await service.ask(INVESTOR, "UpdateBankAccount", change)
    stolen = await link_desk.link(user, "6660001", default_for_payouts=True)
    assert stolen.status == B.PENDING
    service.owe("inv-001")
    by_default = await service.payout_to(None, "inv-001")
    await service.payout_to(stolen.bank_account_id, "inv-001")  # whoever could order one there
    service.clock.advance(bank_accounts.COOL_DOWN * 2)
    await service.work(hurried=True)
    paid = {order.bank_account_id for order in service.bank.orders}
    assert paid == (set() if takes_default_away else {own.bank_account_id})
    assert takes_default_away or by_default.bank_account_id == own.bank_account_id
    assert await service.events(stolen.bank_account_id) == ["BankAccountCreated"], "which tells the party"


async def test_the_thief_of_a_session_shows_a_public_token_of_their_own_and_the_bank_knows_another_name(
    link_desk: LinkDesk, service: TransactionsHarness
) -> None:
    """The first account of a party, which would be its default at once."""
    stolen = await link_desk.link("user_other_name", "6660002")
    assert (stolen.status, stolen.default_for_payouts) == (B.PENDING, True)
    assert "NOBODY" in await link_desk.read_dossier(stolen)
    service.owe("inv-001")
    assert (await service.payout_to(None, "inv-001")).failure.code == "NO_PAYOUT_BANK_ACCOUNT"


@pytest.mark.parametrize("change", ["the person was removed", "the sessions were ended"])
async def test_who_acts_for_the_party_no_more_when_the_bank_answers_has_added_nothing(
    link_desk: LinkDesk, service: TransactionsHarness, change: str
) -> None:
    principal = replace(INVESTOR, signed_in_at=int(service.clock.now().timestamp()) - 60)

    class SlowLinks(MemoryLinks):
        async def read_account(self, public_token: str, provider_account_id: str, legal_name: str) -> LinkedAccount:
            if change == "the person was removed":
                service.compliance.parties[principal.person] = set()
            else:
                service.compliance.ended[principal.person] = service.clock.now()
            return await super().read_account(public_token, provider_account_id, legal_name)

    object.__setattr__(service.dependencies.providers, "links", SlowLinks(A_LINK))
    request = link_desk.build_request("public-x-1")
    with pytest.raises(PermissionDenied):
        await service.ask(principal, "LinkBankAccount", request)
    assert await link_desk.count() == 0
