"""What the bank does: accepts payment orders, cancels them, and moves them along when business time says so.

Guarantees: one idempotency key has at most one effect while the key is remembered; a change, its event, its movement
on the statement and the answer to its key are one transaction; what fell due during a jump of the clock happens in
order of due time, and bears the time it was due.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any

from sandbox.bank.behaviours import (
    NEXT_STATUSES,
    RETURN_REASONS,
    Behaviour,
    Direction,
    Reply,
    Script,
    Status,
    behaviour_of,
)
from sandbox.bank.clock import Clock
from sandbox.bank.requests import PaymentOrder
from sandbox.store import Store, day_of, format_time, parse_time

TIMERS_PER_TRANSACTION = 200
UNRULY_DELAY_MS = 1000
_PRIVATE_COLUMNS = {"sequence", "account_holder_name", "routing_number", "unruly_events"}


class BankError(Exception):
    """A refusal with its HTTP status and a code that a program can act on."""

    def __init__(
        self, status: int, code: str, message: str, *, errors: tuple[dict[str, str], ...] = (), retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.errors, self.retry_after = errors, retry_after

    def body(self) -> bytes:
        return encode({"code": self.code, "message": self.message, "errors": list(self.errors)})


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an order: stored with the effect, and given again to the same key."""

    status: int
    body: bytes
    replayed: bool
    reply: Reply  # how it travels; a replay always travels well


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Bank:
    def __init__(self, store: Store, clock: Clock, key_lifetime: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._key_lifetime = key_lifetime

    def create(self, idempotency_key: str, order: PaymentOrder) -> Answer:
        """Raises BankError 409 when the key was used for another order, 429 or 503 where the test value says so."""
        now = self._clock.now()
        behaviour = behaviour_of(order.account_number)
        with self._store.transaction():
            known = self._known_answer(idempotency_key, order, now)
            if known:
                return known
            refusal = self._passing_refusal(idempotency_key, behaviour)
            if refusal is None:
                return self._accept(idempotency_key, order, behaviour, now)
        raise refusal  # outside the transaction, which has counted it

    def _known_answer(self, key: str, order: PaymentOrder, now: datetime) -> Answer | None:
        self._store.execute("DELETE FROM answers WHERE created_at < ?", format_time(now - self._key_lifetime))
        row = self._store.one("SELECT * FROM answers WHERE idempotency_key = ?", key)
        if row is None:
            return None
        if row["fingerprint"] != order.fingerprint():
            raise BankError(409, "idempotency_key_reused", "this Idempotency-Key was used for another payment")
        status = 200 if row["status"] == 201 else int(row["status"])
        return Answer(status, row["body"], replayed=True, reply=Reply.ACCEPTED)

    def _passing_refusal(self, key: str, behaviour: Behaviour) -> BankError | None:
        refusals_max = {Reply.TOO_MANY_REQUESTS: 2, Reply.UNAVAILABLE_BEFORE_EFFECT: 1}.get(behaviour.reply, 0)
        if not refusals_max:
            return None
        row = self._store.one("SELECT count FROM refusals WHERE idempotency_key = ?", key)
        if row is not None and row["count"] >= refusals_max:
            return None
        self._store.execute(
            "INSERT INTO refusals VALUES (?, 1) ON CONFLICT (idempotency_key) DO UPDATE SET count = count + 1", key
        )
        if behaviour.reply is Reply.TOO_MANY_REQUESTS:
            return BankError(429, "too_many_requests", "slow down", retry_after=1)
        return BankError(503, "unavailable", "nothing was done; try again", retry_after=1)

    def _accept(self, key: str, order: PaymentOrder, behaviour: Behaviour, now: datetime) -> Answer:
        if behaviour.reply is Reply.DECLINED:
            body = BankError(422, "declined", "the bank does not take this payment").body()
            answer = Answer(422, body, replayed=False, reply=Reply.DECLINED)
        else:
            payment = self._open_payment(order, behaviour, now)
            answer = Answer(201, encode(payment), replayed=False, reply=behaviour.reply)
        self._store.insert(
            "answers",
            idempotency_key=key,
            fingerprint=order.fingerprint(),
            status=answer.status,
            body=answer.body,
            created_at=format_time(now),
        )
        return answer

    def _open_payment(self, order: PaymentOrder, behaviour: Behaviour, now: datetime) -> dict[str, Any]:
        script = behaviour.script(order.direction, order.presentment)
        due_times = _due_times(script, now)
        # The file leaves at the end of the day. What happens at once has left before anyone could object.
        end_of_day = datetime.combine(now.date() + timedelta(days=1), time_of_day(), UTC)
        payment_id = f"pay_{secrets.token_hex(12)}"
        self._store.insert(
            "payments",
            id=payment_id,
            status=Status.PENDING,
            reference=order.reference,
            presentment=order.presentment,
            direction=order.direction,
            amount_minor=order.amount_minor,
            currency=order.currency,
            method=order.method,
            description=order.description,
            account_holder_name=order.account_holder_name,
            routing_number=order.routing_number,
            account_last4=order.account_number[-4:],
            expected_settlement_date=due_times[0].date().isoformat(),
            cancellable_until=format_time(min(end_of_day, due_times[0])),
            unruly_events=behaviour.unruly_events,
            created_at=format_time(now),
            updated_at=format_time(now),
        )
        for step, due_at in zip(script, due_times, strict=True):
            self._store.insert(
                "timers",
                payment_id=payment_id,
                due_at=format_time(due_at),
                status=step.status,
                return_code=step.return_code,
            )
        return self._announce(payment_id)

    def get(self, payment_id: str) -> dict[str, Any]:
        """As it is by the bank's clock: what is due of it happens first, however much else is due."""
        self._move_due(payment_id)
        return _present(self._row(payment_id))

    def list(self, reference: str | None, limit: int) -> dict[str, Any]:
        """Newest first."""
        rows = self._store.all(
            "SELECT * FROM payments WHERE ? IS NULL OR reference = ? ORDER BY sequence DESC LIMIT ?",
            reference,
            reference,
            limit + 1,
        )
        return {"data": [_present(row) for row in rows[:limit]], "has_more": len(rows) > limit}

    def cancel(self, payment_id: str) -> dict[str, Any]:
        """Cancelling what is cancelled changes nothing and succeeds. Raises BankError 404, 409."""
        now = self._clock.now()
        with self._store.transaction():
            row = self._row(payment_id)
            if row["status"] == Status.CANCELLED:
                return _present(row)
            if row["status"] != Status.PENDING or now >= parse_time(row["cancellable_until"]):
                raise BankError(409, "not_cancellable", "the payment has left the bank or is finished")
            self._store.execute("DELETE FROM timers WHERE payment_id = ?", payment_id)
            return self._move(row, Status.CANCELLED, None, now)

    def advance(self) -> int:
        """Makes the moves that are due, oldest due time first, and says how many; call again until it says none."""
        return self._move_due(None)

    def find_next_due(self) -> datetime | None:
        """When it next has a move to make."""
        [first] = self._store.all("SELECT min(due_at) AS due_at FROM timers")
        return None if first["due_at"] is None else parse_time(first["due_at"])

    def _move_due(self, payment_id: str | None) -> int:
        due = (format_time(self._clock.now()), payment_id, payment_id)
        query = "SELECT * FROM timers WHERE due_at <= ? AND (? IS NULL OR payment_id = ?)"
        query += " ORDER BY due_at, sequence LIMIT ?"
        if not self._store.one(query, *due, 1):
            return 0
        with self._store.transaction():
            timers = self._store.all(query, *due, TIMERS_PER_TRANSACTION)
            for timer in timers:
                self._store.execute("DELETE FROM timers WHERE sequence = ?", timer["sequence"])
                row = self._row(timer["payment_id"])
                self._move(row, Status(timer["status"]), timer["return_code"], parse_time(timer["due_at"]))
        return len(timers)

    def statement(self, first_day: date, last_day: date) -> dict[str, Any]:
        """The account of the bank's customer (us): money in is positive. Opening plus movements is closing."""
        [opening] = self._store.all(
            "SELECT coalesce(sum(amount_minor), 0) AS balance FROM movements WHERE booked_on < ?", first_day.isoformat()
        )
        movements = self._store.all(
            "SELECT m.id, m.booked_on, m.kind, m.amount_minor, m.return_code, p.id AS payment_id, p.reference,"
            " p.presentment, p.direction, p.currency, p.method, p.description"
            " FROM movements m JOIN payments p ON p.id = m.payment_id"
            " WHERE m.booked_on BETWEEN ? AND ? ORDER BY m.booked_on, m.sequence",
            first_day.isoformat(),
            last_day.isoformat(),
        )
        return {
            "from": first_day.isoformat(),
            "to": last_day.isoformat(),
            "currency": "USD",
            "opening_balance_minor": opening["balance"],
            "closing_balance_minor": opening["balance"] + sum(line["amount_minor"] for line in movements),
            "movements": movements,
        }

    def _row(self, payment_id: str) -> dict[str, Any]:
        row = self._store.one("SELECT * FROM payments WHERE id = ?", payment_id)
        if row is None:
            raise BankError(404, "not_found", "no such payment")
        return row

    def _move(self, row: dict[str, Any], status: Status, return_code: str | None, at: datetime) -> dict[str, Any]:
        before = Status(row["status"])
        if status not in NEXT_STATUSES[before]:
            raise AssertionError(f"a payment cannot go from {before} to {status}")
        self._store.execute(
            "UPDATE payments SET status = ?, return_code = ?, failure_reason = ?, updated_at = ? WHERE id = ?",
            status,
            return_code,
            RETURN_REASONS[return_code] if return_code else None,
            format_time(at),
            row["id"],
        )
        if status is Status.SETTLED:
            self._book(row, "settlement", None, at)
        elif before is Status.SETTLED:
            self._book(row, "return", return_code, at)
        return self._announce(row["id"])

    def _book(self, row: dict[str, Any], kind: str, return_code: str | None, at: datetime) -> None:
        incoming = (row["direction"] == Direction.DEBIT) == (kind == "settlement")
        self._store.insert(
            "movements",
            id=f"mov_{secrets.token_hex(12)}",
            payment_id=row["id"],
            kind=kind,
            booked_on=day_of(format_time(at)).isoformat(),
            amount_minor=row["amount_minor"] if incoming else -row["amount_minor"],
            return_code=return_code,
        )

    def _announce(self, payment_id: str) -> dict[str, Any]:
        """Writes the event of the payment's present state and returns the payment as shown."""
        row = self._row(payment_id)
        payment = _present(row)
        event_id, event_type = f"evt_{secrets.token_hex(12)}", f"payment.{row['status']}"
        event = {"id": event_id, "type": event_type, "created": row["updated_at"], "data": {"payment": payment}}
        late = row["unruly_events"] and row["status"] == Status.PENDING
        self._store.insert(
            "events",
            id=event_id,
            about=payment_id,
            type=event_type,
            body=encode(event),
            deliveries_left=2 if row["unruly_events"] else 1,
            next_attempt_ms=time.time_ns() // 1_000_000 + (UNRULY_DELAY_MS if late else 0),
        )
        return payment


def _present(row: dict[str, Any]) -> dict[str, Any]:
    return {column: value for column, value in row.items() if column not in _PRIVATE_COLUMNS}


def _due_times(script: Script, accepted_at: datetime) -> list[datetime]:
    moments = [accepted_at]
    for step in script:
        moments.append(step.due_at(moments[-1]))
    return moments[1:]
