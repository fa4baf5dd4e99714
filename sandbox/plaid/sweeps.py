"""What the stand-in moves between its balance and its owner's bank account: its sweeps, and the events of each.

As Plaid's: what has settled and was not swept yet is swept at once, debits against credits, and what came back of it
is taken back by a later sweep. Its events add up to it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sandbox.plaid.answers import PlaidRefusal, encode_answer, now_ms, spell_time
from sandbox.plaid.books import Books

LIST_MAX: Final = 25
FIRST_ACCOUNT: Final = "funding-account-of-the-custodian"
_SCHEDULE: Final = "sweep schedule"
_SETTLED: Final = frozenset({"settled", "funds_available"})


class SweepDesk:
    """
    Args:
        status_ms: How long a sweep is on its way.
        sweep_ms: After which all that has settled is swept.
    """

    def __init__(self, books: Books, *, status_ms: int, sweep_ms: int) -> None:
        self._books = books
        self._status_ms = status_ms
        self._sweep_ms = sweep_ms

    # --- what is asked for: each in a transaction of its own ---

    def list_sweeps(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        """Newest first, those made since `start_date`."""
        since = datetime.fromisoformat(asked["start_date"]) if asked.get("start_date") else None
        found = self._books.list_all("sweep")
        listed = [each for each in found if since is None or datetime.fromisoformat(each["created"]) >= since]
        page, _ = _cut(listed, asked)
        return 200, encode_answer(sweeps=list(map(_show, page)))

    def list_events(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        """Newest first, those of a transfer or of a sweep."""
        wanted = {name: asked[name] for name in ("transfer_id", "sweep_id") if asked.get(name)}
        events, _ = self._books.list_events(0, 1_000_000)
        found = [each for each in reversed(events) if all(each[name] == value for name, value in wanted.items())]
        page, has_more = _cut(found, asked)
        return 200, encode_answer(transfer_events=page, has_more=has_more)

    def simulate(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        """Sweeps what is there. Source: plaid.com/docs/api/sandbox, transfer/sweep/simulate.

        Args:
            asked: `funding_account_id`, which is none of Plaid's, is the bank account from now on.
        """
        with self._books.transaction():
            if account := asked.get("funding_account_id"):
                schedule = self._books.require(_SCHEDULE, "schedule")
                due_ms = self._books.find_due_ms(_SCHEDULE)
                self._books.save(_SCHEDULE, schedule | {"funding_account_id": account}, due_ms)
            sweep = self._sweep()
        return 200, encode_answer(sweep=None if sweep is None else _show(sweep))

    def fail(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        """No call of Plaid's: the bank sends a sweep back, also after it had settled."""
        with self._books.transaction():
            sweep = self._books.require(asked.get("sweep_id"), "sweep")
            if sweep["status"] in ("returned", "failed"):
                raise PlaidRefusal(400, "INVALID_INPUT", "INVALID_FIELD", "it has failed")
            reason = {"failure_code": "R02", "description": "The account is closed."}
            self._move(sweep | {"failure_reason": reason}, "returned")
        return 200, encode_answer()

    # --- time ---

    def begin(self) -> None:
        """Has what settles swept from now on, and each time after a while."""
        if self._books.find(_SCHEDULE, "schedule") is None:
            with self._books.transaction():
                body = {"funding_account_id": FIRST_ACCOUNT}
                self._books.make(_SCHEDULE, "schedule", body, due_ms=now_ms() + self._sweep_ms)

    def run_schedule(self, schedule: Mapping[str, Any]) -> None:
        self._books.save(_SCHEDULE, schedule, now_ms() + self._sweep_ms)
        self._sweep()

    def settle(self, sweep: Mapping[str, Any]) -> None:
        self._move({**sweep, "settled": sweep["created"][:10]}, "settled")

    def _sweep(self) -> dict[str, Any] | None:
        parts = [(each, change) for each in self._books.list_all("transfer") if (change := _find_change(each))]
        if not parts:
            return None
        total = sum(cents for _, (_, cents) in parts)
        sweep: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "funding_account_id": self._books.require(_SCHEDULE, "schedule")["funding_account_id"],
            "created": spell_time(now_ms()),
            "amount": _spell(total),
            "iso_currency_code": "USD",
            "settled": None,
            "status": "pending",
            "trigger": "automatic_aggregate",
            "failure_reason": None,
        }
        self._books.make(sweep["id"], "sweep", sweep, due_ms=now_ms() + self._status_ms)
        for transfer, (kind, cents) in parts:
            marked = {"sweep_status": kind, "_swept": transfer.get("_swept", 0) + cents}
            self._books.save(transfer["id"], transfer | marked, self._books.find_due_ms(transfer["id"]))
            self._tell(kind, sweep, transfer, _spell(cents))
        self._tell("sweep.pending", sweep)
        return sweep

    def _move(self, sweep: Mapping[str, Any], status: str) -> None:
        moved = {**sweep, "status": status}
        self._books.save(sweep["id"], moved)
        self._tell(f"sweep.{status}", moved)

    def _tell(
        self, kind: str, sweep: Mapping[str, Any], transfer: Mapping[str, Any] | None = None, amount: str = ""
    ) -> None:
        about = transfer or {}
        event = {
            "timestamp": spell_time(now_ms()),
            "event_type": kind,
            "transfer_id": about.get("id", ""),
            "transfer_type": about.get("type", "debit"),
            "transfer_amount": about.get("amount", "0.00"),
            "account_id": about.get("account_id", ""),
            "sweep_id": sweep["id"],
            "sweep_amount": amount or sweep["amount"],
            "failure_reason": None,
            "funding_account_id": sweep["funding_account_id"],
            **dict.fromkeys(("refund_id", "originator_client_id", "origination_account_id")),
        }
        self._books.tell(event)


def _find_change(transfer: Mapping[str, Any]) -> tuple[str, int] | None:
    """(event, cents) of what a transfer changes of what is to be swept; None where nothing."""
    units, _, cents = transfer["amount"].partition(".")
    whole = int(units + cents) * (1 if transfer["type"] == "debit" else -1)
    swept = transfer.get("_swept", 0)
    if transfer["status"] in _SETTLED and not swept:
        return "swept", whole
    if transfer["status"] == "returned" and swept:
        return "return_swept", -swept
    return None


def _spell(cents: int) -> str:
    units, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{units}.{rest:02d}"


def _cut(found: list[dict[str, Any]], asked: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    offset, count = int(asked.get("offset") or 0), min(int(asked.get("count") or LIST_MAX), LIST_MAX)
    return found[offset : offset + count], len(found) > offset + count


def _show(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not name.startswith("_")}
