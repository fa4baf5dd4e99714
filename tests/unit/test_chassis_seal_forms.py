"""The forms of seals: a release that has one keeps it, and a later one leaves the rows that were there as they are."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zlib import crc32

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from deploy.topology import SERVICE_NAMES
from services.chassis.data.seals import (
    NotSealed,
    Seals,
    bind_seals,
    check_row,
    is_row_sealed,
    keep_sealed,
    list_sealed_tables,
    seal_of,
    sealed,
)
from services.escrow.domain.chart import LedgerAccount, LedgerAccountKind
from services.escrow.domain.journal import EntryType, NewEntry, PostingKey, credit, debit
from services.escrow.posting.checks import seal_entry
from tests.support.seals import SEALS

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def sample(name: str, kind: Any) -> Any:
    """A value of the column, another one for each name."""
    number = crc32(name.encode()) % 10_000
    if isinstance(kind, sa.ARRAY):
        return [sample(name, kind.item_type)]
    if isinstance(kind, sa.JSON):
        return {"b": number, "a": [name]}
    values: dict[type, Any] = {
        str: name,
        int: number,
        bool: number % 2 == 0,
        bytes: name.encode(),
        datetime: BEGIN + timedelta(seconds=number),
        Decimal: Decimal(number) / 8,
        date: (BEGIN + timedelta(days=number)).date(),
    }
    return values[kind.python_type]


def seal_forms(table: sa.Table) -> Iterator[str]:
    """The seal of a sample row in each form of the table."""
    tx: Any = SimpleNamespace(info={})
    bind_seals(tx, SEALS)
    forms = table.info["sealed"]
    for form in forms:
        row = {name: sample(name, table.c[name].type) if name in form else None for name in forms[-1]}
        yield seal_of(tx, table, row).hex()[-16:]


def list_all() -> dict[str, list[str]]:
    modules = [importlib.import_module(f"services.{service}.tables") for service in SERVICE_NAMES]
    return {table.name: list(seal_forms(table)) for module in modules for table in list_sealed_tables(module.metadata)}


# By table, the end of the seal of a sample row in each form.
FORMS = {
    "ach_entries": ["525977cc4111dde7"],
    "ach_files": ["60cfc38c30ab7c3a"],
    "ach_return_rates": ["d012cf1348949630"],
    "allocations": ["e7c08e40a09dfce9"],
    "api_keys": ["cfd2042970e19ce4"],
    "approvals": ["d988d3c510123de7"],
    "bank_account_verifications": ["a514932135f950b2"],
    "bank_accounts": ["11eb640c2b3632c4"],
    "compliance_checks": ["a9eaefe58a76d4e3"],
    "contributions": ["a893218a5a0cca61"],
    "dead_letters": ["1d876d393dacf7cb"],
    "counted_journals": ["5075d006571c2554"],
    "distributions": ["af8fe03dbf205790"],
    "feed_cursors": ["2794e3816a7c32d8"],
    "ended_sessions": ["23656ac2bedc0ef2"],
    "escrow_accounts": ["2bc51b22f824cb3d"],
    "former_persons": ["f920b6c95afdaeb8"],
    "handled_positions": ["da53c72198274648"],
    "forgotten_events": ["1351fe5427eaca23"],
    "heard_parties": ["466ea743a584f2d4"],
    "heard_persons": ["445271f738e43501"],
    "holds": ["2d578c58ef1ab278"],
    "investments": ["c78e739fac3a9374"],
    "limit_usage": ["786bc60416c9ffb8"],
    "offerings": ["455eae2c35828611"],
    "parties": ["a150dd4259b96e35"],
    "party_persons": ["de2027890822a386"],
    "passed_messages": ["efc6dcf06a40a3eb"],
    "payment_exceptions": ["be73a57d02be341c"],
    "payout_requests": ["253db8a0a55335c3"],
    "payouts": ["4c11871d87c352db"],
    "plaid_items": ["642c17472fe4bd88"],
    "plaid_transfers": ["1a65b8b042104b2f"],
    "provider_payments": ["99c14596de26f31a"],
    "provider_sweeps": ["71aa49a422f9ca2d"],
    "sagas": ["0198e0ff175e4f78"],
    "seen_letters": ["c3d76cac32ebab3d"],
    "seen_losses": ["8753bf9a85d03253"],
    "seen_restores": ["81ed3f2eb1f42148"],
    "statements": ["43302aa0e765495f"],
    "stops": ["5a850148ebe55417"],
    "transaction_limits": ["3d30d1f8652079bc"],
    "transactions": ["6fc4ba9ee9f83a80"],
    "vault_keys": ["2b453a64f505be8c"],
    "sweep_lines": ["6460c4e3616cacf9"],
    "sweeps": ["cf8bfdb8d0ea21e6"],
}


def test_a_form_never_changes():
    """What differs here would refuse the rows that are there: name a new column in a later form (CONTRIBUTING.md)."""
    assert list_all() == FORMS


def test_the_form_of_a_journal_entry_never_changes():
    """Entries are never sealed again."""
    legs = [debit(LedgerAccount(LedgerAccountKind.CASH), 5), credit(LedgerAccount(LedgerAccountKind.PAYABLE, "pty"), 5)]
    key = PostingKey(UUID(int=1), b"fingerprint")
    entry = NewEntry("org", "esc", "je", key, EntryType.FEE, "text", legs, "ann", transaction_id="txn")
    assert seal_entry(SEALS, entry).hex()[-16:] == "a0a47250ba05cf2b"


# A table of this release, and of the next one, which has a column more.
NOW, NEXT = sealed("id", "amount_minor"), sealed("id", "amount_minor", later=[("note",)])
OLD, NEW, CHANGED = ({"id": "a", "amount_minor": 5} | more for more in ({}, {"note": None}, {"note": "x"}))


@pytest.mark.parametrize(("written_by", "row", "read_by", "as_row", "is_ours"), [
    (NOW, OLD, NEXT, NEW, True),  # a row that was there before the release
    (NEXT, NEW, NOW, OLD, True),  # the release before reads what the next one writes
    (NEXT, CHANGED, NEXT, CHANGED, True),
    (NOW, OLD, NEXT, CHANGED, False),  # the column was written past the service
    (NEXT, CHANGED, NEXT, NEW, False),
    (NEXT, CHANGED, NOW, OLD, False),  # so nothing is written into the column before the release after
])  # fmt: skip
def test_a_row_has_the_first_form_that_covers_all_it_holds(
    written_by: dict[str, Any], row: dict[str, Any], read_by: dict[str, Any], as_row: dict[str, Any], *, is_ours: bool
) -> None:
    tx: Any = SimpleNamespace(info={})
    bind_seals(tx, SEALS)
    writer, reader = (
        sa.Table("rows", sa.MetaData(), sa.Column("id", sa.Text, primary_key=True), info=info)
        for info in (written_by, read_by)
    )
    found = SimpleNamespace(**as_row, seal=seal_of(tx, writer, row))
    if is_ours:
        assert check_row(tx, reader, found) is found
    else:
        with pytest.raises(NotSealed):
            check_row(tx, reader, found)


def seal_one(value: Any) -> Any:
    """A row that holds the value, sealed."""
    tx: Any = SimpleNamespace(info={})
    bind_seals(tx, SEALS)
    table = sa.Table("rows", sa.MetaData(), sa.Column("id", sa.Text, primary_key=True), info=sealed("id", "value"))
    row = {"id": "a", "value": value}
    return tx, table, SimpleNamespace(**row, seal=seal_of(tx, table, row))


@pytest.mark.parametrize(("written", "read"), [
    (Decimal(10**30), Decimal("1.00e30")),  # an accrual passes 64 bits
    (Decimal("0.50"), Decimal("0.5")),
    (datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 1, 1, 10, tzinfo=UTC)),
    ({"b": "é", "a": [1]}, {"a": [1], "b": "é"}),
    (frozenset({"b", "a"}), ["a", "b"]),
])  # fmt: skip
def test_a_value_is_sealed_as_what_comes_back_of_it(written: Any, read: Any) -> None:
    tx, table, row = seal_one(written)
    row.value = read
    assert check_row(tx, table, row) is row


@pytest.mark.parametrize(("read", "is_ours"), [
    ({}, True),  # it was read without the text
    ({"text": "as it was"}, True),
    ({"text": "altered"}, False),
    ({"text": None}, False),
])  # fmt: skip
def test_a_long_text_is_sealed_by_its_digest_so_that_a_row_can_be_read_without_it(
    read: dict[str, Any], *, is_ours: bool
) -> None:
    tx: Any = SimpleNamespace(info={})
    bind_seals(tx, SEALS)
    info = sealed("id", "text_hash", digests={"text": "text_hash"})
    table = sa.Table("rows", sa.MetaData(), sa.Column("id", sa.Text, primary_key=True), info=info)
    row = {"id": "a", "text_hash": sha256(b"as it was").hexdigest()}
    assert is_row_sealed(tx, table, SimpleNamespace(**row, **read, seal=seal_of(tx, table, row))) is is_ours


@pytest.mark.parametrize("forged", [{"a": 10**30}, "\ud800", json.loads("[" * 300 + "]" * 300)])
def test_a_row_that_holds_what_cannot_be_spelled_is_not_ours(forged: Any) -> None:
    tx, table, row = seal_one("as it was")
    row.value = forged
    with pytest.raises(NotSealed):
        check_row(tx, table, row)


def test_the_log_names_a_row_that_is_not_ours_once_and_no_more_of_them_than_somebody_can_read() -> None:
    tx: Any = SimpleNamespace(info={})
    bind_seals(tx, Seals([bytes(32)]))
    table = sa.Table("rows", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), info=NOW)
    forged = [SimpleNamespace(id=number, amount_minor=5, note=None, seal=b"") for number in range(3_000)]
    with capture_logs() as logged:
        for _ in range(3):
            assert keep_sealed(tx, table, forged) == []
    assert [line["row"] for line in logged] == [str(number) for number in range(1_000)]
