"""What needs two persons in the book, and what the second one has to know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Final

from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb

from services.chassis.approvals.requests import RequestKind, by_asking, by_command
from services.chassis.approvals.workflow import Approvals
from services.chassis.values.approval import ApprovalDetails, Change
from services.chassis.values.explanation import Explanation, explain_refused, spell_gate
from services.chassis.values.money import Money
from services.chassis.values.text import quote
from services.escrow.commands import escrow_accounts, holds, journal_entries
from services.escrow.dependencies import Dependencies
from services.escrow.domain import refusals
from services.escrow.domain.account import AccountUse, EscrowAccount, Status, may_end_hold, may_post
from services.escrow.domain.chart import DISTRIBUTABLE, LedgerAccount
from services.escrow.domain.explanations import (
    explain_effective,
    explain_emptiness,
    explain_hold,
    explain_release,
    explain_reversals,
    explain_status,
    explain_unfinished,
    explain_use,
)
from services.escrow.domain.holds import Hold, HoldStatus
from services.escrow.domain.journal import NewEntry
from services.escrow.queries.beneficiaries import list_gaining
from services.escrow.queries.entry_previews import explain_money, preview_entries
from services.escrow.queries.previews import list_refused_for_good
from services.escrow.store import escrow_accounts as account_store
from services.escrow.store import holds as hold_store
from services.escrow.store.approvals import APPROVAL_WRITER, build_freeze_changes

_SHUT: Final = (spell_gate(False),)


def build_approvals(dependencies: Dependencies) -> Approvals:
    """The approvals of the book."""

    # Idempotent by the journal's own keys.

    async def post_journal_entry(request: journal_pb.PostJournalEntryRequest) -> journal_pb.JournalEntry:
        now = dependencies.clock.now()
        return await journal_entries.post_journal_entry(dependencies.poster, dependencies.database, request, now)

    async def batch_post_journal_entries(
        request: journal_pb.BatchPostJournalEntriesRequest,
    ) -> journal_pb.PostingResults:
        now = dependencies.clock.now()
        poster, database = dependencies.poster, dependencies.database
        validate_only = request.validate_only
        return await journal_entries.post_items(poster, database, request, now, validate_only=validate_only)

    async def ask_about_use(request: accounts_pb.CloseEscrowAccountRequest) -> AccountUse:
        return await escrow_accounts.ask_about_use(dependencies.peers, request.escrow_account_id)

    by = partial(by_command, dependencies)
    close = by_asking(dependencies, accounts_pb.EscrowAccount, ask_about_use, escrow_accounts.close_escrow_account)
    details = _Details(dependencies)
    requests: list[RequestKind[Any]] = [
        RequestKind(
            journal_pb.PostJournalEntryRequest,
            post_journal_entry,
            details.describe_entry,
            lambda request: _find_effect(request.escrow_account_id, [request.journal_entry]),
        ),
        RequestKind(
            journal_pb.BatchPostJournalEntriesRequest,
            batch_post_journal_entries,
            details.describe_entries,
            lambda request: _find_effect(request.escrow_account_id, [each.journal_entry for each in request.items]),
        ),
        RequestKind(
            accounts_pb.ChangeEscrowAccountCustodianRequest,
            by(escrow_accounts.change_escrow_account_custodian),
            details.describe_custodian,
        ),
        RequestKind(
            accounts_pb.UnfreezeEscrowAccountRequest,
            by(escrow_accounts.unfreeze_escrow_account),
            details.describe_unfreezing,
        ),
        RequestKind(accounts_pb.CloseEscrowAccountRequest, close, details.describe_closing),
        RequestKind(holds_pb.CaptureHoldRequest, by(holds.capture_hold), details.describe_capture),
        RequestKind(holds_pb.ReleaseHoldRequest, by(holds.release_hold), details.describe_release),
    ]
    return Approvals(dependencies, requests, APPROVAL_WRITER)


class _Details:
    """What a person who decides has to know."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    # --- journal entries ---

    async def describe_entry(self, request: journal_pb.PostJournalEntryRequest, now: datetime) -> ApprovalDetails:
        entry = await self._build(request)
        await journal_entries.check_parties(
            self._dependencies.peers.compliance,
            journal_entries.list_named_parties(request.journal_entry, "journal_entry"),
        )
        original = request.journal_entry.reverses_journal_entry_id or None
        verb = f"Reverse {original}" if original else "Post"
        async with self._dependencies.database.begin() as tx:
            account = await account_store.require_escrow_account(tx, request.escrow_account_id)
            never = await list_refused_for_good(tx, [entry], account.currency)
        told = await self._check_investments(request.escrow_account_id, [entry])
        counted = [] if never else [entry]
        summary = f"{verb}: {quote(entry.description)}"
        details = await self._describe_legs(summary, request.escrow_account_id, [entry], counted)
        return replace(
            details,
            resource_id=original or details.resource_id,
            explanations=(*map(explain_refused, never.values()), *details.explanations, *told),
        )

    async def describe_entries(
        self, request: journal_pb.BatchPostJournalEntriesRequest, now: datetime
    ) -> ApprovalDetails:
        """The amount and who gains are of all items: that is decided on, whatever is refused until it is done. The
        effects are of those that may be posted by then."""
        database, escrow_account_id = self._dependencies.database, request.escrow_account_id
        wanted = await journal_entries.build_entries(database, request, now)
        await journal_entries.check_parties(
            self._dependencies.peers.compliance,
            chain.from_iterable(
                journal_entries.list_named_parties(item.journal_entry, f"items[{number}].journal_entry")
                for number, item in enumerate(request.items)
            ),
        )
        entries = [each for each in wanted if isinstance(each, NewEntry)]
        async with database.begin() as tx:
            account = await account_store.require_escrow_account(tx, escrow_account_id)
            never = await list_refused_for_good(tx, wanted, account.currency)
        uncounted = await self._check_investments(escrow_account_id, entries)
        counted = [each for n, each in enumerate(wanted) if isinstance(each, NewEntry) and n not in never]
        summary = f"Post {len(request.items)} journal entries"
        details = await self._describe_legs(summary, escrow_account_id, entries, counted)
        told = [
            Explanation(f"items[{number}] would be refused: {refusal.message}", refusal.reason, _SHUT)
            for number, refusal in never.items()
        ]
        return replace(details, explanations=(*told, *details.explanations, *uncounted))

    async def _check_investments(self, escrow_account_id: str, entries: Sequence[NewEntry]) -> list[Explanation]:
        database, distributions = self._dependencies.database, self._dependencies.peers.distributions
        return await journal_entries.check_investments(database, distributions, escrow_account_id, entries)

    async def _build(self, request: journal_pb.PostJournalEntryRequest) -> NewEntry:
        return await journal_entries.build_entry(
            self._dependencies.database,
            request.escrow_account_id,
            request.idempotency_key,
            request.journal_entry,
            self._dependencies.clock.now(),
        )

    async def _describe_legs(
        self,
        summary: str,
        escrow_account_id: str,
        wanted: Sequence[NewEntry],
        counted: Sequence[NewEntry] | None = None,
    ) -> ApprovalDetails:
        """What the entries do to each ledger account, as far as it is posted.

        Args:
            counted: Those of them that may be posted; all, unless it is said.
        """
        preview = await preview_entries(self._dependencies, escrow_account_id, [entry.legs for entry in wanted])
        if counted is not None and len(counted) < len(wanted):
            possible = await preview_entries(self._dependencies, escrow_account_id, [entry.legs for entry in counted])
            preview = possible._replace(beneficiary_party_ids=preview.beneficiary_party_ids)
        return ApprovalDetails(
            f"{summary} ({quote(preview.account.display_name)})",
            escrow_account_id,
            escrow_account_id,
            amount=Money(sum(each.moved_minor for each in wanted), preview.account.currency),
            beneficiary_party_ids=preview.beneficiary_party_ids,
            effects=preview.effects,
            # Alone or in a batch, and with whatever legs beside: a pair more of them would make it another one.
            matter=("journal entries", escrow_account_id),
            explanations=(
                _explain_status(preview.account, may_post),
                *explain_reversals(wanted),
                *explain_effective(wanted, self._dependencies.clock.now()),
                *preview.available,
                *preview.altered,
                *preview.leaving,
            ),
        )

    async def _list_gaining(self, escrow_account_id: str, credited: Collection[LedgerAccount]) -> frozenset[str]:
        database, distributions = self._dependencies.database, self._dependencies.peers.distributions
        return await list_gaining(database, distributions, escrow_account_id, credited)

    # --- escrow accounts ---

    async def describe_custodian(
        self, request: accounts_pb.ChangeEscrowAccountCustodianRequest, now: datetime
    ) -> ApprovalDetails:
        account = await self._read_account(request.escrow_account_id)
        wanted = {name: getattr(request, name) for name in ("custodian_name", "custodian_account_last4")}
        named = (Change(name, getattr(account, name) or None, value) for name, value in wanted.items())
        changes = tuple(change for change in named if change.before != change.after)
        return ApprovalDetails(
            f"Another custodian: {quote(account.display_name)}",
            request.escrow_account_id,
            request.escrow_account_id,
            beneficiary_party_ids=frozenset({account.sponsor_party_id}),
            changes=changes,
            is_done=not changes,
        )

    async def describe_unfreezing(
        self, request: accounts_pb.UnfreezeEscrowAccountRequest, now: datetime
    ) -> ApprovalDetails:
        account = await self._read_account(request.escrow_account_id)
        # Money moves again for all whose it is or will be.
        gaining = await self._list_gaining(account.escrow_account_id, [DISTRIBUTABLE])
        waiting = await self._dependencies.peers.transactions.list_unfinished_transactions(account.escrow_account_id)
        details = _describe_move("Unfreeze", account, Status.ACTIVE, gaining, build_freeze_changes(account))
        money = await explain_money(self._dependencies, account) if waiting else []
        return replace(details, explanations=(*explain_unfinished(waiting), *money))

    async def describe_closing(self, request: accounts_pb.CloseEscrowAccountRequest, now: datetime) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            account = await account_store.require_escrow_account(tx, request.escrow_account_id)
            balances = await account_store.list_balances(tx, request.escrow_account_id)
        use = await escrow_accounts.ask_about_use(self._dependencies.peers, request.escrow_account_id)
        details = _describe_move("Close for good", account, Status.CLOSED, frozenset({account.sponsor_party_id}))
        return replace(details, explanations=(explain_emptiness(balances, account.currency), *explain_use(use)))

    async def _read_account(self, escrow_account_id: str) -> EscrowAccount:
        async with self._dependencies.database.begin() as tx:
            return await account_store.require_escrow_account(tx, escrow_account_id)

    # --- holds ---

    async def describe_capture(self, request: holds_pb.CaptureHoldRequest, now: datetime) -> ApprovalDetails:
        """The whole hold ends by it, so the rules look at all of it, and who gains by the rest counts, too."""
        escrow_account_id = request.escrow_account_id
        hold = await self._require_hold(escrow_account_id, request.hold_id)
        await journal_entries.check_parties(
            self._dependencies.peers.compliance, [(request.to_ledger_account.party_id, "to_ledger_account.party_id")]
        )
        entry, held = holds.build_capture(request, hold), hold.ledger_account
        counted = await self._check_investments(escrow_account_id, [entry])
        preview = await preview_entries(self._dependencies, escrow_account_id, [entry.legs])
        captured = Money(entry.moved_minor, hold.currency)
        released = Money(hold.amount_minor - captured.amount_minor, hold.currency)
        where = f"for {entry.legs[1].ledger_account} ({quote(preview.account.display_name)})"
        details = ApprovalDetails(
            f"Capture {captured} of a hold of {hold.amount} on {held}, {where}",
            request.hold_id,
            escrow_account_id,
            amount=hold.amount,
            makers=frozenset({hold.created_by}),
            beneficiary_party_ids=preview.beneficiary_party_ids,
            effects=preview.effects,
            changes=(Change("status", hold.status, HoldStatus.CAPTURED),),
            matter=_name_held(hold),
            explanations=(
                explain_hold(hold),
                _explain_status(preview.account, may_end_hold),
                *preview.leaving,
                *counted,
            ),
        )
        if released.amount_minor <= 0:
            return replace(details, explanations=(*details.explanations, *preview.altered))
        money = () if preview.leaving else await explain_money(self._dependencies, preview.account)
        return replace(
            details,
            summary=f"{details.summary}, and release {released}",
            beneficiary_party_ids=details.beneficiary_party_ids | await self._list_gaining(escrow_account_id, [held]),
            changes=(*details.changes, Change("released", None, released)),
            explanations=(
                *details.explanations,
                await self._explain_release(hold, released),
                *money,
            ),
        )

    async def describe_release(self, request: holds_pb.ReleaseHoldRequest, now: datetime) -> ApprovalDetails:
        hold = await self._require_hold(request.escrow_account_id, request.hold_id)
        held = hold.ledger_account
        account = await self._read_account(request.escrow_account_id)
        return ApprovalDetails(
            f"Release a hold of {hold.amount} on {held}",
            request.hold_id,
            request.escrow_account_id,
            amount=hold.amount,
            beneficiary_party_ids=await self._list_gaining(request.escrow_account_id, [held]),
            changes=(Change("status", hold.status, HoldStatus.RELEASED),),
            matter=_name_held(hold),
            explanations=(
                explain_hold(hold),
                _explain_status(account, may_end_hold),
                await self._explain_release(hold, hold.amount),
                *await explain_money(self._dependencies, account),
            ),
        )

    async def _explain_release(self, hold: Hold, released: Money) -> Explanation:
        async with self._dependencies.database.begin() as tx:
            [balance] = await account_store.list_balances(tx, hold.escrow_account_id, [hold.ledger_account])
        return explain_release(balance, released)

    async def _require_hold(self, escrow_account_id: str, hold_id: str) -> Hold:
        async with self._dependencies.database.begin() as tx:
            await account_store.require_escrow_account(tx, escrow_account_id)
            hold = await hold_store.find_hold(tx, escrow_account_id, hold_id)
        if hold is None:
            raise refusals.HoldNotFound()
        return hold


