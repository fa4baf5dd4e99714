"""The other services, as far as this one needs them: a Protocol each, and the one that speaks gRPC.

Every call answers, or raises the peer's definite refusal (a DomainError), or raises Unavailable: then nobody knows
whether it was done, and the same request (with the same key) is to be sent again. Never called inside a transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from grpc import aio
from realco.compliance.v1 import clearances_pb2, clearances_pb2_grpc, persons_pb2, persons_pb2_grpc
from realco.compliance.v1 import notary_pb2 as notary
from realco.compliance.v1 import notary_pb2_grpc as notary_grpc
from realco.escrow.v1 import (
    escrow_accounts_pb2,
    escrow_accounts_pb2_grpc,
    holds_pb2,
    holds_pb2_grpc,
    journal_pb2,
    journal_pb2_grpc,
    postings_pb2,
    postings_pb2_grpc,
)
from realco.transactions.v1 import bank_accounts_pb2 as bank_accounts
from realco.transactions.v1 import bank_accounts_pb2_grpc as bank_accounts_grpc
from realco.transactions.v1 import contributions_pb2, contributions_pb2_grpc, payouts_pb2, payouts_pb2_grpc
from realco.type.v1.sort_pb2 import Sort

from services.chassis.approvals.messages import read_preview
from services.chassis.approvals.notary import Notary
from services.chassis.calls.parties import Ask, AskAboutParties, AskByRpc
from services.chassis.calls.peers import ask, ask_in_parts, find, pass_on
from services.chassis.calls.wire import from_enum, from_explanation, from_timestamp, to_money, to_optional_timestamp
from services.chassis.values.approval import Preview
from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money
from services.chassis.values.movement import Movement
from services.distributions.domain.destination import BankAccount, PayoutAccount, PayoutAccounts, RefundPreview
from services.distributions.domain.payout import PayoutType

Clearance = clearances_pb2.BatchGetClearancesResponse.Clearance
_Part = payouts_pb2.GetRefundPreviewRequest.Part


class Escrow(Protocol):
    """The book."""

    async def get_escrow_account(self, escrow_account_id: str) -> escrow_accounts_pb2.EscrowAccount | None:
        """None if the organization has no such account."""
        ...

    async def get_escrow_account_balance(self, escrow_account_id: str) -> escrow_accounts_pb2.EscrowAccountBalance: ...

    async def get_trial_balance(self, escrow_account_id: str) -> journal_pb2.TrialBalance: ...

    async def list_balances(
        self, escrow_account_id: str, kinds: Sequence[journal_pb2.LedgerAccount.Kind]
    ) -> Sequence[journal_pb2.LedgerAccountBalance]:
        """What the book has on every ledger account of these kinds."""
        ...

    async def list_journal_entries(
        self, escrow_account_id: str, page_token: str, page_size: int
    ) -> journal_pb2.ListJournalEntriesResponse:
        """A page of the journal, from its first entry on."""
        ...

    async def list_subscription_holds(
        self, escrow_account_id: str, party_ids: Sequence[str]
    ) -> Sequence[holds_pb2.Hold]:
        """The newest open ones on the subscriptions of at most 100 investors: some of them, where there are many."""
        ...

    async def release_subscriptions(
        self, request: postings_pb2.ReleaseSubscriptionsRequest
    ) -> journal_pb2.JournalEntry: ...

    async def declare_distribution(
        self, request: postings_pb2.DeclareDistributionRequest
    ) -> journal_pb2.JournalEntry: ...

    async def set_off_receivables(
        self, request: postings_pb2.SetOffReceivablesRequest
    ) -> postings_pb2.SetOffReceivablesResponse: ...

    async def get_transaction_preview(
        self, escrow_account_id: str, payout_type: PayoutType, paid: Mapping[str, Money], *, sets_off: bool
    ) -> Preview:
        """What payouts would do to the book, and what is asked when they are booked, as it stands now.

        Args:
            paid: How much to whom; to somebody.
            sets_off: What they owe is set off before.
        """
        ...

    async def get_movement_preview(
        self,
        escrow_account_id: str,
        kind: notary.Movement.Kind,
        parts: Mapping[str, Money],
        deadline: datetime | None = None,
        *,
        sets_off: bool,
    ) -> Preview:
        """What a closing or a declaration would do to the book, and what is behind it.

        Args:
            parts: How much moves for whom; for somebody.
            deadline: When what moves had to be there, if it had to be.
            sets_off: What they owe is set off before they are paid.
        """
        ...


class Transactions(Protocol):
    """Who moves the money."""

    async def batch_create_payouts(
        self, request: payouts_pb2.BatchCreatePayoutsRequest
    ) -> payouts_pb2.BatchCreatePayoutsResponse: ...

    async def cancel_contributions(
        self, investment_ids: Sequence[str]
    ) -> contributions_pb2.CancelContributionsResponse:
        """Cancels what waits for at most 100 investments that want no money any more, and says what a bank has."""
        ...

    async def get_bank_account(self, bank_account_id: str) -> BankAccount | None:
        """None if the organization has no such account."""
        ...

    async def get_refund_preview(self, party_ids: Mapping[str, str]) -> RefundPreview:
        """Where what was paid in goes back to if no account is named, and what the bank may take back of it.

        Args:
            party_ids: By investment, whose it is.
        """
        ...

    async def batch_get_payout_accounts(self, party_ids: Collection[str]) -> PayoutAccounts:
        """Where they are paid if no account is named; without the parties that have no such account."""
        ...

    async def get_received_money(
        self, escrow_account_id: str, deadline: datetime | None = None
    ) -> Sequence[Explanation]:
        """How much of what came into the account its banks may still take back, and what is there by whose word.

        Args:
            deadline: What was paid in for investments after it is told as well.
        """
        ...


class Compliance(Notary, Protocol):
    """Who may forbid it, and hears what persons decide."""

    async def batch_get_clearances(self, party_ids: Sequence[str]) -> Sequence[Clearance]: ...


@dataclass(frozen=True, slots=True)
class Peers:
    escrow: Escrow
    transactions: Transactions
    compliance: Compliance


class EscrowClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._accounts = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel)
        self._holds = holds_pb2_grpc.HoldsServiceStub(channel)
        self._journal = journal_pb2_grpc.JournalServiceStub(channel)
        self._postings = postings_pb2_grpc.PostingsServiceStub(channel)

    async def get_escrow_account(self, escrow_account_id: str) -> escrow_accounts_pb2.EscrowAccount | None:
        request = escrow_accounts_pb2.GetEscrowAccountRequest(escrow_account_id=escrow_account_id)
        return await find(self._accounts.GetEscrowAccount, request)

    async def get_escrow_account_balance(self, escrow_account_id: str) -> escrow_accounts_pb2.EscrowAccountBalance:
        request = escrow_accounts_pb2.GetEscrowAccountBalanceRequest(escrow_account_id=escrow_account_id)
        return await ask(self._accounts.GetEscrowAccountBalance, request)

    async def get_trial_balance(self, escrow_account_id: str) -> journal_pb2.TrialBalance:
        request = journal_pb2.GetTrialBalanceRequest(escrow_account_id=escrow_account_id)
        return await ask(self._journal.GetTrialBalance, request)

    async def list_balances(
        self, escrow_account_id: str, kinds: Sequence[journal_pb2.LedgerAccount.Kind]
    ) -> Sequence[journal_pb2.LedgerAccountBalance]:
        request = journal_pb2.ListLedgerAccountsRequest(escrow_account_id=escrow_account_id, kind=kinds, page_size=1000)
        found: list[journal_pb2.LedgerAccountBalance] = []
        while True:
            page = await ask(self._journal.ListLedgerAccounts, request)
            found += page.ledger_accounts
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def list_journal_entries(
        self, escrow_account_id: str, page_token: str, page_size: int
    ) -> journal_pb2.ListJournalEntriesResponse:
        request = journal_pb2.ListJournalEntriesRequest(
            escrow_account_id=escrow_account_id, order=Sort.OLDEST_FIRST, page_size=page_size, page_token=page_token
        )
        return await ask(self._journal.ListJournalEntries, request)

    async def list_subscription_holds(
        self, escrow_account_id: str, party_ids: Sequence[str]
    ) -> Sequence[holds_pb2.Hold]:
        request = holds_pb2.ListHoldsRequest(
            escrow_account_id=escrow_account_id,
            status=[holds_pb2.Hold.PLACED],
            kind=[journal_pb2.LedgerAccount.SUBSCRIPTION],
            party_id=party_ids,
        )
        return (await ask(self._holds.ListHolds, request)).holds

    async def release_subscriptions(
        self, request: postings_pb2.ReleaseSubscriptionsRequest
    ) -> journal_pb2.JournalEntry:
        return await ask(self._postings.ReleaseSubscriptions, request)

    async def set_off_receivables(
        self, request: postings_pb2.SetOffReceivablesRequest
    ) -> postings_pb2.SetOffReceivablesResponse:
        return await ask(self._postings.SetOffReceivables, request)

    async def get_transaction_preview(
        self, escrow_account_id: str, payout_type: PayoutType, paid: Mapping[str, Money], *, sets_off: bool
    ) -> Preview:
        request = postings_pb2.GetTransactionPreviewRequest(
            escrow_account_id=escrow_account_id,
            type=payout_type.value,
            parts=_to_parts(paid),
            outcome=postings_pb2.GetTransactionPreviewRequest.SETTLED,
            sets_off_receivables=sets_off,
        )
        answer = await ask(self._postings.GetTransactionPreview, request)
        return read_preview(answer.effects, answer.explanations)

    async def get_movement_preview(
        self,
        escrow_account_id: str,
        kind: notary.Movement.Kind,
        parts: Mapping[str, Money],
        deadline: datetime | None = None,
        *,
        sets_off: bool,
    ) -> Preview:
        request = postings_pb2.GetMovementPreviewRequest(
            escrow_account_id=escrow_account_id,
            kind=kind,
            parts=_to_parts(parts),
            deadline_time=to_optional_timestamp(deadline),
            sets_off_receivables=sets_off,
        )
        answer = await ask(self._postings.GetMovementPreview, request)
        return read_preview(answer.effects, answer.explanations)

    async def declare_distribution(self, request: postings_pb2.DeclareDistributionRequest) -> journal_pb2.JournalEntry:
        return await ask(self._postings.DeclareDistribution, request)


def _to_parts(amounts: Mapping[str, Money]) -> list[postings_pb2.PartyAmount]:
    return [postings_pb2.PartyAmount(party_id=each, amount=to_money(amount)) for each, amount in amounts.items()]


class TransactionsClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._payouts = payouts_pb2_grpc.PayoutsServiceStub(channel)
        self._contributions = contributions_pb2_grpc.ContributionsServiceStub(channel)
        self._bank_accounts = bank_accounts_grpc.BankAccountsServiceStub(channel)

    async def batch_create_payouts(
        self, request: payouts_pb2.BatchCreatePayoutsRequest
    ) -> payouts_pb2.BatchCreatePayoutsResponse:
        return await ask(self._payouts.BatchCreatePayouts, request)

    async def cancel_contributions(
        self, investment_ids: Sequence[str]
    ) -> contributions_pb2.CancelContributionsResponse:
        request = contributions_pb2.CancelContributionsRequest(investment_ids=investment_ids)
        return await ask(self._contributions.CancelContributions, request)

    async def get_bank_account(self, bank_account_id: str) -> BankAccount | None:
        request = bank_accounts.GetBankAccountRequest(bank_account_id=bank_account_id)
        found = await find(self._bank_accounts.GetBankAccount, request)
        return None if found is None else _from_bank_account(found)

    async def get_refund_preview(self, party_ids: Mapping[str, str]) -> RefundPreview:
        async def ask_some(asked: Sequence[str]) -> Sequence[payouts_pb2.RefundPreview]:
            parts = (_Part(investment_id=each, party_id=party_ids[each]) for each in asked)
            return [await ask(self._payouts.GetRefundPreview, payouts_pb2.GetRefundPreviewRequest(parts=parts))]

        found = await ask_in_parts(sorted(party_ids), ask_some)
        return RefundPreview(
            [_from_bank_account(account) for each in found for account in each.bank_accounts],
            [from_explanation(explanation) for each in found for explanation in each.explanations],
            frozenset(party_id for each in found for party_id in each.card_party_ids),
        )

    async def batch_get_payout_accounts(self, party_ids: Collection[str]) -> PayoutAccounts:
        async def ask_some(asked: Sequence[str]) -> Sequence[payouts_pb2.BatchGetPayoutAccountsResponse]:
            request = payouts_pb2.BatchGetPayoutAccountsRequest(party_ids=asked)
            return [await ask(self._payouts.BatchGetPayoutAccounts, request)]

        answers = await ask_in_parts(sorted(party_ids), ask_some)
        found = [
            PayoutAccount(
                _from_bank_account(each.bank_account, each.makers),
                from_timestamp(each.first_paid_time) if each.HasField("first_paid_time") else None,
                from_timestamp(each.taken_back_time) if each.HasField("taken_back_time") else None,
            )
            for answer in answers
            for each in answer.payout_accounts
        ]
        return PayoutAccounts(found, frozenset(each for answer in answers for each in answer.altered_party_ids))

    async def get_received_money(
        self, escrow_account_id: str, deadline: datetime | None = None
    ) -> Sequence[Explanation]:
        request = payouts_pb2.GetReceivedMoneyRequest(
            escrow_account_id=escrow_account_id, deadline_time=to_optional_timestamp(deadline)
        )
        found: payouts_pb2.ReceivedMoney = await ask(self._payouts.GetReceivedMoney, request)
        return [from_explanation(each) for each in found.explanations]


def _from_bank_account(found: bank_accounts.BankAccount, makers: Collection[str] = ()) -> BankAccount:
    """
    Args:
        makers: Who else made it what it is, where that was asked.
    """
    return BankAccount(
        found.bank_account_id,
        found.party_id,
        found.account_holder_name,
        found.account_number_last4,
        from_enum(bank_accounts.BankAccount.Status, found.status),
        from_timestamp(found.create_time),
        found.created_by,
        frozenset({found.created_by, *makers} - {""}),
    )


class ComplianceClient:
    def __init__(self, channel: aio.Channel) -> None:
        clearances: Any = clearances_pb2_grpc.ClearancesServiceStub(channel)
        self.batch_get_clearances = AskAboutParties(
            clearances.BatchGetClearances, clearances_pb2.BatchGetClearancesRequest
        )
        persons: Any = persons_pb2_grpc.PersonsServiceStub(channel)
        self.list_parties_of_person: Ask = AskByRpc(persons.ListPartiesOfPerson, persons_pb2.ListPartiesOfPersonRequest)
        self._notary = notary_grpc.NotaryServiceStub(channel)

    async def record_request(
        self, movement: Movement, makers: Collection[str], beneficiary_party_ids: Collection[str]
    ) -> None:
        request = notary.RecordRequestRequest(
            movement=_to_movement(movement),
            makers=sorted(makers),
            beneficiary_party_ids=sorted(beneficiary_party_ids),
        )
        await pass_on(self._notary.RecordRequest, request)

    async def record_approval(self, movement: Movement) -> None:
        await pass_on(self._notary.RecordApproval, notary.RecordApprovalRequest(movement=_to_movement(movement)))

    async def record_execution(self, movement: Movement, *, validate_only: bool) -> None:
        request = notary.RecordExecutionRequest(movement=_to_movement(movement), validate_only=validate_only)
        await pass_on(self._notary.RecordExecution, request)

    async def record_withdrawal(
        self, kind: str, resource_id: str, *, after_refusal: bool = False, of_approved: bool = False
    ) -> None:
        request = notary.RecordWithdrawalRequest(
            kind=kind, resource_id=resource_id, after_refusal=after_refusal, of_approved=of_approved
        )
        await pass_on(self._notary.RecordWithdrawal, request)


def _to_movement(movement: Movement) -> notary.Movement:
    return notary.Movement(
        kind=movement.kind,
        resource_id=movement.resource_id,
        content_hash=movement.content_hash,
        escrow_account_id=movement.escrow_account_id,
        lines=(notary.Movement.Line(party_id=each.party_id, amount=to_money(each.amount)) for each in movement.lines),
    )
