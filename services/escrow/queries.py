"""Reads of the book: SQL to messages, past the domain."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.escrow.v1 import escrow_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_timestamp, to_timestamp
from services.chassis.data.paging import Page
from services.chassis.values.errors import InvalidField
from services.escrow import messages, store
from services.escrow.domain.chart import CASH, IN_TRANSIT
from services.escrow.domain.refusals import EscrowAccountNotFound
from services.escrow.messages import money
from services.escrow.tables import escrow_accounts, holds, journal_entries, ledger_accounts, ledger_entries

_TIME = sa.TIMESTAMP(timezone=True)


async def get_escrow_account(tx: AsyncConnection, escrow_account_id: str) -> pb.EscrowAccount:
    return messages.escrow_account(await _account(tx, escrow_account_id))


async def list_escrow_accounts(
    tx: AsyncConnection, request: pb.ListEscrowAccountsRequest
) -> pb.ListEscrowAccountsResponse:
    table = escrow_accounts.c
    query = sa.select(escrow_accounts).where(table.org_id == current_principal().org_id)
    if request.status:
        query = query.where(table.status == pb.EscrowAccount.Status.Name(request.status))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, (table.created_at, table.escrow_account_id)))).all()
    rows, token, previous = page.cut(found, lambda row: (row.created_at, row.escrow_account_id))
    return pb.ListEscrowAccountsResponse(
        escrow_accounts=[messages.escrow_account(row) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
    )


async def get_balance(
    tx: AsyncConnection, request: pb.GetEscrowAccountBalanceRequest, now: datetime
) -> pb.EscrowAccountBalance:
    account = await _account(tx, request.escrow_account_id)
    as_of = _as_of(request, now)
    rows = (await tx.execute(_KINDS_NOW if as_of is None else _KINDS_AT, _key(account, as_of))).all()
    by_kind = {row.ledger_account: row for row in rows}

    def amount(amount_minor: int) -> Any:
        return money(int(amount_minor), account.currency)

    cash, transit = by_kind[CASH].posted, by_kind[IN_TRANSIT]
    # What the rails owe us is on the debit side, what is on its way out on the credit side.
    pending_in, pending_out = max(transit.pending, 0), max(-transit.posted, 0)
    held = sum(row.held for row in rows)
    return pb.EscrowAccountBalance(
        escrow_account_id=account.escrow_account_id,
        as_of=to_timestamp(as_of or now),
        posted=amount(cash),
        pending_in=amount(pending_in),
        pending_out=amount(pending_out),
        held=amount(held),
        available=amount(cash - held - pending_out),
        ledger_accounts=[messages.ledger_account_balance(row, account.currency) for row in rows],
    )


async def list_ledger_accounts(
    tx: AsyncConnection, request: pb.ListLedgerAccountsRequest, now: datetime
) -> pb.ListLedgerAccountsResponse:
    account = await _account(tx, request.escrow_account_id)
    as_of = _as_of(request, now)
    lines = _BALANCES_NOW if as_of is None else _BALANCES_AT
    query, code = sa.select(lines), lines.c.ledger_account
    if request.ledger_account:
        query = query.where(sa.or_(code == request.ledger_account, _kind(code) == request.ledger_account))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, [code], descending=False), _key(account, as_of))).all()
    rows, token, previous = page.cut(found, lambda row: (row.ledger_account,))
    return pb.ListLedgerAccountsResponse(
        ledger_accounts=[messages.ledger_account_balance(row, account.currency) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
    )


def _as_of(request: pb.GetEscrowAccountBalanceRequest | pb.ListLedgerAccountsRequest, now: datetime) -> datetime | None:
    """The moment asked for. Raises InvalidField where it is still to come: nobody knows a balance of then."""
    as_of = from_timestamp(request.as_of, "as_of") if request.HasField("as_of") else None
    if as_of is not None and as_of > now:
        raise InvalidField("There is no balance of a time to come.", fields={"as_of": "must not be in the future"})
    return as_of


def _key(account: sa.Row[Any], as_of: datetime | None) -> dict[str, Any]:
    key = {"org_id": account.org_id, "escrow_account_id": account.escrow_account_id}
    return key if as_of is None else {**key, "at": as_of}


def _kind(code: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """What of a ledger account's code comes before the party: `subscription`."""
    return sa.func.split_part(code, ":", 1, type_=sa.Text)


def _by_kind(balances: sa.Subquery) -> sa.Executable:
    line = balances.c
    kind = _kind(line.ledger_account).label("ledger_account")
    sums = [sa.func.sum(part).label(part.name) for part in (line.posted, line.pending, line.held)]
    normal_balance = sa.func.min(line.normal_balance).label("normal_balance")
    return sa.select(kind, normal_balance, *sums).group_by(kind).order_by(kind)


