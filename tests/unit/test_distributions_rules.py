"""The small rules of the distributions service that need no database."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from hypothesis import given, reject
from hypothesis import strategies as st
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1 import escrow_pb2 as escrow
from realco.type.v1 import money_pb2

from services.chassis.data import tables as chassis_tables
from services.chassis.values.errors import DomainError, Refused
from services.distributions import clients, messages, tables
from services.distributions.commands import agreements
from services.distributions.commands.investments import contributions_in
from services.distributions.commands.refunds import owed_minor
from services.distributions.domain import states
from services.distributions.domain.terms import Terms
from services.distributions.subscribers import SUBSCRIPTIONS
from tests.support.ledger_accounts import ledger_account

Entry, Leg = escrow.JournalEntry, escrow.LedgerEntry
MIGRATIONS = Path(tables.__file__).parent / "migrations" / "versions"


def migration(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, MIGRATIONS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("table", "moves"),
    [
        ("offerings", states.OFFERING_MOVES),
        ("investments", states.INVESTMENT_MOVES),
        ("distributions", states.DISTRIBUTION_MOVES),
        ("allocations", states.ALLOCATION_MOVES),
    ],
)
def test_the_database_allows_the_moves_the_domain_allows(table: str, moves: dict[Enum, frozenset[Enum]]) -> None:
    known = next(c for c in getattr(tables, table).constraints if c.name == f"{table}_status").sqltext.text
    stored = set(migration("0002_guards")._MOVES[table].split())
    allowed = {
        f"{before.value}>{after.value}"
        for before, afters in moves.items()
        for after in afters
        if f"'{before.value}'" in known and f"'{after.value}'" in known
    }
    assert stored == allowed


def test_every_table_of_an_organization_is_closed_by_row_level_security() -> None:
    with_organization = {table.name for table in tables.metadata.sorted_tables if "org_id" in table.c}
    chassis = {table.name for table in chassis_tables.metadata.sorted_tables}
    assert {table.name for table in tables.OF_ORGANIZATIONS} == with_organization - chassis
    text = (MIGRATIONS / "0002_guards.py").read_text()
    assert all(f'"{table.name}",' in text for table in tables.OF_ORGANIZATIONS)


def entry(kind: int, side: int, account: str = "subscription:inv-001", **fields: Any) -> escrow.JournalEntry:
    fields = {"investment_id": "inv_1", "transaction_id": "txn_1", "layer": Leg.POSTED} | fields
    leg = Leg(
        ledger_account=ledger_account(account),
        direction=side,
        amount=money_pb2.Money(currency_code="USD", amount_minor=100),
        layer=fields.pop("layer"),
    )
    return escrow.JournalEntry(type=kind, ledger_entries=[leg], **fields)


@pytest.mark.parametrize(
    ("case", "funded", "refunded", "completed"),
    [
        (entry(Entry.DEPOSIT, Leg.CREDIT), 100, 0, 0),
        (entry(Entry.RETURN, Leg.DEBIT), -100, 0, 0),
        (entry(Entry.REFUND, Leg.DEBIT), -100, 100, 0),
        (entry(Entry.REVERSAL, Leg.CREDIT), 100, -100, 0),  # a refund that failed
        (entry(Entry.RETURN, Leg.CREDIT), 100, -100, 0),  # a refund that came back
        (entry(Entry.ADJUSTMENT, Leg.CREDIT, transaction_id=""), 100, 0, 100),  # by hand: no rail can take it back
        # What was paid back by hand is not owed any more, whatever the entry is called.
        (entry(Entry.REFUND, Leg.DEBIT, transaction_id=""), -100, 0, -100),
        (entry(Entry.REVERSAL, Leg.CREDIT, transaction_id=""), 100, 0, 100),
        (entry(Entry.RELEASE, Leg.DEBIT), 0, 0, 0),
        (entry(Entry.DEPOSIT, Leg.CREDIT, layer=Leg.PENDING), 0, 0, 0),
        (entry(Entry.DEPOSIT, Leg.CREDIT, account="suspense"), 0, 0, 0),
        (entry(Entry.DEPOSIT, Leg.CREDIT, investment_id=""), 0, 0, 0),
    ],
)
def test_what_an_entry_says_of_an_investment(
    case: escrow.JournalEntry, funded: int, refunded: int, completed: int
) -> None:
    found = contributions_in([case])
    if not found:
        assert (funded, refunded, completed) == (0, 0, 0)
        return
    booked = found["inv_1", "inv-001"]
    assert (booked.funded, booked.refunded, booked.completed) == (funded, refunded, completed)


@pytest.mark.parametrize(
    ("funded", "refunded", "released", "paid", "owed"),
    [
        (100, 0, 0, 0, 100),
        (100, 0, 0, 100, 0),  # the payout is under way, and not booked
        (0, 100, 0, 100, 0),  # and booked
        (0, 100, 0, 0, 100),  # and failed, and the mirror is not booked
        (200, 0, 100, 0, 100),  # of two, the closing took one
        (50, 100, 0, 100, 50),  # a late contribution
        (120, 0, 100, 0, 20),  # after the closing
        (0, 0, 0, 0, 0),
    ],
)
def test_what_is_owed_to_an_investor_does_not_depend_on_the_order_of_news(
    funded: int, refunded: int, released: int, paid: int, owed: int
) -> None:
    position = SimpleNamespace(funded_minor=funded, refunded_minor=refunded, released_minor=released, paid_minor=paid)
    assert owed_minor(position) == owed


@pytest.mark.parametrize(
    ("funded", "completed", "refunded", "cleared"),
    [(100, 0, 0, 0), (100, 60, 0, 60), (100, 160, 60, 100), (0, 100, 100, 0), (50, 100, 0, 50), (0, 0, 100, 0)],
)
def test_cleared_money_is_past_its_return_risk_and_still_here(
    funded: int, completed: int, refunded: int, cleared: int
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    row = SimpleNamespace(
        investment_id="inv_1",
        offering_id="off_1",
        party_id="inv-001",
        currency="USD",
        amount_minor=100,
        funded_minor=funded,
        completed_minor=completed,
        refunded_minor=refunded,
        unreturned_minor=0,
        distributed_minor=0,
        refund_failure="",
        accrual_start_date=None,
        status="PENDING",
        created_at=now,
        updated_at=now,
    )
    assert messages.investment(row).cleared_amount.amount_minor == cleared


def test_the_default_terms_are_capital_8_percent_full_catch_up_and_30_percent() -> None:
    terms = agreements.DEFAULT
    assert (terms.preferred_rate_bps, terms.catch_up_sponsor_share_bps, terms.sponsor_carry_bps) == (800, 10_000, 3_000)
    assert [tier.value for tier in terms.order] == ["RETURN_OF_CAPITAL", "PREFERRED_RETURN", "CATCH_UP", "SPLIT"]


@given(
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 9_999),
    st.sampled_from([[], [1, 2, 3, 4], [2, 1, 3, 4], [1, 2, 4]]),
)
def test_terms_are_kept_as_they_were_agreed(rate: int, share: int, carry: int, tiers: list[int]) -> None:
    message = opb.WaterfallTerms(
        preferred_rate_bps=rate, catch_up_sponsor_share_bps=share, sponsor_carry_bps=carry, tiers=tiers
    )
    try:
        terms = agreements.read(message)
    except DomainError:
        reject()
    assert agreements.kept_in(SimpleNamespace(**agreements.columns(terms))) == terms
    assert isinstance(terms, Terms)


def test_the_service_hears_the_book_and_the_rails() -> None:
    heard = {each.durable: each.subjects_by_stream() for each in SUBSCRIPTIONS}
    assert heard["distributions-on-escrow"] == {"ESCROW": ["realco.escrow.v1.JournalEntriesPosted.>"]}
    assert set(heard["distributions-on-transactions"]) == {"TRANSACTIONS"}


def rpc_error(code: grpc.StatusCode, *details: Any) -> aio.AioRpcError:
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message="no")
    for detail in details:
        status.details.add().Pack(detail)
    trailing = aio.Metadata(("grpc-status-details-bin", status.SerializeToString())) if details else aio.Metadata()
    return aio.AioRpcError(code, aio.Metadata(), trailing)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (rpc_error(grpc.StatusCode.UNAVAILABLE), clients.PeerUnavailable),
        (rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED), clients.PeerUnavailable),
        (rpc_error(grpc.StatusCode.INTERNAL), clients.PeerUnavailable),
        (
            rpc_error(
                grpc.StatusCode.FAILED_PRECONDITION,
                error_details_pb2.ErrorInfo(reason="ESCROW_ACCOUNT_FROZEN", domain="escrow.realco"),
            ),
            Refused,
        ),
    ],
)
async def test_a_peer_refuses_definitely_or_its_answer_is_unknown(
    error: aio.AioRpcError, raised: type[DomainError]
) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(DomainError) as refusal:
        await clients._answer(call())
    assert type(refusal.value) is raised
    assert refusal.value.kind.transient is (raised is clients.PeerUnavailable)
