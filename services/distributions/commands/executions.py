"""The execution of a distribution: declared in escrow, then every allocation paid."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from realco.distributions.v1 import events_pb2 as events
from realco.escrow.v1 import escrow_pb2 as escrow
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.database import Database
from services.chassis.data.outbox import enqueue
from services.chassis.values.errors import DomainError
from services.chassis.values.invariant import invariant
from services.distributions.clients import Escrow
from services.distributions.commands import distributions as commands
from services.distributions.errors import DistributionNotFound
from services.distributions.store import distributions as store
from services.distributions.store import investments as investments_store
from services.distributions.store import rows, sagas
from services.distributions.tables import allocations, distributions, offerings


async def declare_request(tx: AsyncConnection, distribution_id: str) -> escrow.DeclareDistributionRequest:
    """What escrow is asked: the same request every time, because nothing of a queued distribution changes."""
    query = (
        sa.select(allocations.c.party_id, sa.cast(sa.func.sum(allocations.c.total_minor), sa.BigInteger))
        .where(allocations.c.distribution_id == distribution_id)
        .group_by(allocations.c.party_id)  # a sponsor that invests too is owed both in one account
        .order_by(allocations.c.party_id)
    )
    owed = (await tx.execute(query)).all()
    account = sa.select(offerings.c.escrow_account_id, offerings.c.currency).where(
        offerings.c.offering_id
        == sa.select(distributions.c.offering_id)
        .where(distributions.c.distribution_id == distribution_id)
        .scalar_subquery()
    )
    escrow_account_id, currency = (await tx.execute(account)).one()
    return escrow.DeclareDistributionRequest(
        idempotency_key=f"dist:{distribution_id}",
        escrow_account_id=escrow_account_id,
        distribution_id=distribution_id,
        payables=[
            escrow.PartyAmount(party_id=party_id, amount={"currency_code": currency, "amount_minor": amount})
            for party_id, amount in owed
        ],
    )


async def declared(database: Database, saga: rows.Row, now: datetime) -> None:
    """Escrow owes every payee: from here on the distribution is part of the waterfall's past."""
    async with database.begin() as tx:
        await sagas.record(tx, saga, "PAY", now)
        offering, row = await commands.lock(tx, saga.subject_id)
        # The facts are those it was calculated on: nothing was declared since, and capital changes in no other way.
        result = await commands.run_waterfall(tx, offering, row)
        invariant(
            row.basis_version == offering.declarations
            and commands.hash_of(offering, row, result) == row.content_hash == row.approved_hash,
            "what was declared is what was approved",
        )
        await investments_store.save_lots(tx, result.after.lots, now)
        await rows.save(
            tx,
            offerings,
            offering.offering_id,
            declarations=offering.declarations + 1,
            declared_through=row.distribution_date,
            updated_at=now,
        )
        row = await rows.save(
            tx, distributions, row.distribution_id, status="PROCESSING", declared_at=now, updated_at=now
        )
        await store.move_allocations(tx, row.distribution_id, "PROCESSING", now)
        lines = await store.allocations_of(tx, row.distribution_id)
        await commands.request_payouts(tx, offering, list(lines), saga.saga_id, now)
        message = await store.describe_one(tx, row)
        await enqueue(tx, events.DistributionDeclared(distribution=message), now=now)


async def declaration_refused(database: Database, saga: rows.Row, refusal: DomainError, now: datetime) -> None:
    """Escrow refused, so nothing is owed: the distribution failed, and another may be drafted."""
    async with database.begin() as tx:
        await sagas.record(tx, saga, "DONE", now)
        _, row = await commands.lock(tx, saga.subject_id)
        failure = f"{refusal.reason}: {refusal.message}"
        await store.move_allocations(tx, row.distribution_id, "CANCELLED", now)
        row = await rows.save(tx, distributions, row.distribution_id, status="FAILED", failure=failure, updated_at=now)
        message = await store.describe_one(tx, row)
        await enqueue(tx, events.DistributionFailed(distribution=message), now=now)


async def look(database: Database, peer: Escrow, distribution_id: str) -> commands.Cash:
    """What escrow holds for the distribution's offering, read before any transaction. Raises: DistributionNotFound."""
    async with database.begin() as tx:
        row = await rows.find(tx, distributions, distribution_id)
        if row is None:
            raise DistributionNotFound("No such distribution.")
        offering = await rows.find(tx, offerings, row.offering_id)
    assert offering is not None
    account = await peer.get_escrow_account(offering.escrow_account_id)
    balance = await peer.get_balance(offering.escrow_account_id)
    return commands.Cash(
        offering.escrow_account_id,
        escrow.EscrowAccount.Status.Name(account.status),
        sum(
            each.available.amount_minor
            for each in balance.ledger_accounts
            if each.ledger_account.kind == escrow.LedgerAccount.DISTRIBUTABLE
        ),
    )
