"""The chart of accounts, the life of an escrow account, keys, and events that fit."""

import pytest
from realco.escrow.v1 import escrow_pb2 as pb

from services.chassis.values.invariant import InvariantViolation
from services.escrow.booking import EVENT_BYTES_MAX, cut
from services.escrow.domain import chart
from services.escrow.domain.account import Balance, Status, check_empty, move
from services.escrow.domain.chart import Direction
from services.escrow.domain.journal import Layer, credit, debit, mirror, request_key
from services.escrow.domain.refusals import BalancesNotZero, IllegalStatusChange

ACTIVE, FROZEN, LIQUIDATING, CLOSED = Status.ACTIVE, Status.FROZEN, Status.LIQUIDATING, Status.CLOSED


@pytest.mark.parametrize(
    ("code", "normal"),
    [
        ("cash", Direction.DEBIT),
        ("in_transit", Direction.DEBIT),
        ("returns_receivable:inv-001", Direction.DEBIT),
        ("subscription:inv-001", Direction.CREDIT),
        ("issuer_proceeds", Direction.CREDIT),
        ("distributable", Direction.CREDIT),
        ("payable:sponsor-1", Direction.CREDIT),
        ("fees", Direction.CREDIT),
        ("suspense", Direction.CREDIT),
    ],
)
def test_every_ledger_account_has_its_normal_side(code, normal):
    assert chart.normal_balance(code) is normal
    assert chart.may_be_overdrawn(code) == (code == "in_transit")


def test_only_some_ledger_accounts_belong_to_a_party():
    assert chart.of_party(chart.PAYABLE, "inv-001") == "payable:inv-001"
    with pytest.raises(InvariantViolation):
        chart.of_party(chart.CASH, "inv-001")


@pytest.mark.parametrize(
    ("current", "wanted", "verdict"),
    [
        (ACTIVE, ACTIVE, "same"),
        (ACTIVE, FROZEN, "moves"),
        (ACTIVE, LIQUIDATING, "moves"),
        (ACTIVE, CLOSED, "moves"),
        (FROZEN, ACTIVE, "moves"),
        (FROZEN, FROZEN, "same"),
        (FROZEN, LIQUIDATING, "refused"),
        (FROZEN, CLOSED, "refused"),  # first it is unfrozen, by somebody who answers for it
        (LIQUIDATING, ACTIVE, "moves"),
        (LIQUIDATING, FROZEN, "moves"),
        (LIQUIDATING, CLOSED, "moves"),
        (CLOSED, ACTIVE, "refused"),
        (CLOSED, FROZEN, "refused"),
        (CLOSED, LIQUIDATING, "refused"),
        (CLOSED, CLOSED, "same"),
    ],
)
def test_an_escrow_account_lives_one_way(current, wanted, verdict):
    if verdict == "refused":
        with pytest.raises(IllegalStatusChange) as refusal:
            move(current, wanted)
        assert refusal.value.metadata == {"from": current.value, "to": wanted.value}
    else:
        assert move(current, wanted) == (verdict == "moves")


@pytest.mark.parametrize("left", [Balance("fees", 1, 0, 0), Balance("cash", 0, 1, 0), Balance("cash", 0, 0, 1)])
def test_an_escrow_account_closes_empty(left):
    check_empty([Balance("cash", 0, 0, 0), Balance("in_transit", 0, 0, 0)])
    with pytest.raises(BalancesNotZero) as refusal:
        check_empty([Balance("cash", 0, 0, 0), left])
    assert refusal.value.metadata["ledger_account"] == left.ledger_account


def test_a_mirror_undoes_every_leg():
    legs = (debit("cash", 5), credit("fees", 5, Layer.PENDING))
    assert mirror(legs) == (credit("cash", 5), debit("fees", 5, Layer.PENDING))
    assert mirror(mirror(legs)) == legs


def test_a_key_is_of_its_whole_scope():
    keys = [request_key("a", "bc"), request_key("ab", "c"), request_key("abc"), request_key("a", "b", "c")]
    assert len(set(keys)) == 4
    assert request_key("a", "bc") == keys[0]


def entry(legs: int, text: str = "") -> pb.JournalEntry:
    return pb.JournalEntry(
        journal_entry_id="je_1", description=text, ledger_entries=[pb.LedgerEntry(sequence=n) for n in range(legs)]
    )


def test_an_event_holds_as_many_entries_as_nats_takes():
    entries = [entry(2, "x" * 1000) for _ in range(500)]
    runs = list(cut(entries))
    assert [entry for run in runs for entry in run] == entries
    assert len(runs) > 1
    for run in runs:
        assert sum(part.ByteSize() for part in run) <= EVENT_BYTES_MAX


def test_an_entry_too_large_for_an_event_comes_in_parts_with_each_leg_once():
    whole = entry(100_000, "the closing of a large offering")
    parts = [part for run in cut([entry(1), whole, entry(1)]) for part in run][1:-1]
    assert len(parts) > 1
    assert [leg.sequence for part in parts for leg in part.ledger_entries] == list(range(100_000))
    assert {(part.journal_entry_id, part.description) for part in parts} == {("je_1", whole.description)}
    assert all(part.ByteSize() <= EVENT_BYTES_MAX for part in parts)
