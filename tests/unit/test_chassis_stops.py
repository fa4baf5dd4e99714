"""Nobody alone keeps the same others stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chassis.values.stops import STOPS_MAX, TooManyStops, check_may_stop
from services.chassis.values.times import write_time
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
    with pytest.raises(TooManyStops) as refusal:
        check_may_stop(stopped, NOW, within)
    next_at = NOW + timedelta(minutes=wait_minutes)
    assert refusal.value.metadata == {"stops_max": str(STOPS_MAX), "next_time": write_time(next_at)}
    assert "Another person still can" in refusal.value.message
    check_may_stop(stopped, next_at, within)
