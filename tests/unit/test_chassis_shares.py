"""How many calls each peer may have under way, by what is still free."""

from __future__ import annotations

from itertools import count

import pytest

from deploy.topology import GATEWAY
from services.chassis.runtime import shares
from services.chassis.runtime.shares import OF_OTHERS, OF_THE_HOUSE, Shares


def take_all(held: Shares, peer: str, divisor: int) -> int:
    """How many one gets that takes all it can."""
    return next(taken for taken in count() if not held.take(peer, divisor))


@pytest.mark.parametrize(
    ("calls_max", "divisors", "taken"),
    [
        (2000, [OF_THE_HOUSE], [1000]),
        (2000, [OF_OTHERS], [250]),
        (2000, [OF_OTHERS, OF_THE_HOUSE], [250, 875]),  # the gateway, while somebody takes all it can
        (2000, [OF_THE_HOUSE, OF_THE_HOUSE], [1000, 500]),  # also while that is another one of the house
        (2000, [OF_OTHERS] * 3 + [OF_THE_HOUSE], [250, 219, 192, 670]),
        (40, [OF_OTHERS, OF_THE_HOUSE], [5, 18]),
        (1, [OF_OTHERS, OF_THE_HOUSE], [1, 0]),
    ],
)
def test_a_peer_has_no_more_than_its_part_of_what_is_free(calls_max, divisors, taken):
    held = Shares(calls_max)
    assert [take_all(held, str(peer), divisor) for peer, divisor in enumerate(divisors)] == taken
    assert held.free == calls_max - sum(taken)


def test_what_is_given_back_may_be_taken_again():
    held = Shares(2000)
    for _ in range(3):
        taken = take_all(held, "a", OF_THE_HOUSE)
        assert (taken, held.held_by("a")) == (1000, 1000)
        for _ in range(taken):
            held.give_back("a")
        assert (held.free, held.held_by("a")) == (2000, 0)


def test_after_twenty_peers_of_others_took_all_they_could_the_gateway_still_finds_room():
    held = Shares(2000)
    for peer in range(20):
        take_all(held, str(peer), OF_OTHERS)
    assert take_all(held, GATEWAY, OF_THE_HOUSE) > 50


def test_the_gateway_is_called_here_as_in_the_topology():
    assert shares.GATEWAY == GATEWAY
