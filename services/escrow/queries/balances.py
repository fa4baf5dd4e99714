"""Balances: of an escrow account, of each ledger account, and the trial balance."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.wire import from_timestamp, to_money, to_timestamp
from services.chassis.data.listings import Listing
from services.chassis.data.paging import Page
from services.chassis.data.reach import caller, is_mine
from services.chassis.data.reads import Read, Reader, fetch_row
from services.chassis.data.seals import check_row
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import InvalidField
from services.chassis.values.money import Money
from services.chassis.values.refusals import EscrowAccountNotFound
from services.escrow import messages
from services.escrow.domain.chart import Direction, LedgerAccountKind, line_of
from services.escrow.queries.escrow_accounts import require_account_row
from services.escrow.queries.filters import read_kinds
from services.escrow.store.escrow_accounts import on_normal_side
from services.escrow.tables import escrow_accounts, holds, ledger_accounts

_TIME = sa.TIMESTAMP(timezone=True)


async def get_escrow_account_balance(
    reader: Reader, request: accounts_pb.GetEscrowAccountBalanceRequest, now: datetime
) -> accounts_pb.EscrowAccountBalance:
    as_of = _as_of(request, now)
    kinds = _KINDS_NOW if as_of is None else _KINDS_AT
    row = await fetch_row(reader, kinds, **_key(request.escrow_account_id, as_of))
    if row is None:
        raise EscrowAccountNotFound()
    account = check_row(reader, escrow_accounts, row)
    lines = [_Line(*each) for each in zip(*(getattr(row, name) for name in _LINE), strict=True)]
    by_kind = {LedgerAccountKind(line.kind): line for line in lines}

    def amount(amount_minor: int) -> Any:
        return to_money(Money(amount_minor, account.currency))

    cash, transit = by_kind[LedgerAccountKind.CASH].posted, by_kind[LedgerAccountKind.IN_TRANSIT]
    # What the rails owe us is on the debit side, what is on its way out on the credit side.
    pending_in, pending_out = max(transit.pending, 0), max(-transit.posted, 0)
    return accounts_pb.EscrowAccountBalance(
        escrow_account_id=account.escrow_account_id,
        as_of=to_timestamp(as_of or now),
        posted=amount(cash),
        pending_in=amount(pending_in),
        pending_out=amount(pending_out),
        held=amount(sum(line.held for line in lines)),
        available=amount(cash - pending_out - sum(_kept_back(kind, line) for kind, line in by_kind.items())),
        ledger_accounts=[messages.to_ledger_account_balance(line, account.currency) for line in lines],
    )


class _Line(NamedTuple):
    """The balances of all ledger accounts of a kind."""

    kind: str
    normal_balance: str
    posted: int
    pending: int
    held: int
    party_id: str = ""


_LINE = ("kind", "normal_balance", "posted", "pending", "held")


def _kept_back(kind: LedgerAccountKind, line: _Line) -> int:
    """What of the cash is not available for this kind's sake: what is held, or all that stands on it."""
    chart = line_of(kind)
    whole = chart.normal_balance is Direction.CREDIT and not chart.counts_as_available
    return line.posted if whole else line.held


