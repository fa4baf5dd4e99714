"""How many of an organization's ACH debits come back, and how many may.

Nacha divides the debits that came back in 60 days by those that were originated in them, and asks whoever is above one
of three limits to explain it, and in the end to stop. So every presentment counts by itself, whoever carries it.

Source: Nacha Operating Rules, Subsection 2.17.2 (limits), Section 8 (the three return rates).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.returns import network_code_of
from services.transactions.domain.reversals import Reversal

WINDOW: Final = timedelta(days=60)
# House rule: fewer returns say nothing about a rate. Of ten debits, one disowned would be twenty times what is allowed.
RETURNS_MIN: Final = 3
_WHOLE_BPS = 10_000


class Outcome(StrEnum):
    """How an attempt at a debit ended otherwise than well. Only what came back has been at a bank."""

    RETURNED = "RETURNED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class RateKind(StrEnum):
    UNAUTHORIZED = "UNAUTHORIZED"
    ADMINISTRATIVE = "ADMINISTRATIVE"
    OVERALL = "OVERALL"


@dataclass(frozen=True, slots=True)
class Limit:
    """What Nacha allows of one kind of returns.

    Args:
        codes: Which it counts; none where it counts all.
        told_as: The kind of exception that calls a person once it is exceeded.
    """

    limit_bps: int
    what: str
    told_as: ExceptionKind
    codes: frozenset[str] | None = None

    def counts(self, code: str) -> bool:
        return self.codes is None or code in self.codes


LIMITS: Final[Mapping[RateKind, Limit]] = MappingProxyType(
    {
        RateKind.UNAUTHORIZED: Limit(
            50,
            "as not authorized",
            ExceptionKind.ACH_UNAUTHORIZED_RATE,
            frozenset({"R05", "R07", "R10", "R11", "R29", "R51"}),
        ),
        RateKind.ADMINISTRATIVE: Limit(
            300,
            "because of the account's data",
            ExceptionKind.ACH_ADMINISTRATIVE_RATE,
            frozenset({"R02", "R03", "R04"}),
        ),
        RateKind.OVERALL: Limit(1_500, "for whatever reason", ExceptionKind.ACH_OVERALL_RATE),
    }
)


@dataclass(frozen=True, slots=True)
class Rate:
    kind: RateKind
    return_count: int
    debit_count: int

    @property
    def limit(self) -> Limit:
        return LIMITS[self.kind]

    @property
    def rate_bps(self) -> int:
        """Rounded up, so that what is above a limit shows as such; 0 where nothing was originated."""
        return -(-self.return_count * _WHOLE_BPS // self.debit_count) if self.debit_count else 0

    @property
    def is_exceeded(self) -> bool:
        is_above = self.return_count * _WHOLE_BPS > self.limit.limit_bps * self.debit_count
        return is_above and self.return_count >= RETURNS_MIN

    def spell(self) -> str:
        """For whoever is called because of it."""
        allowed = f"{self.limit.limit_bps / 100:g} % are allowed"
        return f"{self.return_count} of {self.debit_count} debits of 60 days came back {self.limit.what}: {allowed}."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnRates:
    """What was counted of an organization.

    Args:
        updated_at: When.
    """

    org_id: str
    debit_count: int
    unauthorized_count: int
    administrative_count: int
    return_count: int
    updated_at: datetime
    version: int = 1

    def list_rates(self) -> list[Rate]:
        counted = (self.unauthorized_count, self.administrative_count, self.return_count)
        return [Rate(kind, count, self.debit_count) for kind, count in zip(RateKind, counted, strict=True)]


@dataclass(slots=True)
class Tally:
    """What is being counted.

    Args:
        newest: When the newest return of each kind was recorded.
    """

    debit_count: int = 0
    returns: dict[RateKind, int] = field(default_factory=lambda: dict.fromkeys(RateKind, 0))
    newest: dict[RateKind, datetime] = field(default_factory=dict)

    def add_debits(self, ended: Iterable[str | None]) -> None:
        """
        Args:
            ended: The outcome of each debit that a provider has taken: none where it goes well.
        """
        self.debit_count += sum(each in (None, Outcome.RETURNED) for each in ended)

    def add_returns(self, returns: Iterable[tuple[str, datetime]]) -> None:
        """
        Args:
            returns: The code of each debit that came back, empty where none is known, and when that was recorded.
        """
        for code, at in returns:
            for kind, limit in LIMITS.items():
                if limit.counts(code):
                    self.returns[kind] += 1
                    self.newest[kind] = max(at, self.newest.get(kind, at))

    def add_reversals(self, reversals: Iterable[Reversal], since: datetime) -> None:
        """
        Args:
            reversals: Of payouts: each is a debit, but for one that was never drawn.
        """
        for each in reversals:
            code = network_code_of(each.failure)
            self.debit_count += each.ordered_at > since and (each.failure is None or bool(code))
            if code and each.ended_at is not None and each.ended_at > since:
                self.add_returns([(code, each.ended_at)])

    def build(self, org_id: str, now: datetime) -> ReturnRates:
        return ReturnRates(
            org_id=org_id,
            debit_count=self.debit_count,
            unauthorized_count=self.returns[RateKind.UNAUTHORIZED],
            administrative_count=self.returns[RateKind.ADMINISTRATIVE],
            return_count=self.returns[RateKind.OVERALL],
            updated_at=now,
        )
