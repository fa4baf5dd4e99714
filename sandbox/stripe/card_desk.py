"""What the stand-in does with cards: pages on which they are entered, payments there, their disputes and refunds.

As Stripe does: a card that is declined leaves the page open for another one; what is disputed is answered, and then won
or lost; a refund may fail long after it was made. No number of a card is typed here: the payer chooses a test card.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sandbox.stripe.answers import Answer, encode, invalid, now_ms, read_amount
from sandbox.stripe.books import Books
from sandbox.stripe.cards import CARDS, LOSING, WINNING, WINNING_LATE, CardBehaviour
from sandbox.stripe.fees import DISPUTE_FEE, Balance, compute_card_fee

_PAGE_OPEN_MS: Final = 24 * 3_600_000
_ANSWER_WITHIN_SECONDS: Final = 14 * 86_400


def _name_first_status(card: CardBehaviour) -> str:
    if card.is_prevented:
        return "prevented"
    return "warning_needs_response" if card.is_inquiry else "needs_response"


class CardDesk:
    """
    Args:
        base_url: Under which its pages are.
        settle_ms: After which a dispute comes, or is decided, and a refund ends.
    """

    def __init__(self, books: Books, balance: Balance, base_url: str, settle_ms: int) -> None:
        self._books = books
        self._balance = balance
        self._base_url = base_url
        self._settle_ms = settle_ms

    # --- pages ---

    def create_session(self, form: Mapping[str, Any]) -> Answer:
        if form.get("mode") != "payment" or form.get("payment_method_types") != ["card"]:
            raise invalid("payment_method_types", "This stand-in makes pages for cards alone.")
        if not form.get("success_url"):
            raise invalid("success_url", "A page needs a success_url.", code="parameter_missing")
        customer = self._books.require(form.get("customer", ""), "customer")
        [item] = form["line_items"]
        price = item["price_data"]
        expires_ms = now_ms() + _PAGE_OPEN_MS
        session = self._books.make(
            "cs_test",
            "checkout.session",
            mode="payment",
            payment_method_types=["card"],
            customer=customer["id"],
            amount_total=read_amount(price.get("unit_amount"), price.get("currency")),
            currency="usd",
            metadata=form.get("metadata", {}),
            success_url=form["success_url"],
            status="open",
            payment_status="unpaid",
            payment_intent=None,
            expires_at=expires_ms // 1000,
            _intent=form.get("payment_intent_data", {}),
        )
        session |= {"url": f"{self._base_url}/pay/{session['id']}"}
        self._books.save(session, expires_ms)
        return Answer(200, encode(self._books.show(session, form.get("expand", []))))

    def expire_session(self, session_id: str) -> Answer:
        session = self._books.require(session_id, "checkout.session")
        if session["status"] != "open":
            raise invalid("session", "Only open sessions can be expired.", code="resource_missing")
        return Answer(200, encode(self._books.show(self._expire(session))))

    def pay(self, session_id: str, card_name: str) -> CardBehaviour | None:
        """The payer enters a card; None where its bank declines it.

        Raises: StripeRefusal: nobody pays there any more, or there is no such card.
        """
        session, card = self._books.require(session_id, "checkout.session"), CARDS.get(card_name)
        if session["status"] != "open" or card is None:
            raise invalid("card", "Nobody pays there any more, or there is no such test card.")
        intent = self._find_intent(session)
        charge = self._books.make(
            "ch",
            "charge",
            amount=intent["amount"],
            amount_captured=0 if card.declined else intent["amount"],
            amount_refunded=0,
            refunded=False,
            currency="usd",
            payment_intent=intent["id"],
            status="failed" if card.declined else "succeeded",
            disputed=False,
            failure_code=card.declined[0] if card.declined else None,
            outcome={"type": "issuer_declined" if card.declined else "authorized", "reason": None},
            balance_transaction=None,
            payment_method_details={"type": "card", "card": {"brand": card.brand, "last4": card.last4}},
            _card=card_name,
        )
        intent |= {"latest_charge": charge["id"]}
        if card.declined:
            self._decline(session, intent, charge, *card.declined)
            return None
        moved = self._balance.move("charge", intent["amount"], compute_card_fee(intent["amount"]), charge["id"])
        charge |= {"balance_transaction": moved["id"]}
        self._books.save(charge)
        intent |= {"status": "succeeded", "amount_received": intent["amount"], "last_payment_error": None}
        self._books.save(intent, now_ms() + self._settle_ms if card.disputed else None)
        session |= {"status": "complete", "payment_status": "paid", "payment_intent": intent["id"], "url": None}
        self._books.save(session)
        self._books.tell("charge.succeeded", charge)
        self._books.tell("payment_intent.succeeded", intent)
        self._books.tell("checkout.session.completed", session)
        return card

    def _find_intent(self, session: dict[str, Any]) -> dict[str, Any]:
        if session["payment_intent"]:
            return self._books.require(session["payment_intent"], "payment_intent")
        wanted = session["_intent"]
        return self._books.make(
            "pi",
            "payment_intent",
            amount=session["amount_total"],
            currency="usd",
            customer=session["customer"],
            payment_method=None,
            payment_method_types=["card"],
            description=wanted.get("description"),
            metadata=wanted.get("metadata", {}),
            status="requires_payment_method",
            latest_charge=None,
            last_payment_error=None,
            next_action=None,
            canceled_at=None,
        )

    def _decline(
        self, session: dict[str, Any], intent: dict[str, Any], charge: dict[str, Any], code: str, decline_code: str
    ) -> None:
        error = {"type": "card_error", "code": code, "decline_code": decline_code, "charge": charge["id"]}
        charge |= {"outcome": {"type": "issuer_declined", "reason": decline_code}}
        self._books.save(charge)
        intent |= {"status": "requires_payment_method", "last_payment_error": error}
        self._books.save(intent)
        self._books.save(session | {"payment_intent": intent["id"]}, session["expires_at"] * 1000)
        self._books.tell("charge.failed", charge)
        self._books.tell("payment_intent.payment_failed", intent)

    def _expire(self, session: dict[str, Any]) -> dict[str, Any]:
        session |= {"status": "expired", "url": None}
        self._books.save(session)
        if session["payment_intent"]:
            intent = self._books.require(session["payment_intent"], "payment_intent")
            intent |= {"status": "canceled", "canceled_at": now_ms() // 1000}
            self._books.save(intent)
            self._books.tell("payment_intent.canceled", intent)
        self._books.tell("checkout.session.expired", session)
        return session

    # --- disputes ---

    def answer_dispute(self, dispute_id: str, form: Mapping[str, Any]) -> Answer:
        """What speaks for the payment is sent to the bank of the card."""
        dispute = self._books.require(dispute_id, "dispute")
        if not dispute["status"].endswith("needs_response") or form.get("submit") != "true":
            raise invalid("submit", "The dispute takes no answer, or none was submitted.")
        said = form.get("evidence", {}).get("uncategorized_text", "")
        due_ms = now_ms() + self._settle_ms if said in (WINNING, WINNING_LATE, LOSING) else None
        dispute |= {"status": dispute["status"].replace("needs_response", "under_review"), "_said": said}
        self._books.save(dispute, due_ms)
        self._books.tell("charge.dispute.updated", dispute)
        return Answer(200, encode(self._books.show(dispute)))

    def close_dispute(self, dispute_id: str) -> Answer:
        """Whose payment it is accepts that it is lost; an inquiry ends by it, too."""
        dispute = self._books.require(dispute_id, "dispute")
        if not dispute["status"].endswith("needs_response"):
            raise invalid("dispute", "The dispute is not open.")
        return Answer(200, encode(self._books.show(self._decide(dispute, "lost"))))

    def _dispute(self, intent: Mapping[str, Any]) -> None:
        charge = self._books.require(intent["latest_charge"], "charge")
        card = CARDS[charge["_card"]]
        self._books.save(charge | {"disputed": True})
        # An inquiry takes no money, and costs nothing; what is prevented takes it, and costs nothing.
        fee = 0 if card.is_prevented else DISPUTE_FEE
        dispute = self._books.make(
            "du",
            "dispute",
            amount=intent["amount"],
            charge=charge["id"],
            payment_intent=intent["id"],
            reason=card.disputed,
            network_reason_code=None,
            status=_name_first_status(card),
            evidence_details={"due_by": now_ms() // 1000 + _ANSWER_WITHIN_SECONDS},
            balance_transactions=[],
        )
        if not card.is_inquiry:
            moved = self._balance.move("adjustment", -intent["amount"], fee, dispute["id"])
            dispute |= {"balance_transactions": [self._books.show(moved)]}
            self._books.save(dispute)
        self._books.tell("charge.dispute.created", dispute)
        if not card.is_inquiry:
            self._books.tell("charge.dispute.funds_withdrawn", dispute)
        if card.is_prevented:
            self._books.tell("charge.dispute.closed", dispute)

    def _decide(self, dispute: dict[str, Any], status: str) -> dict[str, Any]:
        if dispute["status"].startswith("warning_"):
            status = "warning_closed"  # however it ends, an inquiry has taken nothing that could be lost
        is_late = status == "won" and dispute.get("_said") == WINNING_LATE
        dispute |= {"status": status}
        self._books.save(dispute, now_ms() + self._settle_ms if is_late else None)
        if status == "won" and not is_late:
            self._reinstate(dispute)
        self._books.tell("charge.dispute.closed", dispute)
        return dispute

    def _reinstate(self, dispute: dict[str, Any]) -> None:
        """The money comes back, and the fee with it."""
        back = self._balance.move("adjustment", dispute["amount"], -DISPUTE_FEE, dispute["id"])
        dispute |= {"balance_transactions": [*dispute["balance_transactions"], self._books.show(back)]}
        self._books.save(dispute)
        self._books.tell("charge.dispute.funds_reinstated", dispute)

    # --- refunds ---

    def create_refund(self, form: Mapping[str, Any]) -> Answer:
        intent = self._books.require(form.get("payment_intent", ""), "payment_intent")
        charge = self._books.require(intent["latest_charge"] or "", "charge")
        left = charge["amount"] - charge["amount_refunded"]
        amount = read_amount(form.get("amount", str(left)), "usd")
        if charge["disputed"]:
            raise invalid("charge", "The charge has been charged back.", code="charge_disputed")
        if left == 0:
            raise invalid("charge", "The charge has already been refunded.", code="charge_already_refunded")
        if amount > left:
            raise invalid("amount", "It is greater than what is left of the charge.", code="amount_too_large")
        card = CARDS[charge["_card"]]
        refund = self._books.make(
            "re",
            "refund",
            amount=amount,
            currency="usd",
            charge=charge["id"],
            payment_intent=intent["id"],
            metadata=form.get("metadata", {}),
            # What fails has succeeded before, says Stripe.
            status="pending" if card.refund == "succeeded" else "succeeded",
            failure_reason=None,
        )
        refund |= {"balance_transaction": self._balance.move("refund", -amount, source=refund["id"])["id"]}
        self._books.save(refund, now_ms() + self._settle_ms if card.refund else None)
        self._count_refunded(charge, amount)
        self._books.tell("refund.created", refund)
        return Answer(200, encode(self._books.show(refund, form.get("expand", []))))

    def end_refund(self, refund: dict[str, Any]) -> None:
        charge = self._books.require(refund["charge"], "charge")
        refund |= {"status": CARDS[charge["_card"]].refund}
        if refund["status"] == "failed":
            back = self._balance.move("refund_failure", refund["amount"], source=refund["id"])
            refund |= {"failure_reason": "expired_or_canceled_card", "failure_balance_transaction": back["id"]}
            self._count_refunded(charge, -refund["amount"])
        self._books.save(refund)
        self._books.tell("refund.updated", refund)
        if refund["status"] == "failed":
            self._books.tell("refund.failed", refund)

    def _count_refunded(self, charge: dict[str, Any], amount: int) -> None:
        refunded = charge["amount_refunded"] + amount
        charge |= {"amount_refunded": refunded, "refunded": refunded == charge["amount"]}
        self._books.save(charge)
        if amount > 0:
            self._books.tell("charge.refunded", charge)

    # --- time ---

    def end_session(self, session: dict[str, Any]) -> None:
        self._expire(session)

    def end_intent(self, intent: dict[str, Any]) -> None:
        """What was paid is disputed."""
        self._books.save(intent)
        self._dispute(intent)

    def end_dispute(self, dispute: dict[str, Any]) -> None:
        if dispute["status"] == "won":
            self._reinstate(dispute)
        else:
            self._decide(dispute, "lost" if dispute["_said"] == LOSING else "won")
