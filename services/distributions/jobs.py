"""What a crash left, and what is due: one job a kind of saga, each doing one step at a time."""

from __future__ import annotations

from functools import partial

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.jobs import Job
from services.distributions.clients import Peers
from services.distributions.commands import sagas

_INTERVAL_SECONDS = 0.25  # a nudge wakes them sooner; an idle look is one indexed query
_KINDS = {"closings": "CLOSING", "refunds": "REFUND", "executions": "EXECUTION", "resends": "RESEND"}


def jobs(database: Database, peers: Peers, clock: Clock) -> list[Job]:
    return [
        Job(name, partial(sagas.advance_one, kind, database, peers, clock), _INTERVAL_SECONDS)
        for name, kind in _KINDS.items()
    ]
