"""Bank accounts by Plaid Link, asked with Plaid's own SDK of the stand-in; and answers that Plaid should not give."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from services.chassis.process.settings import ConfigurationError
from services.chassis.values.errors import InvalidField
from services.transactions.domain.bank_accounts import NameMatch
from services.transactions.domain.linked_accounts import LinkedAccount
from services.transactions.domain.refusals import LinkedAccountNotUsable, PublicTokenNotUsable
from services.transactions.providers.plaid.client import Refused
from services.transactions.providers.plaid.keys import check_link
from services.transactions.providers.plaid.links import PlaidLinks
from services.transactions.providers.protocols import LinksNotSetUp, OutcomeUnknown
from services.transactions.providers.registry import open_providers
from services.transactions.providers.settings import ProviderSettings
from tests.integration.plaid_desk import CLIENT_ID, SECRET, VAULT, list_open_items, read, sign_in
from tests.support.stand_ins import WEBHOOK_SECRET

pytest_plugins = ("tests.integration.plaid_desk",)

NAME = "Ada Investor"
NUMBER = "1111222233330000"


@pytest.fixture
async def links(plaid_url):
    adapter = PlaidLinks(plaid_url, CLIENT_ID, SECRET, client_name="RealCo", redirect_url="https://a.example/back")
    yield adapter
    await adapter.close()


async def test_link_is_opened_for_one_party_and_only_for_what_a_bank_itself_tells(links, plaid_books) -> None:
    token = await links.create_link_token("pty_1")
    assert token.expires_at - datetime.now(UTC) > timedelta(hours=3)
    asked = read(plaid_books, token.text)["_asked"]
    assert asked["user"] == {"client_user_id": "pty_1"}
    assert (asked["products"], asked["required_if_supported_products"]) == (["auth"], ["identity"])
    assert asked["redirect_uri"] == "https://a.example/back"
    assert {*asked["auth"].values()} == {False}, "nobody types a number there"


@pytest.mark.parametrize(
    ("user", "match", "more"),
    [
        ("user_good", NameMatch.MATCHES, {}),
        ("user_savings", NameMatch.MATCHES, {"account_type": "SAVINGS"}),
        ("user_strong_name", NameMatch.MATCHES, {}),
        ("user_similar_name", NameMatch.SIMILAR, {}),
        ("user_other_name", NameMatch.DIFFERS, {}),
        ("user_no_name", NameMatch.NOT_TOLD, {}),
        ("user_no_identity", NameMatch.NOT_TOLD, {}),
        ("user_typed", NameMatch.NOT_TOLD, {}),
        ("user_business", NameMatch.MATCHES, {"is_business": True}),
    ],
)
async def test_what_a_bank_says_is_told_and_our_access_ends(links, plaid_url, plaid_books, user, match, more) -> None:
    linked = await links.read_account(sign_in(plaid_url, user), "", NAME)
    values = {"account_type": "CHECKING", "name_match": match} | more
    assert linked == LinkedAccount(routing_number="110000000", account_number=NUMBER, **values)
    assert NUMBER not in repr(linked)
    assert list_open_items(plaid_books) == []


async def test_a_number_that_is_a_token_is_told_as_one(links, plaid_url) -> None:
    linked = await links.read_account(sign_in(plaid_url, "user_tokenized"), "", NAME)
    assert (linked.is_token, linked.name_match) == (True, NameMatch.MATCHES)


@pytest.mark.parametrize(
    "user",
    [
        *("user_credit_card", "user_loan_with_number", "user_money_market"),
        *("user_bad_routing", "user_bad_number", "user_no_number"),
    ],
)
async def test_an_account_that_no_ach_goes_to_is_refused_and_our_access_ends(
    links, plaid_url, plaid_books, user
) -> None:
    with pytest.raises(LinkedAccountNotUsable):
        await links.read_account(sign_in(plaid_url, user), "", NAME)
    assert list_open_items(plaid_books) == []


@pytest.mark.parametrize("named", ["", "another-account"])
async def test_who_chose_several_accounts_names_one_of_them(links, plaid_url, plaid_books, named) -> None:
    with pytest.raises(InvalidField) as refusal:
        await links.read_account(sign_in(plaid_url, "user_several"), named, NAME)
    assert set(refusal.value.fields) == {"provider_account_id"}
    assert list_open_items(plaid_books) == []
    token = sign_in(plaid_url, "user_several")
    saving = read(plaid_books, token)["_accounts"][1]["id"]
    linked = await links.read_account(token, saving, NAME)
    assert (linked.account_type, linked.account_number) == ("SAVINGS", "1111222233331111")


async def test_a_public_token_that_is_none_any_more_is_refused_for_certain(links, plaid_url) -> None:
    token = sign_in(plaid_url)
    await links.read_account(token, "", NAME)
    for refused in (token, "public-sandbox-none"):
        with pytest.raises(PublicTokenNotUsable):
            await links.read_account(refused, "", NAME)


# --- what Plaid should not answer ---

GOOD: Mapping[str, Any] = {
    "item_public_token_exchange": {"access_token": "access-1", "item_id": "item-1"},
    "auth_get": {
        "accounts": [{"account_id": "a", "type": "depository", "subtype": "checking", "mask": "0000"}],
        "numbers": {"ach": [{"account_id": "a", "routing": "110000000", "account": NUMBER}]},
        "item": {"auth_method": "INSTANT_AUTH"},
    },
    "identity_match": {"accounts": [{"account_id": "a", "legal_name": {"score": 100}}]},
    "item_remove": {},
}


class Answering(PlaidLinks):
    """Asks nobody: what Plaid answers to each call is given, or why there is no answer."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__("http://127.0.0.1:9", CLIENT_ID, SECRET, client_name="x")
        self._answers, self.asked = {**GOOD, **answers}, list[str]()

    async def _call(self, ask: Any, asked: Any) -> dict[str, Any]:
        self.asked.append(ask.__name__)
        answer = self._answers[ask.__name__]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