_kept = ledger_accounts.c
# Each ledger account with the balances it keeps.
_BALANCES_NOW = (
    sa.select(
        _kept.ledger_account,
        _kept.normal_balance,
        store.on_normal_side(_kept.debits_posted, _kept.credits_posted).label("posted"),
        store.on_normal_side(_kept.debits_pending, _kept.credits_pending).label("pending"),
        _kept.held,
    )
    .where(_kept.org_id == sa.bindparam("org_id"), _kept.escrow_account_id == sa.bindparam("escrow_account_id"))
    .subquery("balances")
)
# Each with those of what had happened until an instant. Holds are held from their placing to their end, so what was
# held then is known too.
_BALANCES_AT = (
    sa.text(
        "SELECT b.ledger_account, b.normal_balance, b.posted, b.pending, coalesce(h.held, 0)::bigint AS held"
        " FROM balances_at(:org_id, :escrow_account_id, :at) b LEFT JOIN ("
        " SELECT ledger_account, sum(amount_minor) AS held FROM holds"
        " WHERE org_id = :org_id AND escrow_account_id = :escrow_account_id"
        " AND created_at <= :at AND (resolved_at IS NULL OR resolved_at > :at) GROUP BY ledger_account"
        ") h USING (ledger_account)"
    )
    .bindparams(sa.bindparam("at", type_=_TIME))
    .columns(
        ledger_account=sa.Text,
        normal_balance=sa.Text,
        posted=sa.BigInteger,
        pending=sa.BigInteger,
        held=sa.BigInteger,
    )
    .subquery("balances")
)
_KINDS_NOW, _KINDS_AT = _by_kind(_BALANCES_NOW), _by_kind(_BALANCES_AT)


async def list_ledger_entries(
    tx: AsyncConnection, request: pb.ListLedgerEntriesRequest
) -> pb.ListLedgerEntriesResponse:
    """Newest first. Times become numbers first, so the page is one range of one index, whatever the filters."""
    account = await _account(tx, request.escrow_account_id)
    head, legs = journal_entries.c, ledger_entries.c
    query = (
        sa.select(
            ledger_entries,
            head.journal_entry_id,
            head.kind,
            head.description,
            head.transaction_id,
            sa.literal(account.currency).label("currency"),
        )
        .join_from(
            ledger_entries,
            journal_entries,
            sa.and_(
                head.org_id == legs.org_id,
                head.escrow_account_id == legs.escrow_account_id,
                head.sequence == legs.journal_sequence,
            ),
        )
        .where(legs.org_id == account.org_id, legs.escrow_account_id == account.escrow_account_id)
    )
    key: tuple[sa.Column[Any], ...] = (legs.journal_sequence, legs.leg)
    if request.ledger_account:
        key = (legs.sequence,)
        query = query.where(legs.ledger_account == request.ledger_account)
    query = query.where(*await _in_time(tx, request, account))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, key))).mappings().all()
    rows, token, previous = page.cut(found, lambda row: tuple(row[column.name] for column in key))
    return pb.ListLedgerEntriesResponse(
        ledger_entries=[messages.ledger_entry(row) for row in rows], next_page_token=token, previous_page_token=previous
    )


async def _in_time(
    tx: AsyncConnection, request: pb.ListLedgerEntriesRequest, account: sa.Row[Any]
) -> list[sa.ColumnElement[bool]]:
    """The request's times as a range of numbers: of the ledger account's entries, or of the journal's."""

    async def number_before(moment: datetime) -> int:
        if request.ledger_account:
            last = sa.select(sa.func.coalesce(sa.func.max(ledger_entries.c.sequence), 0)).where(
                ledger_entries.c.org_id == account.org_id,
                ledger_entries.c.escrow_account_id == account.escrow_account_id,
                ledger_entries.c.ledger_account == request.ledger_account,
            )
            # Times are whole microseconds: before one is up to the one before it.
            call = sa.func.ledger_sequence_at(
                account.org_id,
                account.escrow_account_id,
                request.ledger_account,
                last.scalar_subquery(),
                sa.literal(moment, _TIME) - sa.text("interval '1 microsecond'"),
            )
        else:
            call = sa.func.journal_sequence_before(
                account.org_id,
                account.escrow_account_id,
                sa.cast(account.entry_sequence, sa.BigInteger),
                sa.literal(moment, _TIME),
            )
        return int(await tx.scalar(sa.select(call)) or 0)

    number = ledger_entries.c.sequence if request.ledger_account else ledger_entries.c.journal_sequence
    conditions = []
    if request.HasField("from_time"):
        conditions.append(number > await number_before(from_timestamp(request.from_time, "from")))
    if request.HasField("to_time"):
        conditions.append(number <= await number_before(from_timestamp(request.to_time, "to")))
    return conditions


