"""What the stand-in does: makes customers and PaymentIntents, confirms bank accounts, and moves debits along.

Guarantees, as Stripe's: one idempotency key has one effect and one answer while it is remembered, refusals of what was
begun and errors too; a change, its events and the answer to its key are one transaction. Full account numbers are
never kept: of one, how it behaves.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.routing_numbers import has_aba_check_digit
from sandbox.store import Store
from sandbox.stripe.answers import Answer, StripeRefusal, encode, now_ms
from sandbox.stripe.behaviours import AMOUNTS, BEHAVIOURS, DESCRIPTOR_CODE, Reply, behaviour_of

OBJECTS = """
CREATE TABLE IF NOT EXISTS objects (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    due_ms INTEGER
);
CREATE INDEX IF NOT EXISTS objects_due ON objects (due_ms) WHERE due_ms IS NOT NULL;
"""
_METHOD = "us_bank_account"
_AMOUNT_MAX = 99_999_999


class Desk:
    """
    Args:
        base_url: Under which its pages are.
    """

    def __init__(self, store: Store, base_url: str, settle_ms: int) -> None:
        self._store = store
        self._base_url = base_url
        self._settle_ms = settle_ms

    # --- what is asked for ---

    def create_customer(self, form: Mapping[str, Any]) -> Answer:
        customer = self._make("cus", "customer", name=form.get("name"), metadata=form.get("metadata", {}))
        return Answer(200, encode(customer))

    def create_method(self, form: Mapping[str, Any]) -> Answer:
        account = form.get(_METHOD, {})
        routing_number, number = account.get("routing_number", ""), account.get("account_number", "")
        if not has_aba_check_digit(routing_number):
            raise _invalid("us_bank_account[routing_number]", "", code="routing_number_invalid")
        if not (number.isascii() and number.isdigit() and 4 <= len(number) <= 17):
            raise _invalid("us_bank_account[account_number]", "", code="account_number_invalid")
        method = self._make(
            "pm",
            "payment_method",
            type=_METHOD,
            customer=None,
            billing_details=form.get("billing_details", {}),
            us_bank_account={
                "routing_number": routing_number,
                "last4": number[-4:],
                "account_holder_type": account.get("account_holder_type"),
                "account_type": account.get("account_type", "checking"),
            },
            _account_number=number if number in BEHAVIOURS else "",
            _is_verified=False,
        )
        return Answer(200, encode(self.show(method, [])))

    def create_intent(self, form: Mapping[str, Any]) -> Answer:
        """Creates and confirms it."""
        amount = _read_amount(form)
        if form.get("payment_method_types") != [_METHOD] or form.get("confirm") != "true":
            raise _invalid("payment_method_types", f"This stand-in confirms payments by {_METHOD} alone.")
        method = self._use_method(form)
        behaviour = behaviour_of(method["_account_number"])
        intent = self._make(
            "pi",
            "payment_intent",
            amount=amount,
            currency="usd",
            customer=form.get("customer"),
            payment_method=method["id"],
            payment_method_types=[_METHOD],
            description=form.get("description"),
            metadata=form.get("metadata", {}),
            setup_future_usage=form.get("setup_future_usage"),
            status="requires_confirmation",
            latest_charge=None,
            last_payment_error=None,
            next_action=None,
            canceled_at=None,
        )
        if behaviour.refused:
            error = {"type": "card_error", "code": behaviour.refused, "message": "The payment is refused."}
            intent |= {"status": "requires_payment_method", "last_payment_error": error}
            self._save(intent)
            self._tell("payment_intent.payment_failed", intent)
            raise StripeRefusal(402, "card_error", "The payment is refused.", code=behaviour.refused)
        if method["_is_verified"]:
            self._begin(intent)
        else:
            self._ask_holder(intent, unverified=behaviour.unverified)
        if behaviour.reply is Reply.ERROR_AFTER_EFFECT:
            return Answer(500, StripeRefusal(500, "api_error", "Something went wrong on our end.").body())
        shown = self.show(intent, form.get("expand", []))
        if behaviour.reply is Reply.WRONG_AMOUNT:
            shown["amount"] += 1
        return Answer(200, encode(shown))

    def verify(self, intent_id: str, form: Mapping[str, Any]) -> Answer:
        """The holder says what was deposited."""
        intent = self.require(intent_id, "payment_intent")
        if intent["status"] != "requires_action":
            raise _invalid("payment_intent", "The PaymentIntent waits for no verification.")
        given = form.get("descriptor_code"), [int(each) for each in form.get("amounts", []) if str(each).isdigit()]
        if given[0] != DESCRIPTOR_CODE and given[1] != list(AMOUNTS):
            raise StripeRefusal(
                400,
                "invalid_request_error",
                "It is not what was deposited.",
                code="payment_method_microdeposit_verification_amounts_mismatch",
            )
        method = self.require(intent["payment_method"], "payment_method")
        self._save(method | {"_is_verified": True, "customer": intent["customer"]})
        intent |= {"next_action": None}
        self._begin(intent)
        return Answer(200, encode(self.show(intent, form.get("expand", []))))

    def cancel(self, intent_id: str) -> Answer:
        intent = self.require(intent_id, "payment_intent")
        if intent["status"] not in ("requires_action", "requires_confirmation", "requires_payment_method"):
            raise _invalid("payment_intent", f"A PaymentIntent that is {intent['status']} is not cancelled.")
        intent |= {"status": "canceled", "canceled_at": now_ms() // 1000, "next_action": None}
        self._save(intent)
        self._tell("payment_intent.canceled", intent)
        return Answer(200, encode(self.show(intent, [])))

    # --- what is asked ---

    def require(self, object_id: str, kind: str) -> dict[str, Any]:
        row = self._store.one("SELECT body FROM objects WHERE id = ? AND kind = ?", object_id, kind)
        if row is None:
            raise StripeRefusal(
                404, "invalid_request_error", f"No such {kind}: '{object_id}'", code="resource_missing", param="id"
            )
        found: dict[str, Any] = json.loads(row["body"])
        return found

    def search_intents(self, terms: Mapping[str, str]) -> list[dict[str, Any]]:
        """Newest first.

        Args:
            terms: `status`, and metadata by `metadata.<name>`.
        """
        found = [json.loads(row["body"]) for row in self._list("payment_intent")]
        return [each for each in found if all(_find(each, name) == value for name, value in terms.items())]

    def list_charges(self, intent_id: str | None) -> list[dict[str, Any]]:
        found = [json.loads(row["body"]) for row in self._list("charge")]
        return [each for each in found if intent_id in (None, each["payment_intent"])]

    def list_disputes(self, charge_id: str | None) -> list[dict[str, Any]]:
        found = [json.loads(row["body"]) for row in self._list("dispute")]
        return [each for each in found if charge_id in (None, each["charge"])]

    def show(self, found: Mapping[str, Any], expand: list[str]) -> dict[str, Any]:
        """As the API shows it, with what is to be expanded in place of its id."""
        shown = {name: value for name, value in found.items() if not name.startswith("_")}
        for path in expand:
            name, _, inner = path.partition(".")
            if isinstance(value := found.get(name), str):
                kind = {"latest_charge": "charge", "payment_method": "payment_method"}.get(name, name)
                shown[name] = self.show(self.require(value, kind), [inner] if inner else [])
        return shown

    # --- time ---

    def advance(self) -> bool:
        """Moves what is due; whether there was anything."""
        query = "SELECT id, body FROM objects WHERE due_ms IS NOT NULL AND due_ms <= ? ORDER BY due_ms LIMIT 50"
        due = self._store.all(query, now_ms())
        for row in due:
            with self._store.transaction():
                self._end(json.loads(row["body"]))
        return bool(due)

    def find_next_due_ms(self) -> int | None:
        row = self._store.one("SELECT min(due_ms) AS due_ms FROM objects WHERE due_ms IS NOT NULL")
        return None if row is None else row["due_ms"]

    # --- a debit ---

    def _use_method(self, form: Mapping[str, Any]) -> dict[str, Any]:
        method = self.require(form.get("payment_method", ""), "payment_method")
        if method["_is_verified"] and method["customer"] != form.get("customer"):
            raise _invalid("payment_method", "The PaymentMethod does not belong to the Customer.")
        if not method["_is_verified"] and "mandate_data" not in form:
            raise _invalid("mandate_data", "A debit needs a mandate.")
        return method

    def _ask_holder(self, intent: dict[str, Any], *, unverified: bool) -> None:
        if unverified:
            code = "payment_method_microdeposit_failed"
            error = {"type": "invalid_request_error", "code": code, "message": "The deposits failed."}
            intent |= {"status": "requires_payment_method", "last_payment_error": error}
            self._save(intent)
            self._tell("payment_intent.payment_failed", intent)
            return
        action = {
            "type": "verify_with_microdeposits",
            "verify_with_microdeposits": {
                "arrival_date": now_ms() // 1000 + 86_400,
                "hosted_verification_url": f"{self._base_url}/microdeposits/{intent['id']}",
                "microdeposit_type": "descriptor_code",
            },
        }
        intent |= {"status": "requires_action", "next_action": action}
        self._save(intent)
        self._tell("payment_intent.requires_action", intent)

    def _begin(self, intent: dict[str, Any]) -> None:
        """The debit is under way."""
        charge = self._make(
            "ch",
            "charge",
            amount=intent["amount"],
            currency="usd",
            payment_intent=intent["id"],
            status="pending",
            disputed=False,
            failure_code=None,
            outcome={"network_decline_code": None, "type": "authorized"},
            balance_transaction=None,
        )
        intent |= {"status": "processing", "latest_charge": charge["id"]}
        behaviour = self._behaviour_of(intent)
        self._save(intent, None if behaviour.endless else now_ms() + self._settle_ms)
        self._tell("payment_intent.processing", intent)

    def _end(self, intent: dict[str, Any]) -> None:
        """It succeeds or comes back; what has succeeded is disputed."""
        behaviour, charge = self._behaviour_of(intent), self.require(intent["latest_charge"], "charge")
        if intent["status"] == "succeeded":
            assert behaviour.disputed is not None
            self._dispute(intent, charge, *behaviour.disputed)
        elif behaviour.returned is not None:
            code, network = behaviour.returned
            method = self.require(intent["payment_method"], "payment_method")
            error = {"type": "card_error", "code": "payment_intent_payment_attempt_failed", "decline_code": code}
            outcome = {"network_decline_code": network, "type": "issuer_declined"}
            self._save(charge | {"status": "failed", "failure_code": code, "outcome": outcome})
            intent |= {
                "status": "requires_payment_method",
                "payment_method": None,
                "last_payment_error": error
                | {"network_decline_code": network, "charge": charge["id"], "payment_method": self.show(method, [])},
            }
            self._save(intent)
            self._tell("charge.failed", self.require(charge["id"], "charge"))
            self._tell("payment_intent.payment_failed", intent)
        else:
            moved = self._make("txn", "balance_transaction", amount=intent["amount"], available_on=now_ms() // 1000)
            self._save(charge | {"status": "succeeded", "balance_transaction": moved["id"]})
            intent |= {"status": "succeeded"}
            self._save(intent, now_ms() + self._settle_ms if behaviour.disputed else None)
            self._tell("charge.succeeded", self.require(charge["id"], "charge"))
            self._tell("payment_intent.succeeded", intent)

    def _dispute(self, intent: dict[str, Any], charge: dict[str, Any], reason: str, network: str) -> None:
        self._save(charge | {"disputed": True})
        dispute = self._make(
            "du",
            "dispute",
            amount=intent["amount"],
            charge=charge["id"],
            payment_intent=intent["id"],
            reason=reason,
            network_reason_code=network,
            status="lost",
        )
        self._save(intent)
        self._tell("charge.dispute.created", dispute)
        self._tell("charge.dispute.closed", dispute)

    def _behaviour_of(self, intent: Mapping[str, Any]) -> Any:
        return behaviour_of(self.require(intent["payment_method"], "payment_method")["_account_number"])

    # --- the books ---

    def _list(self, kind: str) -> list[dict[str, Any]]:
        return self._store.all("SELECT body FROM objects WHERE kind = ? ORDER BY sequence DESC", kind)

    def _make(self, prefix: str, kind: str, **values: Any) -> dict[str, Any]:
        made = {
            "id": f"{prefix}_{secrets.token_hex(12)}",
            "object": kind,
            "created": now_ms() // 1000,
            "livemode": False,
        }
        made |= values
        self._store.insert("objects", id=made["id"], kind=kind, body=json.dumps(made))
        return made

    def _save(self, found: Mapping[str, Any], due_ms: int | None = None) -> None:
        statement = "UPDATE objects SET body = ?, due_ms = ? WHERE id = ?"
        self._store.execute(statement, json.dumps(found), due_ms, found["id"])

    def list_events(
        self, types: Sequence[str], newer_than: str | None, older_than: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], bool]:
        """Newest first: the last ones, or those that came next after or before another one; and whether there are
        more."""
        since = 0 if newer_than is None else self._find_event(newer_than, "ending_before")
        until = 2**62 if older_than is None else self._find_event(older_than, "starting_after")
        marks, way = ", ".join("?" * len(types)), "DESC" if newer_than is None else "ASC"
        # Marks are counted here, and values travel as parameters.
        query = (
            f"SELECT body FROM events WHERE sequence > ? AND sequence < ? AND type IN ({marks})"  # noqa: S608
            f" ORDER BY sequence {way} LIMIT ?"
        )
        rows = self._store.all(query, since, until, *types, limit + 1)
        found = [json.loads(row["body"]) for row in rows[:limit]]
        return found if newer_than is None else found[::-1], len(rows) > limit

    def _find_event(self, event_id: str, param: str) -> int:
        found = self._store.one("SELECT sequence FROM events WHERE id = ?", event_id)
        if found is None:
            raise StripeRefusal(400, "invalid_request_error", "No such event.", param=param)
        return int(found["sequence"])

    def _tell(self, event_type: str, found: Mapping[str, Any]) -> None:
        event = {
            "id": f"evt_{secrets.token_hex(12)}",
            "object": "event",
            "type": event_type,
            "created": now_ms() // 1000,
            "livemode": False,
            "data": {"object": self.show(found, [])},
        }
        self._store.insert(
            "events",
            id=event["id"],
            about=found["id"],
            type=event_type,
            body=encode(event),
            deliveries_left=1,
            next_attempt_ms=now_ms(),
        )


def _invalid(param: str, message: str, code: str = "parameter_invalid") -> StripeRefusal:
    return StripeRefusal(400, "invalid_request_error", message or f"{param} is not valid.", code=code, param=param)


def _read_amount(form: Mapping[str, Any]) -> int:
    text = form.get("amount", "")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:12]) <= _AMOUNT_MAX):
        raise _invalid("amount", "Invalid integer, or too much.", code="amount_too_large")
    if form.get("currency") != "usd":
        raise _invalid("currency", f"{_METHOD} is for usd.")
    return int(text)


def _find(found: Mapping[str, Any], name: str) -> Any:
    first, _, inner = name.partition(".")
    return found.get(first, {}).get(inner) if inner else found.get(first)