def change(call: str, path: str, value: Any) -> dict[str, Any]:
    """The good answers, but for one value of one of them."""

    def put(inside: Any, names: list[str]) -> Any:
        if not names:
            return value
        first, *rest = names
        if isinstance(inside, list):
            return [put(each, rest) if str(number) == first else each for number, each in enumerate(inside)]
        return {**inside, first: put(inside.get(first), rest)}

    return {call: put(GOOD[call], path.split("."))}


async def test_the_good_answers_are_good() -> None:
    links = Answering({})
    assert (await links.read_account("public-x-1", "", NAME)).name_match is NameMatch.MATCHES
    assert links.asked == ["item_public_token_exchange", "auth_get", "identity_match", "item_remove"]


ACCOUNT, ACH = GOOD["auth_get"]["accounts"][0], GOOD["auth_get"]["numbers"]["ach"][0]


@pytest.mark.parametrize(
    ("answers", "refusal"),
    [
        (change("auth_get", "accounts", []), LinkedAccountNotUsable),
        (change("auth_get", "accounts", [ACCOUNT, ACCOUNT]), LinkedAccountNotUsable),
        (change("auth_get", "numbers.ach", []), LinkedAccountNotUsable),
        (change("auth_get", "numbers.ach.0.account_id", "b"), LinkedAccountNotUsable),
        (change("auth_get", "numbers.ach", [ACH, {**ACH, "account": "99999999"}]), LinkedAccountNotUsable),
        (change("auth_get", "numbers.ach.0.routing", "11000000a"), LinkedAccountNotUsable),
        (change("auth_get", "numbers.ach.0.routing", "\u0661" * 9), LinkedAccountNotUsable),
        (change("auth_get", "numbers.ach.0.account", "123"), LinkedAccountNotUsable),
        (change("auth_get", "numbers.ach.0.account", "\u0661" * 9), LinkedAccountNotUsable),
        (change("auth_get", "accounts.0.type", "credit"), LinkedAccountNotUsable),
        (change("auth_get", "accounts.0.subtype", "paypal"), LinkedAccountNotUsable),
        ({"auth_get": {}}, OutcomeUnknown),
        (change("auth_get", "accounts", None), OutcomeUnknown),
        ({"auth_get": OutcomeUnknown("500")}, OutcomeUnknown),
        ({"identity_match": OutcomeUnknown("500")}, OutcomeUnknown),
    ],
)
async def test_an_answer_that_says_another_account_adds_none_and_our_access_ends(answers, refusal) -> None:
    links = Answering(answers)
    with pytest.raises(refusal):
        await links.read_account("public-x-1", "", NAME)
    assert links.asked[-1] == "item_remove"


