"""What needs two persons, or waits for a second one, and what that one has to know."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from realco.compliance.v1.parties_pb2 import Party
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.transactions.v1 import bank_accounts_pb2 as account_pb
from realco.transactions.v1 import transactions_pb2 as pb
from realco.transactions.v1 import webhooks_pb2 as hook_pb

from services.chassis.approvals.requests import RequestKind, by_asking, by_command
from services.chassis.approvals.resources import ResourceKind
from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.wire import from_enum
from services.chassis.data.heard_persons import list_parties_of
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Approval, ApprovalDetails, Change, Preview
from services.chassis.values.errors import Unavailable
from services.chassis.values.explanation import Explanation
from services.chassis.values.invariant import require_present
from services.chassis.values.refusals import BankAccountNotFound
from services.chassis.values.text import quote
from services.transactions.clients import Clearance
from services.transactions.commands import bank_accounts, decisions, reported_returns, reversals, webhooks
from services.transactions.commands.approvals import (
    BANK_ACCOUNT_APPROVALS,
    TRANSACTION_APPROVALS,
    build_bank_account_details,
    build_reversal_preconditions,
    build_transaction_details,
    build_unblocking_details,
    spell_payment,
)
from services.transactions.commands.beneficiaries import list_beneficiaries
from services.transactions.commands.inflow import check_takes_contributions
from services.transactions.commands.refund_reasons import list_new_reasons, list_reasons_now
from services.transactions.commands.settlement import find_hindrance, find_objection
from services.transactions.dependencies import Dependencies
from services.transactions.domain.explanations import (
    PROVIDER_SAYS,
    explain_away,
    explain_card,
    explain_clearance,
    explain_commitment,
    explain_confirmation,
    explain_holder_type,
    explain_payment,
    explain_take_back,
    explain_use,
    explain_whose_word,
)
from services.transactions.domain.payments import find_outcome
from services.transactions.domain.refusals import TransactionNotFound, WebhookNotFound
from services.transactions.domain.reported_returns import explain_reference
from services.transactions.domain.reversal_rules import explain_deadline
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.transfers import TRANSFER_TO, explain_arrival, explain_taking_back
from services.transactions.domain.types import TYPES
from services.transactions.domain.webhooks import WebhookStatus
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.queries.dossiers import explain_account_of, explain_past_payments
from services.transactions.queries.payouts import explain_received_money
from services.transactions.store import bank_accounts as account_store
from services.transactions.store import transactions as store
from services.transactions.store import webhooks as hook_store
from services.transactions.store.approvals import APPROVAL_WRITER
from services.transactions.store.contributions import list_received
from services.transactions.store.provider_payments import list_earlier_references


def build_approvals(dependencies: Dependencies) -> Approvals:
    """The approvals of transactions."""
    by = partial(by_command, dependencies)
    details = _Details(dependencies)
    requests: list[RequestKind[Any]] = [
        RequestKind(hook_pb.ReplayWebhookRequest, by(webhooks.replay_webhook), details.describe_replay),
        RequestKind(
            account_pb.UnblockBankAccountRequest, by(bank_accounts.unblock_bank_account), details.describe_unblocking
        ),
        RequestKind(
            pb.RecordTransactionReturnRequest,
            by_asking(
                dependencies,
                pb.Transaction,
                partial(reported_returns.check_return_is_booked, dependencies),
                reported_returns.record_transaction_return,
            ),
            details.describe_return,
        ),
        RequestKind(
            pb.ReverseTransactionRequest,
            by_asking(
                dependencies,
                pb.Transaction,
                partial(reversals.ask_about_reversal, dependencies),
                reversals.reverse_transaction,
            ),
            details.describe_reversal,
        ),
    ]
    resources = [
        ResourceKind(
            TRANSACTION_APPROVALS,
            details.describe_transaction,
            decisions.approve_waiting,
            decisions.end_waiting,
            store.lock_transaction,
            partial(decisions.list_gaining, dependencies),
        ),
        ResourceKind(
            BANK_ACCOUNT_APPROVALS,
            details.describe_bank_account,
            bank_accounts.confirm_bank_account,
            bank_accounts.leave_unconfirmed,
            account_store.lock_bank_account,
        ),
    ]
    return Approvals(dependencies, requests, APPROVAL_WRITER, resources)


def _explain_clearance(found: Clearance | None) -> Explanation:
    return explain_clearance(None if found is None else [missing.statement for missing in found.missing])


class _Details:
    """What a person who decides has to know."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def describe_replay(self, request: hook_pb.ReplayWebhookRequest, now: datetime) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            hook = await hook_store.find_webhook(tx, request.webhook_id)
            if hook is None:
                raise WebhookNotFound()
            transaction = (await store.list_transactions(tx, [hook.transaction_id]))[hook.transaction_id]
            earlier = await list_earlier_references(tx, transaction)
        async with self._dependencies.database.begin_for_all() as tx:
            payment_id = await hook_store.find_payment_id(tx, hook.webhook_id)
        said, outcome = await self._ask_provider(transaction, payment_id, earlier)
        preview = Preview() if outcome is None else await self._preview(transaction, outcome)
        return ApprovalDetails(
            f"Apply a webhook of {hook.provider} again: {quote(hook.event_type)}",
            request.webhook_id,
            transaction.escrow_account_id,
            amount=transaction.amount,
            beneficiary_party_ids=await list_beneficiaries(transaction, self._dependencies.peers),
            changes=(Change("status", hook.status, WebhookStatus.RECEIVED),),
            explanations=(said, *preview.explanations),
            effects=preview.effects,
            is_done=hook.status == WebhookStatus.RECEIVED,
        )

    async def describe_return(self, request: pb.RecordTransactionReturnRequest, now: datetime) -> ApprovalDetails:
        """Who gains where the money arrives says neither that it came back nor that it never came."""
        async with self._dependencies.database.begin() as tx:
            row = await store.find_transaction(tx, request.transaction_id)
        if row is None:
            raise TransactionNotFound()
        failure = reported_returns.read_failure(row, request)
        to = reported_returns.find_kind(request).to
        preview = await self._preview(row, "ENDED" if to is Status.FAILED else "RETURNED")
        confirmed = (explain_confirmation(row),) if row.settled_at else ()
        arrival = await self._explain_arrival(row, is_undone=to is Status.RETURNED)
        confirmed = (*confirmed, *arrival, *explain_reference(request.bank_reference, row.bank_reference))
        return ApprovalDetails(
            f"{spell_payment(row)}. {failure.message}",
            row.transaction_id,
            row.escrow_account_id,
            amount=row.amount,
            beneficiary_party_ids=await list_beneficiaries(row, self._dependencies.peers),
            changes=(Change("outcome", None, to),),  # whether it has COMPLETED meanwhile is no matter
            explanations=(*confirmed, *preview.explanations),
            effects=preview.effects,
        )

    async def describe_reversal(self, request: pb.ReverseTransactionRequest, now: datetime) -> ApprovalDetails:
        """Who was paid, and who gains where the money is again, says neither that it was in error."""
        async with self._dependencies.database.begin() as tx:
            row = await store.find_transaction(tx, request.transaction_id)
            if row is None:
                raise TransactionNotFound()
            account = None
            if row.bank_account_id:
                account = await account_store.find_bank_account(tx, row.bank_account_id)
            past = await explain_past_payments(tx, row, now)
            bound = build_reversal_preconditions(tx, row)
        settles_on = await reversals.get_reversal_day(self._dependencies, row)
        before = None if row.reversal is None else row.reversal.status
        preview = await self._preview(row, "RETURNED")
        return ApprovalDetails(
            f"Take back what was paid in error: {spell_payment(row, account)}",
            row.transaction_id,
            row.escrow_account_id,
            amount=row.amount,
            beneficiary_party_ids=await list_beneficiaries(row, self._dependencies.peers),
            changes=(Change("reversal", before, reversals.read_reason(request)),),
            preconditions=bound,
            explanations=(
                explain_deadline(row, reversals.read_reason(request), settles_on),
                *past,
                *preview.explanations,
            ),
            effects=preview.effects,
        )

    async def describe_transaction(self, approval: Approval, now: datetime) -> ApprovalDetails:
        transaction_id = approval.resource_id
        async with self._dependencies.database.begin() as tx:
            row = await store.find_transaction(tx, transaction_id)
            if row is None:
                raise TransactionNotFound()
            reason = json.loads(approval.content)["resource"]["approvalReason"]
            reasons = [reason, *list_new_reasons(reason, await list_reasons_now(tx, row))]
            account, explanations = None, [Explanation(f"{each}.", "APPROVAL_REASON") for each in reasons]
            if row.bank_account_id:
                account = await account_store.find_bank_account(tx, row.bank_account_id)
            if account is not None:
                explanations += await explain_account_of(tx, self._dependencies.vault, account, now)
            if row.bank_account_id:
                explanations.append(explain_use(account, row, now))
            received = await self._list_received(tx, row)
            explanations += explain_card(row, received or [])
            explanations += await explain_past_payments(tx, row, now)
            if not row.is_inbound:
                explanations += await explain_received_money(tx, row.escrow_account_id, now)
            explanations += explain_take_back([received])
        explanations.append(_explain_clearance(await self._find_clearance(row.party_id)))
        if TYPES[row.type].is_for_sponsor:
            explanations += await self._explain_sponsor(row)
        explanations += await self._explain_arrival(row)
        if TYPES[row.type].is_for_investment and row.investment_id:
            explanations += await self._explain_commitment(row.investment_id)
        preview = await self._preview(row, "SETTLED")
        details = build_transaction_details(row, account, approval.beneficiary_party_ids)
        return replace(details, explanations=(*explanations, *preview.explanations), effects=preview.effects)

    async def _list_received(self, tx: Tx, row: Transaction) -> list[Transaction] | None:
        """What a refund gives back of; None where somebody altered some of it."""
        if not TYPES[row.type].gives_back or not row.investment_id:
            return []
        found = await list_received(tx, [row.investment_id])
        return found.get((row.party_id, row.investment_id), [])

    async def describe_bank_account(self, approval: Approval, now: datetime) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            row = await account_store.find_bank_account(tx, approval.resource_id)
            if row is None:
                raise BankAccountNotFound()
            former = await account_store.find_default_account(tx, row.party_id)
            explanations = await explain_account_of(tx, self._dependencies.vault, row, now)
        found = await self._find_clearance(row.party_id)
        kind = from_enum(Party.Kind, found.kind) if found is not None and found.kind else None
        # Compliance is asked whenever money moves, and not about the account.
        explanations += [explain_holder_type(row, kind), replace(_explain_clearance(found), operands=())]
        details = build_bank_account_details(row)
        if row.default_for_payouts:
            before = None if former is None else former.bank_account_id
            paid_here = Change("default_bank_account_id", before, row.bank_account_id)
            details = replace(details, changes=(*details.changes, paid_here))
        return replace(details, explanations=tuple(explanations))

    async def describe_unblocking(
        self, request: account_pb.UnblockBankAccountRequest, now: datetime
    ) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            account = await account_store.find_bank_account(tx, request.bank_account_id)
            if account is None:
                raise BankAccountNotFound()
            explanations = await explain_account_of(tx, self._dependencies.vault, account, now)
        return build_unblocking_details(account, tuple(explanations))

    async def _find_clearance(self, party_id: str) -> Clearance | None:
        """None: compliance cannot be asked."""
        try:
            [found] = await self._dependencies.peers.compliance.batch_get_clearances([party_id])
        except Unavailable:
            return None
        return found

    async def _explain_sponsor(self, row: Transaction) -> list[Explanation]:
        try:
            account = await self._dependencies.peers.escrow.get_escrow_account(row.escrow_account_id)
        except Unavailable:
            return [explain_away("Escrow", "SPONSOR_NAMED_BY")]
        if account is None:
            return []
        said = f"named {row.party_id} the sponsor of the escrow account"
        return [await self._explain_whose_word("SPONSOR_NAMED_BY", said, row.party_id, account.created_by)]

    async def _explain_arrival(self, row: Transaction, *, is_undone: bool = False) -> list[Explanation]:
        """Where a transfer goes to, or is taken from again: `effects` are of the account that it leaves."""
        if row.to_escrow_account_id is None:
            return []
        try:
            escrow = self._dependencies.peers.escrow
            account = await escrow.get_escrow_account(row.to_escrow_account_id)
            preview = await escrow.get_transaction_preview(row, "RETURNED", arrives=True) if is_undone else Preview()
        except Unavailable:
            return [explain_away("Escrow", TRANSFER_TO)]
        account = require_present(account, "a transfer goes to an escrow account that is there")
        named = account.display_name, from_enum(EscrowAccount.Status, account.status)
        return [explain_taking_back(row, *named, preview.effects) if is_undone else explain_arrival(row, *named)]

    async def _explain_commitment(self, investment_id: str) -> list[Explanation]:
        try:
            found = await self._dependencies.peers.distributions.list_investments([investment_id])
        except Unavailable:
            return [explain_away("Distributions", "INVESTMENT_PENDING")]
        investment = next(iter(found), None)
        takes = explain_commitment(lambda: check_takes_contributions(investment))
        if investment is None or not investment.created_by:
            return [takes]
        said = f"committed {investment.party_id} to the investment"
        word = await self._explain_whose_word("COMMITTED_BY", said, investment.party_id, investment.created_by)
        return [takes, word]

    async def _explain_whose_word(self, rule: str, said: str, party_id: str, person: str) -> Explanation:
        acting = await list_parties_of(self._dependencies.database.reader, person)
        return explain_whose_word(rule, said, party_id, person, acts_for_party=party_id in acting)

    async def _ask_provider(
        self, row: Transaction, reference: str | None, earlier: Collection[str]
    ) -> tuple[Explanation, str | None]:
        """What the provider says now of the payment that a webhook is about, and what comes of it when it is applied.

        Args:
            earlier: The provider's ids of the attempts before the current one.
        """
        providers = self._dependencies.providers
        try:
            payment = await providers.require_look_ups(row.provider).get_payment(reference) if reference else None
        except OutcomeUnknown:
            return explain_away("The provider", PROVIDER_SAYS), None
        objection = "" if payment is None else find_hindrance(row, payment.payment_id, earlier)
        if payment is not None and not objection:
            objection = find_objection(row, payment, self._dependencies.clock.now())
        outcome = None if payment is None or objection else find_outcome(payment.status, row.status)
        return explain_payment(row, payment, objection), outcome

    async def _preview(self, row: Transaction, outcome: str) -> Preview:
        try:
            return await self._dependencies.peers.escrow.get_transaction_preview(row, outcome)
        except Unavailable:
            return Preview((), (explain_away("Escrow", "ESCROW_ACTIVE"),))
