"""Link: a person signs in to a bank, and who has the keys asks that bank once. Kept in the same books as transfers.

Guarantees, as Plaid's: a link token opens Link until it expires, and makes one public token; that is exchanged once,
within half an hour; an access token asks until its Item is removed. Source: plaid.com/docs/api/link,
plaid.com/docs/api/items, plaid.com/docs/api/sandbox.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from typing import Any

from sandbox.plaid.answers import PlaidRefusal, encode_answer, now_ms, spell_time
from sandbox.plaid.books import Books
from sandbox.plaid.holders import ACCOUNT_NUMBER, HOLDERS, Account, Holder

LINK_TOKEN_MS = 4 * 3_600_000
PUBLIC_TOKEN_MS = 30 * 60_000
_NO_NUMBER = "pass_good"  # the password in Plaid's own sandbox; any other is the account number
_NUMBER_CHARACTERS_MAX = 17


class Links:
    def __init__(self, books: Books) -> None:
        self._books = books

    # --- what is asked for, by who has the keys: each in a transaction of its own ---

    def create_link_token(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        user = asked.get("user") or {}
        if not user.get("client_user_id") or not asked.get("client_name") or not asked.get("products"):
            raise _invalid("client_name, products and user.client_user_id are required")
        token = f"link-sandbox-{uuid.uuid4()}"
        made_ms = now_ms()
        link = {"link_token": token, "_made_ms": made_ms, "_used": False, "_asked": _keep(asked)}
        with self._books.transaction():
            self._books.make(token, "link", link)
        expires = spell_time(made_ms + LINK_TOKEN_MS)
        return 200, encode_answer(link_token=token, expiration=expires)

    def create_public_token(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        """A sign-in without a page. The user name says whose, as on the page; the password may be the number."""
        options = asked.get("options") or {}
        user, password = options.get("override_username") or "user_good", options.get("override_password") or _NO_NUMBER
        if not asked.get("institution_id") or not asked.get("initial_products"):
            raise _invalid("institution_id and initial_products are required")
        with self._books.transaction():
            token = self._sign_in(user, "" if password == _NO_NUMBER else password)
        return 200, encode_answer(public_token=token)

    def exchange(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        found = self._books.find(asked.get("public_token"), "public_token")
        if found is None or found["_used"] or now_ms() - found["_made_ms"] > PUBLIC_TOKEN_MS:
            raise PlaidRefusal(400, "INVALID_INPUT", "INVALID_PUBLIC_TOKEN", "it is none, was used, or has expired")
        access = f"access-sandbox-{uuid.uuid4()}"
        item = {"item_id": secrets.token_urlsafe(27), "_access_token": access, "_is_removed": False}
        item |= {name: found[name] for name in ("_user", "_accounts")}
        with self._books.transaction():
            self._books.save(found["public_token"], found | {"_used": True})
            self._books.make(access, "linked_item", item)
        return 200, encode_answer(access_token=access, item_id=item["item_id"])

    def get_auth(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        item = self._require_item(asked)
        accounts = _list_accounts(item)
        if not any(account.has_number for _, _, account in accounts):
            raise PlaidRefusal(400, "ITEM_ERROR", "NO_AUTH_ACCOUNTS", "no account has a number for ACH")
        ach = [
            {
                "account_id": account_id,
                "account": number,
                "routing": account.routing_number,
                "wire_routing": account.routing_number,
                "is_tokenized_account_number": account.is_tokenized,
            }
            for account_id, number, account in accounts
            if account.has_number
        ]
        numbers = {"ach": ach, "eft": [], "international": [], "bacs": []}
        shown = [_show_account(*each) for each in accounts]
        return 200, encode_answer(accounts=shown, numbers=numbers, item=_show_item(item))

    def match_identity(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        item = self._require_item(asked)
        if not HOLDERS[item["_user"]].has_identity:
            raise PlaidRefusal(400, "ITEM_ERROR", "PRODUCTS_NOT_SUPPORTED", "the bank cannot be asked for a name")
        name = (asked.get("user") or {}).get("legal_name")
        # Of what was not asked about.
        others = {"phone_number": {"score": None}, "email_address": {"score": None}}
        others["address"] = {"score": None, "is_postal_code_match": None}
        shown = [
            _show_account(*each) | others | {"legal_name": _score(each[2] if name else None)}
            for each in _list_accounts(item)
        ]
        return 200, encode_answer(accounts=shown, item=_show_item(item))

    def remove_item(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        item = self._require_item(asked)
        with self._books.transaction():
            self._books.save(item["_access_token"], item | {"_is_removed": True})
        return 200, encode_answer()

    # --- the page ---

    def is_open(self, link_token: str) -> bool:
        """Whether somebody may sign in by it."""
        link = self._books.find(link_token, "link")
        return link is not None and not link["_used"] and now_ms() - link["_made_ms"] <= LINK_TOKEN_MS

    def sign_in(self, link_token: str, user: str, number: str) -> tuple[str, list[tuple[str, str]]]:
        """(the public token, each account by its id and name). Raises: PlaidRefusal."""
        if not self.is_open(link_token):
            raise PlaidRefusal(400, "INVALID_INPUT", "INVALID_LINK_TOKEN", "it is none, was used, or has expired")
        with self._books.transaction():
            token = self._sign_in(user, number)
            self._books.save(link_token, self._books.require(link_token, "link") | {"_used": True})
        accounts = self._books.require(token, "public_token")["_accounts"]
        names = [account.name for account in HOLDERS[user].accounts]
        return token, [(each["id"], name) for each, name in zip(accounts, names, strict=True)]

    # --- within a transaction ---

    def _sign_in(self, user: str, number: str) -> str:
        holder = HOLDERS.get(user)
        if holder is None:
            raise PlaidRefusal(400, "INVALID_INPUT", "INVALID_CREDENTIALS", "no such user: see GET /test-values")
        if number and not (number.isascii() and number.isalnum() and 4 <= len(number) <= _NUMBER_CHARACTERS_MAX):
            raise _invalid("an account number has 4 to 17 letters and digits")
        token = f"public-sandbox-{uuid.uuid4()}"
        accounts = [
            {"id": secrets.token_urlsafe(27), "number": _choose_number(account, number)} for account in holder.accounts
        ]
        made = {"public_token": token, "_user": user, "_accounts": accounts, "_made_ms": now_ms(), "_used": False}
        self._books.make(token, "public_token", made)
        return token

    # --- what is there ---

    def _require_item(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        item = self._books.find(asked.get("access_token"), "linked_item")
        if item is None or item["_is_removed"]:
            raise PlaidRefusal(400, "INVALID_INPUT", "INVALID_ACCESS_TOKEN", "no such access token, or it was removed")
        return item


def _choose_number(account: Account, named: str) -> str:
    if account.is_tokenized:
        return str(secrets.randbelow(9 * 10**11) + 10**11)
    return account.number or named or ACCOUNT_NUMBER


def _list_accounts(item: Mapping[str, Any]) -> list[tuple[str, str, Account]]:
    """Each by its id and number."""
    accounts = HOLDERS[item["_user"]].accounts
    return [(kept["id"], kept["number"], account) for kept, account in zip(item["_accounts"], accounts, strict=True)]


def _show_account(account_id: str, number: str, account: Account) -> dict[str, Any]:
    balances = {"available": 100, "current": 110, "limit": None, "iso_currency_code": "USD"}
    return {
        "account_id": account_id,
        "balances": balances | {"unofficial_currency_code": None},
        "mask": number[-4:],
        "name": account.name,
        "official_name": None,
        "type": account.kind,
        "subtype": account.subtype,
        "holder_category": account.holder_category,
    }


def _show_item(item: Mapping[str, Any]) -> dict[str, Any]:
    holder: Holder = HOLDERS[item["_user"]]
    nothing = dict.fromkeys(("webhook", "error", "consent_expiration_time"))
    products = {"available_products": [], "billed_products": ["auth"], "products": ["auth"]}
    shown = {"item_id": item["item_id"], "institution_id": "ins_109508", "update_type": "background"}
    return {**shown, **nothing, **products, "auth_method": holder.auth_method}


def _score(account: Account | None) -> dict[str, Any]:
    score = None if account is None else account.name_score
    is_business = None if score is None or account is None else account.is_business_name
    marks = {"is_first_name_or_last_name_match": False, "is_nickname_match": False}
    return {"score": score, "is_business_name_detected": is_business, **marks}


def _keep(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a link token was asked for with, without the keys."""
    return {name: value for name, value in asked.items() if name not in ("client_id", "secret")}


def _invalid(message: str) -> PlaidRefusal:
    return PlaidRefusal(400, "INVALID_INPUT", "INVALID_FIELD", message)
