"""What the stand-in pays to its owner's bank account: all of the balance, after a while, as an automatic payout.

As Stripe does: of an automatic payout it says which balance transactions are in it, and the payout is one of them; of
one that a person orders it does not. What fails is back in the balance, and is in the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sandbox.stripe.answers import Answer, encode, invalid, now_ms, read_amount
from sandbox.stripe.books import Books
from sandbox.stripe.fees import Balance

FIRST_ACCOUNT: Final = "ba_of_the_custodian"


class PayoutDesk:
    """
    Args:
        settle_ms: How long a payout is on its way.
        payout_ms: After which all that came is paid out.
    """

    def __init__(self, books: Books, balance: Balance, settle_ms: int, payout_ms: int) -> None:
        self._books = books
        self._balance = balance
        self._settle_ms = settle_ms
        self._payout_ms = payout_ms

    # --- what is asked for ---

    def create_manual(self, form: Mapping[str, Any]) -> Answer:
        """What a person orders, of whatever amount is there."""
        amount = read_amount(form.get("amount"), form.get("currency"))
        payout = self._make(amount, is_automatic=False)
        return Answer(200, encode(self._books.show(payout)))

    def pay_out_now(self, form: Mapping[str, Any]) -> Answer:
        """No call of Stripe's: the automatic payout that is due later, to the bank account that is named."""
        if destination := form.get("destination"):
            schedule = self._find_schedule()
            self._books.save(schedule | {"destination": destination}, self._books.find_due_ms(schedule["id"]))
        payout = self._pay_out()
        if payout is None:
            raise invalid("balance", "There is nothing to be paid out.")
        return Answer(200, encode(self._books.show(payout)))

    def fail(self, payout_id: str) -> Answer:
        """No call of Stripe's: the bank sends it back, also after it was paid."""
        payout = self._books.require(payout_id, "payout")
        if payout["status"] == "failed":
            raise invalid("payout", "It has failed.")
        back = self._balance.move("payout_failure", payout["amount"], source=payout["id"])
        payout |= {"status": "failed", "failure_code": "account_closed", "failure_balance_transaction": back["id"]}
        self._books.save(payout)
        self._books.tell("payout.failed", payout)
        return Answer(200, encode(self._books.show(payout)))

    def move(self, form: Mapping[str, Any]) -> Answer:
        """No call of Stripe's: something of no payment moves, a `topup` or a `stripe_fee`; negative where it goes."""
        moved = self._balance.move(form["type"], int(form["amount"]))
        return Answer(200, encode(self._books.show(moved)))

    def list_movements(self, payout_id: str | None) -> list[dict[str, Any]]:
        """Of an automatic payout those that are in it, newest first."""
        found = self._books.list_objects("balance_transaction")
        return [each for each in found if payout_id in (None, each["_payout"])]

    def show_movements(self, found: Sequence[Mapping[str, Any]], expand: Sequence[str]) -> list[dict[str, Any]]:
        shown = [self._books.show(each) for each in found]
        if "data.source" in expand:
            for each in shown:
                each["source"] = self._books.show_any(each["source"]) if each["source"] else None
        return shown

    # --- time ---

    def begin(self) -> None:
        """Has the balance paid out from now on, and each time after a while."""
        if not self._books.list_objects("schedule"):
            with self._books.transaction():
                schedule = self._books.make("sch", "schedule", destination=FIRST_ACCOUNT)
                self._books.save(schedule, now_ms() + self._payout_ms)

    def end(self, payout: dict[str, Any]) -> None:
        """It arrives."""
        payout |= {"status": "paid"}
        self._books.save(payout)
        self._books.tell("payout.paid", payout)

    def run_schedule(self, schedule: dict[str, Any]) -> None:
        self._books.save(schedule, now_ms() + self._payout_ms)
        self._pay_out()

    def _pay_out(self) -> dict[str, Any] | None:
        """All that is in no payout yet; None where that is nothing, or less."""
        open_ = [each for each in self._books.list_objects("balance_transaction") if each["_payout"] is None]
        amount = sum(each["net"] for each in open_)
        if amount <= 0:
            return None
        payout = self._make(amount, is_automatic=True)
        for each in open_:
            self._books.save(each | {"_payout": payout["id"]})
        return payout

    def _make(self, amount: int, *, is_automatic: bool) -> dict[str, Any]:
        payout = self._books.make(
            "po",
            "payout",
            amount=amount,
            currency="usd",
            arrival_date=now_ms() // 1000,
            automatic=is_automatic,
            destination=self._find_schedule()["destination"],
            failure_code=None,
            failure_balance_transaction=None,
            reconciliation_status="completed" if is_automatic else "not_applicable",
            status="in_transit",
        )
        taken = self._balance.move("payout", -amount, source=payout["id"])
        # It stands in itself, or, of a manual one, in none: Stripe tells of no payout what a person took out of it.
        self._books.save(taken | {"_payout": payout["id"] if is_automatic else "manual"})
        payout |= {"balance_transaction": taken["id"]}
        self._books.save(payout, now_ms() + self._settle_ms)
        self._books.tell("payout.created", payout)
        return payout

    def _find_schedule(self) -> dict[str, Any]:
        return self._books.list_objects("schedule")[0]
