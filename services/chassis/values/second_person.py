"""Who is a second person: who had no part in making it, and acts for nobody who gains from it. No I/O.

Persons are compared, not the accounts they sign in with.
"""

from __future__ import annotations

from collections.abc import Collection

from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.refusals import MakerIsChecker


class BeneficiaryIsChecker(DomainError):
    kind = Kind.PERMISSION_DENIED
    reason = "BENEFICIARY_IS_CHECKER"


def check_second_person(
    person: str, parties: Collection[str], makers: Collection[str], beneficiary_party_ids: Collection[str]
) -> None:
    """Whether this person may say yes: who had no part in making it, and acts for nobody who gains from it.

    Raises: MakerIsChecker, BeneficiaryIsChecker.
    """
    check_no_maker(makers, person)
    check_beneficiary(beneficiary_party_ids, parties)


def check_no_maker(makers: Collection[str], person: str) -> None:
    """Raises MakerIsChecker where somebody is to decide, be it yes or no, on what they had a part in making."""
    if person in makers:
        raise MakerIsChecker("You had a part in making it; another person decides.")


def check_beneficiary(beneficiary_party_ids: Collection[str], parties: Collection[str]) -> None:
    """Raises BeneficiaryIsChecker where somebody who acts for these parties is to decide what those gain from."""
    if gaining := sorted(frozenset(beneficiary_party_ids) & frozenset(parties)):
        message = "You act for a party that gains from it; another person decides."
        raise BeneficiaryIsChecker(message, party_id=gaining[0])
