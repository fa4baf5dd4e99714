"""Where more are concerned than an explanation names, it names those of most money: many of a cent hide nobody."""

from __future__ import annotations

from datetime import UTC, datetime

from services.distributions.domain.explanations import explain_left_out
from services.distributions.domain.investment import Investment
from services.escrow.domain.explanations import explain_debts, explain_debts_at_sources, explain_set_offs

NOW = datetime(2026, 11, 23, tzinfo=UTC)
MANY = [(f"pty_{number:03d}", 1) for number in range(100)]
LARGE = ("pty_zzz", 500_000_00)


def test_a_closing_names_whose_money_is_left_out_the_largest_first() -> None:
    held = [
        Investment(
            investment_id=f"inv_{party_id}",
            offering_id="off_1",
            party_id=party_id,
            currency="USD",
            amount_minor=minor,
            created_by=party_id,
            created_at=NOW,
            updated_at=NOW,
        )
        for party_id, minor in [*MANY, LARGE]
    ]
    [told] = explain_left_out(held)
    assert (told.rule, told.operands[0][0]) == ("MONEY_NOT_COME", "inv_pty_zzz")


def test_who_owes_is_named_the_largest_first() -> None:
    debts = dict([*MANY, LARGE])
    elsewhere = {party_id: ("esc_1", minor) for party_id, minor in debts.items()}
    set_off = {party_id: (minor, minor, 0) for party_id, minor in debts.items()}
    for [told] in (
        explain_debts(debts, "USD"),
        explain_debts_at_sources(elsewhere, "USD"),
        explain_set_offs(set_off, "USD"),
    ):
        assert told.operands[1][0] == "pty_zzz"
