"""Whoever has the signing key and the certificate of one service, and nothing else of it, moves no money."""

from __future__ import annotations

from typing import Any

import pytest
from realco.compliance.v1 import clearances_pb2, clearances_pb2_grpc, notary_pb2, notary_pb2_grpc
from realco.escrow.v1 import postings_pb2
from realco.type.v1.money_pb2 import Money

from demo.harness.money import minor_of
from demo.harness.rest import Json
from services.chassis.values.ids import new_id
from tests.e2e.organization import Organization
from tests.e2e.takeover_scene import read_log
from tests.e2e.thief import PAYOUTS, Thief


@pytest.fixture(scope="module")
def offering(org: Organization) -> Json:
    """Closed, with 200.00 to distribute."""
    closed = org.make_closed_offering(500_00)
    org.add_distributable_cash(closed, 200_00)
    return closed


def _part(party_id: str, minor: int) -> postings_pb2.PartyAmount:
    return postings_pb2.PartyAmount(party_id=party_id, amount=Money(currency_code="USD", amount_minor=minor))


def _declaration(offering: Json, distribution: Json, *parts: tuple[str, int], key: str = "") -> Any:
    return postings_pb2.DeclareDistributionRequest(
        idempotency_key=key or distribution["contentHash"],
        escrow_account_id=offering["escrowAccountId"],
        distribution_id=distribution["distributionId"],
        payables=[_part(*each) for each in parts],
    )


def test_the_key_of_distributions_declares_only_what_persons_decided_and_executed_and_once(
    org: Organization, offering: Json
) -> None:
    account, thief, crook = offering["escrowAccountId"], Thief(org, "distributions"), org.add_cleared_party()
    draft = org.calculate_distribution(offering, 100_00)
    before = org.read_ledger(account)
    with_key_alone = Thief(org, "distributions", certificate="gateway")
    assert with_key_alone.pay(account, crook, 100_00) == dict.fromkeys(PAYOUTS, "UNAUTHENTICATED")
    assert thief.pay(account, crook, 100_00) == dict.fromkeys(PAYOUTS, "PAYOUT_NOT_ORDERED")
    assert thief.order("DeclareDistribution", _declaration(offering, draft, (crook, 100_00))) == "MOVEMENT_NOT_ORDERED"
    approved = org.approve_distribution(offering, 100_00)
    path = f"/distributions/{approved['distributionId']}/allocations"
    owed = [(each["partyId"], minor_of(each["amount"])) for each in org.admin.get(path)["allocations"]]
    (payee, minor), *rest = owed
    tries = {
        "to another party": _declaration(offering, approved, (crook, minor), *rest),
        "a cent more": _declaration(offering, approved, (payee, minor + 1), *rest),
        "to one more party": _declaration(offering, approved, *owed, (crook, 1)),
        "under another key": _declaration(offering, approved, *owed, key="f" * 64),
        "for what nobody approved": _declaration(offering, draft, *owed, key=approved["contentHash"]),
    }
    refused = {what: thief.order("DeclareDistribution", request) for what, request in tries.items()}
    assert refused == dict.fromkeys(tries, "MOVEMENT_NOT_ORDERED")
    assert org.read_ledger(account) == before

    decided = _declaration(offering, approved, *owed)
    assert thief.order("DeclareDistribution", decided) == "MOVEMENT_NOT_ORDERED", "nobody executed it"
    assert org.read_ledger(account) == before
    org.admin.post(f"/distributions/{approved['distributionId']}/execute", etag=approved["etag"])
    org.wait_for_distribution(approved["distributionId"], "COMPLETED")
    first, again = thief.order("DeclareDistribution", decided), thief.order("DeclareDistribution", decided)
    assert first.journal_entry_id == again.journal_entry_id
    assert org.read_ledger(account)["distributable"] == before["distributable"] - 100_00


def test_the_key_of_distributions_declares_nothing_that_was_approved_and_is_taken_back_before_anybody_executes_it(
    org: Organization, offering: Json
) -> None:
    account, thief = offering["escrowAccountId"], Thief(org, "distributions")
    approved = org.approve_distribution(offering, 100_00)
    before, path = org.read_ledger(account), f"/distributions/{approved['distributionId']}"
    owed = [(each["partyId"], minor_of(each["amount"])) for each in org.admin.get(f"{path}/allocations")["allocations"]]
    declaration = _declaration(offering, approved, *owed)
    log = read_log(org.instance, "compliance")
    assert org.admin.post(f"{path}/execute", {"validateOnly": True}, etag=approved["etag"])["status"] == "QUEUED"
    assert thief.order("DeclareDistribution", declaration) == "MOVEMENT_NOT_ORDERED"
    notary = notary_pb2_grpc.NotaryServiceStub
    movement = notary_pb2.Movement(
        kind=notary_pb2.Movement.APPROVE_DISTRIBUTION,
        resource_id=approved["distributionId"],
        content_hash=approved["contentHash"],
        escrow_account_id=account,
        lines=[notary_pb2.Movement.Line(party_id=part.party_id, amount=part.amount) for part in declaration.payables],
    )
    asked = notary_pb2.RecordExecutionRequest(movement=movement)
    assert thief.call("compliance", notary, "RecordExecution", asked) == "PERMISSION_DENIED", "a person says it"
    assert thief.order("DeclareDistribution", declaration) == "MOVEMENT_NOT_ORDERED"
    org.second_admin.decide(path, "reject", {"note": "not now"})
    assert thief.order("DeclareDistribution", declaration) == "MOVEMENT_NOT_ORDERED"
    assert org.read_ledger(account) == before
    told = [line["resource_id"] for line in log() if line["event"] == "movement_not_decided"]
    assert told.count(approved["distributionId"]) == 3


