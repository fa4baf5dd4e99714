"""For how many days is kept what an event leaves behind, and how old an event may be that is handled.

One follows from another: an event is dropped as a repeat for as long as it can come again, and what is older than
`handled_events` remembers for certain is not handled.
"""

from __future__ import annotations

# For how long whoever hears of events may be away and miss none; docs/subscribing.md promises it.
EVENTS_KEPT_DAYS = 365
# For how long NATS can be rebuilt from the outboxes.
OUTBOX_DAYS = 35
# On its last day in the outbox an event may be published again, and be in its stream for all of its time from then on.
# No event of ours is older when it comes. One that is was told again by somebody who kept it.
EVENT_AGE_DAYS_MAX = OUTBOX_DAYS + EVENTS_KEPT_DAYS
# An event is handled after it occurred, so it is remembered for longer than it may come. The day is for the clocks.
HANDLED_EVENTS_DAYS = EVENT_AGE_DAYS_MAX + 1