async def list_ledger_accounts(
    reader: Reader, request: journal_pb.ListLedgerAccountsRequest, now: datetime
) -> journal_pb.ListLedgerAccountsResponse:
    account = await require_account_row(reader, request.escrow_account_id)
    as_of = _as_of(request, now)
    lines = _LINES_NOW if as_of is None else _LINES_AT
    page, wanted = Page.of(request), {"kind": read_kinds(request), "party_id": request.party_id}
    found = await lines.fetch_beside(reader, page, wanted, descending=False, **_key(account.escrow_account_id, as_of))
    rows, token, previous = page.cut(found, lines.key_of)
    return journal_pb.ListLedgerAccountsResponse(
        ledger_accounts=[messages.to_ledger_account_balance(row, account.currency) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
    )


def _as_of(
    request: accounts_pb.GetEscrowAccountBalanceRequest | journal_pb.ListLedgerAccountsRequest, now: datetime
) -> datetime | None:
    if not request.HasField("as_of"):
        return None
    as_of = from_timestamp(request.as_of, "as_of")
    if as_of > now:
        raise InvalidField(
            "There is no balance of a time to come: as_of must not be in the future.",
            fields={"as_of": "must not be in the future"},
        )
    return as_of


def _key(escrow_account_id: str, as_of: datetime | None) -> dict[str, Any]:
    key = {"escrow_account_id": escrow_account_id}
    return key if as_of is None else {**key, "at": as_of}


def _list(balances: sa.Subquery) -> Listing:
    key = {"kind": balances.c.kind, "party_id": balances.c.party_id}
    return Listing(sa.select(balances), list(key.values()), key)


def _by_kind(balances: sa.Subquery) -> Read:
    """The escrow account, which is asked for its seal, with a list of its kinds, and of the sums of each."""
    line = balances.c
    sums = [
        sa.cast(sa.func.sum(part), sa.BigInteger).label(part.name) for part in (line.posted, line.pending, line.held)
    ]
    normal_balance = sa.func.min(line.normal_balance).label("normal_balance")
    kinds = sa.select(line.kind, normal_balance, *sums).group_by(line.kind).subquery("kinds")
    lists = [sa.func.array_agg(pg.aggregate_order_by(kinds.c[name], kinds.c.kind)).label(name) for name in _LINE]
    lines = sa.select(*lists).subquery("lines")
    account = (is_mine(escrow_accounts), escrow_accounts.c.escrow_account_id == _account)
    return Read(sa.select(escrow_accounts, lines).join_from(escrow_accounts, lines, sa.true()).where(*account))


_account = sa.bindparam("escrow_account_id", type_=sa.Text)
_kept = ledger_accounts.c
# Each ledger account with the balances it keeps.
_BALANCES_NOW = (
    sa.select(
        _kept.kind,
        _kept.party_id,
        _kept.normal_balance,
        on_normal_side(_kept.debits_posted, _kept.credits_posted).label("posted"),
        on_normal_side(_kept.debits_pending, _kept.credits_pending).label("pending"),
        _kept.held,
    )
    .where(is_mine(ledger_accounts), _kept.escrow_account_id == _account)
    .subquery("balances")
)
# Each with those of what had happened until an instant. Holds are held from their placing to their end, so what was
# held then is known too.
_then, _at = holds.c, sa.bindparam("at", type_=_TIME)
_booked = (
    sa.func.public.balances_at(caller(), _account, _at)
    .table_valued(
        *(sa.column(name, sa.Text) for name in ("kind", "party_id", "normal_balance")),
        *(sa.column(name, sa.BigInteger) for name in ("posted", "pending")),
    )
    .alias("booked")
)
_held = (
    sa.select(_then.kind, _then.party_id, sa.func.sum(_then.amount_minor).label("held"))
    .where(
        is_mine(holds),
        _then.escrow_account_id == _account,
        _then.created_at <= _at,
        sa.or_(_then.resolved_at.is_(None), _then.resolved_at > _at),
    )
    .group_by(_then.kind, _then.party_id)
    .cte("held_then")
    .prefix_with("MATERIALIZED")  # summed once, and not for each ledger account
)
_BALANCES_AT = (
    sa.select(
        _booked.c.kind,
        _booked.c.party_id,
        _booked.c.normal_balance,
        _booked.c.posted,
        _booked.c.pending,
        sa.cast(sa.func.coalesce(_held.c.held, 0), sa.BigInteger).label("held"),
    )
    .join_from(
        _booked,
        _held,
        sa.and_(_held.c.kind == _booked.c.kind, _held.c.party_id == _booked.c.party_id),
        isouter=True,
    )
    .subquery("balances")
)
_KINDS_NOW, _KINDS_AT = _by_kind(_BALANCES_NOW), _by_kind(_BALANCES_AT)
_LINES_NOW, _LINES_AT = _list(_BALANCES_NOW), _list(_BALANCES_AT)


async def get_trial_balance(
    tx: Tx, request: journal_pb.GetTrialBalanceRequest, now: datetime
) -> journal_pb.TrialBalance:
    """Sums up every ledger entry there is, and compares with what the ledger accounts keep: in one snapshot."""
    account = await require_account_row(tx, request.escrow_account_id)
    key = {name: getattr(account, name) for name in ("org_id", "escrow_account_id", "escrow_no")}
    rows = (await tx.execute(_TRIAL_BALANCE, key)).all()
    lines = []
    debit_minor = credit_minor = 0
    for row in rows:
        net = int(row.debits - row.credits)
        debit_minor += max(net, 0)
        credit_minor += max(-net, 0)
        lines.append(
            journal_pb.TrialBalance.Line(
                kind=row.kind,
                debit=to_money(Money(max(net, 0), account.currency)),
                credit=to_money(Money(max(-net, 0), account.currency)),
            )
        )
    return journal_pb.TrialBalance(
        escrow_account_id=account.escrow_account_id,
        as_of=to_timestamp(now),
        lines=lines,
        total_debit=to_money(Money(debit_minor, account.currency)),
        total_credit=to_money(Money(credit_minor, account.currency)),
        difference=to_money(Money(debit_minor - credit_minor, account.currency)),
        balanced=debit_minor == credit_minor and all(row.kept for row in rows),
    )


_TRIAL_BALANCE = sa.text(
    "WITH mine AS MATERIALIZED ("
    " SELECT account_no, count(*) AS entries,"
    " coalesce(sum(amount_minor) FILTER (WHERE debit AND NOT pending), 0) AS debits,"
    " coalesce(sum(amount_minor) FILTER (WHERE NOT debit AND NOT pending), 0) AS credits,"
    " coalesce(sum(amount_minor) FILTER (WHERE debit AND pending), 0) AS debits_pending,"
    " coalesce(sum(amount_minor) FILTER (WHERE NOT debit AND pending), 0) AS credits_pending"
    " FROM ledger_entries WHERE org_id = :org_id AND escrow_no = :escrow_no GROUP BY account_no"
    "), open AS MATERIALIZED ("
    " SELECT kind, party_id, sum(amount_minor) AS held FROM holds"
    " WHERE org_id = :org_id AND escrow_account_id = :escrow_account_id AND status = 'PLACED' GROUP BY kind, party_id"
    ") SELECT a.kind, sum(coalesce(mine.debits, 0)) AS debits,"
    " sum(coalesce(mine.credits, 0)) AS credits,"
    " bool_and(a.debits_posted = coalesce(mine.debits, 0) AND a.credits_posted = coalesce(mine.credits, 0)"
    " AND a.debits_pending = coalesce(mine.debits_pending, 0) AND a.credits_pending = coalesce(mine.credits_pending, 0)"
    " AND a.entry_sequence = coalesce(mine.entries, 0) AND a.held = coalesce(open.held, 0)) AS kept"
    " FROM ledger_accounts a LEFT JOIN mine USING (account_no) LEFT JOIN open USING (kind, party_id)"
    " WHERE a.org_id = :org_id AND a.escrow_account_id = :escrow_account_id GROUP BY 1 ORDER BY 1"
)
