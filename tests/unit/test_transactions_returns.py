"""Every NACHA return code: what follows from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.transactions.domain.returns import RETURN_CODES, Action, find_return_code, is_known, may_represent

FIRST = datetime(2024, 12, 2, tzinfo=UTC)

# code, what may be done, whether the bank account is retired, whether a person looks
TABLE = [
    ("R01", Action.REPRESENT, False, False),
    ("R02", Action.STOP, True, False),
    ("R03", Action.FIX_DATA, False, False),
    ("R04", Action.FIX_DATA, False, False),
    ("R05", Action.NEW_AUTHORIZATION, True, False),
    ("R06", Action.AGREED, False, False),
    ("R07", Action.NEW_AUTHORIZATION, True, False),
    ("R08", Action.NEW_AUTHORIZATION, False, False),
    ("R09", Action.REPRESENT, False, False),
    ("R10", Action.NEW_AUTHORIZATION, True, False),
    ("R11", Action.CORRECT_AND_RESEND, False, False),
    ("R12", Action.STOP, True, False),
    ("R13", Action.FIX_DATA, False, False),
    ("R14", Action.STOP, True, False),
    ("R15", Action.STOP, True, False),
    ("R16", Action.STOP, True, True),
    ("R17", Action.FIX_DATA, False, True),
    ("R18", Action.FIX_DATA, False, False),
    ("R19", Action.FIX_DATA, False, False),
    ("R20", Action.STOP, True, False),
    ("R21", Action.FIX_DATA, False, False),
    ("R22", Action.FIX_DATA, False, False),
    ("R23", Action.CREDIT_REFUSED, False, False),
    ("R24", Action.INCIDENT, False, True),
    ("R25", Action.FIX_DATA, False, False),
    ("R26", Action.FIX_DATA, False, False),
    ("R27", Action.FIX_DATA, False, False),
    ("R28", Action.FIX_DATA, False, False),
    ("R29", Action.NEW_AUTHORIZATION, True, False),
    ("R30", Action.STOP, False, True),
    ("R31", Action.AGREED, False, False),
    ("R32", Action.FIX_DATA, False, True),
    ("R33", Action.STOP, False, True),
    ("R34", Action.STOP, True, False),
    ("R35", Action.STOP, True, False),
    ("R36", Action.STOP, False, True),
    ("R37", Action.STOP, False, True),
    ("R38", Action.STOP, False, True),
    ("R39", Action.STOP, False, True),
    ("R40", Action.STOP, False, True),
    ("R41", Action.STOP, False, True),
    ("R42", Action.STOP, False, True),
    ("R43", Action.STOP, False, True),
    ("R44", Action.STOP, False, True),
    ("R45", Action.STOP, False, True),
    ("R46", Action.STOP, False, True),
    ("R47", Action.STOP, False, True),
    ("R50", Action.STOP, False, True),
    ("R51", Action.STOP, False, True),
    ("R52", Action.STOP, False, True),
    ("R53", Action.STOP, False, True),
    ("R61", Action.INCIDENT, False, True),
    ("R62", Action.INCIDENT, False, True),
    ("R67", Action.INCIDENT, False, True),
    ("R68", Action.INCIDENT, False, True),
    ("R69", Action.INCIDENT, False, True),
    ("R70", Action.INCIDENT, False, True),
    ("R71", Action.INCIDENT, False, True),
    ("R72", Action.INCIDENT, False, True),
    ("R73", Action.INCIDENT, False, True),
    ("R74", Action.INCIDENT, False, True),
    ("R75", Action.INCIDENT, False, True),
    ("R76", Action.INCIDENT, False, True),
    ("R77", Action.INCIDENT, False, True),
    ("R80", Action.STOP, False, True),
    ("R81", Action.STOP, False, True),
    ("R82", Action.STOP, False, True),
    ("R83", Action.STOP, False, True),
    ("R84", Action.STOP, False, True),
    ("R85", Action.STOP, False, True),
]


@pytest.mark.parametrize(("code", "action", "blocks", "review"), TABLE)
def test_a_return_code_has_one_consequence(code: str, action: Action, blocks: bool, review: bool) -> None:
    row = find_return_code(code)
    assert (row.code, row.action, row.blocks, row.review) == (code, action, blocks, review)
    assert row.name


def test_the_table_above_has_every_code() -> None:
    assert [row[0] for row in TABLE] == list(RETURN_CODES)


def test_an_unknown_code_is_never_presented_again_and_a_person_looks() -> None:
    unknown = find_return_code("R99")
    assert (unknown.code, unknown.action, unknown.review) == ("R99", Action.STOP, True)


@pytest.mark.parametrize(("code", "is_inbound", "presentments", "days", "again"), [
    ("R01", True, 1, 3, True),
    ("R09", True, 2, 3, True),
    ("R01", True, 3, 3, False),  # three presentments are all there are
    ("R01", False, 1, 3, False),  # a payout is never sent again by itself
    ("R02", True, 1, 3, False),
    ("R08", True, 1, 3, False),
    ("R01", True, 1, 180, True),
    ("R01", True, 1, 181, False),  # 180 days from the first
])  # fmt: skip
def test_only_r01_and_r09_debits_are_presented_again(
    code: str, is_inbound: bool, presentments: int, days: int, again: bool
) -> None:
    next_attempt_at = FIRST + timedelta(days=days)
    assert (
        may_represent(
            code,
            is_inbound=is_inbound,
            presentments=presentments,
            first_presented_at=FIRST,
            next_attempt_at=next_attempt_at,
        )
        is again
    )


@pytest.mark.parametrize(
    ("code", "heard", "known"),
    [
        ("R10", set(), False),
        ("R10", {"R10"}, True),
        ("R07", {"R10"}, True),  # disowned once more
        ("R16", {"R10"}, False),
        ("R16", {"R10", "R16"}, True),
        ("R10", {"R16"}, True),
    ],
)
def test_what_a_return_says_of_an_account_that_is_forbidden_already(code: str, heard: set[str], known: bool) -> None:
    assert is_known(code, heard) is known
