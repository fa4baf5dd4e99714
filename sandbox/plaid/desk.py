"""What the stand-in does: takes bank accounts, authorizes and makes transfers, moves them along and tells of it.

Guarantees, as Plaid's: one idempotency key with the same parameters is one authorization, as long as the key is
remembered; one authorization makes one transfer; a change and its event are one transaction, and events are numbered in
the order in which they happen. Account numbers are never kept: of one, how it behaves.
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.plaid.answers import PlaidRefusal, encode, encode_answer, now_ms, spell_time
from sandbox.plaid.behaviours import BEHAVIOURS, Behaviour, Reply, behaviour_of
from sandbox.plaid.books import Books, not_there
from sandbox.plaid.sweeps import SweepDesk
from sandbox.routing_numbers import has_aba_check_digit

EVENTS_MAX = 500
_EVER_SINCE, _FOR_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
LIST_MAX = 25
_AMOUNT = re.compile(r"(?!0+\.00)[0-9]{1,8}\.[0-9]{2}")
_CLASSES = {"debit": {"web", "ppd", "ccd", "tel"}, "credit": {"ppd", "ccd"}}
_DESCRIPTION_CHARACTERS_MAX = 15
_FOLLOWING: Mapping[str, frozenset[str]] = {
    "pending": frozenset({"posted", "failed"}),
    "posted": frozenset({"settled", "returned"}),
    "settled": frozenset({"funds_available", "returned"}),
    "funds_available": frozenset({"returned"}),
    **dict.fromkeys(("cancelled", "failed", "returned"), frozenset[str]()),
}
_METADATA_MAX, _METADATA_KEY_MAX, _METADATA_VALUE_MAX = 50, 40, 500


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """In milliseconds: how long a transfer is in each status, an authorization is good, a key is remembered."""

    status_ms: int
    authorization_ms: int
    key_ms: int


class Desk:
    """
    Args:
        tells: Whether somebody wants webhooks.
    """

    def __init__(self, books: Books, lifetimes: Lifetimes, sweeps: SweepDesk, *, tells: bool) -> None:
        self._books = books
        self._sweeps = sweeps
        self._lifetimes = lifetimes
        self._tells = tells

    # --- what is asked for: each in a transaction of its own ---

    def migrate_account(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        number, routing_number = str(asked.get("account_number")), str(asked.get("routing_number"))
        if not has_aba_check_digit(routing_number):
            raise _invalid("routing_number is not valid")
        if not (number.isascii() and number.isalnum() and 4 <= len(number) <= 17 and any(map(str.isdigit, number))):
            raise _invalid("account_number is not valid")
        if asked.get("account_type") not in ("checking", "savings"):
            raise _invalid("account_type must be checking or savings")
        token = f"access-sandbox-{uuid.uuid4()}"
        item = {"access_token": token, "account_id": secrets.token_urlsafe(27), "_routing_number": routing_number}
        item |= {"_account_number": number if number in BEHAVIOURS else "", "_type": asked["account_type"]}
        with self._books.transaction():
            self._books.make(token, "item", item)
        return 200, encode_answer(access_token=token, account_id=item["account_id"])

    def authorize(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        item, direction = self._require_item(asked), str(asked.get("type"))
        if asked.get("network") not in ("ach", "same-day-ach") or asked.get("ach_class") not in _CLASSES.get(
            direction, ()
        ):
            raise _invalid("type, network and ach_class do not go together")
        if not _AMOUNT.fullmatch(str(asked.get("amount"))) or asked.get("iso_currency_code", "USD") != "USD":
            raise _invalid("amount must be a decimal string with two digits of precision, of US dollars")
        if not (asked.get("user") or {}).get("legal_name"):
            raise _invalid("user.legal_name is required")
        key = asked.get("idempotency_key")
        if key is not None and not 0 < len(key) <= 50:
            raise _invalid("idempotency_key has 50 characters at most")
        behaviour = behaviour_of(item["_account_number"])
        unique = json.dumps([key, *(asked.get(name) for name in ("amount", "type", "network", "account_id"))])
        with self._books.transaction():
            known = self._find_by_key(unique) if key else None
            authorization = known or self._authorize(asked, behaviour, unique if key else None)
        if known is None and behaviour.reply is Reply.AUTHORIZED_AND_ERROR:
            raise _broken()
        return 200, encode_answer(authorization=_show(authorization))

    def cancel_authorization(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        with self._books.transaction():
            authorization = self._books.require(asked.get("authorization_id"), "authorization")
            is_over = authorization["_cancelled"] or self._has_expired(authorization)
            if is_over or self._find_transfer_of(authorization["id"]) is not None:
                raise _invalid("the authorization was used, or is good no more")
            self._books.save(authorization["id"], authorization | {"_cancelled": True})
        return 200, encode_answer()

    def create_transfer(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        item = self._require_item(asked)
        behaviour = behaviour_of(item["_account_number"])
        with self._books.transaction():
            authorization = self._books.require(asked.get("authorization_id"), "authorization")
            known = self._find_transfer_of(authorization["id"])
            transfer = known or self._create_transfer(asked, item, authorization, behaviour)
        if known is None and behaviour.reply is Reply.CREATED_AND_ERROR:
            raise _broken()
        shown = _show(transfer)
        if behaviour.reply is Reply.WRONG_AMOUNT:
            shown["amount"] = f"1{shown['amount']}"
        return 200, encode_answer(transfer=shown)

    def cancel_transfer(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        with self._books.transaction():
            transfer = self._books.require(asked.get("transfer_id"), "transfer")
            if not transfer["cancellable"]:
                raise PlaidRefusal(400, "TRANSFER_ERROR", "TRANSFER_NOT_CANCELLABLE", "it is not cancellable any more")
            self._move(transfer, "cancelled", None)
        return 200, encode_answer()

    def simulate(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        """Moves a transfer to where a tester wants it. Source: plaid.com/docs/api/sandbox, transfer/simulate."""
        status = str(asked.get("event_type"))
        with self._books.transaction():
            transfer = self._books.require(asked.get("transfer_id"), "transfer")
            if status not in _FOLLOWING[transfer["status"]]:
                raise _invalid(f"a transfer that is {transfer['status']} cannot become {status}")
            reason = asked.get("failure_reason") or {}
            code = reason.get("failure_code") or reason.get("ach_return_code") or "R01"
            self._move(transfer, status, None, code)
        return 200, encode_answer()

    # --- what is looked up ---

    def get_transfer(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        given = {name: asked[name] for name in ("transfer_id", "authorization_id") if asked.get(name)}
        if len(given) != 1:
            raise _invalid("one of transfer_id and authorization_id must be given")
        if "transfer_id" in given:
            return 200, encode_answer(transfer=_show(self._books.require(given["transfer_id"], "transfer")))
        found = self._find_transfer_of(given["authorization_id"])
        if found is None:
            raise not_there("transfer")
        return 200, encode_answer(transfer=_show(found))

    def list_transfers(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        """Newest first, those made from `start_date` to `end_date`."""
        offset, limit = int(asked.get("offset", 0)), min(int(asked.get("count", LIST_MAX)), LIST_MAX)
        since, until = (
            datetime.fromisoformat(asked[name]) if asked.get(name) else otherwise
            for name, otherwise in (("start_date", _EVER_SINCE), ("end_date", _FOR_EVER))
        )
        found = self._books.list_all("transfer")
        made = [each for each in found if since <= datetime.fromisoformat(each["created"]) <= until]
        listed = made[offset : offset + limit]
        return 200, encode_answer(transfers=list(map(_show, listed)), has_more=offset + len(listed) < len(made))

    def sync_events(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        after_id, count = asked.get("after_id"), asked.get("count") or 100
        if not isinstance(after_id, int) or not isinstance(count, int) or not 1 <= count <= EVENTS_MAX:
            raise _invalid("after_id and count are numbers")
        events, has_more = self._books.list_events(after_id, count)
        return 200, encode_answer(transfer_events=events, has_more=has_more)

    # --- time ---

    def advance(self) -> bool:
        """Moves what is due; whether there was anything."""
        due = self._books.list_due()
        for kind, found in due:
            with self._books.transaction():
                match kind:
                    case "schedule":
                        self._sweeps.run_schedule(found)
                    case "sweep":
                        self._sweeps.settle(found)
                    case _:
                        # As it is now: what was due before it may have swept it.
                        self._advance_transfer(self._books.require(found["id"], "transfer"))
        return bool(due)

    def _advance_transfer(self, transfer: dict[str, Any]) -> None:
        behaviour = behaviour_of(transfer["_account_number"])
        status, *later = behaviour.ends[transfer["_steps"] :]
        due_ms = now_ms() + self._lifetimes.status_ms if later else None
        self._move(transfer | {"_steps": transfer["_steps"] + 1}, status, due_ms, behaviour.return_code)

    def find_next_due_ms(self) -> int | None:
        return self._books.find_next_due_ms()

    # --- within a transaction ---

    def _authorize(self, asked: Mapping[str, Any], behaviour: Behaviour, unique: str | None) -> dict[str, Any]:
        proposed = {
            "account_id": asked["account_id"],
            "type": asked["type"],
            "user": _show_user(asked["user"]),
            "amount": asked["amount"],
            "requested_amount": asked["amount"],
            "network": asked["network"],
            "ach_class": asked["ach_class"],
            "iso_currency_code": "USD",
            **dict.fromkeys(("funding_account_id", "originator_client_id", "credit_funds_source", "ledger_id")),
            "origination_account_id": "",
        }
        made: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "created": spell_time(now_ms()),
            "decision": behaviour.decision,
            "decision_rationale": {"code": behaviour.rationale, "description": "As the account number says."},
            **dict.fromkeys(("guarantee_decision", "guarantee_decision_rationale", "payment_risk")),
            "proposed_transfer": proposed,
            "_made_ms": now_ms(),
            "_cancelled": False,
        }
        self._books.make(made["id"], "authorization", made, unique)
        return made

    def _create_transfer(
        self,
        asked: Mapping[str, Any],
        item: Mapping[str, Any],
        authorization: Mapping[str, Any],
        behaviour: Behaviour,
    ) -> dict[str, Any]:
        proposed = authorization["proposed_transfer"]
        if authorization["decision"] != "approved" or authorization["_cancelled"]:
            raise _invalid("the authorization does not approve it")
        if self._has_expired(authorization):
            raise _invalid("the authorization has expired")
        if (
            proposed["account_id"] != asked["account_id"]
            or asked.get("amount", proposed["amount"]) != proposed["amount"]
        ):
            raise _invalid("it is not what was authorized")
        description, metadata = asked.get("description"), asked.get("metadata") or {}
        if not description or len(description) > _DESCRIPTION_CHARACTERS_MAX or not _is_metadata(metadata):
            raise _invalid("description has 15 characters at most; metadata are short texts in ASCII")
        if behaviour.refused:
            raise PlaidRefusal(400, "TRANSFER_ERROR", behaviour.refused, "the amount is too much for the network")
        nothing = (
            *("funding_account_id", "failure_reason", "guarantee_decision", "guarantee_decision_rationale"),
            *("standard_return_window", "unauthorized_return_window", "expected_settlement_date"),
            *("originator_client_id", "recurring_transfer_id", "credit_funds_source", "ledger_id", "network_trace_id"),
        )
        made: dict[str, Any] = {
            **dict.fromkeys(nothing),
            "id": str(uuid.uuid4()),
            "authorization_id": authorization["id"],
            "account_id": item["account_id"],
            **{
                name: proposed[name] for name in ("type", "user", "amount", "network", "ach_class", "iso_currency_code")
            },
            "description": description,
            "created": spell_time(now_ms()),
            "status": "pending",
            "cancellable": True,
            "metadata": metadata,
            "origination_account_id": "",
            "refunds": [],
            "sweep_status": "unswept",
            "_account_number": item["_account_number"],
            "_steps": 0,
        }
        due_ms = now_ms() + self._lifetimes.status_ms if behaviour.ends else None
        self._books.make(made["id"], "transfer", made, f"transfer of {authorization['id']}", due_ms)
        self._tell(made)
        return made

    def _has_expired(self, authorization: Mapping[str, Any]) -> bool:
        return bool(now_ms() - authorization["_made_ms"] > self._lifetimes.authorization_ms)

    def _move(self, transfer: dict[str, Any], status: str, due_ms: int | None, return_code: str = "") -> None:
        transfer |= {"status": status, "cancellable": False}
        if status == "returned":
            said = {"failure_code": return_code, "ach_return_code": return_code, "description": "It came back."}
            transfer["failure_reason"] = said
        elif status == "failed":
            transfer["failure_reason"] = {"failure_code": None, "ach_return_code": None, "description": "It failed."}
        self._books.save(transfer["id"], transfer, due_ms)
        self._tell(transfer)

    def _tell(self, transfer: Mapping[str, Any]) -> None:
        event = {
            "timestamp": spell_time(now_ms()),
            "event_type": transfer["status"],
            "transfer_id": transfer["id"],
            "transfer_type": transfer["type"],
            "transfer_amount": transfer["amount"],
            **{name: transfer[name] for name in ("account_id", "failure_reason", "origination_account_id")},
            **dict.fromkeys(("funding_account_id", "sweep_id", "sweep_amount", "refund_id", "originator_client_id")),
        }
        self._books.tell(event)
        if self._tells:
            names = {"webhook_type": "TRANSFER", "webhook_code": "TRANSFER_EVENTS_UPDATE", "environment": "sandbox"}
            self._books.send(secrets.token_hex(12), transfer["id"], "TRANSFER_EVENTS_UPDATE", encode(names))

    # --- what is there ---

    def _require_item(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        item = self._books.find(asked.get("access_token"), "item")
        if item is None or item["account_id"] != asked.get("account_id"):
            raise PlaidRefusal(400, "INVALID_INPUT", "INVALID_ACCESS_TOKEN", "no such access token, or account of it")
        return item

    def _find_by_key(self, unique: str) -> dict[str, Any] | None:
        """The authorization of an idempotency key that is not forgotten yet."""
        found = self._books.find_by_key(unique)
        if found is not None and now_ms() - found["_made_ms"] > self._lifetimes.key_ms:
            self._books.forget_key(unique)
            return None
        return found

    def _find_transfer_of(self, authorization_id: str) -> dict[str, Any] | None:
        return self._books.find_by_key(f"transfer of {authorization_id}")


Work = Callable[[Mapping[str, Any]], tuple[int, bytes]]


def _show(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not name.startswith("_")}


def _show_user(user: Mapping[str, Any]) -> dict[str, Any]:
    return {"legal_name": user["legal_name"], "phone_number": None, "email_address": None, "address": None}


def _is_metadata(metadata: object) -> bool:
    return (
        isinstance(metadata, dict)
        and len(metadata) <= _METADATA_MAX
        and all(isinstance(value, str) and f"{name}{value}".isascii() for name, value in metadata.items())
        and all(len(name) <= _METADATA_KEY_MAX and len(v) <= _METADATA_VALUE_MAX for name, v in metadata.items())
    )


def _invalid(message: str) -> PlaidRefusal:
    return PlaidRefusal(400, "INVALID_INPUT", "INVALID_FIELD", message)


def _broken() -> PlaidRefusal:
    return PlaidRefusal(500, "API_ERROR", "INTERNAL_SERVER_ERROR", "an unexpected error occurred")
