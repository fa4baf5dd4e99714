"""What an investor is told of an answer, by the marks of the contract."""

from __future__ import annotations

import pytest
from realco.distributions.v1 import distributions_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.spelling.visibility import withhold

ANN = Principal("ann", "investor", "org-1", parties=frozenset({"pty_1"}))
Change = pb.TransactionStatusChange


def changes() -> pb.ListTransactionStatusChangesResponse:
    return pb.ListTransactionStatusChangesResponse(
        status_changes=[
            Change(actor="ann", note="Changed my mind."),
            Change(actor="service:transactions", note="R01"),
            Change(actor="ben", note="Ann called, upset."),
        ]
    )


def test_an_investor_is_told_what_its_author_told_it_and_nothing_of_others_wherever_it_is():
    answer = changes()
    withhold(answer, ANN)
    told = [(one.actor, one.note) for one in answer.status_changes]
    assert told == [("ann", "Changed my mind."), ("service:transactions", "R01"), ("", "")]


def test_an_investor_is_not_told_what_is_for_staff():
    answer = distributions_pb2.Distribution(distribution_id="dist_1", content_hash="0", metadata={"memo": "x"})
    withhold(answer, ANN)
    assert answer == distributions_pb2.Distribution(distribution_id="dist_1")


def test_an_investor_finds_nothing_in_a_list_by_what_it_is_not_told():
    rows = [
        pb.Transaction(transaction_id="txn_1", external_id="mine", created_by="ann"),
        pb.Transaction(transaction_id="txn_2", external_id="suspected", created_by="ben"),
    ]
    for asked, found in ((["mine", "suspected"], ["txn_1"]), ([], ["txn_1", "txn_2"])):
        answer = pb.ListTransactionsResponse(transactions=rows, next_page_token="more")
        withhold(answer, ANN, pb.ListTransactionsRequest(external_id=asked))
        assert ([each.transaction_id for each in answer.transactions], answer.next_page_token) == (found, "more")


@pytest.mark.parametrize("principal", [Principal("ben", "admin", "org-1"), Principal("sue", "sponsor", "org-1")])
def test_staff_and_sponsors_are_told_all(principal):
    answer = changes()
    withhold(answer, principal)
    assert answer == changes()
