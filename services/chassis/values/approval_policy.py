"""What an organization wants of an approval: how many persons, how lately they signed in, and until when. No I/O.

A policy only tightens. Of the rules that match an approval the strictest of each kind counts, and none of them takes
away what holds without any: one person who did not make it, within seven days.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.chassis.values.approval import VALIDITY
from services.chassis.values.currencies import MINOR_DIGITS
from services.chassis.values.money import Money

# More persons than that nobody gathers within the days that there are.
APPROVERS_MAX = 5
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """What one approval needs.

    Args:
        approvers_needed: How many persons, each another one, and none of them a maker.
        validity: For how long it can be decided.
        strong_sign_in_seconds_max: How long ago a person who approves may have signed in with more than one factor;
            None: as long ago as its issuer's settings say.
    """

    approvers_needed: int = 1
    validity: timedelta = VALIDITY
    strong_sign_in_seconds_max: int | None = None


class ApprovalRule(BaseModel):
    """What is wanted of the approvals that it matches.

    Args:
        kinds: Those of these kinds; None: of any.
        currency_code, amount_minor_from: Those that move at least this much; None: whatever they move.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: Annotated[frozenset[str], Field(min_length=1)] | None = None
    currency_code: str | None = None
    amount_minor_from: Annotated[int, Field(ge=1, lt=1 << 63)] | None = None
    approvers_needed: Annotated[int, Field(ge=1, le=APPROVERS_MAX)] = 1
    strong_sign_in_seconds_max: Annotated[int, Field(ge=1)] | None = None
    valid_for_hours: Annotated[int, Field(ge=1, le=VALIDITY // _HOUR)] | None = None

    @model_validator(mode="after")
    def _has_an_amount_or_none(self) -> Self:
        if (self.currency_code is None) != (self.amount_minor_from is None):
            raise ValueError(
                "an amount is of a currency: currency_code and amount_minor_from stand there both, or neither"
            )
        if self.currency_code is not None and self.currency_code not in MINOR_DIGITS:
            raise ValueError(f"{self.currency_code} is no currency of ISO 4217")
        return self

    def matches(self, kind: str, amounts: Iterable[Money]) -> bool:
        if self.kinds is not None and kind not in self.kinds:
            return False
        if self.amount_minor_from is None:
            return True
        return any(
            each.currency == self.currency_code and each.amount_minor >= self.amount_minor_from for each in amounts
        )


class ApprovalPolicy(BaseModel):
    """The rules of every organization, and those that single ones have beside them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    all_organizations: tuple[ApprovalRule, ...] = ()
    organizations: dict[str, tuple[ApprovalRule, ...]] = {}

    def list_rules(self, org_id: str) -> tuple[ApprovalRule, ...]:
        return (*self.all_organizations, *self.organizations.get(org_id, ()))


# Without any rule: what holds for everybody.
NO_POLICY = ApprovalPolicy()


def decide_terms(policy: ApprovalPolicy, org_id: str, kind: str, amounts: Collection[Money]) -> ApprovalTerms:
    """What an approval of this kind needs in the organization.

    Args:
        amounts: The money it moves: one amount or none, and in a book of several currencies one in each.
    """
    rules = [rule for rule in policy.list_rules(org_id) if rule.matches(kind, amounts)]
    hours = [rule.valid_for_hours for rule in rules if rule.valid_for_hours is not None]
    seconds = [rule.strong_sign_in_seconds_max for rule in rules if rule.strong_sign_in_seconds_max is not None]
    return ApprovalTerms(
        approvers_needed=max((rule.approvers_needed for rule in rules), default=1),
        validity=min((hour * _HOUR for hour in hours), default=VALIDITY),
        strong_sign_in_seconds_max=min(seconds, default=None),
    )
