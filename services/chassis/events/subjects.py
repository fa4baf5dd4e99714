"""The subjects on NATS, and the account that holds the streams."""

from __future__ import annotations

# The account on NATS that holds the streams. What a service says to JetStream there has the account in its subject, so
# that its own account, which has no JetStream, does not answer.
EVENTS_ACCOUNT = "EVENTS"
# What the processes of one service tell each other, in an account of their own: one has committed events.
COMMITTED_SUBJECT = "realco.outbox.committed"
# What gateways tell each other: what each has counted (gateway/sharing.py).
COUNTED_SUBJECT = "realco.gateway.counted"


def subject_of(event_type: str, org_id: str, scope: str) -> str:
    """`realco.escrow.v1.HoldPlaced.org-1.esc_…`: who may hear of one organization, or wants one account, can say so."""
    return f"{event_type}.{org_id}.{scope}"


def told_subject(area: str) -> str:
    """Where a service says that its stream has something new, to whoever hears it."""
    return f"realco.told.{area}"


def event_type_of(subject: str) -> str:
    """The message's full name, which a subject begins with."""
    return ".".join(subject.split(".")[:4])
