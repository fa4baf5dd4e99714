"""Bank accounts by Plaid Link: a person signs in to the bank, Plaid is asked once for the number and for whether the
name is right, and then the access ends. Nobody keeps a token with which the bank could be asked again.

What Plaid says is looked at as what anybody says: of which account, of what type, with which digits; and whether the
bank said it, or somebody typed it at Plaid. Source: plaid.com/docs/auth, plaid.com/docs/identity.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from plaid.model.auth_get_request import AuthGetRequest
from plaid.model.country_code import CountryCode
from plaid.model.identity_match_request import IdentityMatchRequest
from plaid.model.identity_match_user import IdentityMatchUser
from plaid.model.item_public_token_exchange_request import ItemPublicTokenExchangeRequest
from plaid.model.item_remove_request import ItemRemoveRequest
from plaid.model.link_token_create_request import LinkTokenCreateRequest
from plaid.model.link_token_create_request_auth import LinkTokenCreateRequestAuth
from plaid.model.link_token_create_request_user import LinkTokenCreateRequestUser
from plaid.model.products import Products

from services.chassis.process.telemetry import log
from services.chassis.values.errors import InvalidField
from services.chassis.values.payment_numbers import has_aba_digit
from services.transactions.domain.bank_accounts import NameMatch
from services.transactions.domain.linked_accounts import LinkedAccount
from services.transactions.domain.refusals import LinkedAccountNotUsable, PublicTokenNotUsable
from services.transactions.providers.plaid.client import PlaidClient, Refused
from services.transactions.providers.protocols import LinkToken, OutcomeUnknown, ask_provider

# Plaid's scores of names: 100 is the same, 85 and more a strong match, 70 and more a partial one, below that none. It
# calls 70 usual; here no person looks at it any more. A house rule.
# Source: plaid.com/docs/api/products/identity, legal_name.score.
NAME_SCORE_MIN: Final = 85
_SIMILAR_SCORE_MIN: Final = 70
# The bank itself told the number to whoever signed in. Otherwise it was typed, in part or whole.
# Source: plaid.com/docs/api/items, auth_method.
_TOLD_BY_BANK: Final = "INSTANT_AUTH"
_TYPED: Final = (
    *("automated_microdeposits", "same_day_microdeposits", "instant_microdeposits", "sms_microdeposits_verification"),
    *("instant_match", "database_match", "database_insights"),
)
_TYPES: Final = {"checking": "CHECKING", "savings": "SAVINGS"}
_NUMBER: Final = re.compile(r"[0-9A-Za-z]{4,17}")
_LINK_TOKEN: Final = re.compile("[!-~]{1,500}")
_REMOVALS_MAX: Final = 3
# Of all answers for one account: a request is given up by then.
_ALL_SECONDS: Final = 8.0
_REMOVAL_SECONDS: Final = 1.0


class PlaidLinks:
    """
    Args:
        base_url: Of Plaid, or of a stand-in.
        client_name: Who asks, as the holder reads it.
        redirect_url: Where a bank that has a page of its own sends the holder back to; empty: to none.
        timeout_seconds: Of one answer.
    """

    def __init__(
        self,
        base_url: str,
        client_id: str,
        secret: str,
        *,
        client_name: str,
        redirect_url: str = "",
        timeout_seconds: float = 4,
    ) -> None:
        self._client = PlaidClient(base_url.rstrip("/"), client_id, secret, timeout_seconds)
        self._client_name = client_name
        self._redirect_url = redirect_url
        self._timeout_seconds = timeout_seconds
        self._removing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        await asyncio.gather(*self._removing, return_exceptions=True)
        await self._client.close()

    async def create_link_token(self, party_id: str) -> LinkToken:
        return await ask_provider(self._create_link_token(party_id), self._timeout_seconds)

    async def read_account(self, public_token: str, provider_account_id: str, legal_name: str) -> LinkedAccount:
        asked = self._read_account(public_token, provider_account_id, legal_name)
        return await ask_provider(asked, _ALL_SECONDS)

    async def _create_link_token(self, party_id: str) -> LinkToken:
        """Only accounts of which the bank tells the number: nobody types one there, for a bank to confirm it."""
        asked: dict[str, Any] = {
            "client_name": self._client_name,
            "language": "en",
            "country_codes": [CountryCode("US")],
            "user": LinkTokenCreateRequestUser(client_user_id=party_id),
            "products": [Products("auth")],
            "required_if_supported_products": [Products("identity")],
            "auth": LinkTokenCreateRequestAuth(**{f"{way}_enabled": False for way in _TYPED}),
        }
        if self._redirect_url:
            asked["redirect_uri"] = self._redirect_url
        try:
            answer = await self._call(self._client.api.link_token_create, LinkTokenCreateRequest(**asked))
        except Refused as refusal:  # the caller gave nothing that could be wrong: a setting is, or one at Plaid
            log.error("link_token_refused", cause=refusal.code)
            raise
        token, expires_at = answer.get("link_token"), answer.get("expiration")
        # It is handed on to the caller's page, so it must be text that can be sent.
        if not isinstance(token, str) or not _LINK_TOKEN.fullmatch(token):
            raise OutcomeUnknown("the provider's answer is no link token")
        if not isinstance(expires_at, datetime) or expires_at.tzinfo is None:
            raise OutcomeUnknown("the provider's answer is no link token")
        return LinkToken(token, expires_at)

    async def _read_account(self, public_token: str, provider_account_id: str, legal_name: str) -> LinkedAccount:
        exchange = ItemPublicTokenExchangeRequest(public_token=public_token)
        try:
            answer = await self._call(self._client.api.item_public_token_exchange, exchange)
        except Refused:
            raise PublicTokenNotUsable from None
        access_token = answer.get("access_token")
        if not isinstance(access_token, str) or not access_token:
            raise OutcomeUnknown("the provider's answer has no access token")
        try:
            return await self._read(access_token, provider_account_id, legal_name)
        finally:
            removing = asyncio.create_task(self._remove(access_token, str(answer.get("item_id"))))
            self._removing.add(removing)
            removing.add_done_callback(self._removing.discard)
            # Who signed in does not wait longer for it.
            await asyncio.wait({removing}, timeout=_REMOVAL_SECONDS)

    async def _read(self, access_token: str, provider_account_id: str, legal_name: str) -> LinkedAccount:
        try:
            answer = await self._call(self._client.api.auth_get, AuthGetRequest(access_token=access_token))
        except Refused:
            raise LinkedAccountNotUsable from None
        account = _choose_account(answer["accounts"], provider_account_id)
        account_id, mask = str(account["account_id"]), str(account.get("mask") or "")
        routing_number, number, is_token = _read_number(answer["numbers"]["ach"], account_id)
        method, unverified = (answer.get("item") or {}).get("auth_method"), account.get("verification_status")
        is_told_by_bank = _spell(method) == _TOLD_BY_BANK and not unverified
        account_type = _read_type(account)
        match, has_business_name = NameMatch.NOT_TOLD, False
        if is_told_by_bank:
            match, has_business_name = await self._match_name(access_token, account_id, legal_name)
        return LinkedAccount(
            routing_number=routing_number,
            account_number=number,
            account_type=account_type,
            name_match=match,
            is_business=has_business_name or _spell(account.get("holder_category")) == "business",
            # Of a number that is the account's own, the bank shows the last digits.
            is_token=is_token or not mask or not number.endswith(mask),
        )

    async def _match_name(self, access_token: str, account_id: str, legal_name: str) -> tuple[NameMatch, bool]:
        """(whether the name is the account's, whether a name of a business was compared)."""
        asked = IdentityMatchRequest(access_token=access_token, user=IdentityMatchUser(legal_name=legal_name))
        try:
            answer = await self._call(self._client.api.identity_match, asked)
        except Refused:
            return NameMatch.NOT_TOLD, False
        accounts = answer.get("accounts")
        found = [each for each in accounts or () if each.get("account_id") == account_id]
        told = (found[0].get("legal_name") or {}) if len(found) == 1 else {}
        score, is_business = told.get("score"), bool(told.get("is_business_name_detected"))
        if type(score) is not int or not 0 <= score <= 100:
            return NameMatch.NOT_TOLD, is_business
        return _judge_score(score), is_business

    async def _remove(self, access_token: str, item_id: str) -> None:
        """Ends the access. We forget the token whatever is answered; what Plaid keeps then is told to an operator."""
        for _ in range(_REMOVALS_MAX):
            try:
                await self._call(self._client.api.item_remove, ItemRemoveRequest(access_token=access_token))
                return
            except Refused as refusal:  # it says that there is nothing to remove
                log.warning("bank_access_not_removed", item_id=item_id, cause=refusal.code)
                return
            except OutcomeUnknown:
                continue
        log.error("bank_access_not_removed", item_id=item_id, cause="no answer")

    async def _call(self, ask: Any, asked: Any) -> dict[str, Any]:
        return await ask_provider(self._client.call(ask, asked), self._timeout_seconds)


def _judge_score(score: int) -> NameMatch:
    if score >= NAME_SCORE_MIN:
        return NameMatch.MATCHES
    return NameMatch.SIMILAR if score >= _SIMILAR_SCORE_MIN else NameMatch.DIFFERS


def _choose_account(accounts: Sequence[Mapping[str, Any]], named: str) -> Mapping[str, Any]:
    """Raises: InvalidField, LinkedAccountNotUsable."""
    ids = [str(each["account_id"]) for each in accounts]
    if len(set(ids)) < len(ids) or not ids:
        raise LinkedAccountNotUsable
    if named and named not in ids:
        fault = "names none of the accounts that were chosen: sign in anew"
        raise InvalidField("The request is not valid.", fields={"provider_account_id": fault})
    if not named and len(ids) > 1:
        fault = "must name one of the accounts that were chosen: sign in anew"
        raise InvalidField("The request is not valid.", fields={"provider_account_id": fault})
    return accounts[ids.index(named) if named else 0]


def _read_type(account: Mapping[str, Any]) -> str:
    """Raises: LinkedAccountNotUsable: by law, or by its bank, no ACH goes to it: a card, a loan, a money market."""
    account_type = _TYPES.get(_spell(account["subtype"]))
    if _spell(account["type"]) != "depository" or account_type is None:
        raise LinkedAccountNotUsable
    return account_type


def _read_number(numbers: Sequence[Mapping[str, Any]], account_id: str) -> tuple[str, str, bool]:
    """(routing number, account number, whether it is a token) for ACH. Raises: LinkedAccountNotUsable."""
    found = [each for each in numbers if each["account_id"] == account_id]
    if len(found) != 1:
        raise LinkedAccountNotUsable
    routing_number, number = str(found[0]["routing"]), str(found[0]["account"])
    if not has_aba_digit(routing_number) or not _NUMBER.fullmatch(number):
        raise LinkedAccountNotUsable
    return routing_number, number, bool(found[0].get("is_tokenized_account_number"))


def _spell(value: object) -> str:
    """An enum of the client's as its text, and a text as it is."""
    return str(getattr(value, "value", value))
