"""What a person has to look at: reported by whoever finds it, taken and resolved by persons.

`report` (store/exception_reports.py) is the way to say so with its fact, `report_apart` where no transaction records
it. A payout that ends unpaid says so with its move (store/unpaid_payouts.py). Each tells the operators (a log line
named as the kind, and a metric), and keeps the exception for those who work on money. The table of kinds is in
domain/exception_kinds.py; docs/exceptions.md says what a new one takes.

What belongs to no organization, a payment that nobody ordered or a file of the bank that nobody can read, is kept for
the operator's organization (`OPERATOR_ORG_ID`), and for no other: to whom it belongs is just what is not known, and to
show it to several would tell one of another's payments. Where no such organization is named, the log and the metric
alone have it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from realco.transactions.v1 import exceptions_pb2 as pb

from services.chassis.calls.auth import acting_as, current_principal, service_principal
from services.chassis.calls.parties import Parties
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.values.etags import check_etag
from services.chassis.values.second_person import check_beneficiary
from services.chassis.values.session import Identity
from services.transactions.actions import answer_payment_exception
from services.transactions.commands.beneficiaries import list_beneficiaries
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain import exceptions as rules
from services.transactions.domain.exceptions import About, ExceptionKind, PaymentException
from services.transactions.domain.transaction import Transaction
from services.transactions.store import exceptions as store
from services.transactions.store.exception_reports import report, tell
from services.transactions.store.transactions import find_transaction


def describe_transaction(row: Transaction, payment_id: str | None = None) -> About:
    """
    Args:
        payment_id: The provider's payment for it, where there is one.
    """
    return About(
        transaction_id=row.transaction_id,
        bank_account_id=row.bank_account_id,
        provider=row.provider,
        provider_payment_id=payment_id,
        amount=row.amount,
    )


async def report_apart(
    dependencies: Dependencies, org_id: str | None, kind: ExceptionKind, about: About, cause: str, **more: object
) -> None:
    """`report` in a transaction of its own, where no other records the fact.

    Args:
        org_id: Whose it is; None where nobody can say.
    """
    owner = org_id or dependencies.operator_org_id
    if not owner:
        tell(kind, about, cause, **more)
        return
    with acting_as(service_principal(NAME, owner)):
        async with dependencies.database.begin() as tx:
            report(tx, kind, about, cause, dependencies.clock.now(), **more)


async def assign_payment_exception(
    tx: Tx, request: pb.AssignPaymentExceptionRequest, now: datetime
) -> pb.PaymentException:
    """Gives it to a person, or back to nobody.

    Raises: PaymentExceptionNotFound, EtagMismatch, IllegalStatusChange, TooManyStops.
    """
    before = await _lock_as_read(tx, request.payment_exception_id, request.etag)
    after = rules.assign(before, request.person_id or None)
    if after != before:
        if before.assignee not in (None, current_principal().person):
            await note_stop(tx, "ASSIGN_PAYMENT_EXCEPTION", before.payment_exception_id, now)
        after = await store.save_exception(tx, before, after, now)
    return answer_payment_exception(after, await store.read_involved(tx, after))


class Gain(NamedTuple):
    """Who gains from what an exception is about, asked before the transaction.

    Args:
        beneficiary_party_ids: Also those that gain where the payment is credited.
        parties: For whom the caller acts, or did not long ago.
    """

    beneficiary_party_ids: frozenset[str]
    parties: Collection[str]


async def ask_who_gains(
    dependencies: Dependencies, parties: Parties, request: pb.ResolvePaymentExceptionRequest
) -> Gain:
    """Raises: PaymentExceptionNotFound, NotSealed, SessionEnded, Unavailable."""
    async with dependencies.database.begin() as tx:
        found = await store.require_exception(tx, request.payment_exception_id)
        row = await find_transaction(tx, found.transaction_id) if found.transaction_id else None
        involved = await store.read_involved(tx, found)
    gaining = involved.party_ids | (await list_beneficiaries(row, dependencies.peers) if row is not None else set())
    me = Identity(current_principal().person)
    standings = await parties.list_standings({me})
    return Gain(gaining, standings[me].parties)


async def resolve_payment_exception(
    tx: Tx, request: pb.ResolvePaymentExceptionRequest, gain: Gain, now: datetime
) -> pb.PaymentException:
    """
    Raises:
        PaymentExceptionNotFound, EtagMismatch, IllegalStatusChange, MakerIsChecker, BeneficiaryIsChecker
    """
    before, person = await _lock_as_read(tx, request.payment_exception_id, request.etag), current_principal().person
    involved = await store.read_involved(tx, before)
    rules.check_may_resolve(before, involved, person)
    check_beneficiary(gain.beneficiary_party_ids, gain.parties)
    after = rules.resolve(before, person, request.note, now)
    after = await store.save_exception(tx, before, after, now, note=request.note)
    return answer_payment_exception(after, involved)


async def _lock_as_read(tx: Tx, exception_id: str, etag: str) -> PaymentException:
    found = await store.require_locked(tx, exception_id)
    check_etag(etag, found.etag)
    return found
