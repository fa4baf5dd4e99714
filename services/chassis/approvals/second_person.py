"""The second person's yes."""

from __future__ import annotations

from collections.abc import Collection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.sign_in import check_fresh_sign_in
from services.chassis.values.approvals import Approval, check_checker


def check_second_person(approval: Approval, parties: Collection[str]) -> str:
    """Whether the caller may approve it, and is there now: a token of this morning may be in other hands.

    Args:
        parties: Those the caller acts for at this moment.

    Returns: Who it is.

    Raises:
        MakerIsChecker, BeneficiaryIsChecker, InsufficientUserAuthentication
    """
    principal = current_principal()
    check_checker(approval, principal.person, parties)
    check_fresh_sign_in(principal)
    return principal.person
