"""What other services order of the book."""

from __future__ import annotations

import hashlib
from typing import Any

from realco.escrow.v1 import postings_pb2 as postings_pb

from services.chassis.values.ids import new_id
from tests.support.escrow import key, usd


def payout(account: str, type_: str, minor: int, currency: str = "USD", **values: Any) -> Any:
    given = {"idempotency_key": key(), "transaction_id": new_id("txn"), "party_id": "inv-001", **values}
    amount = {"currency_code": currency, "amount_minor": minor}
    return postings_pb.BatchBookPayoutsRequest.Item(escrow_account_id=account, type=type_, amount=amount, **given)


def parts(*amounts: tuple[str, int]) -> list[postings_pb.PartyAmount]:
    return [postings_pb.PartyAmount(party_id=party_id, amount=usd(minor)) for party_id, minor in amounts]


def decision() -> str:
    """The content_hash of what two persons decided, and nobody before."""
    return hashlib.sha256(key().encode()).hexdigest()


def release(
    account: str, *amounts: tuple[str, int], idempotency_key: str = ""
) -> postings_pb.ReleaseSubscriptionsRequest:
    return postings_pb.ReleaseSubscriptionsRequest(
        idempotency_key=idempotency_key or decision(),
        escrow_account_id=account,
        offering_id="off_" + "0" * 26,
        subscriptions=parts(*amounts),
    )


def declaration(account: str, *amounts: tuple[str, int]) -> postings_pb.DeclareDistributionRequest:
    return postings_pb.DeclareDistributionRequest(
        idempotency_key=decision(),
        escrow_account_id=account,
        distribution_id="dist_" + "0" * 26,
        payables=parts(*amounts),
    )
