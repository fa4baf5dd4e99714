"""The chart of accounts, the life of an escrow account, keys, and events that fit."""

from datetime import UTC, datetime, timedelta

import pytest
from realco.escrow.v1.holds_pb2 import Hold

from services.chassis.values.errors import InvalidField
from services.chassis.values.invariant import InvariantViolation
from services.chassis.values.moves import check_move
from services.chassis.values.refusals import IllegalStatusChange
from services.escrow.domain.account import MOVES, Balance, Status, check_empty
from services.escrow.domain.chart import (
    CASH,
    CHART,
    IN_TRANSIT,
    Direction,
    LedgerAccount,
    LedgerAccountKind,
    Owner,
    account_of_party,
    line_of,
)
from services.escrow.domain.holds import (
    HoldStatus,
    check_may_be_captured,
    check_may_be_held,
    check_may_end_at,
    check_may_hold_more,
)
from services.escrow.domain.journal import Layer, credit, debit, digest_scope, mirror
from services.escrow.domain.refusals import BalancesNotZero, TooManyHolds

FEES = LedgerAccount(LedgerAccountKind.FEES)
OWED = account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, "inv-001")
ACTIVE, FROZEN, LIQUIDATING, CLOSED = Status.ACTIVE, Status.FROZEN, Status.LIQUIDATING, Status.CLOSED


@pytest.mark.parametrize(
    ("kind", "normal_balance", "owner", "may_be_overdrawn", "counts_as_available"),
    [
        (LedgerAccountKind.CASH, Direction.DEBIT, Owner.NOBODY, True, True),
        (LedgerAccountKind.IN_TRANSIT, Direction.DEBIT, Owner.NOBODY, True, False),
        (LedgerAccountKind.RETURNS_RECEIVABLE, Direction.DEBIT, Owner.PARTY, False, False),
        (LedgerAccountKind.SUBSCRIPTION, Direction.CREDIT, Owner.INVESTOR, False, True),
        (LedgerAccountKind.ISSUER_PROCEEDS, Direction.CREDIT, Owner.SPONSOR, False, True),
        (LedgerAccountKind.DISTRIBUTABLE, Direction.CREDIT, Owner.PAYEES, False, True),
        (LedgerAccountKind.PAYABLE, Direction.CREDIT, Owner.PARTY, False, True),
        (LedgerAccountKind.FEES, Direction.CREDIT, Owner.NOBODY, False, True),
        (LedgerAccountKind.RESERVES, Direction.CREDIT, Owner.NOBODY, False, False),
        (LedgerAccountKind.WITHHOLDING, Direction.CREDIT, Owner.NOBODY, False, False),
        (LedgerAccountKind.SUSPENSE, Direction.CREDIT, Owner.NOBODY, False, True),
        (LedgerAccountKind.UNAPPLIED, Direction.CREDIT, Owner.PARTY, False, True),
        (LedgerAccountKind.PROVIDER_FEES, Direction.DEBIT, Owner.SPONSOR, False, False),
    ],
)
def test_the_chart_of_accounts(kind, normal_balance, owner, may_be_overdrawn, counts_as_available):
    line = line_of(kind)
    assert line[1:5] == (normal_balance, owner, may_be_overdrawn, counts_as_available)


def test_what_is_owed_to_somebody_can_be_held_and_what_follows_the_bank_cannot():
    follows_the_bank = {
        *(LedgerAccountKind.CASH, LedgerAccountKind.IN_TRANSIT),
        *(LedgerAccountKind.RETURNS_RECEIVABLE, LedgerAccountKind.PROVIDER_FEES),
    }
    assert {line.kind for line in CHART if not line.may_be_held} == follows_the_bank


def test_the_chart_has_each_kind_once():
    assert [line.kind for line in CHART] == list(LedgerAccountKind)


def test_only_some_ledger_accounts_belong_to_a_party():
    assert account_of_party(LedgerAccountKind.PAYABLE, "inv-001") == LedgerAccount(LedgerAccountKind.PAYABLE, "inv-001")
    for kind, party_id in ((LedgerAccountKind.CASH, "inv-001"), (LedgerAccountKind.PAYABLE, "")):
        with pytest.raises(InvariantViolation):
            account_of_party(kind, party_id)