async def get_trial_balance(tx: AsyncConnection, escrow_account_id: str) -> pb.TrialBalance:
    """Sums up every ledger entry there is, and compares with what the ledger accounts keep: in one snapshot."""
    account = await _account(tx, escrow_account_id)
    key = {"org_id": account.org_id, "escrow_account_id": account.escrow_account_id}
    rows = (await tx.execute(_TRIAL_BALANCE, key)).all()
    lines = []
    debit_minor = credit_minor = 0
    for row in rows:
        net = int(row.debits - row.credits)
        debit_minor += max(net, 0)
        credit_minor += max(-net, 0)
        lines.append(
            pb.TrialBalance.Line(
                ledger_account=row.ledger_account,
                debit=money(max(net, 0), account.currency),
                credit=money(max(-net, 0), account.currency),
            )
        )
    return pb.TrialBalance(
        escrow_account_id=escrow_account_id,
        lines=lines,
        total_debit=money(debit_minor, account.currency),
        total_credit=money(credit_minor, account.currency),
        difference=money(debit_minor - credit_minor, account.currency),
        balanced=debit_minor == credit_minor and all(row.kept for row in rows),
    )


_TRIAL_BALANCE = sa.text(
    "WITH mine AS MATERIALIZED ("
    " SELECT ledger_account, count(*) AS entries,"
    " coalesce(sum(amount_minor) FILTER (WHERE direction = 'DEBIT' AND layer = 'POSTED'), 0) AS debits,"
    " coalesce(sum(amount_minor) FILTER (WHERE direction = 'CREDIT' AND layer = 'POSTED'), 0) AS credits,"
    " coalesce(sum(amount_minor) FILTER (WHERE direction = 'DEBIT' AND layer = 'PENDING'), 0) AS debits_pending,"
    " coalesce(sum(amount_minor) FILTER (WHERE direction = 'CREDIT' AND layer = 'PENDING'), 0) AS credits_pending"
    " FROM ledger_entries WHERE org_id = :org_id AND escrow_account_id = :escrow_account_id GROUP BY ledger_account"
    "), open AS MATERIALIZED ("
    " SELECT ledger_account, sum(amount_minor) AS held FROM holds"
    " WHERE org_id = :org_id AND escrow_account_id = :escrow_account_id AND status = 'PLACED' GROUP BY ledger_account"
    ") SELECT split_part(a.ledger_account, ':', 1) AS ledger_account, sum(coalesce(mine.debits, 0)) AS debits,"
    " sum(coalesce(mine.credits, 0)) AS credits,"
    " bool_and(a.debits_posted = coalesce(mine.debits, 0) AND a.credits_posted = coalesce(mine.credits, 0)"
    " AND a.debits_pending = coalesce(mine.debits_pending, 0) AND a.credits_pending = coalesce(mine.credits_pending, 0)"
    " AND a.entry_sequence = coalesce(mine.entries, 0) AND a.held = coalesce(open.held, 0)) AS kept"
    " FROM ledger_accounts a LEFT JOIN mine USING (ledger_account) LEFT JOIN open USING (ledger_account)"
    " WHERE a.org_id = :org_id AND a.escrow_account_id = :escrow_account_id GROUP BY 1 ORDER BY 1"
)


async def list_holds(tx: AsyncConnection, request: pb.ListHoldsRequest) -> pb.ListHoldsResponse:
    account = await _account(tx, request.escrow_account_id)
    table = holds.c
    query = store.with_currency().where(
        table.org_id == account.org_id, table.escrow_account_id == account.escrow_account_id
    )
    if request.status:
        query = query.where(table.status == pb.Hold.Status.Name(request.status))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, (table.created_at, table.hold_id)))).all()
    rows, token, previous = page.cut(found, lambda row: (row.created_at, row.hold_id))
    return pb.ListHoldsResponse(
        holds=[messages.hold(row) for row in rows], next_page_token=token, previous_page_token=previous
    )


async def _account(tx: AsyncConnection, escrow_account_id: str) -> sa.Row[Any]:
    key = {"org_id": current_principal().org_id, "escrow_account_id": escrow_account_id}
    row = (await tx.execute(_ACCOUNT, key)).one_or_none()
    if row is None:
        raise EscrowAccountNotFound("There is no such escrow account.")
    return row


# Built once, as the balances' are: to build a statement costs more than to run it.
_ACCOUNT = sa.select(escrow_accounts).where(
    escrow_accounts.c.org_id == sa.bindparam("org_id"),
    escrow_accounts.c.escrow_account_id == sa.bindparam("escrow_account_id"),
)