@pytest.mark.parametrize(
    ("answers", "match", "is_token"),
    [
        (change("identity_match", "accounts.0.account_id", "b"), NameMatch.NOT_TOLD, False),
        (change("identity_match", "accounts", [GOOD["identity_match"]["accounts"][0]] * 2), NameMatch.NOT_TOLD, False),
        (change("identity_match", "accounts.0.legal_name", None), NameMatch.NOT_TOLD, False),
        (change("identity_match", "accounts.0.legal_name.score", True), NameMatch.NOT_TOLD, False),
        (change("identity_match", "accounts.0.legal_name.score", "100"), NameMatch.NOT_TOLD, False),
        (change("identity_match", "accounts.0.legal_name.score", 1000), NameMatch.NOT_TOLD, False),
        ({"identity_match": {}}, NameMatch.NOT_TOLD, False),
        (change("auth_get", "item.auth_method", "INSTANT_MATCH"), NameMatch.NOT_TOLD, False),
        (change("auth_get", "item.auth_method", None), NameMatch.NOT_TOLD, False),
        (change("auth_get", "accounts.0.verification_status", "pending"), NameMatch.NOT_TOLD, False),
        (change("auth_get", "accounts.0.mask", "9999"), NameMatch.MATCHES, True),
        (change("auth_get", "accounts.0.mask", None), NameMatch.MATCHES, True),
    ],
)
async def test_what_a_bank_does_not_say_for_certain_is_no_match_and_no_number_of_its_own(
    answers, match, is_token
) -> None:
    linked = await Answering(answers).read_account("public-x-1", "", NAME)
    assert (linked.name_match, linked.is_token) == (match, is_token)


@pytest.mark.parametrize("access_token", [None, "", 7])
async def test_an_exchange_without_an_access_token_is_no_answer(access_token) -> None:
    links = Answering(change("item_public_token_exchange", "access_token", access_token))
    with pytest.raises(OutcomeUnknown):
        await links.read_account("public-x-1", "", NAME)
    assert links.asked == ["item_public_token_exchange"]


async def test_an_access_that_does_not_end_is_told_and_forgotten_and_the_account_read() -> None:
    links = Answering({"item_remove": OutcomeUnknown("500")})
    with capture_logs() as logged:
        assert (await links.read_account("public-x-1", "", NAME)).account_number == NUMBER
    assert links.asked.count("item_remove") == 3
    assert [(line["event"], line["item_id"]) for line in logged] == [("bank_access_not_removed", "item-1")]
    assert "access-1" not in str(logged)


@pytest.mark.parametrize(
    ("name", "url", "is_taken"),
    [
        ("RealCo", "", True),
        ("RealCo", "https://app.example/link", True),
        ("RealCo", "http://127.0.0.1:3000/link", True),
        ("RealCo", "http://app.example/link", False),
        ("RealCo", "https://app.example/link?a=1", False),
        ("RealCo", "app.example", False),
        ("", "", False),
        ("R" * 31, "", False),
    ],
)
def test_a_bank_sends_its_customers_back_to_a_page_that_nobody_else_reads(name, url, is_taken) -> None:
    if is_taken:
        check_link(name, url)
        return
    with pytest.raises(ConfigurationError):
        check_link(name, url)


async def test_link_comes_with_the_secret_and_without_it_names_the_setting() -> None:
    there: dict[str, Any] = {"plaid_base_url": "http://127.0.0.1:9", "plaid_client_id": CLIENT_ID}
    there |= {"sandbox_bank_url": "http://127.0.0.1:9", "sandbox_bank_webhook_secret": SecretStr(WEBHOOK_SECRET)}
    for secret, kind in ((SECRET, PlaidLinks), ("", LinksNotSetUp)):
        settings = ProviderSettings(**there, plaid_secret=SecretStr(secret))
        async with open_providers(settings, None, None, VAULT) as providers:
            assert isinstance(providers.links, kind)
    assert providers.links == LinksNotSetUp("PLAID_SECRET")


async def test_a_link_token_that_plaid_refuses_is_an_operators_to_mend() -> None:
    links = Answering({"link_token_create": Refused("INVALID_FIELD")})
    with capture_logs() as logged, pytest.raises(OutcomeUnknown):
        await links.create_link_token("pty_1")
    assert [(line["event"], line["cause"]) for line in logged] == [("link_token_refused", "INVALID_FIELD")]


@pytest.mark.parametrize("token", [None, 7, "", "\ud800", "a\nb", "x" * 501])
async def test_a_link_token_that_no_page_could_be_told_is_no_answer(token) -> None:
    links = Answering({"link_token_create": {"link_token": token, "expiration": datetime.now(UTC)}})
    with pytest.raises(OutcomeUnknown):
        await links.create_link_token("pty_1")
