"""Nobody alone keeps the same others stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chassis.values.refusals import RateLimited
from services.chassis.values.stops import STOPS_MAX, check_may_stop
from tests.support.approvals import NOW

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(("minutes_ago", "within", "wait_minutes"), [
    ([], HOUR, None),
    ([0] * (STOPS_MAX - 1), HOUR, None),
    ([0] * STOPS_MAX, HOUR, 60),
    ([1, 10, 59], HOUR, 1),
    ([59, 1, 10], HOUR, 1),  # in whichever order
    ([1, 2, 10, 59], HOUR, 50),  # so many have to be over
    ([1, 10, 60], HOUR, None),
    ([1, 10, 60], 2 * HOUR, 60),
])  # fmt: skip
def test_one_person_stops_the_same_so_often_and_waits_until_one_of_those_is_over(minutes_ago, within, wait_minutes):
    stopped = [NOW - timedelta(minutes=minutes) for minutes in minutes_ago]
    if wait_minutes is None:
        check_may_stop(stopped, NOW, within)
        return
    with pytest.raises(RateLimited) as refusal:
        check_may_stop(stopped, NOW, within)
    assert (refusal.value.reason, refusal.value.retry_after_seconds) == ("RATE_LIMITED", wait_minutes * 60)
