"""The second person's yes."""

from __future__ import annotations

from collections.abc import Collection

from services.chassis.calls.auth import current_principal
from services.chassis.values.approvals import Approval, check_checker


def check_second_person(approval: Approval, parties: Collection[str]) -> str:
    """Whether the caller may approve it. That the person is there now, `Rule.check_sign_in` asks.

    Args:
        parties: Those the caller acts for at this moment.

    Returns: Who it is.

    Raises:
        MakerIsChecker, BeneficiaryIsChecker
    """
    principal = current_principal()
    check_checker(approval, principal.person, parties)
    return principal.person
