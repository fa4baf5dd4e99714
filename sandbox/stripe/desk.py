"""What the stand-in does: makes customers and PaymentIntents, confirms bank accounts, and moves debits along.

Guarantees, as Stripe's: one idempotency key has one effect and one answer while it is remembered, refusals of what was
begun and errors too; a change, its events and the answer to its key are one transaction. Full account numbers are
never kept: of one, how it behaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.routing_numbers import has_aba_check_digit
from sandbox.stripe.answers import Answer, StripeRefusal, encode, invalid, now_ms, read_amount
from sandbox.stripe.behaviours import AMOUNTS, BEHAVIOURS, DESCRIPTOR_CODE, Reply, behaviour_of
from sandbox.stripe.books import Books
from sandbox.stripe.fees import DISPUTE_FEE, FAILED_DEBIT_FEE, Balance, compute_debit_fee
from sandbox.stripe.setup_desk import METHOD, SetupDesk


class Desk:
    """
    Args:
        base_url: Under which its pages are.
    """

    def __init__(self, books: Books, balance: Balance, setups: SetupDesk, base_url: str, settle_ms: int) -> None:
        self._books = books
        self._setups = setups
        self._balance = balance
        self._base_url = base_url
        self._settle_ms = settle_ms

    # --- what is asked for ---

    def create_customer(self, form: Mapping[str, Any]) -> Answer:
        customer = self._books.make("cus", "customer", name=form.get("name"), metadata=form.get("metadata", {}))
        return Answer(200, encode(customer))

    def create_method(self, form: Mapping[str, Any]) -> Answer:
        account = form.get(METHOD, {})
        routing_number, number = account.get("routing_number", ""), account.get("account_number", "")
        if not has_aba_check_digit(routing_number):
            raise invalid("us_bank_account[routing_number]", "", code="routing_number_invalid")
        if not (number.isascii() and number.isdigit() and 4 <= len(number) <= 17):
            raise invalid("us_bank_account[account_number]", "", code="account_number_invalid")
        method = self._books.make(
            "pm",
            "payment_method",
            type=METHOD,
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
        return Answer(200, encode(self._books.show(method)))

    def create_intent(self, form: Mapping[str, Any]) -> Answer:
        """Creates and confirms it."""
        amount = read_amount(form.get("amount"), form.get("currency"))
        if form.get("payment_method_types") != [METHOD] or form.get("confirm") != "true":
            raise invalid("payment_method_types", f"This stand-in confirms payments by {METHOD} alone.")
        self._setups.check_mandate(form)
        method = self._use_method(form)
        behaviour = behaviour_of(method["_account_number"])
        intent = self._books.make(
            "pi",
            "payment_intent",
            amount=amount,
            currency="usd",
            customer=form.get("customer"),
            payment_method=method["id"],
            payment_method_types=[METHOD],
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
            self._books.save(intent)
            self._books.tell("payment_intent.payment_failed", intent)
            raise StripeRefusal(402, "card_error", "The payment is refused.", code=behaviour.refused)
        if method["_is_verified"]:
            self._begin(intent)
        else:
            self._ask_holder(intent, unverified=behaviour.unverified)
        if behaviour.reply is Reply.ERROR_AFTER_EFFECT:
            return Answer(500, StripeRefusal(500, "api_error", "Something went wrong on our end.").body())
        shown = self._books.show(intent, form.get("expand", []))
        if behaviour.reply is Reply.WRONG_AMOUNT:
            shown["amount"] += 1
        return Answer(200, encode(shown))

    def verify(self, intent_id: str, form: Mapping[str, Any]) -> Answer:
        """The holder says what was deposited."""
        intent = self._books.require(intent_id, "payment_intent")
        if intent["status"] != "requires_action":
            raise invalid("payment_intent", "The PaymentIntent waits for no verification.")
        given = form.get("descriptor_code"), [int(each) for each in form.get("amounts", []) if str(each).isdigit()]
        if given[0] != DESCRIPTOR_CODE and given[1] != list(AMOUNTS):
            raise StripeRefusal(
                400,
                "invalid_request_error",
                "It is not what was deposited.",
                code="payment_method_microdeposit_verification_amounts_mismatch",
            )
        method = self._books.require(intent["payment_method"], "payment_method")
        self._books.save(method | {"_is_verified": True, "customer": intent["customer"]})
        intent |= {"next_action": None}
        self._begin(intent)
        return Answer(200, encode(self._books.show(intent, form.get("expand", []))))

    def cancel(self, intent_id: str) -> Answer:
        intent = self._books.require(intent_id, "payment_intent")
        if intent["status"] not in ("requires_action", "requires_confirmation", "requires_payment_method"):
            raise invalid("payment_intent", f"A PaymentIntent that is {intent['status']} is not cancelled.")
        intent |= {"status": "canceled", "canceled_at": now_ms() // 1000, "next_action": None}
        self._books.save(intent)
        self._books.tell("payment_intent.canceled", intent)
        return Answer(200, encode(self._books.show(intent, [])))

    # --- a debit ---

    def _use_method(self, form: Mapping[str, Any]) -> dict[str, Any]:
        method = self._books.require(form.get("payment_method", ""), "payment_method")
        if method["_is_verified"] and method["customer"] != form.get("customer"):
            raise invalid("payment_method", "The PaymentMethod does not belong to the Customer.")
        if not method["_is_verified"] and "mandate_data" not in form:
            raise invalid("mandate_data", "A debit needs a mandate.")
        return method

    def _ask_holder(self, intent: dict[str, Any], *, unverified: bool) -> None:
        if unverified:
            code = "payment_method_microdeposit_failed"
            error = {"type": "invalid_request_error", "code": code, "message": "The deposits failed."}
            intent |= {"status": "requires_payment_method", "last_payment_error": error}
            self._books.save(intent)
            self._books.tell("payment_intent.payment_failed", intent)
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
        self._books.save(intent)
        self._books.tell("payment_intent.requires_action", intent)

    def _begin(self, intent: dict[str, Any]) -> None:
        """The debit is under way."""
        charge = self._books.make(
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
            payment_method_details={"type": METHOD},
        )
        intent |= {"status": "processing", "latest_charge": charge["id"]}
        behaviour = self._behaviour_of(intent)
        self._books.save(intent, None if behaviour.endless else now_ms() + self._settle_ms)
        self._books.tell("payment_intent.processing", intent)

    def end(self, intent: dict[str, Any]) -> None:
        """It succeeds or comes back; what has succeeded is disputed."""
        behaviour, charge = self._behaviour_of(intent), self._books.require(intent["latest_charge"], "charge")
        if intent["status"] == "succeeded":
            assert behaviour.disputed is not None
            self._dispute(intent, charge, *behaviour.disputed)
        elif behaviour.returned is not None:
            code, network = behaviour.returned
            method = self._books.require(intent["payment_method"], "payment_method")
            error = {"type": "card_error", "code": "payment_intent_payment_attempt_failed", "decline_code": code}
            outcome = {"network_decline_code": network, "type": "issuer_declined"}
            moved = self._balance.move("payment_failure_refund", 0, FAILED_DEBIT_FEE, charge["id"])
            charge |= {"failure_balance_transaction": moved["id"]}
            self._books.save(charge | {"status": "failed", "failure_code": code, "outcome": outcome})
            intent |= {
                "status": "requires_payment_method",
                "payment_method": None,
                "last_payment_error": error
                | {
                    "network_decline_code": network,
                    "charge": charge["id"],
                    "payment_method": self._books.show(method),
                },
            }
            self._books.save(intent)
            self._books.tell("charge.failed", self._books.require(charge["id"], "charge"))
            self._books.tell("payment_intent.payment_failed", intent)
        else:
            fee = compute_debit_fee(intent["amount"])
            moved = self._balance.move("payment", intent["amount"], fee, charge["id"])
            charge |= {"amount_captured": intent["amount"], "balance_transaction": moved["id"]}
            self._books.save(charge | {"status": "succeeded"})
            intent |= {"status": "succeeded", "amount_received": intent["amount"]}
            self._books.save(intent, now_ms() + self._settle_ms if behaviour.disputed else None)
            self._books.tell("charge.succeeded", self._books.require(charge["id"], "charge"))
            self._books.tell("payment_intent.succeeded", intent)

    def _dispute(self, intent: dict[str, Any], charge: dict[str, Any], reason: str, network: str) -> None:
        self._books.save(charge | {"disputed": True})
        dispute = self._books.make(
            "du",
            "dispute",
            amount=intent["amount"],
            charge=charge["id"],
            payment_intent=intent["id"],
            reason=reason,
            network_reason_code=network,
            status="lost",
        )
        moved = self._balance.move("adjustment", -intent["amount"], DISPUTE_FEE, dispute["id"])
        dispute |= {"balance_transactions": [self._books.show(moved)]}
        self._books.save(dispute)
        self._books.save(intent)
        self._books.tell("charge.dispute.created", dispute)
        self._books.tell("charge.dispute.closed", dispute)
        self._setups.end_mandates_of(intent["payment_method"])

    def _behaviour_of(self, intent: Mapping[str, Any]) -> Any:
        return behaviour_of(self._books.require(intent["payment_method"], "payment_method")["_account_number"])
