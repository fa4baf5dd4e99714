"""Whether money of a party may move: each required check PASSED, and not too long ago. Anything else is no."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.chassis.values.approval import LOCKED_OUT_RULE
from services.chassis.values.explanation import Explanation
from services.chassis.values.refusals import IllegalStatusChange
from services.chassis.values.second_person import BeneficiaryIsChecker, check_no_maker
from services.compliance.domain.checks import CheckStatus, ComplianceCheck


@dataclass(frozen=True, slots=True)
class RequiredCheck:
    """
    Args:
        rests_on: The facts of a party (see parties.Party) whose change asks the question again.
    """

    check_type: str
    rests_on: tuple[str, ...]


# The one list of them: whoever adds a check adds a line, and the value of the contract that names it.
REQUIRED_CHECKS: tuple[RequiredCheck, ...] = (
    # Whom the limits hold for rests on accreditation: nobody lifts them alone.
    RequiredCheck("KYC", rests_on=("kind", "legal_name", "accreditation")),
    RequiredCheck("OFAC", rests_on=("kind", "legal_name")),
)
# Who passes it says, too, that those whom it names act for the party.
ADMITTING_CHECK = "KYC"
# A person's answer is good for a year; then it is asked again. A house rule: no statute sets the interval.
VALIDITY = timedelta(days=365)
_SOURCE = "house rule: a person passes each check, and the answer is good for 365 days"
EXPIRED = Explanation("The last answer expired.", "VALIDITY", source="house rule: an answer is good for 365 days")

ENDED = Explanation("It was asked for in a session that was ended.", "SESSION", source=LOCKED_OUT_RULE)


@dataclass(frozen=True, slots=True)
class Check:
    """The latest check of one type.

    Args:
        because: Why it is asked again; empty the first time.
    """

    status: str
    expires_at: datetime | None
    because: str = ""


# What is missing of a party nobody has heard of.
UNKNOWN: tuple[Explanation, ...] = (Explanation("there is no such party", "PARTY", source=_SOURCE),)


def list_required_types() -> list[str]:
    return [required.check_type for required in REQUIRED_CHECKS]


def list_facts(check_type: str) -> frozenset[str]:
    """The facts of a party that a check of this type is about."""
    return frozenset(next(each.rests_on for each in REQUIRED_CHECKS if each.check_type == check_type))


def list_restated(check_types: Iterable[str], written: Iterable[str]) -> frozenset[str]:
    """Those of the checks whose facts the writer names all, be they the same or others: who names fewer takes the rest
    over from whoever wrote it, unseen."""
    named = frozenset(written)
    return frozenset(check_type for check_type in check_types if list_facts(check_type) <= named)


NO_CHECK = Check("PENDING", None)


def checks_at(checks: Mapping[str, Check], now: datetime) -> dict[str, Check]:
    """The checks as they count at `now`: a PASSED that ran out is EXPIRED, whether a job has written it or not."""
    return {
        name: replace(check, status="EXPIRED")
        if check.status == "PASSED" and check.expires_at is not None and check.expires_at <= now
        else check
        for name, check in checks.items()
    }


def list_missing(checks: Mapping[str, Check]) -> tuple[Explanation, ...]:
    """Each required check that is not PASSED; empty if the party is cleared."""
    found = ((name, checks.get(name, NO_CHECK)) for name in list_required_types())
    return tuple(
        _explain_missing(name, check.status, check.because) for name, check in found if check.status != "PASSED"
    )


def _explain_missing(check_type: str, status: str, because: str) -> Explanation:
    operands = [("check", check_type), ("status", status)]
    if because:
        operands.append(("asked again", because))
    return Explanation(f"{check_type} is {status}", check_type, tuple(operands), _SOURCE)


def list_makers(former_status: str, former_makers: Collection[str], writer: str) -> tuple[str, ...]:
    """Who may not decide on a party's facts after `writer` has changed them.

    What another person has passed needs no second look; who wrote what nobody has passed yet stays a maker of it.

    Args:
        former_status: Of the check before; empty if there was none.
    """
    undecided = () if former_status in ("", "PASSED") else former_makers
    return tuple(sorted({*undecided, writer}))


def check_may_review(
    check: ComplianceCheck, persons: Collection[str], reviewer: str, to: CheckStatus = CheckStatus.PASSED
) -> None:
    """Whether this person may answer a check of a party.

    Args:
        persons: Who acts for the party, waits to, or did not long ago.
        to: What the answer makes of it.

    Raises:
        IllegalStatusChange, MakerIsChecker, BeneficiaryIsChecker
    """
    if check.status is not CheckStatus.MANUAL_REVIEW:
        raise IllegalStatusChange(check.status, to)
    check_no_maker(check.makers, reviewer)
    if reviewer in persons:
        raise BeneficiaryIsChecker("You act for the party, or are to; ask another admin.", party_id=check.party_id)
