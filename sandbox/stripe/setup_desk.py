"""Bank accounts that their holders verify before a payment (SetupIntents), and the mandates that come of it.

Guarantees, as Stripe's: ten wrong codes end a setup; a mandate that is inactive draws nothing. Source:
docs.stripe.com/payments/ach-direct-debit/set-up-payment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.answers import Answer, StripeRefusal, encode, invalid, now_ms
from sandbox.stripe.behaviours import AMOUNTS, DESCRIPTOR_CODE, Reply, behaviour_of
from sandbox.stripe.books import Books

METHOD = "us_bank_account"
_WRONG_CODES_MAX = 10


class SetupDesk:
    """
    Args:
        base_url: Under which its pages are.
    """

    def __init__(self, books: Books, base_url: str) -> None:
        self._books = books
        self._base_url = base_url

    def create(self, form: Mapping[str, Any]) -> Answer:
        """Creates and confirms it."""
        options = form.get("payment_method_options", {}).get(METHOD, {})
        if form.get("payment_method_types") != [METHOD] or form.get("confirm") != "true":
            raise invalid("payment_method_types", f"This stand-in confirms setups by {METHOD} alone.")
        if options.get("verification_method") != "microdeposits" or form.get("usage") != "off_session":
            raise invalid("payment_method_options", "This stand-in verifies by micro-deposits alone, for later.")
        if "mandate_data" not in form:
            raise invalid("mandate_data", "A debit needs a mandate.")
        customer = self._books.require(form.get("customer", ""), "customer")
        method = self._books.require(form.get("payment_method", ""), "payment_method")
        mandate = self._books.make(
            "mandate",
            "mandate",
            payment_method=method["id"],
            status="pending",
            type="multi_use",
            customer_acceptance=form["mandate_data"]["customer_acceptance"],
        )
        setup = self._books.make(
            "seti",
            "setup_intent",
            customer=customer["id"],
            payment_method=method["id"],
            payment_method_types=[METHOD],
            metadata=form.get("metadata", {}),
            usage="off_session",
            mandate=mandate["id"],
            status="requires_confirmation",
            last_setup_error=None,
            next_action=None,
            on_behalf_of=None,
            application=None,
            _wrong_codes=0,
        )
        self._books.tell("setup_intent.created", setup)
        behaviour = behaviour_of(method["_account_number"])
        if behaviour.unverified:
            self._fail(setup, "payment_method_microdeposit_failed")
        else:
            self._ask_holder(setup)
        if behaviour.reply is Reply.ERROR_AFTER_EFFECT:
            return Answer(500, StripeRefusal(500, "api_error", "Something went wrong on our end.").body())
        shown = self._books.show(setup, form.get("expand", []))
        if behaviour.reply is Reply.WRONG_AMOUNT:
            shown["metadata"] = shown["metadata"] | {"reference": "of another"}
        return Answer(200, encode(shown))

    def verify(self, setup_id: str, form: Mapping[str, Any]) -> Answer:
        """The holder says what was deposited."""
        setup = self._books.require(setup_id, "setup_intent")
        if setup["status"] != "requires_action":
            raise invalid("setup_intent", "The SetupIntent waits for no verification.")
        amounts = [int(each) for each in form.get("amounts", []) if str(each).isdigit()]
        if form.get("descriptor_code") != DESCRIPTOR_CODE and amounts != list(AMOUNTS):
            code = "payment_method_microdeposit_verification_amounts_mismatch"
            setup |= {"_wrong_codes": setup["_wrong_codes"] + 1}
            if setup["_wrong_codes"] >= _WRONG_CODES_MAX:
                code = "payment_method_microdeposit_verification_attempts_exceeded"
                self._fail(setup, code)
            self._books.save(setup)
            # Not raised: what is counted stays.
            refusal = StripeRefusal(400, "invalid_request_error", "It is not what was deposited.", code=code)
            return Answer(400, refusal.body())
        method = self._books.require(setup["payment_method"], "payment_method")
        self._books.save(method | {"_is_verified": True, "customer": setup["customer"]})
        self._books.save(self._books.require(setup["mandate"], "mandate") | {"status": "active"})
        setup |= {"status": "succeeded", "next_action": None}
        self._books.save(setup)
        self._books.tell("setup_intent.succeeded", setup)
        return Answer(200, encode(self._books.show(setup, form.get("expand", []))))

    def cancel(self, setup_id: str) -> Answer:
        setup = self._books.require(setup_id, "setup_intent")
        if setup["status"] not in ("requires_action", "requires_confirmation", "requires_payment_method"):
            raise invalid("setup_intent", f"A SetupIntent that is {setup['status']} is not cancelled.")
        setup |= {"status": "canceled", "next_action": None}
        self._books.save(setup)
        self._books.tell("setup_intent.canceled", setup)
        return Answer(200, encode(self._books.show(setup)))

    def end_mandate(self, mandate_id: str) -> Answer:
        """Stripe has no such call: it ends a mandate when its holder disputes a debit, or the bank says so."""
        mandate = self._books.require(mandate_id, "mandate") | {"status": "inactive"}
        self._books.save(mandate)
        self._books.tell("mandate.updated", mandate)
        return Answer(200, encode(self._books.show(mandate)))

    def end_mandates_of(self, method_id: str) -> None:
        """Source: support.stripe.com, "Respond to or contest an ACH Direct Debit dispute": it ends the mandate."""
        for mandate in self._books.list_objects("mandate", payment_method=method_id, status="active"):
            self.end_mandate(mandate["id"])

    def check_mandate(self, form: Mapping[str, Any]) -> None:
        """Of a debit that names one. Raises: StripeRefusal."""
        if "mandate" not in form:
            return
        mandate = self._books.require(form["mandate"], "mandate")
        if mandate["status"] != "active" or mandate["payment_method"] != form.get("payment_method"):
            raise invalid("mandate", "The mandate is not active, or of another PaymentMethod.", "mandate_invalid")

    def _ask_holder(self, setup: dict[str, Any]) -> None:
        action = {
            "type": "verify_with_microdeposits",
            "verify_with_microdeposits": {
                "arrival_date": now_ms() // 1000 + 86_400,
                "hosted_verification_url": f"{self._base_url}/microdeposits/{setup['id']}",
                "microdeposit_type": "descriptor_code",
            },
        }
        setup |= {"status": "requires_action", "next_action": action}
        self._books.save(setup)
        self._books.tell("setup_intent.requires_action", setup)

    def _fail(self, setup: dict[str, Any], code: str) -> None:
        method = self._books.require(setup["payment_method"], "payment_method")
        error = {"type": "invalid_request_error", "code": code, "payment_method": self._books.show(method)}
        setup |= {"status": "requires_payment_method", "payment_method": None, "next_action": None}
        setup |= {"last_setup_error": error}
        self._books.save(setup)
        self._books.tell("setup_intent.setup_failed", setup)