def test_the_key_of_distributions_declares_nothing_before_as_many_persons_decided_as_the_rules_want(
    org: Organization, offering: Json
) -> None:
    [rule] = org.admin.get("/me")["approvalRules"]  # of a local instance
    thief, there = Thief(org, "distributions"), org.read_ledger(offering["escrowAccountId"])["distributable"]
    large = minor_of(rule["amountFrom"])
    once = org.approve_distribution(offering, large)
    path = f"/distributions/{once['distributionId']}"
    [waiting] = org.second_admin.get("/approvals", resourceId=once["distributionId"])["approvals"]
    assert (once["status"], waiting["approversNeeded"], len(waiting["approvers"])) == ("PENDING_APPROVAL", 2, 1)
    owed = [(each["partyId"], minor_of(each["amount"])) for each in org.admin.get(f"{path}/allocations")["allocations"]]
    declaration = _declaration(offering, once, *owed)
    assert thief.order("DeclareDistribution", declaration) == "MOVEMENT_NOT_ORDERED"
    twice = org.sign_in("admin", "admin-3").decide(path, "approve", {"contentHash": once["contentHash"]})
    assert twice["status"] == "APPROVED"
    assert thief.order("DeclareDistribution", declaration) == "MOVEMENT_NOT_ORDERED", "nobody executed it"
    for total in (large // 2, large):  # each half is less than what needs more persons
        org.add_distributable_cash(offering, large // 2, total_minor=there + total)
    org.admin.post(f"{path}/execute", etag=twice["etag"])
    org.wait_for_distribution(once["distributionId"], "PROCESSING", "COMPLETED")


def test_the_key_of_distributions_releases_no_subscription(org: Organization) -> None:
    offering, investor = org.open_offering(500_00), org.add_cleared_party()
    org.fund_investment(offering, investor, 500_00)
    account, thief = offering["escrowAccountId"], Thief(org, "distributions")
    before = org.read_ledger(account)
    asked = postings_pb2.ReleaseSubscriptionsRequest(
        idempotency_key="f" * 64,
        escrow_account_id=account,
        offering_id=offering["offeringId"],
        subscriptions=[_part(investor, 500_00)],
    )
    assert thief.order("ReleaseSubscriptions", asked) == "MOVEMENT_NOT_ORDERED"
    assert org.read_ledger(account) == before


def test_the_key_of_transactions_takes_no_money_off_the_book(org: Organization) -> None:
    offering, investor = org.open_offering(500_00), org.add_cleared_party()
    contribution = org.fund_investment(offering, investor, 500_00)
    account, thief = offering["escrowAccountId"], Thief(org, "transactions")
    before = org.read_ledger(account)
    for transaction_id in (contribution["transactionId"], new_id("txn")):
        item = postings_pb2.BatchBookPayoutsRequest.Item(
            idempotency_key="txn:mine:1:submit",
            escrow_account_id=account,
            transaction_id=transaction_id,
            type="REFUND",
            party_id=investor,
            amount=Money(currency_code="USD", amount_minor=500_00),
        )
        asked = postings_pb2.BatchBookPayoutsRequest(items=[item])
        assert thief.order("BatchBookPayouts", asked) == "PAYOUT_NOT_KNOWN"
    assert org.read_ledger(account) == before


def test_the_key_of_transactions_uses_up_no_limit_of_a_party(org: Organization) -> None:
    """Nor does it have anything decided on that is not there, or not so."""
    offering, investor = org.open_offering(500_00), org.add_cleared_party()
    contribution = org.fund_investment(offering, investor, 500_00)
    thief, log = Thief(org, "transactions"), read_log(org.instance, "compliance")
    made_up = [new_id("txn") for _ in range(2)]
    items = [
        clearances_pb2.BatchEvaluateTransactionsRequest.Item(
            transaction_id=transaction_id,
            party_id=investor,
            direction=Money.IN,
            amount=Money(currency_code="USD", amount_minor=25_000_00),
            is_contribution=True,
        )
        for transaction_id in (*made_up, contribution["transactionId"])
    ]
    asked = clearances_pb2.BatchEvaluateTransactionsRequest(items=items)
    answer = thief.call("compliance", clearances_pb2_grpc.ClearancesServiceStub, "BatchEvaluateTransactions", asked)
    assert [result.WhichOneof("outcome") for result in answer.results] == [None, None, "failure"]
    told = {line["transaction_id"] for line in log() if line["event"] == "transaction_not_known"}
    assert told == {item.transaction_id for item in items}
    org.fund_investment(org.open_offering(500_00), investor, 500_00)
