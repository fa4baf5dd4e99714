"""Payouts in memory: one a key, which the test moves on; each move gives the event that tells of it.

test_peers_transactions.py holds it against the real service, in all that other services read of the answers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from realco.transactions.v1 import bank_accounts_pb2 as bank_accounts
from realco.transactions.v1 import contributions_pb2, payouts_pb2
from realco.transactions.v1 import events_pb2 as events
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.event_pb2 import EventMeta
from realco.type.v1.explanation_pb2 import Explanation
from realco.type.v1.failure_pb2 import Failure

from services.chassis.calls.wire import to_timestamp
from services.chassis.values.errors import AnswerWithheld
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import BankAccountNotFound
from services.transactions.domain.refusals import PayoutNotOrdered

Txn = pb.Transaction
_WAITING = (Txn.INITIATED, Txn.PENDING_APPROVAL, Txn.QUEUED, Txn.PENDING_RETRY)
_ON_ITS_WAY = (Txn.PROCESSING, Txn.PENDING_SETTLEMENT, Txn.SETTLED)
M = TypeVar("M", bound=Message)
_Item = payouts_pb2.BatchCreatePayoutsRequest.Item
_Result = payouts_pb2.PayoutResult
_VERSIONS = count(2)  # the first event tells that it was created


class MemoryTransactions:
    """Everybody has a bank account but the parties named in `without_bank_account`."""

    def __init__(self) -> None:
        self.by_key: dict[str, Txn] = {}
        self.without_bank_account: set[str] = set()
        self.cards: dict[str, list[int]] = {}  # how much each card of a party takes back, one after the other
        self.unordered: set[str] = set()  # the parties whose payouts distributions, asked back, does not know
        self.keys_taken: set[str] = set()  # the parties whose payouts somebody else has used the keys of
        self.keys_unknown: set[str] = set()  # the parties whose payouts have rows of somebody else in their place
        self.bank_accounts: dict[str, bank_accounts.BankAccount] = {}
        self.provisional: list[Explanation] = []  # of what came into any escrow account
        self.deadlines_asked: list[Timestamp | None] = []  # of those who asked for that
        self.bank_account_makers: dict[str, list[str]] = {}  # who changed where money goes, by bank account
        self.first_paid: dict[str, Timestamp] = {}  # when money first arrived, by bank account
        self.taken_back: dict[str, Timestamp] = {}  # when a debit took back a payout, by party
        self.take_backs: dict[str, Explanation] = {}  # what the bank may take back, by investment
        self.contributions: list[Txn] = []  # as they stand
        self.altered: set[str] = set()  # the investments a contribution of which somebody altered in the database
        self._first: dict[str, tuple[bytes, _Result]] = {}

    async def GetBankAccount(self, request: bank_accounts.GetBankAccountRequest, _: None) -> bank_accounts.BankAccount:
        if request.bank_account_id not in self.bank_accounts:
            raise BankAccountNotFound
        return self.bank_accounts[request.bank_account_id]

    async def CancelContributions(
        self, request: contributions_pb2.CancelContributionsRequest, _: None
    ) -> contributions_pb2.CancelContributionsResponse:
        asked = set(request.investment_ids)
        answer = contributions_pb2.CancelContributionsResponse(unknown_investment_ids=asked & self.altered)
        for each in self.contributions:
            if each.investment_id not in asked - self.altered:
                continue
            if each.status in _WAITING:
                each.status = Txn.CANCELLED
                each.failure.CopyFrom(Failure(code="INVESTMENT_NOT_PENDING", message="The investment is CANCELLING."))
            elif each.status in _ON_ITS_WAY:
                answer.on_their_way.append(each)
        return answer

    async def GetReceivedMoney(
        self, request: payouts_pb2.GetReceivedMoneyRequest, _: None
    ) -> payouts_pb2.ReceivedMoney:
        self.deadlines_asked.append(request.deadline_time if request.HasField("deadline_time") else None)
        return payouts_pb2.ReceivedMoney(explanations=self.provisional)

    async def BatchGetPayoutAccounts(
        self, request: payouts_pb2.BatchGetPayoutAccountsRequest, _: None
    ) -> payouts_pb2.BatchGetPayoutAccountsResponse:
        active = [each for each in self.bank_accounts.values() if each.status == bank_accounts.BankAccount.ACTIVE]
        defaults = {each.party_id: each for each in active if each.party_id in set(request.party_ids)}
        accounts = (
            payouts_pb2.PayoutAccount(
                bank_account=each,
                first_paid_time=self.first_paid.get(each.bank_account_id),
                makers=self.bank_account_makers.get(each.bank_account_id, []),
                taken_back_time=self.taken_back.get(each.party_id),
            )
            for each in defaults.values()
        )
        return payouts_pb2.BatchGetPayoutAccountsResponse(payout_accounts=accounts)

    async def GetRefundPreview(
        self, request: payouts_pb2.GetRefundPreviewRequest, _: None
    ) -> payouts_pb2.RefundPreview:
        parties = {part.party_id for part in request.parts}
        usable = [each for each in self.bank_accounts.values() if each.status == bank_accounts.BankAccount.ACTIVE]
        told = [self.take_backs[each.investment_id] for each in request.parts if each.investment_id in self.take_backs]
        return payouts_pb2.RefundPreview(
            bank_accounts=[each for each in usable if each.party_id in parties],
            explanations=[*told, *(self._explain_cards(each) for each in sorted(parties & self.cards.keys()))],
            card_party_ids=sorted(parties & self.cards.keys()),
        )

    def _explain_cards(self, party_id: str) -> Explanation:
        to_cards = f"It goes back to the {len(self.cards[party_id])} cards of {party_id} that it came from."
        return Explanation(statement=to_cards, rule="REFUND_TO_CARD")

    def add_bank_account(
        self, party_id: str, status: bank_accounts.BankAccount.Status = bank_accounts.BankAccount.ACTIVE
    ) -> str:
        """Its id. It was added on the first day of 2025."""
        account = bank_accounts.BankAccount(
            bank_account_id=new_id("ba"),
            party_id=party_id,
            account_holder_name="Ann Lee",
            account_number_last4="6789",
            status=status,
            created_by=party_id,
            create_time=to_timestamp(datetime(2025, 1, 1, tzinfo=UTC)),
        )
        self.bank_accounts[account.bank_account_id] = account
        return account.bank_account_id

    async def BatchCreatePayouts(
        self, request: payouts_pb2.BatchCreatePayoutsRequest, _: None
    ) -> payouts_pb2.BatchCreatePayoutsResponse:
        for item in request.items:
            if item.party_id in self.unordered:
                raise PayoutNotOrdered("The distributions service has not ordered this payout.")
            if item.party_id in self.keys_unknown:
                raise AnswerWithheld("Somebody else wrote that the key is used.")
        return payouts_pb2.BatchCreatePayoutsResponse(results=[self._answer(item) for item in request.items])

    def _answer(self, item: _Item) -> _Result:
        if item.party_id in self.keys_taken:
            return _refuse(item, "IDEMPOTENCY_KEY_REUSED", "The idempotency_key was used with another payout.")
        body = item.SerializeToString(deterministic=True)
        replayed = item.idempotency_key in self._first
        if not replayed:
            self._first[item.idempotency_key] = body, self._decide(item)
        first, decided = self._first[item.idempotency_key]
        if first != body:
            message = "The idempotency_key was used with another payout."
            return _refuse(item, "IDEMPOTENCY_KEY_REUSED", message, idempotency_key=item.idempotency_key)
        result = _Result(replayed=replayed)
        result.MergeFrom(decided)
        if item.idempotency_key in self.by_key:
            result.transaction.CopyFrom(self.by_key[item.idempotency_key])  # as it is by now
        return result

    def _decide(self, item: _Item) -> _Result:
        if item.party_id in self.without_bank_account:
            message = "The party has no confirmed bank account for payouts."
            return _refuse(item, "NO_PAYOUT_BANK_ACCOUNT", message, party_id=item.party_id)
        left = self.cards.get(item.party_id, []) if item.type == Txn.REFUND and not item.bank_account_id else []
        if left and item.amount.amount_minor > left[0]:
            part = {"refundable_minor": str(left[0]), "currency_code": item.amount.currency_code}
            return _refuse(item, "REFUND_IN_PARTS", "Only a part of it goes to the next card.", **part)
        if left:
            self.cards[item.party_id] = [each for each in (left[0] - item.amount.amount_minor, *left[1:]) if each]
        named = ("bank_account_id", "investment_id", "distribution_id", "allocation_id")
        self.by_key[item.idempotency_key] = Txn(
            transaction_id=new_id("txn"),
            type=item.type,
            status=Txn.INITIATED,
            payment_method=item.payment_method or Txn.ACH,
            amount=item.amount,
            escrow_account_id=item.escrow_account_id,
            party_id=item.party_id,
            **{name: getattr(item, name) for name in named if getattr(item, name)},
        )
        return _Result(idempotency_key=item.idempotency_key)

    def newest(self, party_id: str) -> Txn:
        """The newest payout to a party."""
        return [payout for payout in self.by_key.values() if payout.party_id == party_id][-1]


def _refuse(item: _Item, code: str, message: str, **metadata: str) -> _Result:
    failure = Failure(code=code, message=message, metadata=metadata)
    return _Result(idempotency_key=item.idempotency_key, failure=failure)


def move_payout(transaction: Txn, event: type[M], status: int, code: str = "") -> M:
    """Moves the transaction; the event of it, newer than any before."""
    transaction.status = status
    if code:
        reason = "RETURNED_BY_BANK" if status == Txn.RETURNED else "DECLINED_BY_PROVIDER"
        why = Failure(code=reason, message=f"{code} it is", metadata={"network_code": code})
        transaction.failure.CopyFrom(why)
    else:
        transaction.ClearField("failure")
    return event(transaction=transaction, meta=EventMeta(aggregate_version=next(_VERSIONS)))


def complete_payout(transaction: Txn) -> events.TransactionCompleted:
    return move_payout(transaction, events.TransactionCompleted, Txn.COMPLETED)


def fail_payout(transaction: Txn, code: str = "R03") -> events.TransactionFailed:
    return move_payout(transaction, events.TransactionFailed, Txn.FAILED, code)


def return_payout(transaction: Txn, code: str = "R02") -> events.TransactionReturned:
    return move_payout(transaction, events.TransactionReturned, Txn.RETURNED, code)


def cancel_payout(transaction: Txn) -> events.TransactionCancelled:
    return move_payout(transaction, events.TransactionCancelled, Txn.CANCELLED)
