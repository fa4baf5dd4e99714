"""When somebody signed in: a token that was good all morning says who was there this morning.

A second person's yes asks for somebody who signed in just now, and with more than a password (source: RFC 9470). And
who moves money signed in after the sessions of that person were ended, if somebody ended them.
"""

from __future__ import annotations

import time
from datetime import datetime

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.session import find_next_sign_in, was_ended


class InsufficientUserAuthentication(DomainError):
    """The person must sign in again."""

    kind = Kind.UNAUTHENTICATED
    reason = "INSUFFICIENT_USER_AUTHENTICATION"


class SessionEnded(DomainError):
    """Somebody ended the person's sessions; only a new sign-in counts."""

    kind = Kind.UNAUTHENTICATED
    reason = "SESSION_ENDED"


def check_session(principal: Principal, ended_at: datetime | None) -> None:
    """
    Args:
        ended_at: When the person's sessions were ended; None: nobody ended them.

    Raises:
        SessionEnded
    """
    if ended_at is not None and was_ended(principal.signed_in_at, ended_at):
        raise SessionEnded("The session was ended. Sign in again.", sign_in_from=find_next_sign_in(ended_at))


def check_fresh_sign_in(principal: Principal, policy_seconds_max: int | None = None) -> None:
    """Whether the person signed in with more than one factor, and as lately as its issuer's settings want.

    In the time of this machine, as everything about tokens: whatever a test clock says.

    Args:
        policy_seconds_max: How long ago at most, as the organization's rules say beside its issuer's settings.

    Raises:
        InsufficientUserAuthentication
    """
    limits = [each for each in (principal.strong_seconds_max, policy_seconds_max) if each is not None]
    at, seconds_max = principal.strong_sign_in_at, min(limits, default=None)
    if seconds_max is None or (at is not None and time.time() - at <= seconds_max):
        return
    message = "This needs a sign-in with more than one factor, made just now. Sign in again, and repeat the request."
    raise InsufficientUserAuthentication(message, max_age=seconds_max, acr_values=principal.strong_levels)
