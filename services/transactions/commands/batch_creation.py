"""Creates up to 1000 transactions at once, each as a single request would: same rules, same keys, same answers.

Whatever others have to say is asked about all of them together, and what is written is written together. Each is judged
after those before it: two contributions never use the same remaining amount of a commitment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.batch import build_results
from services.chassis.data.once_each import Deed, answered_each, once_each, rehearse_each
from services.chassis.data.seals import NotSealed, build_withheld
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError, InvalidField
from services.transactions.actions import answer_transaction
from services.transactions.commands.batch_evaluation import evaluate_created, rehearse_created
from services.transactions.commands.batch_inflow import ask_about_inflows
from services.transactions.commands.creation import (
    build_row,
    check_create_transaction,
    check_way,
    find_replaced,
)
from services.transactions.commands.inflow import Inflow, InflowVerdict, check_remaining
from services.transactions.dependencies import Dependencies
from services.transactions.domain.bank_accounts import BankAccount
from services.transactions.providers.choice import ProviderChoice
from services.transactions.store import bank_accounts, moves
from services.transactions.store import contributions as store

# The request has them evaluated, part by part. A job comes to those that are left once no request can be at it.
_EVALUATE_GRACE_MS = 10_000

Item = pb.CreateTransactionRequest
Created = pb.Transaction | DomainError


async def batch_create_transactions(
    dependencies: Dependencies, request: pb.BatchCreateTransactionsRequest
) -> pb.BatchCreateTransactionsResponse:
    """
    Raises:
        Unavailable: escrow or distributions cannot be reached; nothing was written.
        RequestInFlight: another request with one of the keys still runs.
    """
    items, database = request.items, dependencies.database
    known = {} if request.validate_only else await answered_each(database, items, pb.Transaction)
    fresh = [place for place in range(len(items)) if place not in known]
    new = [items[place] for place in fresh]
    verdicts = await _ask(dependencies, new)
    deed = _Creation(verdicts, dependencies.providers.choice, dependencies.clock.now()).deed
    if request.validate_only:
        told = await rehearse_created(dependencies, items, await rehearse_each(database, items, deed))
    else:
        decided = known | dict(zip(fresh, await once_each(database, new, pb.Transaction, deed), strict=True))
        told = await evaluate_created(dependencies, items, [decided[place] for place in range(len(items))])
    return pb.BatchCreateTransactionsResponse(results=build_results(pb.TransactionResult, items, told))


async def _ask(dependencies: Dependencies, items: Sequence[Item]) -> dict[str, InflowVerdict]:
    """What speaks against each item, as far as no transaction is needed to tell, by its key. Raises Unavailable."""
    principal, verdicts = current_principal(), dict[str, InflowVerdict]()
    inflows: dict[str, Inflow] = {}
    for item in items:
        try:
            check_create_transaction(item, principal)
        except DomainError as refusal:
            verdicts[item.idempotency_key] = InflowVerdict(refusal)
        else:
            inflows[item.idempotency_key] = Inflow.of_request(item, principal.choose_party(item.party_id))
    return verdicts | await ask_about_inflows(dependencies, inflows)


class _Creation:
    """One batch of new transactions.

    Args:
        verdicts: What others say of each item, by its key.
    """

    def __init__(self, verdicts: Mapping[str, InflowVerdict], choice: ProviderChoice, now: datetime) -> None:
        self._verdicts = verdicts
        self._choice = choice
        self._now = now
        self._accounts: Mapping[str, BankAccount | NotSealed] = {}
        self._replaced: dict[str, str | DomainError | None] = {}

    @property
    def deed(self) -> Deed[Item, pb.Transaction]:
        return Deed(self._judge, self._do)

    async def _judge(self, tx: Tx, items: Sequence[Item]) -> list[DomainError | None]:
        self._accounts = await bank_accounts.list_each(
            tx, {item.bank_account_id for item in items if item.bank_account_id}
        )
        counted = await store.count_contributions(tx, self._list_paid(items))
        await self._take_replaced(tx, items)
        return [self._find_refusal(item, counted) for item in items]

    async def _take_replaced(self, tx: Tx, items: Sequence[Item]) -> None:
        """What each is paid instead of, or why it is not, in the order of what it is, as others lock it."""
        taken: dict[str, str] = {}
        for item in sorted(items, key=lambda each: each.replaced_transaction_id):
            key = item.idempotency_key
            try:
                replaced = await find_replaced(tx, item)
            except DomainError as refusal:
                self._replaced[key] = refusal
                continue
            if replaced is not None and taken.setdefault(replaced, key) != key:
                fault = {"replaced_transaction_id": "is replaced by another item of the batch"}
                self._replaced[key] = InvalidField("What came to nothing is paid once.", fields=fault)
                continue
            self._replaced[key] = replaced

    def _find_refusal(self, item: Item, counted: Mapping[str, object]) -> DomainError | None:
        verdict, account = self._verdicts[item.idempotency_key], self._accounts.get(item.bank_account_id)
        if verdict.refusal is not None:
            return verdict.refusal
        altered = account if isinstance(account, NotSealed) else counted.get(item.investment_id)
        if isinstance(altered, NotSealed):
            return build_withheld(altered)
        try:
            check_way(item, account if isinstance(account, BankAccount) else None, self._choice)
        except DomainError as refusal:
            return refusal
        replaced = self._replaced[item.idempotency_key]
        return replaced if isinstance(replaced, DomainError) else None

    async def _do(self, tx: Tx, items: Sequence[Item]) -> list[Created]:
        refusals = await self._take_commitments(tx, items)
        rows = [
            build_row(item, self._find_account(item), self._choice, self._get_replaced(item))
            for item in items
            if item.idempotency_key not in refusals
        ]
        created = []
        if rows:
            person = current_principal().person
            created = await moves.insert_transactions(tx, rows, due_ms=_EVALUATE_GRACE_MS, actor=person, now=self._now)
        made = {row.idempotency_key: answer_transaction(row, self._now) for row in created}
        return [refusals.get(item.idempotency_key) or made[item.idempotency_key] for item in items]

    def _get_replaced(self, item: Item) -> str | None:
        replaced = self._replaced[item.idempotency_key]
        assert not isinstance(replaced, DomainError)  # it was refused
        return replaced

    async def _take_commitments(self, tx: Tx, items: Sequence[Item]) -> dict[str, DomainError]:
        """Counts each contribution against what its investment has left after those before it: why some are refused."""
        paid = self._list_paid(items)
        await store.lock_contributions_to(tx, paid)
        counted = await store.count_contributions(tx, paid)
        refusals: dict[str, DomainError] = {}
        for item in items:
            investment = self._verdicts[item.idempotency_key].investment
            if investment is None:
                continue
            known = counted[investment.investment_id]
            if isinstance(known, NotSealed):
                refusals[item.idempotency_key] = build_withheld(known)
                continue
            inflow = Inflow.of_request(item, investment.party_id)
            try:
                check_remaining(inflow, investment, known)
            except DomainError as refusal:
                refusals[item.idempotency_key] = refusal
            else:
                counted[investment.investment_id] = inflow.add_to(known)
        return refusals

    def _list_paid(self, items: Collection[Item]) -> dict[str, str]:
        """Whose each investment is that one of them pays, by its id."""
        found = (self._verdicts[item.idempotency_key].investment for item in items)
        return {each.investment_id: each.party_id for each in found if each is not None}

    def _find_account(self, item: Item) -> BankAccount | None:
        account = self._accounts.get(item.bank_account_id)
        return account if isinstance(account, BankAccount) else None