@pytest.mark.parametrize(
    ("current", "wanted", "verdict"),
    [
        (ACTIVE, FROZEN, "moves"),
        (ACTIVE, LIQUIDATING, "moves"),
        (ACTIVE, CLOSED, "moves"),
        (FROZEN, ACTIVE, "moves"),
        (FROZEN, LIQUIDATING, "refused"),
        (FROZEN, CLOSED, "refused"),  # first it is unfrozen, by somebody who answers for it
        (LIQUIDATING, ACTIVE, "moves"),
        (LIQUIDATING, FROZEN, "moves"),
        (LIQUIDATING, CLOSED, "moves"),
        (CLOSED, ACTIVE, "refused"),
        (CLOSED, FROZEN, "refused"),
        (CLOSED, LIQUIDATING, "refused"),
    ],
)
def test_an_escrow_account_lives_one_way(current, wanted, verdict):
    if verdict == "moves":
        check_move(MOVES, current, wanted)
    else:
        with pytest.raises(IllegalStatusChange) as refusal:
            check_move(MOVES, current, wanted)
        assert refusal.value.metadata == {"status": current.value, "wanted_status": wanted.value}


@pytest.mark.parametrize("left", [Balance(FEES, 1, 0, 0), Balance(CASH, 0, 1, 0), Balance(CASH, 0, 0, 1)])
def test_an_escrow_account_closes_empty(left):
    check_empty([Balance(CASH, 0, 0, 0), Balance(IN_TRANSIT, 0, 0, 0)], "USD")
    with pytest.raises(BalancesNotZero) as refusal:
        check_empty([Balance(CASH, 0, 0, 0), left], "USD")
    assert refusal.value.metadata["ledger_account_kind"] == left.ledger_account.kind


@pytest.mark.parametrize(
    ("of_the_bank", "left"),
    [
        (Balance(CASH, -100, 0, 0), Balance(OWED, 100, 0, 0)),
        (Balance(CASH, 100, 0, 0), Balance(FEES, 100, 0, 0)),
        (Balance(IN_TRANSIT, -100, 0, 0), Balance(FEES, 0, 0, 1)),
        (Balance(CASH, 100, 0, 0), Balance(IN_TRANSIT, -100, 0, 0)),  # a payout is under way
    ],
)
def test_what_keeps_an_escrow_account_open_is_whose_the_money_is_and_not_that_the_bank_has_it(of_the_bank, left):
    with pytest.raises(BalancesNotZero) as refusal:
        check_empty([of_the_bank, left], "USD")
    named = refusal.value.metadata["ledger_account_kind"]
    expected = of_the_bank if left.ledger_account == IN_TRANSIT else left
    assert named == expected.ledger_account.kind


def test_a_mirror_undoes_every_leg():
    legs = (debit(CASH, 5), credit(FEES, 5, Layer.PENDING))
    assert mirror(legs) == (credit(CASH, 5), debit(FEES, 5, Layer.PENDING))
    assert mirror(mirror(legs)) == legs


def test_a_key_is_of_its_whole_scope():
    keys = [digest_scope("a", "bc"), digest_scope("ab", "c"), digest_scope("abc"), digest_scope("a", "b", "c")]
    assert len(set(keys)) == 4
    assert digest_scope("a", "bc") == keys[0]


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ADA, BEN = LedgerAccount(LedgerAccountKind.SUBSCRIPTION, "ada"), LedgerAccount(LedgerAccountKind.SUBSCRIPTION, "ben")


def test_a_hold_has_the_statuses_that_the_contract_names():
    assert {"STATUS_UNSPECIFIED", *HoldStatus} == set(Hold.Status.keys())


@pytest.mark.parametrize(
    ("check", "given", "verdict"),
    [
        (check_may_be_held, (ADA,), None),
        (check_may_be_held, (CASH,), InvalidField),  # it follows the bank
        (check_may_be_captured, (ADA, BEN), None),
        (check_may_be_captured, (ADA, ADA), InvalidField),  # nothing would move
        (check_may_end_at, (None, NOON), None),
        (check_may_end_at, (NOON + timedelta(microseconds=1), NOON), None),
        (check_may_end_at, (NOON, NOON), InvalidField),  # what ends by time is over from that instant on
        (check_may_hold_more, (19,), None),
        (check_may_hold_more, (20,), TooManyHolds),
    ],
)
def test_what_may_be_held_and_how_it_may_end(check, given, verdict):
    if verdict is None:
        check(*given)
    else:
        with pytest.raises(verdict):
            check(*given)
