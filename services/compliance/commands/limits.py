"""What changes an organization's limits. Each runs inside the caller's transaction."""

from __future__ import annotations

from datetime import datetime

from realco.compliance.v1 import compliance_pb2 as pb

from services.chassis.data.transaction import Tx
from services.chassis.values.etags import EtagRequired, check_etag
from services.compliance import actions, messages
from services.compliance.domain.refusals import TransactionLimitIsDefault, TransactionLimitNotFound
from services.compliance.store import limits as store


async def put_transaction_limit(tx: Tx, request: pb.PutTransactionLimitRequest, now: datetime) -> pb.TransactionLimit:
    """Puts a limit in force from now on. One after another: the last one put is the one that holds. One that holds
    already stays as it is.

    Raises:
        EtagRequired: there is such a limit, and the request does not say that it replaces this one.
        EtagMismatch: it replaces another than the one in force, or one that is not there.
    """
    limit_type, currency = pb.TransactionLimit.Type.Name(request.type), request.amount.currency_code
    await store.lock_limits(tx)
    former = await store.find_limit_of(tx, limit_type, currency)
    if former is not None and not request.etag:
        raise EtagRequired("There is such a limit.", fields={"etag": "must be the etag of the limit in force"})
    check_etag(request.etag, "" if former is None else messages.etag_of_limit(former))
    if former is not None and is_set_to(former, request.amount.amount_minor):
        return actions.answer_limit(former)
    return actions.answer_limit(await store.insert_limit(tx, limit_type, currency, request.amount.amount_minor, now))


def is_set_to(former: store.LimitInForce, amount_minor: int) -> bool:
    """Whether the organization has set just this already. A default of the same amount is not what it set."""
    return not former.is_default and former.amount_minor == amount_minor


async def delete_transaction_limit(
    tx: Tx, request: pb.DeleteTransactionLimitRequest, now: datetime
) -> pb.DeleteTransactionLimitResponse:
    """Takes back a limit that the organization set; the answer is the default, where there is one.

    Raises: TransactionLimitNotFound, EtagMismatch, TransactionLimitIsDefault.
    """
    await store.lock_limits(tx)
    limit = await store.find_limit(tx, request.transaction_limit_id)
    if limit is None:
        raise TransactionLimitNotFound()
    check_etag(request.etag, messages.etag_of_limit(limit))
    if limit.is_default:
        raise TransactionLimitIsDefault("This is the default: set another limit in its place.")
    default = await store.delete_limit(tx, limit, now)
    return pb.DeleteTransactionLimitResponse(
        transaction_limit=None if default is None else actions.answer_limit(default)
    )
