"""An execution begins: the distribution is still what was approved, and there is cash. sagas.py has what follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from realco.distributions.v1 import distributions_pb2 as pb
from realco.distributions.v1 import events_pb2 as events
from realco.escrow.v1 import escrow_accounts_pb2, journal_pb2

from services.chassis.approvals.notary import Witnessed
from services.chassis.calls.wire import from_enum
from services.chassis.data.database import Database
from services.chassis.data.operations import Operations
from services.chassis.data.restores import check_restore_seen
from services.chassis.data.transaction import Tx
from services.chassis.values.accounts import check_takes_money
from services.chassis.values.etags import check_etag
from services.chassis.values.invariant import invariant, require_present
from services.distributions.actions import answer_distribution
from services.distributions.clients import Escrow
from services.distributions.commands.distributions.calculations import is_result_of, work_out_again
from services.distributions.commands.mandates import mandate_of_caller
from services.distributions.domain.distribution import Distribution, check_may_execute
from services.distributions.domain.offering import Offering
from services.distributions.domain.refusals import (
    DistributionInProgress,
    InsufficientDistributableCash,
)
from services.distributions.domain.sagas import SagaKind
from services.distributions.domain.states import DistributionStatus
from services.distributions.store.allocations import list_allocations_of, sum_by_payee
from services.distributions.store.approvals import DISTRIBUTION_APPROVALS
from services.distributions.store.counted_journals import check_counted
from services.distributions.store.distributions import (
    find_being_declared,
    lock_distribution,
    require_distribution,
    save_distribution,
)
from services.distributions.store.offerings import require_offering
from services.distributions.store.sagas import insert_saga

_OWED = (journal_pb2.LedgerAccount.RETURNS_RECEIVABLE,)


@dataclass(frozen=True, slots=True)
class Cash:
    """What escrow says of an offering's money.

    Args:
        distributable_minor: What stands on DISTRIBUTABLE, and is not held.
        available_minor: Of the whole escrow account: less, where the bank took back what had been paid on.
        set_off_minor: What the payees owe of that, as far as it is set off against what they are owed.
    """

    escrow_account_id: str
    escrow_status: str
    distributable_minor: int
    available_minor: int
    set_off_minor: int = 0


async def read_cash(database: Database, peer: Escrow, distribution_id: str) -> Cash:
    """What escrow holds for the distribution's offering, read before any transaction. Raises: DistributionNotFound."""
    async with database.begin() as tx:
        distribution = await require_distribution(tx, distribution_id)
        offering = await require_offering(tx, distribution.offering_id)
        owed = await sum_by_payee(tx, distribution)
    account = await peer.get_escrow_account(offering.escrow_account_id)
    account = require_present(account, "the escrow account of an offering is there")
    balance = await peer.get_escrow_account_balance(offering.escrow_account_id)
    receivables = await peer.list_balances(offering.escrow_account_id, _OWED) if offering.sets_off else ()
    return Cash(
        offering.escrow_account_id,
        from_enum(escrow_accounts_pb2.EscrowAccount.Status, account.status),
        sum(
            each.available.amount_minor
            for each in balance.ledger_accounts
            if each.ledger_account.kind == journal_pb2.LedgerAccount.DISTRIBUTABLE
        ),
        balance.available.amount_minor,
        sum(min(owed.get(each.ledger_account.party_id, 0), each.posted.amount_minor) for each in receivables),
    )


async def witness_execution(
    operations: Operations, witnessed: Witnessed, request: pb.ExecuteDistributionRequest, cash: Cash
) -> None:
    """Has the notary hear that the caller executes it, before it is queued. What the command refuses is not said.

    Raises:
        Unavailable, and as the command does.
        DomainError: not as many as it takes have approved it, as things are.
    """
    queued = await operations.rehearse(
        request, pb.Distribution, lambda tx, request, now: execute_distribution(tx, request, cash, now)
    )
    kind, content_hash = DISTRIBUTION_APPROVALS.kind, queued.content_hash
    await witnessed.record_execution(kind, request.distribution_id, content_hash, validate_only=request.validate_only)


async def execute_distribution(
    tx: Tx, request: pb.ExecuteDistributionRequest, cash: Cash, now: datetime
) -> pb.Distribution:
    """Queues an approved distribution; the saga does the rest. `cash` was read before the transaction.

    What escrow would refuse is refused here while nothing has changed: a declaration that escrow refuses fails the
    distribution for good, and two persons begin again.

    Raises, among what its checks do: RestoreNotSeen: what was executed since the backup may have outdated it;
        OfferingNotCounted.
    """
    await check_restore_seen(tx)
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    check_etag(request.etag, distribution.etag)
    check_may_execute(offering, distribution, now)
    await check_counted(tx, offering.escrow_account_id)
    await _check_approved_content(tx, offering, distribution)
    in_progress = await find_being_declared(tx, offering.offering_id)
    if in_progress is not None:
        raise DistributionInProgress("Another distribution is being declared.", distribution_id=in_progress)
    check_takes_money(cash.escrow_account_id, cash.escrow_status)
    available_minor = min(cash.distributable_minor, cash.available_minor + cash.set_off_minor)
    if available_minor < distribution.amount_minor:
        raise InsufficientDistributableCash(
            "So much cannot be distributed: of DISTRIBUTABLE what nobody holds, and no more than escrow has available.",
            available_minor=available_minor,
            requested_minor=distribution.amount_minor,
            currency_code=distribution.currency,
        )
    # As the last approval has it, beside who executes it: whoever made it what it is, and whoever approved that.
    approval = require_present(
        await DISTRIBUTION_APPROVALS.find_last(tx, distribution.distribution_id), "what is executed was approved"
    )
    mandate = mandate_of_caller().join(approval.makers_and_checkers)
    saga_id = await insert_saga(tx, SagaKind.EXECUTION, distribution.distribution_id, mandate)
    queued = replace(distribution, status=DistributionStatus.QUEUED, expires_at=None, execution_saga_id=saga_id)
    after, _ = await save_distribution(tx, distribution, queued, events.DistributionQueued(), now)
    return answer_distribution(offering, after, now)


async def _check_approved_content(tx: Tx, offering: Offering, distribution: Distribution) -> None:
    """What is paid is what was approved, to each payee, and by now still. Raises: ContentOutdated."""
    result = await work_out_again(tx, offering, distribution)
    kept = await list_allocations_of(tx, distribution.distribution_id)
    invariant(is_result_of(offering, distribution, kept, result), "tiers and allocations are those that were approved")
