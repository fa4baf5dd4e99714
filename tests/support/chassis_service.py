"""A whole service made of the chassis alone, for tests: `python -m tests.support.chassis_service`.

PlaceHold writes a note named after its idempotency_key and an event; the event comes back and writes `heard <name>`.
Three names are told apart: `slow` takes a second, `refused` is refused, `fatal` kills the jobs' task.
"""

from __future__ import annotations

import asyncio
import os
import sys

from realco.escrow.v1 import events_pb2, holds_pb2_grpc
from realco.escrow.v1 import holds_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.parties import NoParties
from services.chassis.data import outbox, schema
from services.chassis.data.database import Database
from services.chassis.data.once import once
from services.chassis.events.handling import Subscription
from services.chassis.process.jobs import Job
from services.chassis.process.main import run
from services.chassis.process.settings import Settings
from services.chassis.runtime.runtime import Runtime
from services.chassis.values.errors import DomainError, Kind
from tests.support import chassis


class Refusal(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "REFUSED"


class Servicer(holds_pb2_grpc.HoldsServiceServicer):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def PlaceHold(self, request, context):
        async def place(tx) -> pb.Hold:
            if request.idempotency_key == "refused":
                raise Refusal("No.")
            await chassis.add_note(tx, request.idempotency_key)
            hold = pb.Hold(hold_id=request.idempotency_key, escrow_account_id=request.escrow_account_id)
            await outbox.enqueue(tx, events_pb2.HoldPlaced(hold=hold), now=chassis.NOW)
            return hold

        answer = await once(self._database, request, pb.Hold, place)
        if request.idempotency_key == "slow":
            await asyncio.sleep(1)
        return answer


async def _heard(tx, event, delivery) -> None:
    await chassis.add_note(tx, f"heard {event.hold.hold_id}", current_principal().org_id)


SUBSCRIPTION = Subscription("chassis-test-service", {events_pb2.HoldPlaced: _heard}, is_about_money=True)


# The database is a test's own, without the migrations of the service whose name (and events) are borrowed.
WITHOUT_MIGRATIONS = schema.ROOT / "nowhere"


class Fatal(BaseException):
    """What no loop may catch."""


async def main(settings: Settings) -> None:
    async with Runtime.start("escrow", settings) as runtime:

        async def look() -> int:
            if "fatal" in await chassis.note_ids(runtime.database):
                raise Fatal
            return 0

        servicer = Servicer(runtime.database)
        jobs = [Job("look", look, interval_seconds=0.2)]
        await runtime.serve([servicer], NoParties(), [SUBSCRIPTION], jobs)


if __name__ == "__main__":
    assert os.environ["ENVIRONMENT"] == "local"
    schema.ROOT = WITHOUT_MIGRATIONS
    sys.exit(run(main, Settings))
