"""Laws of money moving: however often a payment is looked at the end is the same, and sealed numbers come back."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.values.payment_numbers import has_aba_digit
from services.transactions.domain.payments import PaymentStatus, list_moves
from services.transactions.domain.states import MOVES, Status
from services.transactions.vault import SealedFor, VaultError
from tests.support.vault import build_vault

LIVES = [
    ["pending", "settled"],
    ["pending", "settled", "returned"],
    ["pending", "returned"],
    ["pending", "failed"],
    ["pending", "cancelled"],
]
ENDS = {"settled": Status.SETTLED, "returned": Status.RETURNED, "failed": Status.FAILED, "cancelled": Status.CANCELLED}


@st.composite
def hearings(draw: st.DrawFn) -> tuple[list[str], list[int]]:
    """A payment's life, and at which of its moments we look, in the order of time, as often as chance has it.

    What we see is what the provider has at that moment: webhooks are only hints to look.
    """
    life = draw(st.sampled_from(LIVES))
    looks = sorted(draw(st.lists(st.integers(0, len(life) - 1), max_size=8)))
    return life, [*looks, len(life) - 1]


@given(hearings())
def test_however_often_we_look_the_end_is_the_same(hearing: tuple[list[str], list[int]]) -> None:
    life, looks = hearing
    status = Status.PROCESSING
    for look in looks:
        for after in list_moves(PaymentStatus(life[look]), status):
            assert after in MOVES[status]
            status = after
    assert status is ENDS[life[-1]]


@pytest.mark.parametrize("life", LIVES, ids="-".join)
def test_in_all_orders_of_what_is_told_twice_each_the_end_is_the_same(life: list[str]) -> None:
    """Though a provider's answers overtook each other, too: 720 orders of a life of three states."""
    for order in permutations(life * 2):
        status = Status.PROCESSING
        for told in order:
            status = [status, *list_moves(PaymentStatus(told), status)][-1]
        assert status is ENDS[life[-1]], order


@given(st.sampled_from(PaymentStatus), st.sampled_from(Status))
def test_what_is_known_already_moves_nothing(reported: PaymentStatus, status: Status) -> None:
    moves = list_moves(reported, status)
    assert list_moves(reported, moves[-1] if moves else status) == ()


@given(st.sampled_from(Status))
def test_every_state_can_end(status: Status) -> None:
    resting = {Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.REVERSED, Status.RETURNED}
    seen, frontier = {status}, [status]
    while frontier:
        for after in MOVES[frontier.pop()] - seen:
            seen.add(after)
            frontier.append(after)
    assert seen & resting


@given(st.integers(0, 99_999_999), st.integers(0, 8), st.integers(1, 9))
def test_a_routing_number_with_one_wrong_digit_is_found(body: int, place: int, change: int) -> None:
    digits = f"{body:08}"
    [good] = [digits + str(last) for last in range(10) if has_aba_digit(digits + str(last))] or [""]
    if good:
        wrong = good[:place] + str((int(good[place]) + change) % 10) + good[place + 1 :]
        assert not has_aba_digit(wrong)


@given(st.from_regex(r"[0-9A-Za-z]{4,17}", fullmatch=True), st.builds(SealedFor, *6 * [st.text(max_size=20)]))
def test_what_is_sealed_comes_back(number: str, account: SealedFor) -> None:
    vault = build_vault()
    assert vault.open(vault.seal(number, account), account) == number


@given(*2 * [st.builds(SealedFor, *6 * [st.text(max_size=3)])])
def test_what_is_sealed_for_one_account_opens_for_no_other(one: SealedFor, other: SealedFor) -> None:
    vault = build_vault()
    with nullcontext() if one == other else pytest.raises(VaultError):
        vault.open(vault.seal("42", one), other)
