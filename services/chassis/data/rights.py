"""What the roles of a service may do in its database: stated once a table, granted by migrations, compared by tests.

Two roles sign in. `<service>_app` serves requests: it sees one organization. `<service>_worker` sees all of them, for
jobs, the relay and webhooks (ADR 17). Both read a table unless it says otherwise; neither writes anything that is not
stated, so what never changes in the life of a row cannot be changed. A right to remove rows says why nobody gains by
what is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

# Every column there is.
EVERY = ("*",)
Columns = tuple[str, ...]


@dataclass(frozen=True)
class Grant:
    """Which columns of a table a role reads, sets in a new row, and changes, and why it may remove rows, if it may."""

    select: Columns = EVERY
    insert: Columns = ()
    update: Columns = ()
    delete: str = ""


NOTHING = Grant(select=())
READ = Grant()


@dataclass(frozen=True)
class Rights:
    """What the two roles may do with a table.

    Args:
        onward: Columns that change without a new version of the row, too. They only go on then, and never back.
    """

    app: Grant
    worker: Grant
    onward: Columns = ()

    def list_changing(self) -> Columns:
        """The columns of a row that anybody may change."""
        return tuple(dict.fromkeys(self.app.update + self.worker.update))


Table = Mapping[str, Rights]


def both(
    *, insert: Columns = (), update: Columns = (), onward: Columns = (), delete: str = "", forgets: str = ""
) -> Rights:
    """The same for both roles, but that a job of the worker's may forget old rows.

    Args:
        delete: Why nobody may do more when rows are removed, and nobody who gains from something is left out: what
            takes rights away, or says who gains, is only added to.
        forgets: The same, of old rows.
    """
    app = Grant(insert=insert, update=update, delete=delete)
    return Rights(app, replace(app, delete=delete or forgets), onward)


def read_only() -> Rights:
    return Rights(READ, READ)


def appended(*, forgets: str = "") -> Rights:
    """Rows are added and stay as they are."""
    return both(insert=EVERY, forgets=forgets)


_LEADER = "Who leads a work leads it no longer. What the work may do is said by the rows that it is about."
# What an event is written with: its number and its time are the database's, and it waits.
_EVENT = (
    *("org_id", "event_id", "event_type", "aggregate_id", "aggregate_version", "scope", "payload", "traceparent"),
    *("occurred_at", "seal", "proof_digest"),
)
# A lease of services/chassis/data/leases.py.
LEASE = ("due_at", "epoch", "tries")

CHASSIS: Table = {
    "alembic_version": read_only(),
    "incarnation": read_only(),
    # The worker finds what a restore has forgotten, and who looks through it is at a console; requests read both.
    "forgotten_events": Rights(READ, Grant(insert=EVERY)),
    "seen_restores": Rights(READ, Grant(insert=EVERY)),
    "seen_losses": Rights(READ, Grant(insert=EVERY)),
    "passed_messages": Rights(NOTHING, Grant(insert=EVERY)),
    "session_proofs": read_only(),
    "test_clock": read_only(),
    # The relay reads and marks; a request only leaves its events.
    "outbox": Rights(
        Grant(select=(), insert=_EVENT),
        Grant(
            insert=_EVENT,
            update=("published_at", "proof"),
            delete="It was published 35 days ago, which a trigger sees to, and all who hear of it have it.",
        ),
    ),
    "aggregate_versions": both(insert=("org_id", "aggregate_id", "version"), update=("version",)),
    "leaders": Rights(NOTHING, Grant(insert=EVERY, update=("leader", "until"), delete=_LEADER)),
    "handled_requests": both(
        insert=EVERY,
        update=("status", "answer", "answer_is_error", "seal"),
        forgets="It is 30 days old, which a trigger sees to: nobody repeats a request so late.",
    ),
    "handled_events": both(
        insert=("org_id", "consumer", "event_id", "incarnation", "seal"),
        forgets="It is 401 days old, which a trigger sees to: no event is handled so late.",
    ),
    "handled_positions": both(
        insert=EVERY, update=("stream_sequence", "incarnation", "stream_created", "handlers", "stored_at", "seal")
    ),
    # A consumer writes letters, and who sees to them is at a console: no request does.
    "dead_letters": Rights(NOTHING, Grant(insert=EVERY)),
    "seen_letters": Rights(NOTHING, Grant(insert=EVERY)),
    "stops": appended(),
    # What was asked for, by whom and for whom stays; how it went is added.
    "approvals": both(
        insert=EVERY,
        update=(
            *("version", "status", "updated_at", "signed_in_at", "api_key_id"),
            *("approvers_needed", "approver_ids", "approved_at"),
            *("approver_signed_in_at", "decided_by", "decided_at", "note", "result_id", "result", "result_hash"),
            *("failure", "comments", "seal", *LEASE),
        ),
    ),
}
HEARD_PERSONS: Table = {
    "heard_parties": both(insert=EVERY, update=("version", "aggregate_version", "seal")),
    "heard_persons": both(insert=EVERY, update=("version", "seal")),
}
