"""How often one person alone stops money or work of the same others, so that nobody keeps it stopped. No I/O.

Stopping needs no second person, and letting it go on takes two, or a day. Whoever does it over and over is refused;
somebody else may do it all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from services.chassis.values.errors import DomainError, Kind

# A mistake, or a stolen token, takes one or two.
STOPS_MAX = 3
# Where two persons put it right at once.
STOPS_WITHIN = timedelta(hours=1)


class TooManyStops(DomainError):
    """No rate limit: what was refused is not sent again soon, but done by another person, or much later."""

    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_STOPS"


def check_may_stop(stopped: Iterable[datetime], now: datetime, within: timedelta) -> None:
    """Whether the same may be stopped once more.

    Args:
        stopped: When one person stopped it.

    Raises: TooManyStops.
    """
    lately = sorted((at for at in stopped if at > now - within), reverse=True)
    if len(lately) >= STOPS_MAX:
        message = f"You have done this to the same {STOPS_MAX} times lately. Another person still can; you can later."
        raise TooManyStops(message, stops_max=STOPS_MAX, next_time=lately[STOPS_MAX - 1] + within)