def _name_held(hold: Hold) -> tuple[str, ...]:
    """The same for another hold on the same money, placed after a no to the first."""
    return "hold", hold.escrow_account_id, str(hold.ledger_account)


def _find_effect(escrow_account_id: str, entries: Iterable[journal_pb.NewJournalEntry]) -> Any:
    """What entries do to the book, alone or in a batch, in whatever order and with however many legs they say it. The
    day does not count: whoever books the same on another one does it twice as well."""
    return escrow_account_id, sorted(map(_find_effect_of, entries))


def _find_effect_of(entry: journal_pb.NewJournalEntry) -> Any:
    changes: dict[tuple[int, str], int] = defaultdict(int)
    for leg in entry.legs:
        minor = leg.amount.amount_minor
        account = leg.ledger_account.kind, leg.ledger_account.party_id
        changes[account] += minor if leg.direction == journal_pb.LedgerEntry.DEBIT else -minor
    moved = sorted((account, minor) for account, minor in changes.items() if minor)
    return entry.type, moved, entry.investment_id, entry.reverses_journal_entry_id


def _describe_move(
    verb: str, account: EscrowAccount, wanted: Status, gaining: frozenset[str], others: Sequence[Change] = ()
) -> ApprovalDetails:
    return ApprovalDetails(
        f"{verb}: {quote(account.display_name)}",
        account.escrow_account_id,
        account.escrow_account_id,
        beneficiary_party_ids=gaining,
        changes=(Change("status", account.status, wanted.value), *others),
        is_done=account.status is wanted,
    )


def _explain_status(account: EscrowAccount, may: Callable[[Status], bool]) -> Explanation:
    return explain_status(account.status, is_open=may(account.status))
