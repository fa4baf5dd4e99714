"""The sandbox bank as its customers see it: account numbers that decide what happens (docs/sandbox.md), and statements.

The values are copied from the documentation on purpose: whoever tests the bank does not import it.
"""

from __future__ import annotations

from zlib import crc32

from demo.harness.rest import Json, RestClient
from deploy.local.instance import Instance
from deploy.topology import BANK

ROUTING_NUMBER = "021000021"
# The last two digits of an account number.
AT_ONCE, TWO_DAYS_LATER, R01_THEN_SETTLES, LATE_R10, PAYOUT_FAILS, COMES_BACK_AS_R02 = 1, 2, 3, 10, 60, 61
COMES_BACK_AS_R17 = 17
ERROR_AFTER_EFFECT, SILENCE, TOO_MANY_REQUESTS, DECLINES, AWAY_ONCE = 90, 91, 92, 93, 94
TWICE_OUT_OF_ORDER, JUNK_ANSWER, WRONG_AMOUNT = 95, 96, 97


def account_number_of(test_value: int, holder: str = "") -> str:
    """The account of that holder that behaves as the documentation says of that test value."""
    return f"{crc32(holder.encode()) % 1_000_000:06d}1111{test_value:02d}"


def open_bank(instance: Instance) -> RestClient:
    """The bank's own interface, past everything of ours."""
    return RestClient(f"http://127.0.0.1:{instance.read_ports()[BANK]}/v1", "bank")


def read_movements(bank: RestClient, first_day: str, last_day: str) -> list[Json]:
    """The lines of the bank's own statement, both days (`2024-12-31`) included."""
    statement = bank.get("/statement", **{"from": first_day, "to": last_day})
    return list(statement["movements"])
