"""Whether an attempt to move money may be made: asked of the other services each time, for days may have passed.

Whether the party is cleared, whether its escrow account takes money, and, for a contribution, whether its investment
and its raise do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from realco.compliance.v1.parties_pb2 import Party
from realco.distributions.v1.offerings_pb2 import Investment

from services.chassis.calls.wire import from_enum
from services.chassis.data.reads import Source
from services.chassis.data.restores import is_restore_seen
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import AnswerWithheld, DomainError, Unavailable
from services.chassis.values.refusals import (
    BankAccountNotUsable,
    EscrowAccountClosed,
    EscrowAccountFrozen,
    EscrowAccountNotFound,
    PartyNotCleared,
)
from services.transactions.clients import Peers
from services.transactions.commands.inflow import (
    Inflow,
    ask_about_investments,
    check_commitment,
    check_escrow_account,
)
from services.transactions.dependencies import Dependencies
from services.transactions.domain.bank_accounts import NATURAL_PERSONS, check_usable
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import CONTRIBUTIONS, STAFFS_DEBIT
from services.transactions.store.bank_accounts import find_bank_account


async def ask_about_attempts(
    dependencies: Dependencies, rows: Sequence[Transaction], now: datetime
) -> tuple[dict[str, DomainError], set[str]]:
    """What is refused by now, by the id of the transaction; and the ids of those that wait.

    Nobody answers about them, or their escrow account is frozen. All wait where the database was restored and nobody
    has looked: an account that was deleted since the backup is there again.
    """
    if not await is_restore_seen(dependencies.database.reader):
        return {}, {row.transaction_id for row in rows}
    contributions = [row for row in rows if row.type in CONTRIBUTIONS]
    refusals: dict[str, DomainError] = {}
    unanswered: set[str] = set()
    for away, ask, asked in (
        ("escrow_away", _ask_about_escrow_accounts, rows),
        ("distributions_away", partial(_ask_about_contributions, now=now), contributions),
        ("compliance_away", ask_about_parties, rows),
    ):
        try:
            refusals |= await ask(dependencies.peers, asked)
        except DomainError as error:
            log.warning(away, transactions=len(asked), reason=error.reason)
            unanswered |= {row.transaction_id for row in asked}
    # Until it is unfrozen, or can be told.
    waiting = {each for each, refusal in refusals.items() if isinstance(refusal, (EscrowAccountFrozen, Unavailable))}
    return refusals, unanswered | waiting


async def _ask_about_escrow_accounts(peers: Peers, rows: Sequence[Transaction]) -> dict[str, DomainError]:
    """Refuses what is for an escrow account that takes no money any more, or just now, or of which nobody can tell."""
    refusals: dict[str, DomainError] = {}
    for escrow_account_id in {row.escrow_account_id for row in rows}:
        try:
            check_escrow_account(escrow_account_id, await peers.escrow.get_escrow_account(escrow_account_id))
        except (EscrowAccountNotFound, EscrowAccountClosed, EscrowAccountFrozen, AnswerWithheld) as refusal:
            about = {row.transaction_id for row in rows if row.escrow_account_id == escrow_account_id}
            refusals |= dict.fromkeys(about, refusal)
    return refusals


async def ask_about_parties(peers: Peers, rows: Sequence[Transaction]) -> dict[str, DomainError]:
    """Refuses those for whose party no money may move just now, and debits of a company that is none any more."""
    clearances = await peers.compliance.batch_get_clearances({row.party_id for row in rows})
    missing = {
        each.party_id: {one.rule: one.statement for one in each.missing} for each in clearances if not each.cleared
    }
    # Of a party that somebody altered in the database compliance does not say it.
    kinds = {each.party_id: from_enum(Party.Kind, each.kind) if each.kind else None for each in clearances}
    refusals: dict[str, DomainError] = {}
    for row in rows:
        if row.party_id in missing:
            refusals[row.transaction_id] = PartyNotCleared(row.party_id, missing[row.party_id])
        elif row.is_corporate and kinds[row.party_id] is None:
            refusals[row.transaction_id] = Unavailable("What the party is by law nobody can tell now.")
        elif row.is_corporate and kinds[row.party_id] in NATURAL_PERSONS:
            said = f"It is called a company's, and the party is {kinds[row.party_id]}: add it anew as a person's."
            refusals[row.transaction_id] = BankAccountNotUsable(said, bank_account_id=row.bank_account_id)
    return refusals


async def _ask_about_contributions(peers: Peers, rows: Sequence[Transaction], now: datetime) -> dict[str, DomainError]:
    """Refuses contributions whose investment, or whose raise, takes none any more."""
    refusals = await ask_about_investments(peers, {row.investment_id for row in rows if row.investment_id}, now)
    return {row.transaction_id: refusals[row.investment_id] for row in rows if row.investment_id in refusals}


async def ask_about_commitments(peers: Peers, rows: Sequence[Transaction]) -> tuple[Mapping[str, Investment], set[str]]:
    """The investments that staff's debits among them pay, by id: while those waited the party may have paid itself; and
    the ids of the transactions that wait, since nobody answers. A deposit of the sponsor's pays none.
    """
    of_staff = [row for row in rows if row.approval_reason == STAFFS_DEBIT]
    paying = {row.transaction_id: row.investment_id for row in of_staff if row.investment_id}
    try:
        found = await peers.distributions.list_investments(set(paying.values())) if paying else ()
    except DomainError as error:
        log.warning("distributions_away", transactions=len(paying), reason=error.reason)
        return {}, set(paying)
    commitments = {each.investment_id: each for each in found}
    return commitments, {each for each, investment_id in paying.items() if investment_id not in commitments}


async def refuse_exceeding(
    tx: Tx, rows: Sequence[Transaction], commitments: Mapping[str, Investment]
) -> dict[str, DomainError]:
    """Which of these locked transactions are more than is left of their commitment, by the id of the transaction."""
    refusals: dict[str, DomainError] = {}
    for row in rows:
        investment = commitments.get(row.investment_id or "")
        if investment is not None and row.approval_reason == STAFFS_DEBIT:
            try:
                await check_commitment(tx, Inflow.of_transaction(row), investment, is_counted=True)
            except DomainError as refusal:
                refusals[row.transaction_id] = refusal
    return refusals


async def find_account_refusal(
    source: Source, bank_account_id: str, party_id: str, *, is_inbound: bool
) -> DomainError | None:
    """Why money may not come from this account any more, or go to it, if so. Raises: NotSealed."""
    account = await find_bank_account(source, bank_account_id)
    try:
        check_usable(account, party_id, is_inbound=is_inbound)
    except DomainError as refusal:
        return refusal
    return None
